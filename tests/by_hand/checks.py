"""What must be true of a built image, asked of it as it runs. Each row: what, what was found, whether it is right."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tests.by_hand.build import Builder, Image, codename, size
from tests.by_hand.container import Container

TOOLS = ("gcc", "g++", "cc", "make", "git", "node", "npm", "curl")
LEFT_OVER = ("/root/.cache", "/root/.npm", "/var/cache/apt/pkgcache.bin", "/opt/vitrine/source", "/wheel")
MAY_WRITE = ("/tmp", "/state")
START_SECONDS = 600.0  # with neighbours that take the processors
GIVEN = {"TMPDIR": "/state/tmp", "BENTOML_HOME": "/state/bentoml"}  # as docs/en/operating/container.md says
ASK = ["python3", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:3000/readyz', timeout=4)"]
PAGES = ("/livez", "/readyz", "/", "/docs", "/metrics")


@dataclass(frozen=True)
class Row:
    what: str
    found: str
    right: bool


def in_mib(size_bytes: float) -> str:
    return f"{size_bytes / 2**20:,.0f} MiB"


class Checks:
    def __init__(
        self, builder: Builder, image: Image, folder: Path, tell: Callable[[Row], None], job_seconds: float
    ) -> None:
        self.builder, self.image, self.folder, self.tell = builder, image, folder, tell
        self.job_seconds = job_seconds
        self.bento = bool(image.entrypoint)  # BentoML's image: no volume, no health check, its model lies in it
        if self.bento:
            self.image = replace(image, volumes=["/state"], health=ASK, variables={**image.variables, **GIVEN})
        self.rows: list[Row] = []

    def note(self, what: str, found: object, right: bool = True) -> None:
        self.rows.append(Row(what, str(found), right))
        self.tell(self.rows[-1])

    def run(self) -> bool:
        self.look_at_layers()
        if not self.bento:
            self.first_start()
        self.later_start()
        return all(row.right for row in self.rows)

    def look_at_layers(self) -> None:
        layers = self.image.layers
        self.note("image", f"{in_mib(sum(map(size, layers)))}, {len(layers)} layers, base {in_mib(size(layers[0]))}")
        self.note("user", self.image.user, self.builder.ids(self.image)[0] > 0)

    def first_start(self) -> None:
        """With the network of this machine: the base model and the demonstration's sentences are fetched."""
        passed = self.builder.passed[codename(self.image.layers[0])]
        container = Container(
            self.builder,
            self.image,
            self.folder / "setup",
            ["vitrine", "setup"],
            passed.variables,
            own_network=False,
            binds=[(str(source), target, True) for source, target in passed.binds],
        )
        status = container.outer.wait(START_SECONDS)
        self.note("vitrine setup, root read-only", f"exit status {status}", status == 0)
        if status:
            raise RuntimeError(container.log.read_text()[-4000:])

    def later_start(self) -> None:
        """The image's own command, on a network that is loopback alone."""
        container = Container(self.builder, self.image, self.folder / "run")
        try:
            seconds = container.wait_healthy(START_SECONDS)
            self.note("HEALTHCHECK succeeds, no network outside", f"{seconds:.0f} s after the start")
            self.look_inside(container)
            self.note("memory once ready", in_mib(container.memory_bytes()))
            self.visit(container)
            self.note("memory after the job", in_mib(container.memory_bytes()))
            status, seconds = container.stop()
            self.note("SIGTERM", f"exit status {status} after {seconds:.1f} s", status == 0)
        finally:
            container.end()

    def look_inside(self, container: Container) -> None:
        status = Path(f"/proc/{container.process}/status").read_text()
        rights = dict(re.findall(r"^(Uid|CapEff|CapBnd|NoNewPrivs):\s+(\w+)", status, re.MULTILINE))
        locked = rights["Uid"] != "0" and int(rights["CapEff"], 16) == int(rights["CapBnd"], 16) == 0
        self.note("process 1", ", ".join(f"{name} {value}" for name, value in rights.items()), locked)
        looked = container.inside("sh", "-c", f"for tool in {' '.join(TOOLS)}; do command -v $tool; done; true")
        self.note("compilers and tools of the build", looked.stdout.split() or "none", self.bento or not looked.stdout)
        left = container.inside(
            "sh", "-c", f"ls -d {' '.join(LEFT_OVER)} /var/lib/apt/lists/*_dists_* 2>/dev/null; true"
        )
        self.note("caches and sources left", left.stdout.split() or "none", self.bento or not left.stdout)
        found = set(self.writable(container))
        outside = {path for path in found if not path.startswith(MAY_WRITE)}
        self.note("folders it can write to", f"those in {', '.join(sorted(found - outside, key=len)[:2])}", not outside)
        if outside:
            self.note("and it should not", sorted(outside), False)

    @staticmethod
    def writable(container: Container) -> Iterator[str]:
        find = "find / \\( -path /proc -o -path /sys -o -path /dev \\) -prune -o -type d -writable -print 2>/dev/null"
        yield from container.inside("sh", "-c", find).stdout.split()

    def visit(self, container: Container) -> None:
        key = re.search(r"API key of \w+, shown this once: (\S+)", container.log.read_text())
        port = self.image.ports[0].split("/")[0]
        visit = [
            sys.executable,
            str(Path(__file__).with_name("visit.py")),
            port,
            key[1] if key else "",
            str(self.job_seconds),
        ]
        enter = ["nsenter", "--target", str(container.process), "--net"]
        done = subprocess.run(
            [*enter, *visit], capture_output=True, text=True, timeout=self.job_seconds + 300, check=False
        )
        if done.returncode:
            raise RuntimeError(done.stderr[-3000:])
        seen = json.loads(done.stdout)
        self.note(
            "pages and probes", ", ".join(f"{path} {seen[path]}" for path in PAGES), {seen[p] for p in PAGES} == {200}
        )
        if key:
            self.note("without the key that was printed", f"/v1/models {seen['/v1/models']}", seen["/v1/models"] == 401)
        self.note("embedding by minilm-l6", f"{seen['embedding']} numbers", seen["embedding"] == 384)
        if self.image.variables.get("VITRINE_FIRST_KEY_OWNER"):
            self.note("jobs of the first start, as its owner sees them", ", ".join(seen["earlier"]) or "none")
        job = seen["job"]
        self.note("a job on 288 rows", f"{job['status']} after {job['seconds']} s", job["status"] == "succeeded")
        best = max(seen.get("classify", [{}])[0].get("scores", []), key=lambda one: one["score"], default=None)
        self.note("classify by the tuned model", json.dumps(best), best is not None)
