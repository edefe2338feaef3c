"""Servers to measure, on loopback, and wrk to measure them with. Used by the benchmarks over HTTP."""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.report import ROOT

START_SECONDS = 120
QUIET = {  # of our service: nothing beside it, and the demonstration's job is not queued
    "VITRINE_RUN_WORKER": "false", "VITRINE_DEMO_JOB": "false", "BENTOML_DO_NOT_TRACK": "True",
    "OMP_WAIT_POLICY": "PASSIVE",
}  # fmt: skip
CONNECTIONS = 32
SEED = 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def server(command: Sequence[str | Path], port: int, ready: str, environment: Mapping[str, str]) -> Iterator[str]:
    """A server in a process group of its own, from its first good answer at `ready` on -> its URL."""
    with tempfile.TemporaryFile() as log:
        started = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **environment}, stdout=log, stderr=log, start_new_session=True
        )
        try:
            url = f"http://127.0.0.1:{port}"
            _wait(started, f"{url}{ready}", log)
            yield url
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(started.pid, signal.SIGTERM)
            try:
                started.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(started.pid, signal.SIGKILL)


def _wait(started: "subprocess.Popen[bytes]", url: str, log: object) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(url, timeout=5).status_code < 300:
                return
        if started.poll() is not None:
            break
        time.sleep(0.2)
    log.seek(0)  # type: ignore[attr-defined]
    tail = log.read()[-2000:].decode(errors="replace")  # type: ignore[attr-defined]
    raise SystemExit(f"{url} gave no answer within {START_SECONDS} s:\n{tail}")


def bento(
    home: Path, target: str, cores: Sequence[int] = (), **environment: str
) -> contextlib.AbstractContextManager[str]:
    """A BentoML service with our state folder, quiet; on these cores, or on all."""
    port = free_port()
    pinned = ["taskset", "--cpu-list", ",".join(map(str, cores))] if cores else []
    command = [*pinned, sys.executable, "-m", "bentoml", "serve", target, "--host", "127.0.0.1", "--port", str(port)]
    own = {"VITRINE_HOME": str(home.absolute()), "BENTOML_HOME": str(home.absolute() / "bentoml")}
    return server(command, port, "/readyz", {**QUIET, **own, **environment})


@dataclass(frozen=True)
class Load:
    """What wrk saw."""

    requests_per_second: float
    p50_ms: float
    p99_ms: float
    failures: int  # answers other than 2xx, and broken connections


def wrk(url: str, bodies: Sequence[object], seconds: float, connections: int = CONNECTIONS, threads: int = 1) -> Load:
    """POSTs the bodies in turn, as JSON, for so many seconds; every connection asks again as soon as it is answered."""
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is missing; install it: sudo apt-get install wrk")
    with tempfile.TemporaryDirectory() as folder:
        texts = [json.dumps(body, ensure_ascii=False) for body in bodies]
        script = Path(folder) / "bodies.lua"
        quoted = ",\n".join(f"[==[{text}]==]" for text in texts)
        script.write_text(
            f"local bodies = {{{quoted}}}\n"
            "local next = 0\n"
            'wrk.method = "POST"\n'
            'wrk.headers["Content-Type"] = "application/json"\n'
            "request = function()\n"
            "  next = next % #bodies + 1\n"
            "  return wrk.format(nil, nil, nil, bodies[next])\n"
            "end\n",
            encoding="utf-8",
        )
        options = [f"-t{threads}", f"-c{connections}", f"-d{seconds:g}s", "--latency", "--timeout", "60s"]
        done = subprocess.run(["wrk", *options, "-s", script, url], capture_output=True, text=True, check=True)
    return _parse(done.stdout)


def _parse(output: str) -> Load:
    def found(pattern: str) -> float:
        match = re.search(pattern, output)
        return float(match[1]) if match else 0.0

    def milliseconds(percent: str) -> float:
        match = re.search(rf"{percent}%\s+([\d.]+)(us|ms|s|m)\b", output)
        if match is None:
            raise SystemExit(f"wrk told no latency:\n{output}")
        return float(match[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}[match[2]]

    broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", output)
    failures = int(found(r"Non-2xx or 3xx responses: (\d+)")) + sum(map(int, broken.groups() if broken else ()))
    return Load(found(r"Requests/sec:\s+([\d.]+)"), milliseconds("50"), milliseconds("99"), failures)


def some(sentences: Sequence[str], count: int) -> list[str]:
    """Always the same, in a random order."""
    return random.Random(SEED).sample(list(sentences), count)
