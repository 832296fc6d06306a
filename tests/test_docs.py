"""README and docs: commands' files and options exist, links lead somewhere, snippets import what there is."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import re
import shlex
import subprocess
import sys
from dataclasses import fields
from functools import cache
from pathlib import Path

import pytest

from sparsepop import run
from sparsepop.config import load
from sparsepop.population.preflight import check_experiment, with_flags
from sparsepop.storage import Storage
from sparsepop.train import Report
from tests.populations import write_family

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
MADE = ("results/", "path/to/", "s3://", "gs://", "~/")  # what a run makes, or a reader has
TOOLS = {
    "ray",
    "make",
    "export",
    "source",
    "cd",
    "pytest",
    "git",
    "pip",
    "sudo",
    "tensorboard",
    "wandb",
    "mlflow",
}


def blocks(page: Path) -> list[tuple[str, str]]:
    """(language, text) of the fenced and the indented blocks; an indented one has no language."""
    found, text = [], page.read_text(encoding="utf-8")
    for match in re.finditer(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        found.append((match[1], match[2]))
    rest = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    for match in re.finditer(r"(?:^    .*\n)+", rest, re.MULTILINE):
        found.append(("", re.sub(r"^    ", "", match[0], flags=re.MULTILINE)))
    return found


def commands(page: Path) -> list[str]:
    """Shell lines, without comments; those that are quoted inside of others by themselves too."""
    lines = [
        line
        for kind, text in blocks(page)
        if kind in ("", "sh", "bash", "shell")
        for line in text.splitlines()
    ]
    inline = re.findall(r"`((?:[\w/.]*python|pytest|ray) [^`]+)`", page.read_text(encoding="utf-8"))
    found = []
    for line in (*lines, *inline):
        line = re.sub(r"\s+#.*", "", line).strip()
        found += [part.strip() for part in re.split(r"&&|\|\|?|;", line)] if line else []
        found += re.findall(r"python -m [^\"'`]+", line) if '"' in line else []
    return [line for line in found if line and "=" not in line.split()[0]]


COMMANDS = [(page, line) for page in PAGES for line in commands(page)]
PYTHON = [(page, line) for page, line in COMMANDS if re.match(r"(\.venv/bin/)?python ", line)]
SNIPPETS = [(page, text) for page in PAGES for kind, text in blocks(page) if kind == "python"]


def names(pairs: list[tuple[Path, str]]) -> list[str]:
    return [f"{page.stem}-{text.splitlines()[0][:60]}" for page, text in pairs]


@cache
def options(module: str) -> str:
    """What `python -m module --help` prints."""
    done = subprocess.run(
        [sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def words(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError:  # a part of a quoted command
        return line.replace('"', " ").split()


def test_there_is_something_to_check() -> None:
    assert len(PYTHON) > 10
    assert len(SNIPPETS) > 4


@pytest.mark.parametrize(("page", "line"), PYTHON, ids=names(PYTHON))
def test_a_command_of_python(page: Path, line: str) -> None:
    given = words(line)[1:]
    if given[0] == "-m":
        assert importlib.util.find_spec(given[1]), f"{page.name}: no module {given[1]}"
        flags = [word.partition("=")[0] for word in given[2:] if word.startswith("--")]
        known = options(given[1]) if flags else ""
        assert [flag for flag in flags if not re.search(rf"{flag}\b", known)] == []
    absent = [word for word in given if is_file(word) and not (ROOT / word).exists()]
    assert absent == [], f"{page.name}: {line}"


@pytest.mark.parametrize(("page", "line"), COMMANDS, ids=names(COMMANDS))
def test_a_command_of_the_shell(page: Path, line: str) -> None:
    first = words(line)[0].removeprefix(".venv/bin/")
    known = first in TOOLS or first.startswith("python") or not re.fullmatch(r"[a-z]+", first)
    assert known or is_statement(line), f"{page.name}: what is {first}?"
    if first == "make":
        rules = (ROOT / "Makefile").read_text(encoding="utf-8")
        for target in [word for word in words(line)[1:] if "=" not in word]:
            assert re.search(rf"^{target}:", rules, re.MULTILINE), f"{page.name}: no target {target}"
    if known:
        absent = [word for word in words(line) if is_file(word) and not (ROOT / word).exists()]
        assert absent == [], f"{page.name}: {line}"


def is_statement(line: str) -> bool:
    """Whether a line is Python, not shell."""
    try:
        ast.parse(line)
    except SyntaxError:
        return False
    return True


def is_file(word: str) -> bool:
    """Whether a word of a command is a file of the repository."""
    if word.startswith((*MADE, "-", "/", "$")) or "*" in word:
        return False
    return bool(re.fullmatch(r"[\w./-]+\.(py|yaml|toml|md|lock|png|ipynb)", word))


TRAINING = [(page, line) for page, line in PYTHON if words(line)[1:3] == ["-m", "sparsepop.run"]]
READERS = ("sparsepop.results", "sparsepop.report", "analysis.figures")
READING = [(page, line) for page, line in PYTHON if words(line)[2:3] and words(line)[2] in READERS]


@pytest.mark.parametrize(("page", "line"), TRAINING, ids=names(TRAINING))
def test_a_training_command_is_accepted(page: Path, line: str) -> None:
    """All that it does before anything starts; on digits, where data is not the example's own."""
    flags = run._parser().parse_args([word.rstrip('\\"') for word in words(line)[3:]])
    data = None if flags.config.startswith("examples/") else "digits"
    settings = dict(map(run._setting, flags.set))
    found = load(str(ROOT / flags.config), data=data, smoke=flags.smoke, settings=settings)
    check_experiment(with_flags(found, flags.members, flags.workers, flags.seed, flags.name))


@pytest.mark.parametrize(("page", "line"), READING, ids=names(READING))
def test_a_reading_command_runs(
    page: Path, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a finished experiment in place of the one that it names."""
    write_family(Storage(str(tmp_path / "family")))
    given = words(line)
    places = [place for place, word in enumerate(given) if word.startswith(("results/", "s3://", "PATH"))]
    assert len(places) == 1, line
    given[places[0]] = str(tmp_path / "family")
    monkeypatch.chdir(tmp_path)
    module = given[2] if given[2] == "analysis.figures" else f"{given[2]}.__main__"
    assert importlib.import_module(module).main(given[3:]) == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_and_named_files_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", text)]
    local = [link for link in links if link and "://" not in link]
    assert [link for link in local if not (page.parent / link).exists()] == []
    folders = "sparsepop|docs|tune_configs|examples|benchmarks|analysis|tests"
    named = re.findall(rf"`((?:{folders})/[\w./-]+)`", text)
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize(("page", "text"), SNIPPETS, ids=names(SNIPPETS))
def test_a_snippet_compiles_and_its_imports_exist(page: Path, text: str) -> None:
    tree = ast.parse(text)
    compile(tree, page.name, "exec")
    for node in ast.walk(tree):
        for name in [alias.name for alias in node.names] if isinstance(node, ast.Import) else []:
            importlib.import_module(name)
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(str(node.module))
            assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


SELF_CONTAINED = [(page, text) for page, text in SNIPPETS if page.stem == "own"]


@pytest.mark.parametrize(("page", "text"), SELF_CONTAINED, ids=names(SELF_CONTAINED))
def test_a_snippet_of_your_own_runs(page: Path, text: str) -> None:
    exec(compile(text, page.name, "exec", dont_inherit=True), {"__name__": "snippet"})


def test_every_number_of_a_report_is_explained() -> None:
    lines = inspect.cleandoc(str(Report.__doc__)).splitlines()
    told = [line.partition(":")[0] for line in lines if re.match(r"\w+: ", line)]
    assert told == [field.name for field in fields(Report)]
