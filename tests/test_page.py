"""The HTML report: what it tells, that it trusts no text, and how it looks to a real browser."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from sparsepop.report import cells, render
from sparsepop.report.__main__ import main
from sparsepop.results import Writer
from sparsepop.storage import Storage
from tests.populations import (
    clock,
    write_family,
    write_grid,
    write_member,
    write_merged,
    write_start,
)

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
EVIL = """</td><script>document.title = "owned"</script><img src=x onerror="document.title='owned'">"""
LONG = "a-very-long-word-without-any-place-to-break-" * 12
# The page in a frame, for windows have a least width; elements that stick out of it and lie in no box that
# scrolls by itself are counted.
FRAME = """<!doctype html><title>frame</title>
<iframe style="width:{width}px;height:900px;border:0" srcdoc="{page}"></iframe>
<script>
addEventListener("load", () => {{
  const page = document.querySelector("iframe").contentDocument, root = page.documentElement;
  const out = [...page.querySelectorAll("body *")].filter(
    (one) => one.getBoundingClientRect().right > root.clientWidth + 1
      && !one.parentElement.closest(".scroll"));
  document.documentElement.dataset.found = JSON.stringify({{
    window: root.clientWidth, page: root.scrollWidth, title: page.title, out: out.map((one) => one.className),
    font: parseFloat(page.defaultView.getComputedStyle(page.querySelector("td")).fontSize),
    pictures: [...page.images].map((one) => one.naturalWidth) }});
}});
</script>"""


class Parts(HTMLParser):
    """All tags, and whatever an attribute makes a browser load."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.handlers: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]


def write_hostile(storage: Storage) -> None:
    """A family in which a member fails, and everything that can hold text holds what must not run."""
    write_family(storage)
    hp = {"lr": 0.5, EVIL: EVIL, "$\\frac{": 1.0}
    write_member(storage, 3, hp, [0.3, 0.4], status="started")
    writer = Writer(storage, 3, 1)
    writer.add("members", status="started", step=100, hp=json.dumps(hp), time=clock(20), git_sha=EVIL)
    at = {"step": 150, "generation": 1}
    writer.add("events", kind="collapse", message=EVIL, numbers={EVIL: 1.0}, time=clock(21), **at)
    writer.add("members", status="failed", step=150, message=f"{EVIL} {LONG}", time=clock(22))
    writer.flush("all")
    storage.write("command.txt", f"python -m sparsepop.run {EVIL}".encode())
    storage.write("experiment.json", json.dumps({"name": EVIL, "data": EVIL, "seed": 7}).encode())


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> str:
    storage = Storage(str(tmp_path_factory.mktemp("page") / "hostile"))
    write_hostile(storage)
    return render(storage)


@pytest.fixture(scope="module")
def page_of_grid(grid: Storage) -> str:
    return render(grid)


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Storage:
    storage = Storage(str(tmp_path_factory.mktemp("page") / "seeds"))
    write_grid(storage)
    return storage


def table(page: str, section: str) -> list[list[str]]:
    """The cells of the first table of a section, heads first."""
    (body,) = re.findall(rf'<section id="{section}">.*?(<table>.*?</table>)', page, re.S)
    return [
        re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.S) for row in re.findall("<tr.*?</tr>", body, re.S)
    ]


def test_the_page_loads_and_runs_nothing(hostile: str) -> None:
    found = Parts(hostile)
    assert not {"script", "link", "iframe", "object", "embed", "form", "base"} & set(found.tags)
    assert found.handlers == []
    assert {load.partition(":")[0] if ":" in load else load[0] for load in found.loads} == {"data", "#"}
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in hostile
    assert "url(" not in hostile


def test_text_of_members_is_escaped_and_complete(hostile: str) -> None:
    assert EVIL not in hostile
    assert hostile.count("&lt;script&gt;document.title = ") >= 5
    ((_, status, step, message),) = table(hostile, "events")[1:]
    assert (status, step) == ("failed", "150")
    assert message.endswith(LONG)


def test_the_leaderboard_is_honest(page_of_grid: str) -> None:
    rows = table(page_of_grid, "leaderboard")
    best = dict(zip(rows[0], rows[1], strict=True))
    assert best["valid. %"] == "106.00"  # what the fixture wrote
    assert (best["test %"], best["density"], best["alive / prunable"]) == (
        "105.00",
        "100%",
        "50,200 / 50,200",
    )
    assert (best["train FLOPs"], best["seconds"], best["other"]) == ("200 G", "20", "-")
    sparse = dict(zip(rows[0], rows[-1], strict=True))
    assert (sparse["density"], sparse["alive / prunable"]) == ("5.00%", "2,510 / 50,200")
    assert len(rows) == 16
    assert "score" not in best  # it is the validation accuracy


def test_lineage_and_repetition_are_told(hostile: str) -> None:
    assert "m2 (steps 0 to 100) → m1 (steps 100 to 200) → m0 (steps 200 to 400)" in hostile
    assert [row[:3] for row in table(hostile, "lineage")[1:]] == [
        ["100", "m1", "m2"],
        ["200", "m0", "m1"],
        ["300", "m2", "m0"],
    ]
    assert "<dt>experiment seed</dt><dd>7</dd>" in hostile
    assert "python -m sparsepop.run &lt;/td&gt;" in hostile


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (cells.amount(1.234e12), "1.23 T"),
        (cells.amount(950.0), "950"),
        (cells.amount(None), "-"),
        (cells.count(1234567), "1,234,567"),
        (cells.duration(59.4), "59.4 s"),
        (cells.duration(599), "599 s"),
        (cells.duration(7200), "120 min"),
        (cells.duration(90_000), "25.0 h"),
        (cells.percent(0.98765), "98.77"),
        (cells.percent(float("nan")), "-"),
    ],
)
def test_numbers_as_people_read_them(text: str, expected: str) -> None:
    assert text == expected


def test_the_command_writes_the_same_page(
    grid: Storage, page_of_grid: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "new" / "page.html"
    assert main([grid.root, "--output", str(output)]) == 0
    assert capsys.readouterr().out == f"{output}\n"
    assert output.read_text(encoding="utf-8") == page_of_grid


def test_the_page_lies_in_the_experiment(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_member(Storage(str(tmp_path)), 0, {"lr": 1}, [], status="started")
    assert main([str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/report.html\n"
    assert (tmp_path / "report.html").exists()


def test_wrong_input_exits_with_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    for arguments, told in (
        ([str(tmp_path / "nowhere")], "no experiment at"),
        ([str(tmp_path / "empty")], "holds no members"),
        ([str(tmp_path / "empty"), "--published", str(tmp_path / "no.csv")], "no.csv"),
    ):
        assert main(arguments) == 2
        printed = capsys.readouterr()
        assert told in printed.err
        assert printed.err.count("\n") == 1


def test_members_that_have_not_reported(tmp_path: Path) -> None:
    write_member(Storage(str(tmp_path)), 0, {"lr": 1}, [], status="started")
    page = render(tmp_path)
    assert "<img" not in page
    assert table(page, "leaderboard")[1][:3] == ["1", "m0", "started"]


def test_a_common_start_is_no_exploit(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    for member in (0, 1):
        write_member(storage, member, {"lr": 1}, [0.5])
    write_start(storage, 1, 0, 100)
    assert '<p class="what">exploits</p><p class="big">0</p>' in render(storage)


def test_single_tickets_are_named(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path / "voting"))
    write_member(storage, 0, {"lr": 1}, [], status="started")
    writer = Writer(storage, 0, 1)
    for kind, tickets in (("vote", ["223fb7b2aa", "1d8d6eabbb"]), ("single", ["223fb7b2aa"])):
        writer.add("ensembles", ensemble=kind, kind=kind, tickets=tickets, split="test", time=clock(1))
    writer.flush("all")
    assert [row[:3] for row in table(render(storage), "ensembles")[1:]] == [
        ["vote", "2", "test"],
        ["single", "223fb7b2", "test"],
    ]


def test_merges_are_told(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path / "merged"))
    write_merged(storage)
    page = render(storage)
    assert '<p class="what">merges</p><p class="big">2</p>' in page
    assert "merged from m0, m1, m2 at step 300 → m0 (steps 300 to 400)" in page


def look(page: str, width: int, folder: Path) -> tuple[dict[str, Any], str]:
    """What a browser finds where the page is `width` pixels wide, and what its console says."""
    assert CHROMIUM is not None
    file = folder / "frame.html"
    file.write_text(FRAME.format(width=width, page=html.escape(page)), encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    flags += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    flags += ["--hide-scrollbars", f"--user-data-dir={folder / 'profile'}", "--enable-logging=stderr"]
    command = [CHROMIUM, *flags, "--window-size=1500,1000", "--dump-dom", file.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr[-2000:]
    (found,) = re.findall(r'data-found="([^"]*)"', done.stdout)
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return json.loads(html.unescape(found)), "\n".join(console)


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium on the PATH")
@pytest.mark.parametrize("width", [400, 1400])
def test_a_browser_shows_it_without_a_fault(hostile: str, tmp_path: Path, width: int) -> None:
    found, console = look(hostile, width, tmp_path)
    assert (found["window"], found["page"], found["out"]) == (width, width, [])
    assert found["title"] == "hostile · sparsepop"
    assert console == ""
    assert found["font"] >= 14
    assert len(found["pictures"]) >= 4
    assert min(found["pictures"]) > 100


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium on the PATH")
def test_the_page_itself_forbids_scripts(hostile: str, tmp_path: Path) -> None:
    """Should text ever get through."""
    found, console = look(hostile.replace("<main>", f"<main>{EVIL}"), 400, tmp_path)
    assert found["title"] == "hostile · sparsepop"
    assert "Content Security Policy" in console


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium on the PATH")
def test_what_sticks_out_is_found(hostile: str, tmp_path: Path) -> None:
    wide = '<main><p class="wide-one" style="width:1000px">wide</p>'
    found, _ = look(hostile.replace("<main>", wide), 400, tmp_path)
    assert "wide-one" in found["out"]
    assert found["page"] > 900
