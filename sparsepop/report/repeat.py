"""How to repeat an experiment: the command, what it was run with, and the recipe of its best member."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pandas as pd

from sparsepop.results import Tables
from sparsepop.results.reader import COMMAND
from sparsepop.storage import Storage


@dataclass(frozen=True)
class Repeat:
    """The command, facts beside it as (what, value), and what the best member was trained with, as JSON."""

    command: str
    facts: list[tuple[str, str]]
    recipe: str
    experiment: str


def how(tables: Tables, board: pd.DataFrame) -> Repeat:
    """All that a repetition needs, as far as the experiment says it."""
    members = tables.read("members", superseded=True)
    best = int(board.iloc[0]["member"])
    own = members[(members["member"] == best) & members["recipe"].notna()]
    described = tables.description
    facts = [("experiment seed", str(described["seed"]))] if "seed" in described else []
    facts += [(f"seed of member {best}", seed) for seed in own["seed"].dropna().astype(str).tail(1)]
    facts.append(("git", _all_of(members["git_sha"]) or "unknown: not run from a repository"))
    facts += [(name, value) for name, value in _hardware(members).items()]
    kept = {name: value for name, value in described.items() if name != "starts"}
    recipe = _indented(str(own["recipe"].iloc[-1])) if len(own) else ""
    return Repeat(
        _command(tables.storage, described), facts, recipe, json.dumps(kept, indent=1) if kept else ""
    )


def _command(storage: Storage, described: dict[str, object]) -> str:
    """The command as it was given; where nobody wrote it down, what is known of it."""
    try:
        return storage.read(COMMAND).decode(errors="replace").strip()
    except FileNotFoundError:
        data = described.get("data", "DATA")
        return f"python -m sparsepop.run CONFIG --data {data}"


def _all_of(values: pd.Series) -> str:
    return ", ".join(dict.fromkeys(str(value) for value in values.dropna() if value))


def _hardware(members: pd.DataFrame) -> dict[str, str]:
    """What members ran on, every value that any of them had."""
    found: dict[str, list[str]] = {}
    for text in members["hardware"].dropna().unique():
        for name, value in json.loads(str(text)).items():
            found.setdefault(str(name), []).append(str(value))
    return {name: ", ".join(dict.fromkeys(values)) for name, values in found.items()}


def _indented(text: str) -> str:
    return json.dumps(json.loads(text), indent=1)
