"""What stands in the fenced blocks of README.md and docs/, and how it is run: the conventions are docs/en/contributing.md.

A page is run from top to bottom in an empty folder: `bash` blocks in one shell, `python` blocks in one interpreter, each
`js` block as a module of its own. Called by tests/e2e/test_docs.py.
"""

import argparse
import ast
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

RUN = {"bash": "bash", "python": "python", "js": "js", "javascript": "js"}
SHOWN = {"console", "text", "json", "jsonl", "csv", "http", "yaml", "toml", "html", "ini"}
BLOCK_SECONDS = 300  # the machine may be shared; a block that is through ends at once
FENCE = re.compile(
    r"^(?P<indent> *)(?P<fence>```+)(?P<language>\S*)[^\n]*\n(?P<code>.*?)^(?P=indent)(?P=fence)[ ]*$", re.M | re.S
)
MARK = re.compile(r"<!-- *(not run|output|shape|file|fails)(?:: *([^>]*?))? *-->\s*\Z")
LITERAL = re.compile(r"'[^'\n]*'|\"[^\"\n]*\"|`[^`]*`")
COMMENT = re.compile(r"(^|\s)(#|//) .*$", re.M)
CHINESE = re.compile(r"[\u3000-\u9fff\uff00-\uffef]")


@dataclass(frozen=True)
class Block:
    page: str
    line: int
    language: str
    code: str
    mark: str = ""  # not run, output, shape, file, fails
    about: str = ""  # the reason, the file's name

    def __str__(self) -> str:
        return f"{self.page}:{self.line} ({self.language})"


def blocks(page: str, text: str) -> list[Block]:
    """The fenced blocks in order, each with the mark that stands right before it."""
    found = []
    for match in FENCE.finditer(text):
        mark = MARK.search(text, max(0, match.start() - 300), match.start())
        indent = match["indent"]
        code = "".join(line.removeprefix(indent) for line in match["code"].splitlines(keepends=True))
        kind, about = (mark[1], mark[2] or "") if mark else ("", "")
        found.append(Block(page, text.count("\n", 0, match.start()) + 1, match["language"], code, kind, about))
    return found


def faults(found: list[Block]) -> list[str]:
    """What breaks the conventions: an unknown language, a mark without its reason, a block that cannot be read."""
    said = []
    for block in found:
        if block.language not in RUN and block.language not in SHOWN:
            said.append(f"{block}: write one of {', '.join([*RUN, *sorted(SHOWN)])}")
        if block.mark in ("not run", "file") and not block.about:
            said.append(f"{block}: the mark '{block.mark}' needs what follows the colon")
        if block.mark in ("output", "shape") and block.language in RUN:
            said.append(f"{block}: an output is text, json or console")
        if RUN.get(block.language) == "python":
            try:
                ast.parse(block.code)
            except SyntaxError as error:
                said.append(f"{block}: {error}")
        if RUN.get(block.language) == "bash":
            done = subprocess.run(["bash", "-n"], input=block.code, capture_output=True, text=True, timeout=30)
            if done.returncode:
                said.append(f"{block}: {done.stderr}")
    return said


# --- the same in both languages ---------------------------------------------------------------------------------------


def skeleton(block: Block) -> tuple[str, list[str]]:
    """-> the code without comments and literals, and the literals."""
    code = COMMENT.sub("", block.code) if block.language in RUN else block.code
    literals = [literal[1:-1] for literal in LITERAL.findall(code)]
    return "\n".join(line.rstrip() for line in LITERAL.sub("''", code).splitlines() if line.strip()), literals


def differences(english: list[Block], chinese: list[Block]) -> list[str]:
    """Where the code of two pages differs beyond comments and literals that hold Chinese text."""
    ours = [block for block in english if block.language in RUN]
    theirs = [block for block in chinese if block.language in RUN]
    said = [] if len(ours) == len(theirs) else [f"{len(ours)} blocks of code, {len(theirs)} in Chinese"]
    for block, twin in zip(ours, theirs, strict=False):
        (code, literals), (other_code, other_literals) = skeleton(block), skeleton(twin)
        same = len(literals) == len(other_literals) and all(
            one == other or CHINESE.search(other) for one, other in zip(literals, other_literals, strict=True)
        )
        if code != other_code or not same or (block.language, block.mark) != (twin.language, twin.mark):
            said.append(f"{block} and {twin} differ:\n{code}\n{literals}\n---\n{other_code}\n{other_literals}")
    return said


def has_own_texts(english: list[Block], chinese: list[Block]) -> bool:
    """Whether the Chinese page runs other code than the English one: with Chinese texts."""
    code = [[skeleton(block) for block in page if block.language in RUN] for page in (english, chinese)]
    return code[0] != code[1]


# --- running ----------------------------------------------------------------------------------------------------------

LOOP = {
    "bash": [
        "bash",
        "-c",
        'set -e; while read -r file <&9; do source "$file" </dev/null; echo "$file" >&8; done',
    ],
    "python": [
        sys.executable,
        "-u",
        "-c",
        "import os, sys\nsys.path.insert(0, '')\nseen = {'__name__': '__main__'}\nfor line in os.fdopen(9):\n"
        "    file = line.strip()\n    exec(compile(open(file, encoding='utf-8').read(), file, 'exec'), seen)\n"
        "    sys.stdout.flush()\n    os.write(8, (file + '\\n').encode())",
    ],
}


class Interpreter:
    """One shell or one Python that takes block after block; it is told a file and says when it is through with it."""

    def __init__(self, kind: str, folder: Path, environment: dict[str, str]) -> None:
        orders, self._orders = os.pipe()
        self._answers, answers = os.pipe()
        self.output = folder.parent / f"{folder.name}.{kind}.out"
        with open(self.output, "wb") as output:
            command = ["bash", "-c", f'exec 9<&{orders} 8>&{answers}; exec "$@"', kind, *LOOP[kind]]
            self._process = subprocess.Popen(
                command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                pass_fds=(orders, answers), start_new_session=True,
            )  # fmt: skip
        os.close(orders)
        os.close(answers)

    def run(self, file: Path) -> tuple[bool, str]:
        """-> whether it went well, and what it wrote."""
        before = self.output.stat().st_size
        timer = threading.Timer(BLOCK_SECONDS, self._process.kill)
        timer.start()
        try:
            os.write(self._orders, f"{file}\n".encode())
            well = os.read(self._answers, 4096) != b""
        except BrokenPipeError:
            well = False
        finally:
            timer.cancel()
        return well, self.output.read_bytes()[before:].decode(errors="replace")

    def close(self) -> None:
        os.close(self._orders)
        os.close(self._answers)
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@dataclass
class Page:
    """A page being run: its folder, its interpreters, what the last block wrote."""

    folder: Path
    port: int
    environment: dict[str, str]
    written: str = ""
    interpreters: dict[str, Interpreter] = field(default_factory=dict)
    files: int = 0

    def run(self, block: Block) -> str:
        """-> what went wrong, or nothing."""
        if block.mark == "file":
            (self.folder / block.about).write_text(block.code, encoding="utf-8")
            return ""
        if block.mark in ("output", "shape"):
            fault = unlike(block.code, self.written, numbers=block.mark == "output")
            return fault and f"{block}: {fault}\nexpected:\n{block.code}\ngot:\n{self.written[-3000:]}"
        if block.language not in RUN or block.mark == "not run":
            return ""
        well, self.written = self._execute(RUN[block.language], self._file(block))
        if well == (block.mark == "fails"):
            return f"{block}: {'went well' if well else 'failed'}\n{block.code}\n{self.written[-3000:]}"
        return ""

    def _file(self, block: Block) -> Path:
        self.files += 1
        suffix = {"bash": "sh", "python": "py", "js": "mjs"}[RUN[block.language]]
        file = self.folder.parent / f"{self.folder.name}.{self.files}.{suffix}"
        code = block.code.replace("localhost:3000", f"127.0.0.1:{self.port}")
        file.write_text(code, encoding="utf-8")
        return file

    def _execute(self, kind: str, file: Path) -> tuple[bool, str]:
        if kind == "js":
            done = subprocess.run(
                ["node", file], cwd=self.folder, env=self.environment, timeout=BLOCK_SECONDS,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )  # fmt: skip
            return done.returncode == 0, done.stdout
        if kind not in self.interpreters:
            self.interpreters[kind] = Interpreter(kind, self.folder, self.environment)
        well, output = self.interpreters[kind].run(file)
        if not well:
            self.interpreters.pop(kind).close()  # a block that failed has ended its interpreter
        return well, output

    def close(self) -> None:
        for interpreter in self.interpreters.values():
            interpreter.close()


def run_page(found: list[Block], folder: Path, port: int, environment: dict[str, str]) -> list[str]:
    """Runs the blocks in a new folder within the given one -> what went wrong, if anything: the first fault ends it."""
    (folder / "page").mkdir()
    (folder / ".curlrc").write_text("silent\nshow-error\nfail-with-body\n")  # a refusal fails the block
    scripts = f"{Path(sys.executable).parent}:{environment['PATH']}"
    own = {"PATH": scripts, "CURL_HOME": str(folder), "VITRINE_URL": f"http://127.0.0.1:{port}"}
    page = Page(folder / "page", port, environment | own | {"OMP_WAIT_POLICY": "PASSIVE"})
    try:
        return next(([fault] for block in found if (fault := page.run(block))), [])
    finally:
        page.close()


# --- comparing --------------------------------------------------------------------------------------------------------

TOKEN = re.compile(r"\.\.\.|…|(?<!\w)-?\d+(?:\.\d+)?(?:e-?\d+)?(?!\w)|\w+|[^\w\s]")
NUMBER = re.compile(r"-?\d+(\.\d+)?(e-?\d+)?")


def unlike(expected: str, written: str, numbers: bool) -> str:
    """-> where the output is not as the page says: spaces, ids and what `...` stands for are free; numbers by 5% or any."""
    ours = [TOKEN.findall(part) for part in re.split(r"\.\.\.|…", expected)]
    theirs = TOKEN.findall(written)
    at, first = 0, True
    for part in ours:
        starts = range(at, at + 1) if first and part else range(at, len(theirs) - len(part) + 1)
        start = next((i for i in starts if _alike(part, theirs[i : i + len(part)], numbers)), None)
        if start is None:
            return f"not found: {' '.join(part)[:300]}"
        at, first = start + len(part), False
    if len(ours) == 1 and at != len(theirs):
        return f"more than expected: {' '.join(theirs[at:])[:300]}"
    return ""


def _alike(ours: list[str], theirs: list[str], numbers: bool) -> bool:
    return len(ours) == len(theirs) and all(_same(one, other, numbers) for one, other in zip(ours, theirs, strict=True))


def _same(one: str, other: str, numbers: bool) -> bool:
    if one == other:
        return True
    if NUMBER.fullmatch(one) and NUMBER.fullmatch(other):
        return not numbers or abs(float(one) - float(other)) <= max(0.02, 0.05 * abs(float(one)))
    is_id = [len(word) >= 8 and re.search(r"\d", word) is not None for word in (one, other)]
    return all(is_id)


def main() -> None:
    """For authors: runs pages against a service that runs already, `python -m tests.snippets --port 3000 docs/en/start.md`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("pages", nargs="+", type=Path)
    parser.add_argument("--port", type=int, default=3000)
    arguments = parser.parse_args()
    for path in arguments.pages:
        found = blocks(str(path), path.read_text(encoding="utf-8"))
        said = faults(found)
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            said += said or run_page(found, Path(folder), arguments.port, dict(os.environ))
        print(f"{path}: {time.monotonic() - started:.1f} s\n" + "\n".join(said))


if __name__ == "__main__":
    main()
