"""The pictures of an experiment: what is drawn, and the command, on experiments that the real Writer left."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch

from analysis.figures import main
from sparsepop import figures
from sparsepop.figures import family as of_family
from sparsepop.figures.style import shades
from sparsepop.storage import Storage
from tests.populations import write_family, write_grid, write_member, write_merge, write_start

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("figures") / "family"
    write_family(Storage(str(path)))
    return path


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("figures") / "seeds"
    write_grid(Storage(str(path)))
    return path


@pytest.fixture(scope="module")
def tree(family: Path) -> Figure:
    return figures.population(figures.load_population(family))


@pytest.fixture(scope="module")
def spread(seeds: Path) -> Figure:
    return figures.accuracy_density(figures.load_runs(seeds))


def titled(figure: Figure, start: str) -> Axes:
    return next(axes for axes in figure.axes if axes.get_title(loc="left").startswith(start))


def line(axes: Axes, label: str) -> Line2D:
    (found,) = (each for each in axes.get_lines() if each.get_label() == label)
    return found


def xs(drawn: Line2D) -> list[float]:
    return np.asarray(drawn.get_xdata(), dtype=float).tolist()


def ys(drawn: Line2D) -> list[float]:
    return np.asarray(drawn.get_ydata(), dtype=float).tolist()


def points(axes: Axes, label: str) -> list[tuple[float, float]]:
    drawn = line(axes, label)
    return list(zip(xs(drawn), ys(drawn), strict=True))


def test_each_member_is_a_line_through_its_scores(tree: Figure) -> None:
    axes = titled(tree, "family")
    assert axes.get_title(loc="left") == "family: 3 members, 3 exploits; best is member 0 with 0.9900"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("step (optimizer steps)", "validation accuracy (%)")
    assert {each.get_label() for each in axes.get_lines()} == {"ancestry", "member 0", "member 1", "member 2"}
    assert points(axes, "member 0") == [(100, 0.1), (200, 0.5), (300, 0.98), (400, 0.99)]


def test_colours_follow_the_ranks(tree: Figure) -> None:
    axes, bar = titled(tree, "family"), titled(tree, "rank")
    luminances = [sum(to_rgb(line(axes, f"member {member}").get_color())) for member in (0, 1, 2)]
    assert luminances == sorted(luminances)
    assert len(set(luminances)) == 3
    assert [label.get_text() for label in bar.get_yticklabels()] == ["1: m0", "2: m1", "3: m2"]


def test_each_exploit_is_an_arrow_from_donor_to_receiver(tree: Figure) -> None:
    axes = titled(tree, "family")
    arrows = [patch for patch in axes.patches if isinstance(patch, FancyArrowPatch)]
    ends = {tuple(map(tuple, arrow._posA_posB)) for arrow in arrows}  # type: ignore[attr-defined]
    assert ends == {((100, 0.9), (100, 0.2)), ((200, 0.95), (200, 0.5)), ((300, 0.98), (300, 0.91))}
    assert len(arrows) == 3


def test_the_ancestry_of_the_best_is_bold(tree: Figure) -> None:
    axes = titled(tree, "family")
    assert points(axes, "ancestry") == [(100, 0.9), (200, 0.95), (300, 0.98), (400, 0.99)]
    bold, thin = line(axes, "ancestry"), line(axes, "member 0")
    assert bold.get_linewidth() > 2 * thin.get_linewidth()
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [
        "ancestry of member 0",
        "state taken over: donor to receiver",
    ]


def test_each_searched_hyperparameter_is_a_panel(tree: Figure) -> None:
    assert sorted(axes.get_title(loc="left") for axes in tree.axes)[1:-1] == ["fraction", "kind", "lr"]
    scales = {name: titled(tree, name).get_yscale() for name in ("fraction", "kind", "lr")}
    assert scales == {"fraction": "linear", "kind": "linear", "lr": "log"}
    assert [label.get_text() for label in titled(tree, "kind").get_yticklabels()] == ["cosine", "linear"]
    rate = titled(tree, "lr")
    assert points(rate, "member 0") == [(0, 0.001), (200, 0.0332), (400, 0.0332)]
    assert points(rate, "ancestry") == [
        *[(0, 0.02), (100, 0.02)],  # member 2
        *[(100, 0.03), (200, 0.03)],  # member 1
        *[(200, 0.0332), (400, 0.0332)],  # member 0
    ]


def test_labels_do_not_overlap(tree: Figure, spread: Figure) -> None:
    for figure in (tree, spread):
        figure.draw_without_rendering()
        for axes in figure.axes:
            for axis in (axes.xaxis, axes.yaxis):
                shown = [text for text in axis.get_ticklabels() if text.get_text() and text.get_visible()]
                boxes = [text.get_window_extent() for text in shown]
                assert not any(one.overlaps(other) for one, other in pairwise(boxes))


def test_a_large_population(tmp_path: Path) -> None:
    for member in range(22):
        write_member(
            Storage(str(tmp_path)), member, {"lr": 10.0**-member}, [0.5, member / 50], status="started"
        )
    figure = figures.population(figures.load_population(tmp_path))
    labels = [label.get_text() for label in titled(figure, "rank").get_yticklabels()]
    assert labels[0] == "1: m21"
    assert labels[-1] == "22: m0"
    assert len(labels) < 16
    assert len(titled(figure, tmp_path.name).get_lines()) == 23


def test_a_member_that_has_not_reported_yet(tmp_path: Path) -> None:
    write_member(Storage(str(tmp_path)), 0, {"lr": 1}, [0.5], status="started")
    write_member(Storage(str(tmp_path)), 1, {"lr": 2}, [], status="started")
    figure = figures.population(figures.load_population(tmp_path))
    assert points(titled(figure, tmp_path.name), "member 1") == []
    assert points(titled(figure, "lr"), "member 1") == [(0, 2), (0, 2)]


def arrows(figure: Figure) -> int:
    return sum(isinstance(patch, FancyArrowPatch) for patch in figure.axes[0].patches)


def test_a_common_start_is_an_arrow_and_no_exploit(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path / "begun"))
    write_member(storage, 0, {"lr": 1}, [0.5, 0.6])
    write_member(storage, 1, {"lr": 1}, [0.5, 0.7], exploits=[(200, 0, {"lr": 1})])
    write_start(storage, 1, 0, 100)
    found = figures.load_population(storage)
    assert (found.exploits, len(found.taken)) == (1, 2)
    scores, tree = figures.population(found), figures.family_tree(found)
    assert (arrows(scores), arrows(tree)) == (2, 2)
    for figure in (scores, tree):
        assert ": 1 exploit" in titled(figure, "begun").get_title(loc="left").replace("2 members, ", "")


def test_colours_and_scores_are_looked_up_once(family: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []

    def counted(count: int) -> Any:
        counts.append(count)
        return shades(count)

    monkeypatch.setattr(of_family, "shades", counted)
    found = figures.load_population(family)
    figures.population(found)
    figures.family_tree(found)
    assert counts == [3]
    assert found._scores is found._scores
    assert [found.score(0, step) for step in (100, 400)] == [0.1, 0.99]
    assert np.isnan(found.score(0, 50))


@pytest.mark.parametrize("scores", [[0.5, 1.0], [1.0, 1.0], [0.99, 0.99], [-3.0, 12.0], [0.2, 0.3]])
def test_any_score_can_be_drawn(tmp_path: Path, scores: list[float]) -> None:
    write_member(Storage(str(tmp_path)), 0, {"lr": 1}, scores)
    figure = figures.population(figures.load_population(tmp_path))
    figure.draw_without_rendering()
    low, high = titled(figure, tmp_path.name).get_ylim()
    assert low < min(scores)
    assert max(scores) < high


def test_one_line_and_bars_per_method(spread: Figure) -> None:
    (axes,) = spread.axes
    assert axes.get_title(loc="left") == "seeds: test accuracy against density, mean ± std over 3 seeds"
    bars = {bar.get_label(): bar for bar in axes.containers if isinstance(bar, ErrorbarContainer)}
    assert list(bars) == ["static", "rigl"]
    means, _, (segments,) = bars["rigl"].lines
    assert np.allclose(xs(means), [0.05, 0.1], rtol=0.05)
    assert np.allclose(ys(means), [0.895, 0.9])
    heights = [float(path[1, 1] - path[0, 1]) for path in segments.get_segments()]
    assert np.allclose(heights, 0.02)  # seeds lie 0.01 apart: one standard deviation up, one down
    assert len({to_hex(bar.lines[0].get_color()) for bar in bars.values()}) == 2
    assert len({bar.lines[0].get_marker() for bar in bars.values()}) == 2


def test_every_seed_is_a_point(spread: Figure) -> None:
    (axes,) = spread.axes
    clouds = [each for each in axes.get_lines() if each.get_linestyle() == "None" and len(xs(each)) > 2]
    assert [len(xs(cloud)) for cloud in clouds] == [6, 6, 3]


def test_seeds_of_one_density_stand_at_its_tick(tmp_path: Path) -> None:
    for member, scores in enumerate(([0.5, 0.8], [0.5, 0.9])):
        write_member(Storage(str(tmp_path)), member, {"seed": 1}, scores, density=0.1)
    figure = figures.accuracy_density(figures.load_runs(tmp_path))
    figure.draw_without_rendering()
    (axes,) = figure.axes
    tick = axes.transData.transform((0.1, 0.8))[0]
    for each in axes.get_lines():
        places = each.get_transform().transform(np.asarray(each.get_xydata()))[:, 0]
        assert np.all(abs(places - tick) < 10), each
    low, high = axes.get_ylim()
    assert 0.7 < low < 0.79
    assert 0.89 < high < 1.0
    left, right = axes.bbox.intervalx
    assert left + 100 < tick < right - 100


def test_dense_runs_are_a_line_across(spread: Figure) -> None:
    (axes,) = spread.axes
    assert np.allclose(ys(line(axes, "dense (mean)")), 1.04)
    assert axes.get_xscale() == "log"
    spread.draw_without_rendering()
    assert [label.get_text() for label in axes.get_xticklabels()] == ["5%", "10%", "100%"]


def test_labels_leave_out_what_says_the_density_or_is_shared(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    for member, (method, sparsity, interval) in enumerate(
        [("set", 0.9, 10), ("rigl", 0.95, 10), ("rigl", 0.9, 99)]
    ):
        hp = {"method": method, "sparsity": sparsity, "interval": interval, "steps": 7}
        write_member(storage, member, hp, [0.5], density=1 - sparsity)
    runs = figures.load_runs(tmp_path)
    assert runs["label"].tolist() == ["set interval=10", "rigl interval=10", "rigl interval=99"]
    assert set(runs["split"]) == {"test"}


def test_a_running_grid_shows_validation(tmp_path: Path) -> None:
    for member in range(2):
        write_member(Storage(str(tmp_path)), member, {"lr": 1}, [0.5], status="started")
    (axes,) = figures.accuracy_density(figures.load_runs(tmp_path)).axes
    assert axes.get_ylabel() == "validation accuracy (%)"


MODULE = """
import runpy, sys
sys.argv[1:] = [{path!r}]
try: runpy.run_module("analysis.figures", run_name="__main__", alter_sys=True)
except SystemExit as end: code = end.code
sys.exit(code or bool({{"torch", "ray", "matplotlib.pyplot"}} & set(sys.modules)))
"""


@pytest.mark.parametrize("kind", ["module", "file"])
def test_the_command_draws_without_a_display(family: Path, kind: str) -> None:
    """Neither does it load torch or Ray."""
    code = ["-c", MODULE.format(path=str(family))]
    command = {"module": code, "file": ["analysis/figures.py", str(family)]}[kind]
    hidden = ("DISPLAY", "MPLBACKEND", "PYTHONPATH")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    run = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, f"{family}/population.png\n", "")
    assert (family / "population.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_draws_what_fits_where_it_is_told(
    seeds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert figures.fitting(seeds) == "grid"
    assert main([str(seeds), "--out", str(tmp_path / "new" / "a.svg")]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/new/a.svg\n"
    assert "<svg" in (tmp_path / "new" / "a.svg").read_text()


def test_members_that_end_in_a_merge_are_a_population_with_the_one_that_goes_on(tmp_path: Path) -> None:
    """They end partly dense, at another density."""
    storage = Storage(str(tmp_path / "parallel"))
    write_member(storage, 0, {"partition": 0}, [0.5, 0.9])
    for member in (1, 2):
        write_member(storage, member, {"partition": member}, [0.6], status="merged", density=0.4)
    for member in range(3):
        write_merge(storage, member, 100, kind="merge")
    assert figures.fitting(storage) == "population"


def test_superposed_members_are_a_population_though_but_their_seeds_differ(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path / "superposed"))
    for member in (0, 1):
        write_member(storage, member, {"lr": 0.1}, [0.6, 0.7])
    assert figures.fitting(storage) == "grid"
    for member in (0, 1):
        write_merge(storage, member, 100)
    assert figures.fitting(storage) == "population"


def test_wrong_input_exits_with_one_line(
    family: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    for arguments, told in (
        ([str(tmp_path / "nowhere")], "no experiment at"),
        ([str(tmp_path / "empty")], "holds no reports"),
        ([str(family), "--out", str(tmp_path / "picture.doc")], "use .png"),
    ):
        assert main(arguments) == 2
        printed = capsys.readouterr()
        assert told in printed.err
        assert printed.err.count("\n") == 1
        assert printed.out == ""
