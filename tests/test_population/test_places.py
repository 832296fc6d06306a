"""Places: equal shares, whole devices where they suffice, and members that no cluster can hold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsepop.experiment import Resources
from sparsepop.population.places import CROWD, Places, ResourceError, plan_places

TWO = {"CPU": 2.0}
GPUS = {"CPU": 16.0, "GPU": 4.0}


@pytest.mark.parametrize(
    ("members", "wanted", "nodes", "crowd", "places"),
    [
        (8, Resources(), [TWO], CROWD, Places(2, 1.0, 0.0, 1)),
        (3, Resources(), [TWO], CROWD, Places(3, 0.666, 0.0, 1)),
        (9, Resources(), [TWO], CROWD, Places(3, 0.666, 0.0, 1)),
        (20, Resources(), [{"CPU": 16.0}], CROWD, Places(20, 0.8, 0.0, 1)),
        (40, Resources(), [{"CPU": 16.0}], CROWD, Places(20, 0.8, 0.0, 1)),
        (8, Resources(workers=2), [TWO], CROWD, Places(4, 0.25, 0.0, 1)),
        (2, Resources(), [TWO], CROWD, Places(2, 1.0, 0.0, 1)),
        (1, Resources(), [{"CPU": 6.0}], CROWD, Places(1, 6.0, 0.0, 6)),
        (5, Resources(cpus=1), [TWO], CROWD, Places(2, 1.0, 0.0, 1)),
        (5, Resources(), [TWO], 1, Places(2, 1.0, 0.0, 1)),
        (4, Resources(), [GPUS], CROWD, Places(4, 4.0, 1.0, 4)),
        (2, Resources(), [GPUS], CROWD, Places(2, 8.0, 1.0, 8)),
        (8, Resources(), [GPUS], CROWD, Places(8, 2.0, 0.5, 2)),
        (8, Resources(gpus=0), [GPUS], CROWD, Places(8, 2.0, 0.0, 2)),
        (2, Resources(), [TWO, TWO], CROWD, Places(2, 2.0, 0.0, 2)),
        (1, Resources(), [TWO, TWO], CROWD, Places(1, 2.0, 0.0, 2)),
        (3, Resources(cpus=2, gpus=1), [GPUS, TWO], 1, Places(3, 2.0, 1.0, 2)),
        (9, Resources(cpus=2, gpus=1), [GPUS, TWO], 1, Places(4, 2.0, 1.0, 2)),
        (2, Resources(workers=2), [TWO, TWO], CROWD, Places(2, 1.0, 0.0, 1)),
        (2, Resources(cpus=2, workers=2), [TWO], CROWD, Places(1, 1.0, 0.0, 1)),
        (1, Resources(cpus=4, workers=4), [TWO, TWO], CROWD, Places(1, 1.0, 0.0, 1)),
        (8, Resources(workers=2), [GPUS], CROWD, Places(2, 1.0, 1.0, 1)),
        (1, Resources(workers=4), [GPUS], CROWD, Places(1, 4.0, 1.0, 4)),
    ],
)
def test_shares(
    members: int, wanted: Resources, nodes: list[dict[str, float]], crowd: int, places: Places
) -> None:
    assert plan_places(members, wanted, nodes, crowd=crowd) == places
    assert places.device == ("cuda" if places.gpus else "cpu")


@pytest.mark.parametrize(
    ("wanted", "nodes", "message"),
    [
        (Resources(cpus=64), [TWO], r"wants 64 CPUs and the largest node has 2: .*Resources\(cpus="),
        (Resources(cpus=3), [TWO, TWO], "the largest node has 2"),
        (Resources(gpus=1), [TWO], "wants 1 GPUs and the largest node has 0"),
        (Resources(gpus=1.5), [GPUS], "1.5 is no whole number"),
        (Resources(cpus=0, gpus=0), [TWO], "0 CPUs and 0 GPUs"),
        (Resources(cpus=2, gpus=1), [{"CPU": 1.0, "GPU": 1.0}, TWO], "no node has both"),
        (Resources(), [], "0 CPUs and 0 GPUs"),
        (Resources(cpus=3, workers=3), [TWO], r"no room for 3 x \(1 CPUs and 0 GPUs\)"),
    ],
)
def test_a_member_that_the_cluster_can_never_hold(
    wanted: Resources, nodes: list[dict[str, float]], message: str
) -> None:
    with pytest.raises(ResourceError, match=message):
        plan_places(4, wanted, nodes)


@given(
    st.integers(1, 300),
    st.lists(st.tuples(st.integers(1, 64), st.integers(0, 8)), min_size=1, max_size=4),
    st.integers(1, 8),
)
def test_what_is_planned_fits(members: int, sizes: list[tuple[int, int]], crowd: int) -> None:
    nodes = [{"CPU": float(cpus), "GPU": float(gpus)} for cpus, gpus in sizes]
    places = plan_places(members, Resources(), nodes, crowd=crowd)
    assert 1 <= places.at_once <= members
    for name, each in (("CPU", places.cpus), ("GPU", places.gpus)):
        assert each * places.at_once <= sum(node[name] for node in nodes) + 1e-6
    assert places.threads >= 1
    assert places.gpus <= 1
