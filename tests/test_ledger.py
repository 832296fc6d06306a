"""What networks cost, against closed forms, torch's own counter, and plain sums."""

from __future__ import annotations

import math
from collections import OrderedDict

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sparsepop.ledger import Costs, learnables, measure_costs, state_bytes
from sparsepop.masks import prunable_names
from sparsepop.models import build

Shape = tuple[int, int, int]


def prunable(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: model.get_parameter(name) for name in prunable_names(model)}


def costs_of(model: nn.Module, shape: Shape) -> Costs:
    return measure_costs(model, shape, prunable(model))


def test_lenet_300_100_multiplies_once_per_weight() -> None:
    costs = costs_of(build("lenet-300-100", (1, 28, 28), 10), (1, 28, 28))
    assert sorted(costs.macs.values()) == [100 * 10, 300 * 100, 784 * 300]
    assert costs.other_macs == 0
    assert costs.dense_flops == 2 * 266_200


def test_lenet_5_multiplies_once_per_weight_and_place() -> None:
    costs = costs_of(build("lenet-5", (1, 28, 28), 10), (1, 28, 28))
    assert list(costs.macs.values()) == [500 * 24 * 24, 25_000 * 8 * 8, 800 * 500, 500 * 10]


def test_resnet_20_in_closed_form() -> None:
    costs = costs_of(build("resnet-20", (3, 32, 32), 10), (3, 32, 32))
    stem, stages = 27 * 16 * 32**2, 0
    for width, side in ((16, 32), (32, 16), (64, 8)):
        narrower = max(16, width // 2)
        stages += 9 * width * (narrower + 5 * width) * side**2
    assert sum(costs.macs.values()) == stem + stages + 640
    assert costs.dense_flops == pytest.approx(2 * 40.55e6, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("lenet-5", (3, 32, 32)),
        ("resnet-34-w8", (3, 32, 32)),
        ("resnet-50-w4", (1, 20, 20)),
        ("vgg-16-w8", (3, 32, 32)),
        ("wrn-10-2", (3, 16, 16)),
        ("imagenet-resnet-50", (3, 64, 64)),
    ],
)
def test_torchs_own_counter_agrees(name: str, shape: Shape) -> None:
    with torch.device("meta"):
        model = build(name, shape, 7).eval()
        with FlopCounterMode(display=False) as counter:
            model(torch.empty(1, *shape))
        assert costs_of(model, shape).dense_flops == counter.get_total_flops()


def test_a_density_scales_its_own_layer_alone() -> None:
    costs = Costs({"a": 100, "b": 10}, other_macs=3)
    assert costs.dense_flops == 226
    assert costs.forward_flops({"a": 0.25}) == 2 * (25 + 10 + 3)
    assert costs.forward_flops({"a": 0.0, "b": 0.5}) == 2 * (5 + 3)


def test_layers_that_may_not_be_pruned_are_other_costs() -> None:
    model = build("lenet-300-100", (1, 8, 8), 10)
    params = prunable(model)
    first = next(iter(params))
    del params[first]
    costs = measure_costs(model, (1, 8, 8), params)
    assert (costs.other_macs, sum(costs.macs.values())) == (64 * 300, 31_000)


class Twice(nn.Module):
    """One 3x3 convolution used at two resolutions, and a grouped one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.grouped = nn.Conv2d(4, 8, 1, groups=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.grouped(nn.functional.avg_pool2d(self.conv(self.conv(x)), 2))


def test_a_weight_used_twice_counts_twice_and_groups_count_once() -> None:
    assert costs_of(Twice(), (4, 6, 6)).macs == {"conv.weight": 2 * 144 * 36, "grouped.weight": 16 * 9}


def test_a_shared_parameter_is_counted_under_its_one_name() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 12), nn.Linear(12, 12))
    model[2].weight = model[1].weight
    costs = measure_costs(model, (3, 2, 2), {"1.weight": model.get_parameter("1.weight")})
    assert (costs.macs, costs.other_macs) == ({"1.weight": 288}, 0)
    counts = learnables(model, [model.get_parameter("1.weight")])
    assert counts == {"bias": 24}


def test_measuring_leaves_no_trace() -> None:
    model = build("resnet-20-w4", (3, 8, 8), 10).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    costs_of(model, (3, 8, 8))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(part.training and not part._forward_hooks for part in model.modules())


@pytest.mark.parametrize(
    "name", ["lenet-300-100", "resnet-20-w4", "resnet-50-w4", "vgg-16-w4", "wrn-10-1", "imagenet-resnet-50"]
)
def test_prunable_weights_and_other_learnables_are_all_parameters(name: str) -> None:
    with torch.device("meta"):
        model = build(name, (3, 32, 32), 10)
    params = prunable(model)
    others = learnables(model, params.values())
    weights = sum(param.numel() for param in params.values())
    assert weights + sum(others.values()) == sum(param.numel() for param in model.parameters())
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert others.get("norm", 0) == 2 * sum(m.num_features for m in norms)
    assert set(others) <= {"norm", "bias"}


def test_learnables_are_told_apart_by_kind() -> None:
    layers = OrderedDict(a=nn.Linear(4, 3), n=nn.LayerNorm(3), b=nn.Linear(3, 2), p=nn.PReLU())
    model = nn.Sequential(layers)
    threshold = nn.Parameter(torch.zeros(5))
    threshold.kind = "threshold"  # type: ignore[attr-defined]
    model.register_parameter("t", threshold)
    counts = learnables(model, [model.get_parameter("a.weight")])
    assert counts == {"bias": 5, "norm": 6, "dense": 7, "threshold": 5}


def test_bytes_follow_the_type() -> None:
    tensors = [torch.zeros(3, 4), torch.zeros(5, dtype=torch.bool), torch.zeros((), dtype=torch.int64)]
    assert state_bytes(tensors) == math.prod((3, 4)) * 4 + 5 + 8


def test_a_parameter_that_two_layers_share_is_one_parameter() -> None:
    model = nn.Sequential(nn.BatchNorm1d(3), nn.BatchNorm1d(3))
    model[1].weight = model[0].weight
    assert learnables(model, []) == {"norm": 9}


def test_factors_multiplied_into_weights_are_learnables_of_their_own() -> None:
    model = nn.Sequential(nn.Linear(4, 3, bias=False), nn.Linear(3, 2, bias=False))
    model[1].weight.gains = 1  # type: ignore[union-attr]
    assert learnables(model, model.parameters()) == {"gain": 1}
