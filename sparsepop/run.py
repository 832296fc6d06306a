"""python -m sparsepop.run CONFIG: train the population that a config file describes."""

from __future__ import annotations

import argparse
import ast
import os
import shlex
import sys
from collections.abc import Sequence

from rich.console import Console

from sparsepop.config import ConfigError, config_folder, config_modules, load
from sparsepop.experiment import Experiment
from sparsepop.results import ResultsError, compact
from sparsepop.results.compact import WORTH
from sparsepop.results.reader import COMMAND
from sparsepop.storage import Storage
from sparsepop.storage.local import remove_abandoned

BAD_INPUT, MEMBERS_FAILED, INTERRUPTED = 2, 1, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    flags = _parser().parse_args(arguments)
    flags.command = _command(sys.argv[1:] if arguments is None else arguments)
    try:
        return _run(flags)
    except (ConfigError, ResultsError, OSError) as error:
        print(f"sparsepop: {error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("sparsepop: stopped; the same command goes on from here (without --fresh)", file=sys.stderr)
        return INTERRUPTED


def _run(flags: argparse.Namespace) -> int:
    if home := os.environ.get("SPARSEPOP_DATA"):
        # members run in other folders than this one
        os.environ["SPARSEPOP_DATA"] = os.path.abspath(os.path.expanduser(home))
    settings = dict(map(_setting, flags.set))
    experiment = load(flags.config, data=flags.data, smoke=flags.smoke, settings=settings)
    # late, for a wrong config must not wait for torch and Ray
    from sparsepop.population import launch, preflight
    from sparsepop.results.report import print_summary

    # of its own, or the small variant would stand where the real run is to go
    name = flags.name or (f"{experiment.name}-smoke" if flags.smoke else None)
    experiment = preflight.with_flags(experiment, flags.members, flags.workers, flags.seed, name)
    storage = Storage(flags.storage).child(experiment.name)
    largest = preflight.check_experiment(experiment)
    preflight.check_storage(experiment, storage, fresh=flags.fresh, largest=largest)
    failed: dict[int, str] = {}
    if flags.fresh or launch.unfinished(experiment, storage):
        failed = _train(experiment, storage, flags)
    else:
        told = "all members are done and nothing was trained; --fresh trains them again"
        print(f"sparsepop: {told}, as after a change to code, which is not compared", file=sys.stderr)
    print_summary(storage, Console())
    for member, message in sorted(failed.items()):
        print(f"sparsepop: member {member} failed: {message}", file=sys.stderr)
    return MEMBERS_FAILED if failed else 0


def _train(experiment: Experiment, storage: Storage, flags: argparse.Namespace) -> dict[int, str]:
    from ray import cloudpickle
    from ray.tune import TuneError

    from sparsepop.population import launch, preflight
    from sparsepop.population.alone import alone
    from sparsepop.population.loggers import made_loggers
    from sparsepop.population.places import ResourceError
    from sparsepop.population.shared import check_shared

    for module in config_modules(flags.config):
        cloudpickle.register_pickle_by_value(module)
    try:
        with alone(storage), launch.cluster(flags.address) as nodes:
            places = launch.places_for(experiment, nodes)
            check_shared(storage)
            if flags.fresh:
                made_loggers(experiment, storage)  # one that cannot start must not cost the old results
            if storage.local:
                remove_abandoned(storage.root)
            preflight.begin(experiment, storage, fresh=flags.fresh)
            storage.write(COMMAND, f"{flags.command}\n".encode())
            failed = launch.train_all(experiment, storage, places, config_folder(flags.config))
            if not failed:
                _compact(storage)
            return failed
    except (ResourceError, ConnectionError) as error:
        raise ConfigError(" ".join(str(error).split())) from error
    except TuneError as error:
        # its text is a traceback
        reason = str(error).strip().splitlines()[-1]
        raise ConfigError(f"the run broke off ({reason}): the same command goes on from here") from error


def _compact(storage: Storage) -> None:
    """Compact the results where that is worth it. It only makes reading faster: a full disk or a store that
    does not answer must not make a finished run look failed.
    """
    try:
        compact(storage, least=WORTH)
    except (ResultsError, OSError) as error:
        reason = " ".join(str(error).split())
        print(f"sparsepop: the results were not compacted, and nothing is lost ({reason})", file=sys.stderr)


def _command(arguments: Sequence[str]) -> str:
    """The command, as a shell takes it, to be told later; without what would delete its own results."""
    kept = [argument for argument in arguments if argument != "--fresh"]
    return shlex.join(["python", "-m", "sparsepop.run", *kept])


def _setting(given: str) -> tuple[str, object]:
    """Name and value of KEY=VALUE: a Python literal, or else the text as it is."""
    name, sign, text = given.partition("=")
    if not sign or not name.isidentifier():
        raise ConfigError(f"--set {given!r} is no setting: give it as KEY=VALUE, such as epochs=20")
    try:
        return name, ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return name, text
    except (TypeError, RecursionError, MemoryError) as error:
        raise ConfigError(
            f"--set {given!r} makes no value ({error}): put text that is meant as it is in quotes"
        ) from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sparsepop.run", description=__doc__, allow_abbrev=False)
    # an abbreviated --fresh would stay in the command that is kept, and delete when that is repeated
    parser.add_argument("config", help="a Python file that exports EXPERIMENT")
    parser.add_argument("--data", help="a data set's name or its folder, in place of the config's")
    parser.add_argument(
        "--storage", default="results", help="folder or URI that holds all experiments (default: results)"
    )
    parser.add_argument(
        "--address", help="a running Ray cluster (auto, or host:port); default: this machine alone"
    )
    parser.add_argument("--name", help="another name for the experiment, to keep variants side by side")
    parser.add_argument("--seed", type=int, help="the experiment's seed, in place of the config's")
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="a keyword of the config's experiment(), such as epochs=20; may be repeated",
    )
    parser.add_argument("--members", type=int, help="size of the population, in place of the config's")
    parser.add_argument("--workers", type=int, help="data-parallel workers for each member")
    parser.add_argument(
        "--smoke", action="store_true", help="the config's small variant, under the name NAME-smoke"
    )
    parser.add_argument(
        "--fresh", action="store_true", help="delete what an earlier run of this experiment left"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
