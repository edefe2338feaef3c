"""What a test saw when it attacked the service or broke something: the fixture `faults` notes it, and at the end of the run
all notes of all processes become one table, .vitrine/faults.md. `make faults` runs the tests that note something and keeps
the table as docs/faults.md.
"""

import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

ROOT = Path(__file__).parents[1]
TABLE = ".vitrine/faults.md"
LONGEST = 240  # characters of what happened
HEAD = """# Attack or fault, and what happened

Written by `make faults` from what the tests saw: statuses, codes and words are those of the answers, states those found
afterwards. The bounds behind them: [security](en/security.md).
"""


class Seen(NamedTuple):
    """One row."""

    test: str  # file::function
    attack: str
    happened: str


class Faults:
    """Of one process."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.test = ""

    def saw(self, attack: str, happened: object, seconds: float | None = None) -> None:
        """`happened`: an answer, or what was observed, in words that hold its figures; `seconds` it took."""
        when = "" if seconds is None else f"after {seconds:.0f} s: "
        self.seen.append(Seen(self.test, attack, when + told(happened)))


def told(happened: object) -> str:
    """An answer as its status, code and message."""
    if isinstance(happened, httpx.Response):
        return _answer(happened.status_code, happened.content)
    if isinstance(happened, bytes):  # as it came over a socket
        if not happened:
            return "the connection was closed without an answer"
        head, _, body = happened.partition(b"\r\n\r\n")
        return _answer(int(head.split(b" ")[1]), body)
    return str(happened)


def _answer(status: int, body: bytes) -> str:
    found = re.search(rb'"message":\s*("(?:[^"\\]|\\.)*")', body)
    code = re.search(rb'"code":\s*"(\w+)"', body)
    if found is None or code is None:
        return f"{status}, {len(body):,} bytes"
    return f"{status} `{code[1].decode()}`: {found[1][1:-1].decode(errors='replace')}"


def table_of(seen: list[Seen]) -> str:
    """Markdown: a section for each file of tests, in the order in which they are named."""
    lines = [HEAD, f"{len(seen)} rows."]
    last = ""
    for row in sorted(seen, key=lambda row: row.test.partition("::")[0]):
        file = row.test.partition("::")[0]
        if file != last:
            lines += ["", f"## {file}", "", "| attack or fault | what happened |", "|---|---|"]
            last = file
        lines.append(f"| {_cell(row.attack)} | {_cell(row.happened)} |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    """One line that Markdown takes as it is, whatever an attack has put into it."""
    text = re.sub(r"\b(file|ftjob|req|batch|we|key)-[0-9a-f]{24}\b", r"\1-...", text)
    text = re.sub(r"(/[\w.-]+)*/(pytest|tmp)[\w./-]*", "...", " ".join(text.split()))
    text = text if len(text) <= LONGEST else text[: LONGEST - 4] + " ..."
    text = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
    for mark in ("&", "<", ">", "|", "*", "[", "]"):
        text = text.replace(mark, f"&#{ord(mark)};")
    return text


_of_process = Faults()


@pytest.fixture
def faults(request: pytest.FixtureRequest) -> Faults:
    _of_process.test = request.node.nodeid.partition("[")[0]
    return _of_process


# The hooks that conftest.py takes over.


def pytest_sessionfinish(session: pytest.Session) -> None:
    output = getattr(session.config, "workeroutput", None)
    if output is not None:  # a process of pytest-xdist: it hands its rows to the one that reports
        output["faults"] = [tuple(row) for row in _of_process.seen]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    _of_process.seen += [Seen(*row) for row in getattr(node, "workeroutput", {}).get("faults", [])]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if not _of_process.seen or "PYTEST_XDIST_WORKER" in os.environ:
        return
    path = ROOT / TABLE
    path.parent.mkdir(exist_ok=True)
    path.write_text(table_of(_of_process.seen), encoding="utf-8")
    terminalreporter.write_line(f"{len(_of_process.seen)} attacks and faults, and what happened: {TABLE}")
