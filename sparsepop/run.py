"""python -m sparsepop.run CONFIG: train the population that a config file describes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from rich.console import Console

from sparsepop.config import ConfigError, config_modules, load
from sparsepop.results import ResultsError
from sparsepop.storage import Storage, StorageError

BAD_INPUT, MEMBERS_FAILED, INTERRUPTED = 2, 1, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    flags = _parser().parse_args(arguments)
    try:
        return _run(flags)
    except (ConfigError, ResultsError, StorageError) as error:
        print(f"sparsepop: {error}", file=sys.stderr)
        return BAD_INPUT


def _run(flags: argparse.Namespace) -> int:
    experiment = load(flags.config, data=flags.data, smoke=flags.smoke)
    # late, for a wrong config must not wait for torch and Ray
    from ray import cloudpickle

    from sparsepop.population import launch
    from sparsepop.population.places import ResourceError
    from sparsepop.results.report import print_summary

    experiment = launch.with_flags(experiment, flags.members, flags.workers)
    storage = Storage(flags.storage).child(experiment.name)
    launch.prepare(experiment, storage, fresh=flags.fresh)
    for module in config_modules(flags.config):
        cloudpickle.register_pickle_by_value(module)
    try:
        with launch.cluster(flags.address) as resources:
            outcome = launch.launch(experiment, storage, resources)
    except (ResourceError, ConnectionError) as error:
        raise ConfigError(str(error)) from error
    finally:
        launch.clean_scratch()
    if outcome.interrupted:
        print(f"stopped; the same command goes on from {storage}", file=sys.stderr)
        return INTERRUPTED
    print_summary(storage, Console())
    for member, message in sorted(outcome.failed.items()):
        print(f"member {member} failed: {message}", file=sys.stderr)
    return MEMBERS_FAILED if outcome.failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sparsepop.run", description=__doc__)
    parser.add_argument("config", help="a Python file that exports EXPERIMENT")
    parser.add_argument("--data", help="a data set's name or its folder, in place of the config's")
    parser.add_argument(
        "--storage", default="results", help="folder or URI that holds all experiments (default: results)"
    )
    parser.add_argument(
        "--address", help="a running Ray cluster (auto, or host:port); default: this machine alone"
    )
    parser.add_argument("--members", type=int, help="size of the population, in place of the config's")
    parser.add_argument("--workers", type=int, help="data-parallel workers for each member")
    parser.add_argument("--smoke", action="store_true", help="the config's small variant")
    parser.add_argument(
        "--fresh", action="store_true", help="delete what an earlier run of this experiment left"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
