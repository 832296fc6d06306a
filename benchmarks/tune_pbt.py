"""python -m benchmarks.tune_pbt: the toy population under Ray Tune's PBT, which `exchange` compares with."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from ray import tune
from ray.tune.schedulers import PopulationBasedTraining

from benchmarks.toy import DATA, HIGHEST, LOWEST, MEMBERS, TASK, Toy
from sparsepop.data import open_data
from sparsepop.member import Member
from sparsepop.population.launch import cluster
from sparsepop.train import train


def main(arguments: Sequence[str] | None = None) -> int:
    """Train the population, noting starts and generations in FOLDER/log.jsonl; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tune_pbt", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("folder", help="where Tune and the log go")
    parser.add_argument("--every", type=int, required=True, help="steps in a generation")
    parser.add_argument("--generations", type=int, required=True)
    flags = parser.parse_args(arguments)
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    with cluster(None):
        errors = fit(Toy(flags.every, flags.generations), flags.folder).errors
    for error in errors:
        print(error, file=sys.stderr)
    return 1 if errors else 0


def fit(toy: Toy, folder: str) -> Any:
    """Tune's results, by the scheduler's defaults but for deciding at every report, and actors kept alive."""
    draw = tune.loguniform(LOWEST, HIGHEST)
    scheduler = PopulationBasedTraining(
        time_attr="training_iteration",
        perturbation_interval=1,
        quantile_fraction=0.5,
        hyperparam_mutations={"lr": draw},
    )
    member = tune.with_parameters(train_member, toy=toy, log=str(Path(folder, "log.jsonl").absolute()))
    settings = tune.TuneConfig(
        scheduler=scheduler, num_samples=MEMBERS, reuse_actors=True, metric="score", mode="max"
    )
    place = tune.RunConfig(name="tune", storage_path=str(Path(folder).absolute()), verbose=0)
    trainable = tune.with_resources(member, {"CPU": 1})
    return tune.Tuner(trainable, param_space={"lr": draw}, tune_config=settings, run_config=place).fit()


def train_member(config: dict[str, Any], toy: Toy, log: str) -> None:
    """A trial: from the checkpoint that Tune hands over, if any, to the end; each report has a checkpoint."""
    torch.set_num_threads(1)
    trial, data, recipe = tune.get_context().get_trial_name(), open_data(DATA), toy.recipe(config)
    checkpoint, before = tune.get_checkpoint(), ""
    if checkpoint is None:
        member = Member.build(recipe, 0, TASK)
    else:
        with checkpoint.as_directory() as folder:
            saved = torch.load(Path(folder, "member.pt"), weights_only=True)
        member, before = Member.restore(recipe, 0, TASK, saved["state"]), saved["trial"]
    _note(log, event="start", trial=trial, before=before)
    for report in train(member, data, every=toy.every):
        _note(log, event="generation", trial=trial)
        with tempfile.TemporaryDirectory() as folder:
            torch.save({"trial": trial, "state": member.state()}, Path(folder, "member.pt"))
            score = {"score": report.validation.accuracy}
            tune.report(score, checkpoint=tune.Checkpoint.from_directory(folder))


def _note(log: str, **line: Any) -> None:
    # short lines appended whole: several processes write this file
    with open(log, "a") as file:
        file.write(json.dumps({**line, "time": time.time()}) + "\n")


if __name__ == "__main__":
    sys.exit(main())
