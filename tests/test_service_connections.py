"""What a connection may do before it is a request, with a real server on loopback: slow clients, large heads, floods."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from service.connections import MAX_HEAD_BYTES, Connections, Limits
from service.settings import Settings
from tests.conftest import free_port, wait_for
from tests.faults import Faults
from tests.hostile import ask, head, open_to, post, read_all, status

STALL_SECONDS = 1.0
MOST = 64
BIG = 64 * 2**20  # more than the kernel keeps for a client that does not read
OK = b"HTTP/1.1 200 "


class Application:
    """Answers with the size of the body, on /big with many bytes, on /wait when it is told to."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.left = 0  # requests whose client was gone before the body was here

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.left += 1
                return
            size, more = size + len(message.get("body", b"")), message.get("more_body", False)
        if scope["path"] == "/wait":
            await uvicorn.config.asyncio.get_running_loop().run_in_executor(None, self.go.wait, 60)
        body = b"x" * BIG if scope["path"] == "/big" else b"%d" % size
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for start in range(0, len(body), 2**16):
            await send({"type": "http.response.body", "body": body[start : start + 2**16], "more_body": True})
        await send({"type": "http.response.body", "body": b""})


class Running:
    """A server in a thread, in the event loop that the service has."""

    def __init__(self) -> None:
        self.app = Application()
        self.connections = Connections(Limits(MOST, STALL_SECONDS))
        self.port = free_port()
        protocol = self.connections.protocol
        config = uvicorn.Config(self.app, port=self.port, http=protocol, lifespan="off", log_config=None)  # type: ignore[arg-type]
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run)

    def answers(self) -> bool:
        return ask(self.port, head(b"/")).startswith(OK)


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    made = Running()
    made.thread.start()
    wait_for(lambda: made.server.started, 30)
    yield made
    made.server.should_exit = True
    made.thread.join(30)
    assert not made.thread.is_alive()


def test_requests_are_served_one_by_one_and_in_a_pipeline(running: Running) -> None:
    assert ask(running.port, post(b"/", b"12345")).endswith(b"\r\n\r\n5")
    twice = head(b"/", close=False) + post(b"/", b"x" * 100_000)
    answer = ask(running.port, twice)
    assert answer.count(OK) == 2
    assert answer.endswith(b"\r\n\r\n100000")


def test_a_client_that_dawdles_over_its_head_is_told_and_cut_off(running: Running, faults: Faults) -> None:
    began = time.monotonic()
    letters = [bytes([letter]) for letter in b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 300]
    answer = ask(running.port, *letters, pause_seconds=0.05)
    assert status(answer) == 408
    faults.saw(f"a head sent byte by byte, {STALL_SECONDS:g} s allowed", answer, time.monotonic() - began)
    assert running.answers()


def test_a_connection_that_asks_for_nothing_is_ended(running: Running, faults: Faults) -> None:
    for name, said in (("nothing", b""), ("an empty line", b"\r\n")):
        began = time.monotonic()
        answer = ask(running.port, said)
        assert status(answer) in (0, 408)
        faults.saw(f"a connection on which {name} comes", answer, time.monotonic() - began)


def test_a_body_that_drips_is_refused_and_the_application_is_told(running: Running, faults: Faults) -> None:
    began, left = time.monotonic(), running.app.left
    drops = [b"x"] * 100
    answer = ask(running.port, head(b"/", b"Content-Length: 1000", method=b"POST"), *drops, pause_seconds=0.05)
    assert status(answer) == 408
    wait_for(lambda: running.app.left == left + 1, 30)
    faults.saw("a body of one byte every 50 ms", answer, time.monotonic() - began)


def test_a_body_at_a_fair_pace_may_take_its_time(running: Running) -> None:
    parts = [b"x" * 4_096] * 8
    answer = ask(running.port, head(b"/", b"Content-Length: 32768", method=b"POST"), *parts, pause_seconds=0.25)
    assert answer.endswith(b"\r\n\r\n32768")


def test_an_answer_may_take_its_time(running: Running) -> None:
    running.app.go.clear()
    with open_to(running.port) as connection:
        connection.sendall(head(b"/wait"))
        time.sleep(2 * STALL_SECONDS)
        running.app.go.set()
        assert read_all(connection).startswith(OK)


def test_a_client_that_does_not_take_its_answer_is_cut_off(running: Running, faults: Faults) -> None:
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)  # else the kernel may take all of it
        connection.settimeout(60)
        connection.connect(("127.0.0.1", running.port))
        connection.sendall(head(b"/big"))
        got = len(connection.recv(1))  # from here on the server knows of the connection
        began = time.monotonic()
        wait_for(lambda: not running.connections.open, 60)
        seconds = time.monotonic() - began
        got += len(read_all(connection))
    assert got < BIG
    faults.saw("an answer of 64 MB that nobody reads", f"cut off, {got:,} bytes had been taken", seconds)


def test_a_client_that_reads_slowly_but_steadily_gets_everything(running: Running) -> None:
    with open_to(running.port) as connection:
        connection.sendall(head(b"/big"))
        got = 0
        while part := connection.recv(2**20):
            got += len(part)
            time.sleep(0.02)
    assert got > BIG


@pytest.mark.parametrize("name", ["one header", "many headers", "request line", "a header that never ends"])
def test_a_large_head_is_refused(running: Running, faults: Faults, name: str) -> None:
    sent = {
        "one header": head(b"/", b"X: " + b"a" * MAX_HEAD_BYTES),
        "many headers": head(b"/", *(b"X-%d: y" % number for number in range(10_000))),
        "request line": head(b"/?q=" + b"a" * 40_000, b"X: " + b"a" * 40_000),
        "a header that never ends": head(b"/", b"X: " + b"a" * 5_000_000)[:-4],
    }[name]
    answer = ask(running.port, sent)
    assert status(answer) == 431 or (answer == b"" and name == "a header that never ends")  # reset while it was sending
    faults.saw(f"a head of {len(sent):,} bytes: {name}", answer)
    assert ask(running.port, head(b"/", b"X: " + b"a" * (MAX_HEAD_BYTES - 100))).startswith(OK)


def test_at_the_limit_idle_connections_make_room(
    running: Running, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running.connections, "limits", Limits(MOST, 60.0))  # none ends by itself
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(open_to(running.port)) for _ in range(MOST)]
        wait_for(lambda: len(running.connections.open) == MOST, 30)
        assert all(running.answers() for _ in range(10))
        gone = [connection for connection in idle if _has_ended(connection)]
        assert gone
        faults.saw(
            f"{MOST} idle connections where {MOST} are allowed",
            f"10 of 10 requests answered, {len(gone)} idle ones ended",
        )
    wait_for(lambda: not running.connections.open, 30)


def _has_ended(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def test_when_all_are_at_work_the_next_is_told_to_come_again(
    running: Running, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running.connections, "limits", Limits(MOST, 60.0))  # none ends by itself
    running.app.go.clear()
    with contextlib.ExitStack() as stack:
        working = [stack.enter_context(open_to(running.port)) for _ in range(MOST)]
        for connection in working:
            connection.sendall(head(b"/wait"))
        wait_for(lambda: [one.is_idle() for one in list(running.connections.open)] == [False] * MOST, 30)
        with open_to(running.port) as connection:
            answer = read_all(connection)
        assert status(answer) == 503
        assert b"retry-after: 5" in answer
        faults.saw(f"one connection more than the {MOST} allowed, all with a request", answer)
        running.app.go.set()
        assert all(read_all(connection).startswith(OK) for connection in working)


def test_the_limit_never_exceeds_what_the_process_may_open() -> None:
    assert Limits.of(Settings(max_connections=10)).connections == 10
    most = Limits.of(Settings()).connections
    assert Limits.of(Settings(max_connections=10**9)).connections == most
