"""The parts of the way out, each by itself; `e2e/test_drain.py` has the whole, with real processes."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest

from service.drain import Drain, before_exit
from service.errors import Unavailable
from service.jobs.supervisor import Supervisor
from tests.house import House, house

__all__ = ["house"]  # a fixture


@pytest.fixture
def server() -> Iterator[list[int]]:
    """The signals that the server's own handlers got."""
    heard: list[int] = []

    def handle(which: int, _: FrameType | None) -> None:
        heard.append(which)

    former = {which: signal.signal(which, handle) for which in (signal.SIGTERM, signal.SIGINT)}
    yield heard
    for which, handler in former.items():
        signal.signal(which, handler)


def test_while_it_drains_only_life_and_figures_are_told(house: House) -> None:
    house.app.state.parts.drain.begun = True
    try:
        for method, path in (("GET", "/readyz"), ("GET", "/v1/models"), ("POST", "/v1/embeddings"), ("GET", "/")):
            answer = house.ask(method, path, house.ann)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
            assert answer.headers["connection"] == "close"
            assert answer.json()["error"]["code"] == "unavailable"
        for path in ("/livez", "/metrics"):
            assert house.ask("GET", path, house.ann).status_code == 200
    finally:
        house.app.state.parts.drain.begun = False
    assert house.ask("GET", "/v1/models", house.ann).status_code == 200


def test_a_stream_of_events_ends_when_the_service_stops(house: House) -> None:
    """Else it would last as long as the job; its reader comes again with the last id."""
    headers = house.ann | {"accept": "text/event-stream"}
    drain: Drain = house.app.state.parts.drain
    asyncio.run(_begin_soon(drain, lambda: house.ask("GET", f"/v1/fine_tuning/jobs/{house.job}/events", headers)))


async def _begin_soon(drain: Drain, ask: Callable[[], object]) -> None:
    asking = asyncio.create_task(asyncio.to_thread(ask))
    while not drain._requests:
        assert not asking.done()
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.5)
    assert not asking.done()
    drain.begun = True
    try:
        async with asyncio.timeout(60):
            answer = await asking
    finally:
        drain.begun = False
    assert "Created fine-tuning job" in answer.text  # type: ignore[attr-defined]


def test_what_was_accepted_is_waited_for_and_then_cut() -> None:
    async def main() -> None:
        drain, ends = Drain(), asyncio.Event()
        told: list[str] = []

        async def request() -> None:
            with drain.accepted("/v1/files"):
                try:
                    await ends.wait()
                    told.append("answered")
                except asyncio.CancelledError:
                    told.append("cut" if drain.over else "cancelled too early")

        first = asyncio.create_task(request())
        await asyncio.sleep(0)
        drain.begun = True
        with pytest.raises(Unavailable, match="the service is stopping"), drain.accepted("/v1/files"):
            pass
        waiting = asyncio.create_task(drain.answered())
        await asyncio.sleep(0.1)
        assert not waiting.done()
        ends.set()
        await waiting
        drain.begun = False
        ends.clear()
        second = asyncio.create_task(request())
        await asyncio.sleep(0)
        await drain.cut()
        await asyncio.gather(first, second)
        assert told == ["answered", "cut"]

    asyncio.run(main())


def test_a_signal_drains_first_and_then_reaches_the_server(server: list[int]) -> None:
    async def main() -> None:
        ends: list[Callable[[], None]] = []
        with before_exit(ends.append):
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(0.05)
            assert server == []
            os.kill(os.getpid(), signal.SIGINT)  # a terminal's, beside that of BentoML's own process
            await asyncio.sleep(0.05)
            assert len(ends) == 1
            ends[0]()
            assert server == [signal.SIGTERM]
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0.05)
        assert server == [signal.SIGTERM, signal.SIGTERM], "outside, the server's handler is in its place"

    asyncio.run(main())


def test_a_second_interrupt_does_not_wait(server: list[int]) -> None:
    async def main() -> None:
        with before_exit(lambda _: None):
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGINT)
                await asyncio.sleep(0.05)
            assert server == [signal.SIGINT]

    asyncio.run(main())


def test_a_worker_that_does_not_leave_is_ended_after_the_grace_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaf = tmp_path / "python"
    deaf.write_text(f"#!/bin/sh\ntrap '' TERM\ntouch {tmp_path}/lives\nwhile :; do sleep 0.1; done\n")
    deaf.chmod(0o700)
    monkeypatch.setattr("service.jobs.supervisor.sys.executable", str(deaf))
    monkeypatch.setattr("service.jobs.supervisor.END_SECONDS", 60.0)  # the thread's own end, after the process's
    supervisor = Supervisor(tmp_path, grace_seconds=0.5)
    supervisor.start()
    deadline = time.monotonic() + 60
    while not (tmp_path / "lives").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    began = time.monotonic()
    supervisor.stop()
    assert time.monotonic() - began > 0.4, "it had its time"
    assert not supervisor._thread.is_alive()
