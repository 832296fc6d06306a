"""Networks: published sizes, closed forms, agreement with torchvision, what the other layers rely on."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from sparsepop.models import build
from sparsepop.models.resnet import Subsample
from sparsepop.nn import Act

Shape = tuple[int, int, int]
CIFAR: Shape = (3, 32, 32)
MNIST: Shape = (1, 28, 28)

# Small enough to run, each architecture once, with the number of its activations.
SMALL: list[tuple[str, Shape, int]] = [
    ("lenet-300-100", MNIST, 2),
    ("lenet-5", MNIST, 3),
    ("resnet-20", CIFAR, 19),
    ("resnet-32-w4", CIFAR, 31),
    ("resnet-18-w4", CIFAR, 17),
    ("resnet-34-w4", CIFAR, 33),
    ("resnet-50-w4", CIFAR, 49),
    ("vgg-16-w4", CIFAR, 13),
    ("wrn-16-2", CIFAR, 13),
    ("imagenet-resnet-50", (3, 64, 64), 49),
    ("residual-mlp", MNIST, 17),
]
small = pytest.mark.parametrize(
    ("name", "shape"), [case[:2] for case in SMALL], ids=[case[0] for case in SMALL]
)


@pytest.fixture(autouse=True)
def _fixed_draws() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def on_meta(name: str, shape: Shape, classes: int) -> nn.Module:
    with torch.device("meta"):
        return build(name, shape, classes)


def prunable(model: nn.Module) -> int:
    return sum(m.weight.numel() for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear)))


def learnable(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def randomised(model: nn.Module) -> nn.Module:
    """In evaluation, with BatchNorms that are not the identity, which would hide a wrong order."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            for tensor in (module.running_mean, module.bias.data):
                tensor.normal_(0, 0.1)
            for tensor in (module.running_var, module.weight.data):
                tensor.uniform_(0.5, 1.5)
    return model.eval()


# --- sizes


@pytest.mark.parametrize(
    ("name", "shape", "classes", "weights"),
    [
        ("lenet-300-100", MNIST, 10, 266_200),
        ("lenet-5", MNIST, 10, 430_500),
        ("resnet-34", CIFAR, 10, 21_265_088),
        ("resnet-34", CIFAR, 100, 21_311_168),
        ("resnet-50", CIFAR, 10, 23_467_712),
        ("resnet-50", CIFAR, 100, 23_652_032),
        ("wrn-16-8", CIFAR, 10, 10_954_160),
        ("wrn-16-10", CIFAR, 10, 17_107_632),
        ("wrn-28-8", CIFAR, 10, 23_340_464),
        # Published with a hidden layer of 512 units before the classifier.
        ("vgg-16", CIFAR, 10, 14_977_728 - 512 * 512),
        ("imagenet-resnet-50", (3, 224, 224), 1000, 25_502_912),
        ("residual-mlp", (1, 8, 8), 10, 271_616),
    ],
)
def test_prunable_weights_are_as_published(name: str, shape: Shape, classes: int, weights: int) -> None:
    assert prunable(on_meta(name, shape, classes)) == weights


@pytest.mark.parametrize(
    ("name", "classes", "parameters"),
    [
        ("resnet-20", 10, 269_722),
        ("resnet-32", 10, 464_154),
        ("resnet-18", 10, 11_173_962),
        ("resnet-34", 10, 21_282_122),
        ("resnet-50", 10, 23_520_842),
        # Published with biases on the convolutions, which BatchNorm makes redundant.
        ("vgg-16", 10, 14_728_266 - 4_224),
        ("wrn-28-10", 10, 36_479_194),
        ("wrn-28-10", 100, 36_536_884),
        ("imagenet-resnet-50", 1000, 25_557_032),
    ],
)
def test_all_parameters_are_as_published(name: str, classes: int, parameters: int) -> None:
    assert learnable(on_meta(name, CIFAR, classes)) == parameters


@settings(max_examples=10)
@given(
    width=st.integers(1, 24),
    channels=st.integers(1, 4),
    classes=st.integers(1, 20),
    blocks=st.sampled_from([3, 5]),
)
def test_thin_resnet_closed_form(width: int, channels: int, classes: int, blocks: int) -> None:
    w = width
    stages = 9 * (2 * blocks) * (w**2 + 4 * w**2 + 16 * w**2)
    narrower_inputs = 9 * (2 * w**2 + 8 * w**2)  # first convolution of stages 2 and 3 sees half the channels
    expected = 9 * channels * w + stages - narrower_inputs + 4 * w * classes
    assert prunable(on_meta(f"resnet-{6 * blocks + 2}-w{w}", (channels, 8, 8), classes)) == expected


@settings(max_examples=10)
@given(width=st.integers(1, 24), channels=st.integers(1, 4), classes=st.integers(1, 20))
def test_basic_resnet_closed_form(width: int, channels: int, classes: int) -> None:
    """A projecting pair of width v costs 9 v^2/2 + 9 v^2 + v^2/2 = 14 v^2, every other pair 18 v^2."""
    pairs = {1: 3, 2: 4, 4: 6, 8: 3}
    body = sum((18 * n - (4 if f > 1 else 0)) * (f * width) ** 2 for f, n in pairs.items())
    expected = 9 * channels * width + body + 8 * width * classes
    assert prunable(on_meta(f"resnet-34-w{width}", (channels, 8, 8), classes)) == expected


@settings(max_examples=10)
@given(width=st.integers(1, 24), channels=st.integers(1, 4), classes=st.integers(1, 20))
def test_vgg_closed_form(width: int, channels: int, classes: int) -> None:
    pairs = [(1, 1), (1, 2), (2, 2), (2, 4), (4, 4), (4, 4), (4, 8)] + [(8, 8)] * 5
    body = 9 * sum(a * b for a, b in pairs) * width**2
    expected = 9 * channels * width + body + 8 * width * classes
    assert prunable(on_meta(f"vgg-16-w{width}", (channels, 8, 8), classes)) == expected


@settings(max_examples=15)
@given(n=st.integers(1, 4), k=st.integers(1, 6), channels=st.integers(1, 4), classes=st.integers(1, 20))
def test_wrn_closed_form(n: int, k: int, channels: int, classes: int) -> None:
    widths = [16 * k, 32 * k, 64 * k]
    inputs = [16, *widths[:2]]
    projections = sum(a * b for a, b in zip(inputs, widths, strict=True) if a != b)
    convolutions = 9 * sum(a * b + (2 * n - 1) * b * b for a, b in zip(inputs, widths, strict=True))
    expected = 9 * channels * 16 + convolutions + projections + widths[-1] * classes
    assert prunable(on_meta(f"wrn-{6 * n + 4}-{k}", (channels, 8, 8), classes)) == expected


@pytest.mark.parametrize(("shape", "features"), [((1, 28, 28), 800), ((3, 32, 32), 1250), ((1, 16, 17), 50)])
def test_lenet_5_takes_other_images(shape: Shape, features: int) -> None:
    model = build("lenet-5", shape, 7)
    assert prunable(model) == 25 * shape[0] * 20 + 25 * 20 * 50 + 500 * features + 500 * 7
    assert model(torch.randn(2, *shape)).shape == (2, 7)


# --- what the networks compute


def small_stem(model: nn.Module) -> nn.Module:
    model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    model.maxpool = nn.Identity()
    return model


ORACLES: dict[str, Callable[[], nn.Module]] = {
    "resnet-18": lambda: small_stem(torchvision.models.resnet18(num_classes=10)),
    "resnet-50": lambda: small_stem(torchvision.models.resnet50(num_classes=10)),
    "imagenet-resnet-50": lambda: torchvision.models.resnet50(num_classes=10),
}


@pytest.mark.parametrize("name", ORACLES)
def test_resnets_equal_torchvision_with_its_weights(name: str) -> None:
    theirs = randomised(ORACLES[name]())
    ours = on_meta(name, CIFAR, 10).eval()
    ours.load_state_dict(theirs.state_dict(), assign=True)
    x = torch.randn(2, *CIFAR)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x))


def test_vgg_features_equal_torchvision() -> None:
    vgg = torchvision.models.vgg
    theirs = randomised(vgg.make_layers(vgg.cfgs["D"], batch_norm=True))
    for module in theirs.modules():
        if isinstance(module, nn.Conv2d):
            module.bias = None
    ours = on_meta("vgg-16", CIFAR, 10).get_submodule("0").eval()
    ours.load_state_dict(theirs.state_dict(), assign=True)
    x = torch.randn(2, *CIFAR)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x))


def test_thin_resnet_equals_the_paper_written_out() -> None:
    model = randomised(build("resnet-20", CIFAR, 10))
    state = model.state_dict()
    x = torch.randn(2, *CIFAR)

    def normed(y: Tensor, number: str, stride: int = 1) -> Tensor:
        stage, _, index = number.rpartition(".")
        prefix = f"{stage}." if stage else ""
        y = F.conv2d(y, state[f"{prefix}conv{index}.weight"], stride=stride, padding=1)
        mean, var, weight, bias = (
            state[f"{prefix}bn{index}.{part}"][:, None, None]
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (y - mean) / (var + 1e-5).sqrt() * weight + bias

    y = normed(x, "1").relu()
    for stage in (1, 2, 3):
        for block in range(3):
            grows = stage > 1 and block == 0
            skip = torch.cat([y[:, :, ::2, ::2], 0 * y[:, :, ::2, ::2]], 1) if grows else y
            inner = normed(y, f"layer{stage}.{block}.1", 2 if grows else 1).relu()
            y = (normed(inner, f"layer{stage}.{block}.2") + skip).relu()
    expected = y.mean((2, 3)) @ state["fc.weight"].T + state["fc.bias"]
    with torch.no_grad():
        torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(8, 8), (7, 5), (1, 1)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_subsample_keeps_pixels_and_layout(
    stride: int, size: tuple[int, int], layout: torch.memory_format
) -> None:
    x = torch.randn(2, 6, *size).to(memory_format=layout).requires_grad_()
    y = Subsample(5, stride)(x)
    kept = x[:, :, ::stride, ::stride]
    torch.testing.assert_close(y[:, :6], kept, rtol=0, atol=0)
    assert y.shape == (2, 11, *kept.shape[2:])
    assert not y[:, 6:].any()
    assert y.is_contiguous(memory_format=layout)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    (expected,) = torch.autograd.grad(kept.sum(), x)
    torch.testing.assert_close(gradient, expected, rtol=0, atol=0)


def test_wrn_shortcut_shares_the_first_activation() -> None:
    """With its last convolution silenced, the first block gives its projected first activation."""
    model = randomised(build("wrn-10-2", CIFAR, 10))
    block = model.get_submodule("layer1.0")
    conv2, bn1, shortcut = (block.get_submodule(name) for name in ("conv2", "bn1", "shortcut"))
    assert isinstance(conv2, nn.Conv2d)
    nn.init.zeros_(conv2.weight)
    x = torch.randn(2, 16, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(block(x), shortcut(bn1(x).relu()))


def test_wrn_block_of_equal_shape_has_a_raw_identity() -> None:
    model = build("wrn-16-1", CIFAR, 10)
    block = model.get_submodule("layer1.0")
    conv2 = block.get_submodule("conv2")
    assert isinstance(conv2, nn.Conv2d)
    nn.init.zeros_(conv2.weight)
    x = torch.randn(2, 16, 8, 8)
    torch.testing.assert_close(block(x), x, rtol=0, atol=0)


# --- what the rest of the code relies on


@small
@pytest.mark.parametrize("classes", [1, 7])
def test_output_shape_and_gradients(name: str, shape: Shape, classes: int) -> None:
    model = build(name, shape, classes)
    out = model(torch.randn(3, *shape))
    assert out.shape == (3, classes)
    out.square().sum().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("name", [name for name, *_ in SMALL if name != "lenet-5"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 9, 13)])
def test_images_of_any_size_are_taken(name: str, shape: Shape) -> None:
    assert on_meta(name, shape, 10)(torch.empty(2, *shape, device="meta")).shape == (2, 10)


@pytest.mark.parametrize(("name", "shape", "count"), SMALL, ids=[case[0] for case in SMALL])
def test_each_activation_is_an_act_of_its_own_and_used_once(name: str, shape: Shape, count: int) -> None:
    model = on_meta(name, shape, 10)
    calls: list[nn.Module] = []
    acts = [m for m in model.modules() if isinstance(m, Act)]
    for module in acts:
        module.register_forward_hook(lambda m, *_: calls.append(m))
    model(torch.empty(2, *shape, device="meta"))
    assert len(acts) == count
    assert sorted(map(id, calls)) == sorted(map(id, acts))


@small
def test_no_relu_hides_outside_an_act(name: str, shape: Shape) -> None:
    """With its slots emptied, a network must have no ReLU in its autograd graph."""
    model = build(name, shape, 10)
    for parent in list(model.modules()):
        for child, module in list(parent.named_children()):
            if isinstance(module, Act):
                setattr(parent, child, nn.Identity())
    assert not any("relu" in kind.lower() for kind in graph_nodes(model(torch.randn(2, *shape))))


def graph_nodes(out: Tensor) -> set[str]:
    seen, todo = set(), [out.grad_fn]
    while todo:
        node = todo.pop()
        if node is not None and node not in seen:
            seen.add(node)
            todo += [parent for parent, _ in node.next_functions]
    return {node.name() for node in seen}


@small
def test_bias_exactly_where_no_batchnorm_follows(name: str, shape: Shape) -> None:
    model = on_meta(name, shape, 10)
    normed = any(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    for module, after in pairwise([*model.modules(), None]):
        if isinstance(module, nn.Conv2d):
            assert (module.bias is None) == normed
        elif isinstance(module, nn.Linear):
            assert (module.bias is None) == isinstance(after, nn.BatchNorm1d)


@small
def test_layouts_agree(name: str, shape: Shape) -> None:
    model = randomised(build(name, shape, 10))
    x = torch.randn(3, *shape)
    with torch.no_grad():
        expected = model(x)
        model.to(memory_format=torch.channels_last)
        out = model(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@small
def test_channels_last_survives_to_the_last_activation_map(name: str, shape: Shape) -> None:
    model = build(name, shape, 10).to(memory_format=torch.channels_last)
    maps: list[bool] = []

    def note(_: nn.Module, __: object, out: Tensor) -> None:
        if out.ndim == 4:
            maps.append(out.is_contiguous(memory_format=torch.channels_last))

    for module in model.modules():
        if isinstance(module, Act):
            module.register_forward_hook(note)
    model(torch.randn(2, *shape).to(memory_format=torch.channels_last))
    assert all(maps)
    assert maps or name in ("lenet-300-100", "residual-mlp")


@small
def test_autocast_trains(name: str, shape: Shape) -> None:
    model = build(name, shape, 10).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        out = model(torch.randn(4, *shape).to(memory_format=torch.channels_last))
    assert out.dtype == torch.bfloat16
    out.float().logsumexp(1).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@small
def test_autocast_stays_close_to_float32(name: str, shape: Shape) -> None:
    """In evaluation: statistics of a small batch would amplify rounding without limit."""
    model = randomised(build(name, shape, 10))
    x = torch.randn(4, *shape)
    with torch.no_grad():
        reference = model(x)
        with torch.autocast("cpu", torch.bfloat16):
            out = model(x)
    assert (out - reference).norm() < 0.05 * reference.norm()


@small
def test_built_on_meta_then_loaded(name: str, shape: Shape) -> None:
    real = randomised(build(name, shape, 10))
    model = on_meta(name, shape, 10).eval()
    assert all(t.is_meta for t in [*model.parameters(), *model.buffers()])
    assert set(dict(model.named_buffers())) <= set(model.state_dict())
    model.load_state_dict(real.state_dict(), assign=True)
    x = torch.randn(2, *shape)
    with torch.no_grad():
        torch.testing.assert_close(model(x), real(x), rtol=0, atol=0)


@small
def test_weights_come_from_the_global_generator(name: str, shape: Shape) -> None:
    def weights(seed: int) -> dict[str, Tensor]:
        torch.manual_seed(seed)
        return build(name, shape, 10).state_dict()

    first, again, other = weights(1), weights(1), weights(2)
    assert all(torch.equal(first[key], again[key]) for key in first)
    matrices = [key for key, value in first.items() if value.ndim > 1]
    assert not any(torch.equal(first[key], other[key]) for key in matrices)


@pytest.mark.parametrize("name", ["resnet-20", "resnet-18", "vgg-16", "wrn-16-4"])
def test_convolutions_start_with_the_spread_of_he(name: str) -> None:
    for module in build(name, CIFAR, 10).modules():
        if isinstance(module, nn.Conv2d):
            expected = math.sqrt(2 / (module.out_channels * math.prod(module.kernel_size)))
            slack = 4 / math.sqrt(2 * module.weight.numel())
            assert module.weight.std().item() == pytest.approx(expected, rel=slack)


@pytest.mark.parametrize("name", ["lenet-300-100", "lenet-5"])
def test_lenets_start_with_variance_one_over_fan_in(name: str) -> None:
    for module in build(name, MNIST, 10).modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            expected = 1 / math.sqrt(module.weight[0].numel())
            slack = 4 / math.sqrt(2 * module.weight.numel())
            assert module.weight.std().item() == pytest.approx(expected, rel=slack)
            assert module.weight.abs().max() <= expected * math.sqrt(3)
            assert module.bias is not None
            assert not module.bias.any()


# --- names


@pytest.mark.parametrize(
    ("name", "widths"),
    [
        ("resnet-34-w16", [16, 16, 32, 64, 128]),
        ("resnet-20-w8", [8, 8, 16, 32]),
        ("resnet-50-w8", [8, 32, 64, 128, 256]),
    ],
)
def test_width_suffix_sets_the_channels_of_each_stage(name: str, widths: list[int]) -> None:
    model = on_meta(name, CIFAR, 10)
    assert isinstance(model, nn.Sequential)
    x, seen = torch.empty(2, *CIFAR, device="meta"), OrderedDict[str, int]()
    for part, module in model.named_children():
        x = module(x)
        if part == "conv1" or part.startswith("layer"):
            seen[part] = x.shape[1]
    assert list(seen.values()) == widths


@pytest.mark.parametrize(("name", "same"), [("resnet-34", 64), ("resnet-20", 16), ("vgg-16", 64)])
def test_suffix_of_the_usual_width_changes_nothing(name: str, same: int) -> None:
    plain, suffixed = on_meta(name, CIFAR, 10), on_meta(f"{name}-w{same}", CIFAR, 10)
    assert [(n, p.shape) for n, p in plain.named_parameters()] == [
        (n, p.shape) for n, p in suffixed.named_parameters()
    ]


@pytest.mark.parametrize(
    "name",
    [
        *("", "resnet", "resnet-21", "ResNet-20", "xresnet-20", "resnet-20 ", "resnet-20\n", "vgg-19"),
        *("wrn", "wrn-28", "wrn-28-0", "resnet-20-w", "resnet-20-w0", "resnet-20-w08", "resnet-20-w-4"),
        *("resnet-20-w1.5", "resnet-20-w٣", "resnet-20-w8-w8", "lenet-5-w8", "wrn-16-4-w8"),
        "imagenet-resnet-50-w8",
    ],
)
def test_unknown_names_are_named_beside_the_known(name: str) -> None:
    with pytest.raises(ValueError, match="unknown model") as caught:
        build(name, CIFAR, 10)
    message = str(caught.value)
    assert repr(name) in message
    for known in (
        "lenet-300-100",
        "lenet-5",
        "resnet-20[-wN]",
        "vgg-16[-wN]",
        "wrn-D-K",
        "imagenet-resnet-50",
    ):
        assert known in message


@pytest.mark.parametrize("depth", [1, 4, 9, 11, 27, 30])
def test_wrn_depth_must_fit(depth: int) -> None:
    with pytest.raises(ValueError, match=rf"depth {depth} is not 6n \+ 4"):
        build(f"wrn-{depth}-2", CIFAR, 10)


@pytest.mark.parametrize("shape", [(1, 15, 28), (1, 28, 15), (1, 8, 8)])
def test_lenet_5_refuses_images_it_would_pool_away(shape: Shape) -> None:
    with pytest.raises(ValueError, match=rf"16x16, not {shape[1]}x{shape[2]}"):
        build("lenet-5", shape, 10)


@pytest.mark.parametrize(("shape", "classes"), [((0, 8, 8), 10), ((1, 8, -1), 10), ((1, 8, 8), 0)])
def test_sizes_must_be_positive(shape: Shape, classes: int) -> None:
    with pytest.raises(ValueError, match="positive"):
        build("resnet-20", shape, classes)
