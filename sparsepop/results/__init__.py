"""What an experiment leaves behind: tables of Parquet parts, their writer, and the ways to read them."""

from sparsepop.results.compact import compact
from sparsepop.results.hyper import hyperparameters
from sparsepop.results.lineage import ancestors, leaderboard, lineage
from sparsepop.results.schema import SCHEMA_VERSION, SCHEMAS, ResultsError
from sparsepop.results.tables import Tables, read
from sparsepop.results.writer import Writer

__all__ = [
    "SCHEMAS",
    "SCHEMA_VERSION",
    "ResultsError",
    "Tables",
    "Writer",
    "ancestors",
    "compact",
    "hyperparameters",
    "leaderboard",
    "lineage",
    "read",
]
