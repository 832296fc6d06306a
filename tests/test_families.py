"""The figures of every family, from what real members left: what is drawn, what is said without rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

from sparsepop import figures
from sparsepop.results import Writer, leaderboard, read
from sparsepop.results.lineage import Merged
from sparsepop.storage import Storage
from tests.populations import write_family, write_grid, write_member, write_merge, write_merged
from tests.real import DENSITY, RUNS, STEPS, write_methods
from tests.test_population.rounds import maker, parallel
from tests.test_population.worlds import World

PUBLISHED = Path(__file__).resolve().parents[1] / "analysis" / "published.csv"
TABLES = ("reports", "layers", "events")
OVERLAPS = pd.DataFrame([[1.0, 0.25], [0.25, 1.0]], ["m0", "m1"], ["m0", "m1"])
LINE = pd.DataFrame({"pair": ["m0 to m1"] * 3, "place": [0.0, 0.5, 1.0], "loss": [1.0, 2.0, 1.5]})
BINS = pd.DataFrame(
    {"network": ["vote"] * 2, "confidence": [0.3, 0.9], "accuracy": [0.5, 0.8], "share": [0.4, 0.6]}
)
ENSEMBLES = pd.DataFrame(
    {
        **{"kind": ["vote"], "tickets": [["a", "b"]], "split": ["test"], "calibration_error": [0.1]},
        **{"nll": [0.5], "numbers": [{"scaled_calibration_error": 0.05, "scaled_nll": 0.4}]},
    }
)


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Storage:
    storage = Storage(str(tmp_path_factory.mktemp("families") / "methods"))
    write_methods(storage)
    return storage


@pytest.fixture(scope="module")
def tables(experiment: Storage) -> dict[str, pd.DataFrame]:
    return {table: read(experiment, table) for table in TABLES}


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    storage = Storage(str(tmp_path_factory.mktemp("families") / "seeds"))
    write_grid(storage)
    return figures.load_runs(storage)


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> figures.Population:
    storage = Storage(str(tmp_path_factory.mktemp("families") / "family"))
    write_family(storage)
    return figures.load_population(storage)


def drawn(figure: Figure, label: str, axes: int = 0) -> list[tuple[float, float]]:
    """The points of the one line of this label."""
    (line,) = (each for each in figure.axes[axes].get_lines() if each.get_label() == label)
    return [(float(x), float(y)) for x, y in np.asarray(line.get_xydata())]


OF_MEMBERS: dict[str, tuple[Callable[[pd.DataFrame, int], Figure], str, str]] = {
    "schedule": (figures.schedule, "reports", "gap"),
    "learning": (figures.learning, "reports", "rigl"),
    "remaining": (figures.remaining, "layers", "rigl"),
    "thresholds": (figures.thresholds, "layers", "dst"),
    "coefficients": (figures.coefficients, "layers", "halo"),
    "gradients": (figures.gradients, "reports", "east"),
    "gap": (figures.gap_schedule, "events", "gap"),
    "superposition": (figures.superposition, "events", "sup-tickets"),
}


@pytest.fixture(scope="module")
def all_figures(
    tables: dict[str, pd.DataFrame],
    seeds: pd.DataFrame,
    family: figures.Population,
    merges: pd.DataFrame,
) -> dict[str, Figure]:
    published = figures.read_published(PUBLISHED).head(3)
    return {
        **{name: draw(tables[of], RUNS.index(run)) for name, (draw, of, run) in OF_MEMBERS.items()},
        "accuracy_density": figures.accuracy_density(seeds, published),
        "accuracy_flops": figures.accuracy_flops(seeds),
        "pareto": figures.pareto(seeds),
        "collapse": figures.collapse_rate(seeds, 10),
        "population": figures.population(family),
        "family_tree": figures.family_tree(family),
        "trajectories": figures.trajectories(family),
        "overlaps": figures.overlap_matrix(OVERLAPS),
        "line": figures.loss_line(LINE),
        "calibration": figures.calibration(ENSEMBLES),
        "reliability": figures.reliability(BINS),
        "rounds": figures.rounds(merges),
    }


def test_every_figure_has_labels_and_draws(all_figures: dict[str, Figure]) -> None:
    for name, figure in all_figures.items():
        figure.draw_without_rendering()
        labels = [axes.get_xlabel() + axes.get_ylabel() for axes in figure.axes]
        titles = [axes.get_title(loc="left") for axes in figure.axes]
        assert all(any(pair) for pair in zip(labels, titles, strict=True)), name
        assert any(axes.get_xlabel() for axes in figure.axes), name


@pytest.mark.parametrize("name", ["remaining", "accuracy_density", "family_tree"])
def test_equal_frames_give_equal_bytes(all_figures: dict[str, Figure], name: str) -> None:
    one = figures.encode(all_figures[name], "a.svg")
    assert figures.encode(all_figures[name], "b.svg") == one
    assert b"<dc:date>" not in one


@pytest.mark.parametrize("name", OF_MEMBERS)
def test_without_rows_one_error_names_what_is_missing(tables: dict[str, pd.DataFrame], name: str) -> None:
    draw, table, run = OF_MEMBERS[name]
    frame = tables[table]
    with pytest.raises(figures.MissingRows, match="no rows: give "):
        draw(frame.iloc[:0], 0)
    with pytest.raises(figures.MissingRows, match="no rows of member 99: there are those of"):
        draw(frame, 99)
    if name not in ("schedule", "learning", "remaining"):
        with pytest.raises(figures.MissingRows, match=r"give .* (trained|GradientFlow)"):
            draw(frame[frame["member"] != RUNS.index(run)].assign(member=RUNS.index(run)), RUNS.index(run))


def test_frames_without_columns_are_named(seeds: pd.DataFrame, family: figures.Population) -> None:
    draws: dict[str, Callable[[], Figure]] = {
        "no column density: give the runs": lambda: figures.accuracy_density(seeds.drop(columns="density")),
        "no column train_flops": lambda: figures.accuracy_flops(seeds.drop(columns="train_flops")),
        "no rows: give the runs": lambda: figures.pareto(seeds.iloc[:0]),
        "at least 2 classes, got 1": lambda: figures.collapse_rate(seeds, 1),
        "no column loss": lambda: figures.loss_line(LINE.drop(columns="loss")),
        "no column share": lambda: figures.reliability(BINS.drop(columns="share")),
        "give a square frame": lambda: figures.overlap_matrix(OVERLAPS.rename(columns={"m1": "m2"})),
        "give the table `ensembles`": lambda: figures.calibration(ENSEMBLES.iloc[:0]),
    }
    for message, draw in draws.items():
        with pytest.raises(ValueError, match=message):
            draw()


def test_remaining_ratios_are_counts_over_sizes(tables: dict[str, pd.DataFrame]) -> None:
    figure, rows = figures.remaining(tables["layers"], 1), tables["layers"].query("member == 1")
    for layer, own in rows.groupby("layer"):
        expected = [(float(s), a / n) for s, a, n in zip(own["step"], own["alive"], own["size"], strict=True)]
        assert np.allclose(drawn(figure, str(layer)), expected)


def test_many_layers_are_a_map_of_colours() -> None:
    rows = [
        {"member": 0, "step": step, "layer": f"l{layer:02d}", "size": 100, "alive": layer + step}
        for layer in range(20)
        for step in (10, 20)
    ]
    figure = figures.remaining(pd.DataFrame(rows), 0)
    (mesh,) = figure.axes[0].collections
    values = mesh.get_array()
    assert values is not None
    assert np.allclose(
        np.asarray(values).ravel(), [(layer + step) / 100 for layer in range(20) for step in (10, 20)]
    )
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()][:2] == ["l00", "l01"]


def test_rates_at_reports_are_points_that_no_line_joins(tables: dict[str, pd.DataFrame]) -> None:
    """Of many reports too."""
    row = tables["reports"].query("member == 4").iloc[:1]
    many = pd.concat([row.assign(step=step) for step in range(1, 101)])
    for reports in (tables["reports"], many):
        density, rate, *_ = figures.schedule(reports, 4).axes
        ((rates,), (shares,)) = (axes.get_lines() for axes in (rate, density))
        assert rates.get_linestyle() == "None" != shares.get_linestyle()
        assert rates.get_markersize() > 0


def test_a_map_names_the_ratios_that_there_are() -> None:
    def ticks(ratios: list[int]) -> list[str]:
        rows = [
            {"member": 0, "step": step, "layer": f"l{layer}", "size": 1000, "alive": alive}
            for layer, alive in enumerate(ratios)
            for step in (10, 20)
        ]
        figure = figures.remaining(pd.DataFrame(rows), 0)
        figure.draw_without_rendering()
        bar = figure.axes[1]
        low, high = bar.get_ylim()
        labels = zip(bar.get_yticks(), bar.get_yticklabels(), strict=True)
        return [text.get_text() for tick, text in labels if low <= tick <= high]

    assert ticks([50] * 8) == ["5%", "10%", "30%", "100%"]
    assert ticks([320] * 8) == ["10%", "32%", "100%"]  # no room for 30%
    assert ticks([0, 20, *[500] * 6]) == ["2%", "3%", "10%", "30%", "50%", "100%"]
    assert ticks([0] * 8) == ["10%", "30%", "100%"]


def test_bars_say_which_layers_were_dense(tables: dict[str, pd.DataFrame]) -> None:
    """Four phases of eight steps over two partitions, which share the layers between them."""
    member = RUNS.index("gap")
    figure = figures.gap_schedule(tables["events"], member)
    (axes,) = figure.axes
    names = [text.get_text() for text in axes.get_yticklabels()]
    bars = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    spans = sorted(
        (bar.get_x(), bar.get_x() + bar.get_width(), names[round(bar.get_y() + 0.35)]) for bar in bars
    )
    assert {(begin, end) for begin, end, _ in spans} == {(at, at + 8) for at in (0, 8, 16, 24)}
    assert sorted(names) == sorted(tables["layers"]["layer"].unique())
    first, second = ({name for begin, _, name in spans if begin == at} for at in (0, 8))
    assert first | second == set(names)
    assert not first & second


def test_above_the_bars_stands_the_accuracy_that_phases_left(tables: dict[str, pd.DataFrame]) -> None:
    member = RUNS.index("gap")
    figure = figures.gap_schedule(tables["events"], member, tables["reports"])
    scores, bars = figure.axes
    rows = tables["reports"].query("member == @member").sort_values("step")
    known = [tuple(map(float, pair)) for pair in rows[["step", "validation_accuracy"]].to_numpy()]
    assert drawn(figure, f"member {member}") == known
    ends = [
        float(np.asarray(line.get_xdata())[0]) for line in scores.get_lines() if line.get_linestyle() == ":"
    ]
    assert ends == [8, 16, 24, 32]
    assert scores.get_shared_x_axes().joined(scores, bars)
    assert scores.get_title(loc="left")


def test_who_has_reported_nothing_is_no_line_above_the_bars(merges: pd.DataFrame) -> None:
    reports = pd.DataFrame([{"member": 0, "step": step, "validation_accuracy": 0.5} for step in (4, 8)])
    scores, _ = figures.gap_schedule(merges, 1, reports).axes
    (line,) = (line for line in scores.get_lines() if str(line.get_label()).startswith("member"))
    assert line.get_label() == "member 0"


def test_a_part_that_is_grown_in_parallel_is_dense_until_the_merge() -> None:
    told = [("grow", 4, {"phase": 0.0}), ("merge", 8, {}), ("grow", 8, {"phase": 1.0}), ("merge", 12, {})]
    rows = [
        {"member": 0, "kind": kind, "step": step, "message": "conv", "numbers": numbers, "overlap": None}
        for kind, step, numbers in told
    ]
    (axes,) = figures.gap_schedule(pd.DataFrame(rows), 0).axes
    bars = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    assert sorted((bar.get_x(), bar.get_x() + bar.get_width()) for bar in bars) == [(4, 8), (8, 12)]


def bar_colours(figure: Figure) -> dict[str, set[Any]]:
    """The colours in which each layer is drawn."""
    (axes,) = figure.axes
    names = [text.get_text() for text in axes.get_yticklabels()]
    colours: dict[str, set[Any]] = {name: set() for name in names}
    for bar in (patch for patch in axes.patches if isinstance(patch, Rectangle)):
        colours[names[round(bar.get_y() + 0.35)]].add(bar.get_facecolor())
    return colours


def test_all_members_of_a_group_grow_their_parts_in_colours_of_their_own(merges: pd.DataFrame) -> None:
    parts = merges.query("kind == 'grow'").groupby("member")["message"].first().str.split(", ")
    figure = figures.gap_schedule(merges, 1)
    colours = bar_colours(figure)
    assert list(colours) == parts[0] + parts[1]
    (first,), (second,) = (set.union(*(colours[name] for name in names)) for names in parts)
    assert first != second
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["partition 0", "partition 1"]
    # by who grows them, not by name
    renamed = merges.assign(message=merges["message"].str.replace("1.weight", "stem.weight", regex=False))
    assert list(bar_colours(figures.gap_schedule(renamed, 1))) == ["stem.weight", *parts[1]]
    assert figure.axes[0].get_title(loc="left") == "members 0, 1: layers that are dense, phases 0 to 1"


def test_layers_that_grow_with_others_each_time_are_no_partitions() -> None:
    told = [("a, b", 0), ("b, c", 1)]
    rows = [
        {"member": 0, "kind": kind, "step": 4 * phase + at, "message": names, "numbers": {"phase": phase}}
        for names, phase in told
        for kind, at in (("grow", 0), ("prune", 4))
    ]
    figure = figures.gap_schedule(pd.DataFrame(rows).assign(overlap=None), 0)
    assert not figure.legends
    assert {name: len(found) for name, found in bar_colours(figure).items()} == {"a": 1, "b": 2, "c": 1}


def test_thresholds_are_means_within_their_range(tables: dict[str, pd.DataFrame]) -> None:
    figure, rows = figures.thresholds(tables["layers"], 2), tables["layers"].query("member == 2")
    for layer, own in rows.groupby("layer"):
        means = [(float(s), n["threshold_mean"]) for s, n in zip(own["step"], own["numbers"], strict=True)]
        assert np.allclose(drawn(figure, str(layer)), means)
    assert len(figure.axes[0].collections) == 3


def test_coefficients_stand_at_the_middle_of_their_decade(tables: dict[str, pd.DataFrame]) -> None:
    rows = tables["layers"].query("member == 3")
    known = rows[[any("1e" in name for name in numbers) for numbers in rows["numbers"]]]
    figure, newest = figures.coefficients(tables["layers"], 3), known[known["step"] == known["step"].max()]
    for _, row in newest.iterrows():
        points = dict(drawn(figure, row["layer"]))
        decades = {k: v for k, v in row["numbers"].items() if k.startswith("coefficient_1e")}
        assert np.allclose(sorted(points.values()), sorted(decades.values()))
        exponents = sorted(int(name.removeprefix("coefficient_1e")) for name in decades)
        assert np.allclose(sorted(np.log10(list(points))), np.array(exponents) + 0.5)
    with pytest.raises(ValueError, match="at that step"):
        figures.coefficients(tables["layers"], 3, step=STEPS)  # after the cut


def test_beta_fades_and_gradients_flow(tables: dict[str, pd.DataFrame]) -> None:
    figure = figures.gradients(tables["reports"], RUNS.index("east"))
    above, below = figure.axes
    (beta,) = above.get_lines()
    values = np.asarray(beta.get_ydata(), dtype=float)
    assert values[0] > values[1] > values[-1] == 0.0
    assert [line.get_label() for line in below.get_lines()] == ["stage 1", "stage 3", "stage 5"]


def test_votes_without_a_best_temperature_are_shown_as_they_are() -> None:
    """All of validation was right, or the vote was judged on it."""
    figure = figures.calibration(ENSEMBLES.assign(numbers=[{"scaled_nll": float("nan")}]))
    pairs: Any = figure.axes[0].containers
    plain, scaled = (bars.patches[0] for bars in pairs)
    assert plain.get_width() == pytest.approx(10.0)
    assert np.isnan(scaled.get_width())
    figure.draw_without_rendering()


def test_bars_of_calibration_say_whose_they_are() -> None:
    tickets = [["223fb7b2aa", "1d8d6eab"], ["223fb7b2aa"], ["1d8d6eabbb"]]
    rows = pd.concat([ENSEMBLES] * 3).assign(kind=["vote", "single", "single"], tickets=tickets)
    axes, _ = figures.calibration(rows).axes
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert names == ["vote of 2, test", "single 223fb7b2, test", "single 1d8d6eab, test"]
    assert axes.get_title(loc="left").startswith("calibration of tickets")


def test_superposition_shows_tickets_then_their_average(tables: dict[str, pd.DataFrame]) -> None:
    figure = figures.superposition(tables["events"], RUNS.index("sup-tickets"))
    noted = tables["events"].query("kind == 'ticket'")["numbers"]
    assert drawn(figure, "a ticket") == [(n["ticket"], n["accuracy"]) for n in noted]
    ((made,),) = [tables["events"].query("kind == 'superpose'")["numbers"].tolist()]
    stages = [made[name] for name in ("unpruned", "pruned", "recalibrated")]
    assert [y for _, y in drawn(figure, "their average")] == stages


def test_the_schedule_shows_what_was_reported(tables: dict[str, pd.DataFrame]) -> None:
    figure, rows = figures.schedule(tables["reports"], 4), tables["reports"].query("member == 4")
    density, rate, phase, explored = figure.axes
    for axes, column in ((density, "density"), (rate, "lr")):
        (line,) = axes.get_lines()
        assert np.allclose(np.asarray(line.get_ydata(), dtype=float), rows[column])
        assert "at reports" in axes.get_ylabel()
    (line,) = phase.get_lines()
    assert line.get_ydata().tolist() == [numbers["phase"] for numbers in rows["numbers"]]  # type: ignore[union-attr]
    (line,) = explored.get_lines()
    assert line.get_ydata().tolist() == [numbers["explored"] for numbers in rows["numbers"]]  # type: ignore[union-attr]
    assert len(figures.schedule(tables["reports"], 1).axes) == 2  # RigL counts neither


@pytest.fixture(scope="module")
def merges(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """The events of two rounds of parallel grow-and-prune by two members."""
    storage = Storage(str(tmp_path_factory.mktemp("families") / "rounds"))
    assert not World(parallel(maker("lenet-300-100")), storage).run().errors
    return read(storage, "events")


def test_rounds_show_members_what_was_combined_and_what_is_left(merges: pd.DataFrame) -> None:
    figure, told = figures.rounds(merges), merges.query("kind == 'merge' and member == 0")
    for label, name in (("members", "members"), ("combined", "dense"), ("pruned back", "merged")):
        assert drawn(figure, label) == [
            (step, n[name]) for step, n in zip(told["step"], told["numbers"], strict=True)
        ]
    wanted = [(float(s), n["changed"]) for s, n in zip(told["step"], told["numbers"], strict=True)]
    assert np.allclose(drawn(figure, "masks", 1), wanted)
    every = merges.query("kind == 'merge'").groupby("step")["numbers"]
    for label, name in (("up", "bytes_up"), ("down", "bytes_down")):
        wanted = [(float(step), sum(n[name] for n in rows) / 1e6) for step, rows in every]
        assert np.allclose(drawn(figure, label, 2), wanted)
    with pytest.raises(figures.MissingRows, match="merged or superposed"):
        figures.rounds(merges[merges["kind"] == "grow"])


def test_superpositions_are_rounds_too() -> None:
    numbers = {"round_end": 4.0, "members": 0.5, "unpruned": 0.7, "recalibrated": 0.6, "bytes_up": 2e6}
    row = {"member": 0, "kind": "superpose", "step": 4, "overlap": 0.75, "numbers": numbers}
    figure = figures.rounds(pd.DataFrame([row, row | {"member": 1}]))
    assert drawn(figure, "combined") == [(4, 0.7)]
    assert drawn(figure, "pruned back") == [(4, 0.6)]
    assert drawn(figure, "masks", 1) == [(4, 0.25)]
    assert drawn(figure, "up", 2) == [(4, 4.0)]


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory) -> figures.Population:
    """Three members, the last two of which begin at step 100, are superposed at steps 200 and 300."""
    storage = Storage(str(tmp_path_factory.mktemp("families") / "merged"))
    write_merged(storage)
    return figures.load_population(storage)


def merge_steps(figure: Figure) -> list[float]:
    lines = [line for line in figure.axes[0].get_lines() if line.get_linestyle() == ":"]
    return [float(np.asarray(line.get_xdata())[0]) for line in lines]


def test_the_ancestry_of_merged_members_ends_at_the_merge(merged: figures.Population) -> None:
    assert merged.merges == [Merged(200, (0, 1, 2), 3), Merged(300, (0, 1, 2), 3)]
    assert merged.ancestry == [(0, 300, 400)]
    tree, scores = figures.family_tree(merged), figures.population(merged)
    assert drawn(tree, "ancestry") == [(300, 0), (400, 0)]
    assert drawn(scores, "ancestry") == [(300, 0.7), (400, 0.9)]
    for figure in (tree, scores):
        assert merge_steps(figure) == [200, 300]
        assert "0 exploits, 2 merges" in figure.axes[0].get_title(loc="left")
    told = "the best weights are merged from m0, m1, m2 at step 300"
    assert tree.axes[0].get_title(loc="left").endswith(told)


def test_members_are_drawn_from_where_they_began(merged: figures.Population) -> None:
    (axes,) = figures.family_tree(merged).axes
    spans = [np.asarray(line.get_xdata()).tolist() for line in axes.get_lines()[:3]]
    assert spans == [[0, 400], [100, 400], [100, 400]]


def test_what_members_do_after_a_merge_goes_on_from_it(tmp_path: Path) -> None:
    """An exploit takes a state that was merged before; what nobody took is no merge."""
    storage = Storage(str(tmp_path))
    for member, scores in enumerate(([0.5] * 4, [0.6] * 4)):
        write_member(storage, member, {"lr": member}, scores, exploits=[(300, 0, {})] if member else [])
        write_merge(storage, member, 200, networks=4.0)
        write_merge(storage, member, 300 + 100 * member, overlap=None)
    found = figures.load_population(storage)
    assert found.origin == Merged(200, (0, 1), 4)
    assert str(found.origin) == "merged from 4 members at step 200"
    assert found.ancestry == [(0, 200, 300), (1, 300, 400)]


def test_the_family_tree_leads_from_donors_to_receivers(family: figures.Population) -> None:
    figure = figures.family_tree(family)
    (axes,) = figure.axes
    rows = {int(text.get_text()[1:]): place for place, text in enumerate(axes.get_yticklabels())}
    assert list(rows) == family.board["member"].tolist()
    arrows = [patch for patch in axes.patches if isinstance(patch, FancyArrowPatch)]
    ends = {tuple(map(tuple, arrow._posA_posB)) for arrow in arrows}  # type: ignore[attr-defined]
    assert ends == {
        ((100, rows[2]), (100, rows[1])),
        ((200, rows[1]), (200, rows[0])),
        ((300, rows[0]), (300, rows[2])),
    }
    way = [(0, rows[2]), (100, rows[2]), (100, rows[1]), (200, rows[1]), (200, rows[0]), (400, rows[0])]
    assert drawn(figure, "ancestry") == way


RUN = st.tuples(st.integers(1, 6), st.integers(0, 8))


@given(st.lists(RUN, min_size=1, max_size=12))
def test_the_front_is_what_no_run_beats(found: list[tuple[int, int]]) -> None:
    runs = pd.DataFrame(found, columns=["alive", "accuracy"]).assign(member=range(len(found)))
    kept = set(map(tuple, figures.front(runs)[["alive", "accuracy"]].to_numpy().tolist()))
    beaten = {
        (alive, accuracy)
        for alive, accuracy in found
        if any(a <= alive and b >= accuracy and (a, b) != (alive, accuracy) for a, b in found)
    }
    assert kept == set(found) - beaten


def test_collapse_counts_runs_below_twice_guessing(seeds: pd.DataFrame) -> None:
    runs = seeds.assign(accuracy=np.where(seeds["member"] % 3 == 0, 0.19, 0.2))
    figure = figures.collapse_rate(runs, 10)
    for label in ("static", "rigl", "dense"):
        assert [y for _, y in drawn(figure, label)] == pytest.approx([1 / 3] * (1 if label == "dense" else 2))


def test_a_method_has_one_style_in_all_figures(seeds: pd.DataFrame) -> None:
    left, right = figures.accuracy_density(seeds), figures.accuracy_flops(seeds)
    bars: dict[Any, Any] = {bar.get_label(): bar for bar in left.axes[0].containers}
    lines = {line.get_label(): line for line in right.axes[0].get_lines()}
    for label in ("static", "rigl"):
        assert bars[label].lines[0].get_color() == lines[label].get_color()
        assert bars[label].lines[0].get_linestyle() == lines[label].get_linestyle()


def test_published_numbers_stand_beside_ours(seeds: pd.DataFrame) -> None:
    published = figures.read_published(PUBLISHED)
    ours = seeds.assign(model="lenet-300-100", data="/some/where/mnist")
    near = figures.like(published, ours)
    assert near[["method", "density", "accuracy"]].to_numpy().tolist() == [
        ["dense", 1.0, 98.16],
        ["DST", 0.0248, 97.69],
    ]
    assert drawn(figures.accuracy_density(ours, near), "published: DST") == [(0.0248, 0.9769)]
    assert figures.like(published, seeds).empty


def test_every_published_number_has_a_source() -> None:
    published = figures.read_published(PUBLISHED)
    assert len(published) > 100
    assert published["source"].str.len().min() > 10
    assert not published.duplicated(["method", "model", "data", "density", "epochs", "source"]).any()


@pytest.mark.parametrize("row", ["RigL,a,b,0,90,,,s", "RigL,a,b,1.5,90,,,s", "RigL,a,b,0.5,101,,,s"])
def test_a_number_out_of_range_is_refused(tmp_path: Path, row: str) -> None:
    file = tmp_path / "published.csv"
    head = "method,model,data,density,accuracy,epochs,flops,source"
    file.write_text(f"{head}\nRigL,a,b,0.1,90,,,s\n{row}\n")
    with pytest.raises(ValueError, match=r"published\.csv, row 3: densities lie in"):
        figures.read_published(file)


@pytest.mark.parametrize("content", [None, "", "a,b\n1,2,3\n1,2,3,4,5\n", "\0\xff"])
def test_a_file_that_is_no_table_is_named(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "published.csv"
    if content is not None:
        file.write_text(content, encoding="latin-1")
    with pytest.raises(ValueError, match=r"published\.csv cannot be read|published\.csv has no"):
        figures.read_published(file)


def test_a_dead_run_stands_left_of_the_others(seeds: pd.DataFrame) -> None:
    """Density 0 has no place on a logarithmic axis."""
    dead = seeds["density"] == seeds["density"].min()
    runs = seeds.assign(density=seeds["density"].mask(dead, 0.0))
    for figure in (figures.accuracy_density(runs), figures.collapse_rate(runs, 10)):
        figure.draw_without_rendering()
        (axes,) = figure.axes
        assert [label.get_text() for label in axes.get_xticklabels()] == ["0%", "10%", "100%"]
        places = axes.transData.transform([(share, 0.5) for share in (0.0, 0.1, 1.0)])[:, 0]
        assert np.all(np.diff(places) > 50)


def test_runs_that_are_all_dead_can_be_drawn(seeds: pd.DataFrame) -> None:
    figures.accuracy_density(seeds.assign(density=0.0)).draw_without_rendering()


@pytest.mark.parametrize(("most", "scale"), [(4.9, "linear"), (5.1, "log")])
def test_costs_that_span_more_than_a_factor_of_five_are_logarithmic(
    seeds: pd.DataFrame, most: float, scale: str
) -> None:
    costs = np.linspace(1e9, most * 1e9, len(seeds))
    (axes,) = figures.accuracy_flops(seeds.assign(train_flops=costs)).axes
    assert axes.get_xscale() == scale


def test_a_network_of_ones_own_has_no_published_numbers(seeds: pd.DataFrame, tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    model = {"type": "functools.partial", "of": "mine.net", "width": 8}
    write_member(storage, 0, {}, [0.5])
    writer = Writer(storage, 0, 0)
    writer.add("members", status="started", step=0, hp="{}", recipe=json.dumps({"model": model}))
    writer.flush("again")
    runs = figures.load_runs(storage)
    assert runs["model"].tolist() == [json.dumps(model)]
    assert figures.like(figures.read_published(PUBLISHED), runs).empty


def test_ratios_that_are_nearly_one_are_not_blown_up(tables: dict[str, pd.DataFrame]) -> None:
    layers = tables["layers"].assign(size=10_000)
    layers["alive"] = 1000 + layers["layer"].astype("category").cat.codes.astype(int)
    low, high = figures.remaining(layers, 1).axes[0].get_ylim()
    assert low < 0.095
    assert high > 0.105


def test_runs_know_their_network_and_costs(experiment: Storage) -> None:
    runs = figures.load_runs(experiment)
    assert set(runs["model"]) == {"lenet-300-100"}
    assert set(runs["data"]) == {"digits"}
    assert runs["label"].tolist() == list(RUNS)
    assert runs["dense"].tolist() == [run == "dense" for run in RUNS]
    assert set(runs.loc[~runs["dense"], "density"]) == {DENSITY}
    last = read(experiment, "reports").query("final").set_index("member")
    assert runs["train_flops"].tolist() == last["train_flops"].tolist()
    both = figures.load_all([experiment, experiment])
    assert both["label"].tolist() == [f"methods: {run}" for run in RUNS] * 2


def test_the_gallery_holds_what_there_are_rows_for(experiment: Storage) -> None:
    pictures = {picture.name: picture for picture in figures.gallery(experiment)}
    expected = ["accuracy-density", "accuracy-flops", "pareto", "learning", "schedule", "remaining"]
    assert list(pictures)[: len(expected)] == expected
    board = leaderboard(experiment)
    best = board[board["density"] < 1].iloc[0]["member"]
    assert f"member {best}:" in pictures["learning"].shows


def test_only_missing_rows_leave_a_figure_out(experiment: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Figure:
        raise ValueError("cannot be drawn")

    monkeypatch.setattr("sparsepop.figures.time.learning", broken)
    with pytest.raises(ValueError, match="cannot be drawn"):
        list(figures.gallery(experiment))


def test_what_goes_wrong_with_a_picture_is_not_taken_for_a_missing_one(experiment: Storage) -> None:
    pictures = figures.gallery(experiment)
    next(pictures)
    assert isinstance(pictures, Generator)
    with pytest.raises(figures.MissingRows, match="of its reader"):
        pictures.throw(figures.MissingRows("of its reader"))
