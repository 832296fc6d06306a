"""The runs of an experiment side by side: one row per member, with a name for its method or setting."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from sparsepop.results import Tables, leaderboard
from sparsepop.results.hyper import hp_keys
from sparsepop.results.reader import Folder, last_rows, nothing_yet
from sparsepop.results.table import base_name, value_text
from sparsepop.results.tables import tables_of

_COSTS = ("others", "train_flops", "inference_flops", "dense_flops")
COLUMNS = ("experiment", "key", "label", "density", "accuracy", "split", "dense")


def load_runs(experiment: Folder | Tables) -> pd.DataFrame:
    """The leaderboard of an experiment, by member, and these columns: experiment, data, model; key (equal for
    equal hyperparameters) and label (what sets the run apart, but for its density); dense (whether no run of
    that label is sparse); the newest report's others, train_flops, inference_flops and dense_flops; accuracy
    (0..1) and split: of the test split over finished runs, or validation so far where none has finished.

    Raises ValueError for an experiment without reports.
    """
    tables = tables_of(experiment)
    board = leaderboard(tables).sort_values("member")
    split = "test" if board["test_accuracy"].notna().any() else "validation"
    board = board.assign(accuracy=board[f"{split}_accuracy"], split=split)
    runs = board[board["accuracy"].notna()].assign(key=hp_keys, experiment=base_name(str(tables.storage)))
    if runs.empty:
        raise ValueError(nothing_yet(tables.storage, "reports"))
    newest = last_rows(tables.read("reports"))
    runs = runs.join(newest[list(_COSTS)], on="member")
    runs["data"] = str(tables.description.get("data", ""))
    runs["model"] = runs["member"].map(_models(tables.read("members", superseded=True)))
    runs["label"] = labels(runs)
    runs["dense"] = ~runs.groupby("label")["density"].transform(lambda densities: (densities < 1).any())
    return runs.reset_index(drop=True)


def load_all(experiments: Iterable[Folder | Tables]) -> pd.DataFrame:
    """The runs of several experiments in one frame; labels begin with the experiment's name where more than
    one is given. Runs on the test split are not mixed with validation so far: then the latter are left out.
    """
    frames = [load_runs(each) for each in experiments]
    if len(frames) > 1:
        frames = [runs.assign(label=runs["experiment"] + ": " + runs["label"]) for runs in frames]
    runs = pd.concat(frames, ignore_index=True)
    return runs[runs["split"] == "test"] if (runs["split"] == "test").any() else runs


def _models(members: pd.DataFrame) -> dict[int, str]:
    """Each member's model, a name or what a network of one's own was made of, as text."""
    known = members.dropna(subset="recipe")
    models = {row.member: json.loads(str(row.recipe)).get("model", "") for row in known.itertuples()}
    return {
        member: model if isinstance(model, str) else json.dumps(model) for member, model in models.items()
    }


def labels(runs: pd.DataFrame) -> list[str]:
    """A name per run: its hyperparameters without those that all runs share or that say the density."""
    flat = pd.DataFrame([_flat(json.loads(str(hp))) for hp in runs["hp"]], index=runs.index)
    kept = [
        name
        for name in flat
        if flat[name].map(json.dumps).nunique() > 1 and not _says_density(flat[name], runs["density"])
    ]
    return [
        " ".join(_labelled(str(name), flat.loc[row, name]) for name in kept) or "all" for row in flat.index
    ]


def _flat(hp: dict[str, Any]) -> dict[str, Any]:
    """Lists taken apart: {"run": ["rigl", 0.1]} becomes {"run.0": "rigl", "run.1": 0.1}."""
    entries: dict[str, Any] = {}
    for name, value in hp.items():
        if isinstance(value, list):
            entries.update({f"{name}.{place}": item for place, item in enumerate(value)})
        else:
            entries[name] = value
    return entries


def _says_density(values: pd.Series, densities: pd.Series) -> bool:
    if not all(isinstance(value, int | float) for value in values):
        return False
    numbers = values.astype(float)
    near = [np.isclose(share, densities, rtol=0.03, atol=1e-3).all() for share in (numbers, 1 - numbers)]
    return bool(any(near))


def _labelled(name: str, value: Any) -> str:
    return value_text(value) if isinstance(value, str) else f"{name}={value_text(value)}"
