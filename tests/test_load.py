"""The load test tells refusals from failures, waits as long as it is told, and asks no other machine."""

import json
import os
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.conftest import ROOT
from tests.load.scenarios import SCENARIOS, users_at
from tests.load.texts import ROWS, passage

WAIT_SECONDS = 1


class Busy(BaseHTTPRequestHandler):
    """A service that has one classifier and refuses half of what is asked of a model."""

    protocol_version = "HTTP/1.1"
    asked: dict[tuple[object, str], list[float]]  # when each body came from each user, who has a connection

    def do_GET(self) -> None:
        models = [{"id": "mood", "task": "classification", "created": 1}]
        self.answer(200, {"data": models if self.path == "/v1/models" else []})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        moments = self.asked[self.client_address, body]
        moments.append(time.monotonic())
        self.answer(429 if len(moments) == 1 else 200, {})

    def answer(self, status: int, body: object) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        if status == 429:
            self.send_header("retry-after", str(WAIT_SECONDS))
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def busy() -> Iterator[ThreadingHTTPServer]:
    Busy.asked = defaultdict(list)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Busy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def locust(host: str, scenario: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "locust", "--headless", "--locustfile", "tests/load/locustfile.py", "--host", host]
    options = ["--scenario", scenario, "--users", "2", "--run-time", "10s", "--only-summary"]
    told = os.environ | {"PYTHONPATH": str(ROOT)}
    both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.run([*command, *options], cwd=ROOT, env=told, text=True, timeout=120, **both)  # type: ignore[call-overload, no-any-return]


def test_under_a_spike_a_refusal_is_counted_as_one_and_waited_out(busy: ThreadingHTTPServer) -> None:
    done = locust(f"http://127.0.0.1:{busy.server_port}", "spike")
    assert done.returncode == 0, done.stdout[-2000:]
    assert "/v1/classify refused, asked to wait" in done.stdout
    again = [moments for moments in Busy.asked.values() if len(moments) > 1]
    assert again, "who was refused comes again"
    assert min(second - first for first, second, *_ in again) >= WAIT_SECONDS - 0.1  # by two clocks


def test_elsewhere_a_refusal_is_a_failure(busy: ThreadingHTTPServer) -> None:
    done = locust(f"http://127.0.0.1:{busy.server_port}", "steady")
    assert done.returncode == 1
    assert "429: more than the service can take" in done.stdout
    assert "refused, asked to wait" not in done.stdout


def test_another_machine_is_not_asked() -> None:
    done = locust("http://load.example:3000", "steady")
    assert done.returncode != 0
    assert "is not this machine" in done.stdout


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_has_users_from_its_first_moment_to_its_last(name: str) -> None:
    counts = [users_at(SCENARIOS[name], share / 100, 8) for share in range(100)]
    assert all(counts)
    assert users_at(SCENARIOS[name], 1.0, 8) is None


def test_a_spike_has_ten_times_the_users_and_goes_back_and_a_ramp_only_rises() -> None:
    spike, ramp = ([users_at(SCENARIOS[name], share / 100, 8) for share in range(100)] for name in ("spike", "ramp"))
    assert (spike[0], max(spike), spike[-1]) == (8, 80, 8)  # type: ignore[type-var]
    assert ramp == sorted(ramp)  # type: ignore[type-var]
    assert (ramp[0], ramp[-1]) == (2, 16)


def test_half_of_what_users_write_is_chinese_or_nearly_and_no_row_stands_twice() -> None:
    chinese = [row for row in ROWS if not row["text"].isascii()]
    assert 0.25 < len(chinese) / len(ROWS) < 0.75
    assert len({row["text"] for row in ROWS}) == len(ROWS)
    assert {row["label"] for row in chinese} == {"positive", "negative"}
    assert passage()
