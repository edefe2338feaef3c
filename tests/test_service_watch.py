"""A job in the terminal: the curve says what the numbers say, and a cut stream is taken up where it broke."""

import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from rich.console import Console

import service.remote
from service.remote import Remote, RemoteError
from service.remote_cli import _line_of_job
from service.watch import Board, curve, watch_job

EVENTS = [{"id": "ftevent-0", "type": "message", "message": "Created fine-tuning job", "data": {}}]
EVENTS += [
    {
        "id": f"ftevent-{step}", "type": "metrics", "message": f"Step {step}/50: training loss {1 / step:.4f}",
        "data": {"step": step, "total_steps": 50, "train_loss": 1 / step, "tokens_per_second": 1000.0},
    }
    for step in range(10, 51, 10)
]  # fmt: skip
EVENTS += [
    {
        "id": "ftevent-60",
        "type": "metrics",
        "message": "Step 50: validation",
        "data": {"step": 50, "valid_accuracy": 0.75},
    }
]
EVENTS += [{"id": "ftevent-99", "type": "message", "message": "The job has succeeded", "data": {"metrics": {}}}]


class Flaky:
    """A real server whose event stream breaks after every two events, and that knows one job."""

    def __init__(self) -> None:
        self.asked: list[str | None] = []
        flaky = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/v1/fine_tuning/jobs/ftjob-1":
                    self._send(200, {"id": "ftjob-1", "status": "succeeded", "fine_tuned_model": "ft:x", "model": "m"})
                elif self.path == "/v1/fine_tuning/jobs/ftjob-1/events":
                    last = self.headers.get("last-event-id")
                    flaky.asked.append(last)
                    if last == EVENTS[-1]["id"]:
                        self.send_response(204)
                        self.end_headers()
                        return
                    start = next((at + 1 for at, event in enumerate(EVENTS) if event["id"] == last), 0)
                    self.send_response(200)
                    self.send_header("content-type", "text/event-stream")
                    self.send_header("transfer-encoding", "chunked")
                    self.end_headers()
                    for event in EVENTS[start : start + 2]:
                        text = f"id: {event['id']}\ndata: {json.dumps(event)}\n\n".encode()
                        self.wfile.write(f"{len(text):x}\r\n".encode() + text + b"\r\n")
                    if start + 2 >= len(EVENTS):
                        self.wfile.write(b"0\r\n\r\n")
                    self.close_connection = True  # without the last chunk: cut
                else:
                    self._send(404, {"error": {"message": "no such thing", "type": "", "param": None, "code": None}})

            def _send(self, status: int, body: Any) -> None:
                content = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def flaky(monkeypatch: pytest.MonkeyPatch) -> Iterator[Flaky]:
    monkeypatch.setattr(service.remote, "RETRY_SECONDS", 0.01)
    made = Flaky()
    yield made
    made.close()


@pytest.mark.parametrize(
    ("progress", "state"),
    [
        (None, "running"),
        ({"step": 3, "total_steps": 9}, "running 33%"),
        ({"step": 3, "total_steps": 9, "finishing": "Writing the model"}, "running, all steps done"),
    ],
)
def test_a_line_of_a_job_says_how_far_it_is_also_where_it_stopped_early(
    progress: dict[str, Any] | None, state: str
) -> None:
    job = {"id": "ftjob-1", "status": "running", "fine_tuned_model": None, "model": "minilm-l6", "progress": progress}
    assert _line_of_job(job) == f"ftjob-1  {state}  minilm-l6"


def test_a_stream_that_breaks_is_read_on_without_a_gap(flaky: Flaky) -> None:
    seen = list(Remote(flaky.url).events("ftjob-1"))
    assert seen == EVENTS
    assert flaky.asked == [None, "ftevent-10", "ftevent-30", "ftevent-50", "ftevent-99"]


@pytest.mark.parametrize("terminal", [True, False])
def test_a_watcher_sees_all_that_is_said(flaky: Flaky, terminal: bool) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=120, color_system=None)
    job = watch_job(Remote(flaky.url), "ftjob-1", console)
    assert job["status"] == "succeeded"
    text = out.getvalue()
    assert "Created fine-tuning job" in text
    assert "The job has succeeded" in text
    if terminal:
        assert "50/50" in text
        assert "loss 0.0200" in text
        assert "█" in text
        assert "held out  step 50: 0.7500" in text
    else:
        assert [line for line in text.splitlines() if line] == [event["message"] for event in EVENTS]


def test_errors_come_in_the_services_own_words(flaky: Flaky, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RemoteError, match="404: no such thing"):
        Remote(flaky.url).get("/v1/nothing")
    flaky.close()
    with pytest.raises(RemoteError, match=r"does not answer \(ConnectError\); start it, or name another by --url"):
        Remote(flaky.url).get("/v1/models")
    monkeypatch.setattr(service.remote, "MAX_RETRIES", 2)
    with pytest.raises(RemoteError, match="does not answer"):
        list(Remote(flaky.url).events("ftjob-1"))


def test_the_curve_falls_where_the_values_fall() -> None:
    lines = curve([8.0, 4.0, 2.0, 1.0], rows=4, columns=10)
    assert len(lines) == 4
    assert lines[0].startswith("   8.0000 █")
    assert lines[-1].startswith("   1.0000 █")
    heights = [sum("▁▂▃▄▅▆▇█".find(line[10 + column]) + 1 for line in lines) for column in range(4)]
    assert heights == sorted(heights, reverse=True)
    assert heights[0] == 32
    assert heights[-1] == 1
    assert all(len(line) <= 20 for line in curve([float(value) for value in range(1_000)], 4, 10))
    assert curve([3.0, 3.0], 2, 5)[1].strip() == "3.0000 ▁▁"


def test_a_board_tells_training_from_held_out_figures() -> None:
    board = Board()
    board.take({"type": "metrics", "data": {"step": 5, "train_loss": 0.5, "total_steps": 9, "tokens_per_second": 1.0}})
    board.take({"type": "metrics", "data": {"step": 5, "valid_accuracy": 0.75, "valid_loss": 0.6}})
    board.take({"type": "message", "data": {}})
    assert (board.losses, board.scores) == ([(5, 0.5)], [(5, 0.75)])
