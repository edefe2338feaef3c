"""Works batches off, in an API process, where the models are: each request goes to the function of its route, in the
engine's bulk lane, so that live requests never wait for more than one small forward pass. Started by `app.py`.
"""

import asyncio
import contextlib
import io
import json
import logging
import os
import secrets
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from service.batches import OUTPUT_PURPOSE, BatchStore, Done
from service.context import Parts
from service.direct import Route
from service.engine.engine import in_bulk
from service.errors import INTERNAL_BODY, ArtefactsUnavailable, ServiceError, Unavailable, body_of, status_of
from service.faults import told_of_values
from service.ids import new_id
from service.jobs.lease import LOCK_POLL_SECONDS, locked
from service.jobs.repeat import repeating
from service.keys import Caller
from service.schemas.base import has_half_character
from service.tables import Batch, File

POLL_SECONDS = 0.5
LEASE_SECONDS = 15.0
TOGETHER = 32  # requests asked at once, and flushed to disk together
MAX_REQUESTS = 50_000
MAX_LINE_BYTES = 4 * 2**20
SHOWN_ERRORS = 50
TOO_MANY = 429
ASKS = frozenset(("infer",))  # who made a batch was let in to ask
Result = tuple[dict[str, Any], bool, int]  # see `_ask`
log = logging.getLogger("vitrine.bulk")


class Lost(Exception):
    """The batch is another worker's now."""


class Hold:
    """A worker's hold on one batch: kept up by a thread beside the work, however long a step of it takes, and asked
    before each step that writes."""

    def __init__(self, store: BatchStore, batch: Batch, worker: str) -> None:
        self._store, self._batch, self._worker = store, batch, worker
        self._lock = threading.Lock()  # what the store has said last is what is kept
        self._status: str | None = batch.status

    @contextlib.asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Within, the lease does not run out while this process lives. A database that does not answer takes no batch
        away."""
        with contextlib.ExitStack() as beats:
            beats.enter_context(repeating("vitrine-batch-lease", LEASE_SECONDS / 4, self.keep))
            try:
                yield
            finally:
                await asyncio.to_thread(beats.close)  # which waits for a beat

    def keep(self, done: Done | None = None) -> None:
        """Renews the lease, with what has been done since."""
        with self._lock:
            self._status = self._store.keep(self._batch.id, self._worker, done, LEASE_SECONDS)

    def begin(self, total: int) -> None:
        with self._lock:
            self._status = self._store.begin(self._batch.id, self._worker, total)

    def status(self) -> str:
        """As the store said last. Raises Lost."""
        if self._status is None:
            raise Lost
        return self._status

    def over(self) -> bool:
        """Whether nothing more is to be asked: the batch is cancelled, or its time is over. Raises Lost."""
        return self.status() == "cancelling" or time.time() >= self._batch.expires_at


class BulkWorker:
    """One an API process; takes one batch at a time."""

    def __init__(self, parts: Parts, routes: Iterable[Route]) -> None:
        self._parts = parts
        self._store: BatchStore = parts.batches
        self._routes = {route.path: route for route in routes}
        self._name = f"{os.uname().nodename}-{os.getpid()}-{secrets.token_hex(3)}"

    async def run(self) -> None:
        """Until cancelled; what is held then is given back."""
        try:
            while True:
                batch = None
                try:
                    batch = await asyncio.to_thread(self._store.claim, self._name, LEASE_SECONDS)
                    if batch is not None:
                        await self._work(batch)
                except Lost:
                    log.warning("batch %s was taken over", batch.id if batch else "")
                except ArtefactsUnavailable:
                    log.exception("a batch could not go on; it is taken up again when its lease is over")
                    batch = None
                except Unavailable:  # this process is stopping; another one, or the next life, goes on
                    return
                except (SQLAlchemyError, OSError):
                    log.exception("a batch could not go on; it is taken up again when its lease is over")
                    batch = None
                except Exception:  # ours: the other batches must not wait for ever
                    log.exception("batch %s failed", batch.id if batch else "")
                    if batch is not None:
                        fault = {"code": "internal", "message": "the service failed on this batch; its log has why"}
                        ended = (batch.id, self._name, "failed", (), [fault | {"line": None, "param": None}])
                        await asyncio.to_thread(self._store.finish, *ended)
                if batch is None:
                    await asyncio.sleep(POLL_SECONDS)
        finally:
            with contextlib.suppress(SQLAlchemyError):
                self._store.release(self._name)

    async def _work(self, batch: Batch) -> None:
        hold = Hold(self._store, batch, self._name)
        async with hold.kept():
            requests, total, faults = await self._checked(batch, hold) or (None, None, [])
            if faults:
                await asyncio.to_thread(self._store.finish, batch.id, self._name, "failed", (), faults[:SHOWN_ERRORS])
                return
            answers = await self._opened(batch, hold, total)
            try:
                if requests is not None:
                    await self._ask_all(batch, hold, requests, answers)
                whole = answers.done.completed + answers.done.failed == total
                end = "cancelled" if hold.status() == "cancelling" else "completed" if whole else "expired"
                files = await asyncio.to_thread(self._publish, batch, hold, answers)
                if await asyncio.to_thread(self._store.finish, batch.id, self._name, end, files):
                    await asyncio.to_thread(answers.remove)  # not before: who takes over an open batch needs them
            finally:
                answers.close()

    async def _checked(self, batch: Batch, hold: Hold) -> tuple[Path, int, list[dict[str, Any]]] | None:
        """The file of requests on this host, how many there are, and its faults; None when the batch was over first,
        however long the file takes."""
        given_up = threading.Event()
        reading = asyncio.ensure_future(asyncio.to_thread(self._read, batch, given_up.is_set))
        try:
            while not reading.done():
                await asyncio.wait([reading], timeout=LEASE_SECONDS / 4)
                if not reading.done() and hold.over():
                    return None
            return reading.result()
        finally:
            given_up.set()
            reading.cancel()

    def _read(self, batch: Batch, given_up: Callable[[], bool]) -> tuple[Path, int, list[dict[str, Any]]]:
        try:
            requests = self._parts.files.path(batch.input_file)
        except FileNotFoundError:
            gone = "the bytes of the input file are gone; upload it again"
            return Path(), 0, [fault_of("file_not_found", gone, None)]
        return requests, *check_requests(requests, batch.endpoint, given_up)

    async def _opened(self, batch: Batch, hold: Hold, total: int | None) -> "Answers":
        """The answers so far, to be written on. Raises BlockingIOError where another process of this host does not let
        go of them: one that was stalled may not know yet that the batch is not its own any more."""
        end = time.monotonic() + LEASE_SECONDS
        while (answers := await asyncio.to_thread(self._open, batch, hold, total)) is None:
            if time.monotonic() > end:
                raise BlockingIOError(
                    f"another process of this host, which has lost batch {batch.id}, still has its answers open after "
                    f"{LEASE_SECONDS:g} s; end that process if it hangs"
                )
            await asyncio.sleep(LOCK_POLL_SECONDS)
        return answers

    def _open(self, batch: Batch, hold: Hold, total: int | None) -> "Answers | None":
        """None while another process of this host has them. Raises Lost, and then no answer was touched."""
        with contextlib.ExitStack() as undo:
            answers = Answers(self._parts.files.folder, batch)
            undo.callback(answers.close)
            if not answers.alone():
                hold.status()  # raises Lost
                return None
            if total is None:
                hold.keep()
            else:
                hold.begin(total)
            hold.status()  # asked anew: from here on nobody else can write
            answers.cut_back()
            hold.keep(answers.done)
            undo.pop_all()
            return answers

    async def _ask_all(self, batch: Batch, hold: Hold, requests: Path, answers: "Answers") -> None:
        """Asks what is not answered yet, until the batch is over."""
        with requests.open("rb") as lines:
            for _ in range(answers.done.completed + answers.done.failed):
                _next_line(lines)
            while not hold.over():
                group = [line for _ in range(TOGETHER) if (line := _next_line(lines)) is not None]
                if not group:
                    return
                await self._answer(batch, hold, group, answers)

    async def _answer(self, batch: Batch, hold: Hold, lines: Sequence[bytes], answers: "Answers") -> None:
        """Asks some requests, however long live requests come first; their answers are kept unless the batch is over
        before."""
        asking = asyncio.create_task(self._ask_together(batch, lines))
        try:
            while not asking.done():
                await asyncio.wait([asking], timeout=LEASE_SECONDS / 4)
                if not asking.done() and hold.over():
                    return
        finally:
            asking.cancel()
        hold.status()  # raises Lost
        await asyncio.to_thread(answers.add, asking.result())
        await asyncio.to_thread(hold.keep, answers.done)

    async def _ask_together(self, batch: Batch, lines: Sequence[bytes]) -> list[Result]:
        """Together they may be too many tokens for the queue: who is refused has it for itself, as soon as it can."""
        results = list(await asyncio.gather(*(self._ask(batch, line) for line in lines)))
        for place, line in enumerate(lines):
            pause = 0.0
            while results[place][0]["response"]["status_code"] == TOO_MANY:
                await asyncio.sleep(pause)
                results[place], pause = await self._ask(batch, line), POLL_SECONDS
        return results

    async def _ask(self, batch: Batch, line: bytes) -> Result:
        """-> the line for the file, whether it is an answer, and the tokens read."""
        request = json.loads(line)
        route = self._routes[batch.endpoint]
        caller = Caller(batch.owner, ASKS, None)
        tokens = 0
        try:
            with in_bulk():
                answer = await route.ask(route.request.model_validate(request["body"]), self._parts, caller)
            body: dict[str, Any] = answer.model_dump(mode="json")
            status = 200
            tokens = int(body.get("usage", {}).get("total_tokens", 0))
        except Unavailable:
            raise
        except ServiceError as error:
            status, body = status_of(error), body_of(error)
        except ValidationError as error:
            refused = told_of_values(error, request["body"])
            status, body = status_of(refused), body_of(refused)
        except Exception:
            log.exception("a request of batch %s failed", batch.id)
            status, body = 500, INTERNAL_BODY
        response = {"status_code": status, "request_id": new_id("req"), "body": body}
        made = {"id": new_id("batch_req"), "custom_id": request["custom_id"], "response": response, "error": None}
        return made, status == 200, tokens

    def _publish(self, batch: Batch, hold: Hold, answers: "Answers") -> list[File]:
        """Puts the files in place -> their rows. The same ids when a worker that takes over does it again. Raises
        Lost."""
        rows, now = [], self._store.clock()
        for kind, path in (("output", answers.output), ("error", answers.errors)):
            hold.status()  # raises Lost
            size = path.stat().st_size if path.is_file() else 0
            if not size:
                continue
            file_id = f"file-{batch.id.removeprefix('batch-')[:20]}{'out0' if kind == 'output' else 'err0'}"
            with path.open("rb") as content:
                self._parts.files.write(file_id, content)
            row = File(
                id=file_id, created_at=now, filename=f"{batch.id}_{kind}.jsonl", bytes=size, purpose=OUTPUT_PURPOSE,
                status="processed", faults=[], training_faults=[], labels=[], num_rows=0, warnings=[],
                owner=batch.owner, expires_at=None if batch.output_lives is None else now + batch.output_lives,
            )  # fmt: skip
            rows.append(row)
        return rows


class Answers:
    """The two growing files of a batch, which one process of this host writes at a time: the kernel frees what a dead
    one held."""

    def __init__(self, folder: Path, batch: Batch) -> None:
        """Nothing is written before `cut_back`."""
        self.output, self.errors = (folder / f".{batch.id}.{kind}" for kind in ("output", "errors"))
        self.done = Done(batch.completed, batch.failed, batch.tokens, batch.output_bytes, batch.error_bytes)
        self._batch_id = batch.id
        self._files = [_writable(path) for path in (self.output, self.errors)]

    def alone(self) -> bool:
        """Whether no other process has them; none gets them then before `close`."""
        return locked(self._files[0].fileno())

    def cut_back(self) -> None:
        """Cuts off what a killed worker wrote beyond its last report; where the disk has less than was reported, the
        batch begins anew."""
        reported = (self.done.output_bytes, self.done.error_bytes)
        if any(size > os.fstat(file.fileno()).st_size for file, size in zip(self._files, reported, strict=True)):
            log.warning("the answers of batch %s are gone from the disk; it begins anew", self._batch_id)
            self.done = Done(0, 0, 0, 0, 0)
            reported = (0, 0)
        for file, size in zip(self._files, reported, strict=True):
            file.truncate(size)
            file.seek(size)

    def add(self, results: Sequence[Result]) -> None:
        """Appends and flushes to disk."""
        for made, good, tokens in results:
            self._files[not good].write(json.dumps(made, ensure_ascii=False).encode() + b"\n")
            done = self.done
            self.done = replace(
                done, completed=done.completed + good, failed=done.failed + (not good), tokens=done.tokens + tokens
            )
        for file in self._files:
            file.flush()
            os.fsync(file.fileno())
        self.done = replace(self.done, output_bytes=self._files[0].tell(), error_bytes=self._files[1].tell())

    def close(self) -> None:
        for file in self._files:
            file.close()

    def remove(self) -> None:
        for path in (self.output, self.errors):
            path.unlink(missing_ok=True)


def fault_of(code: str, message: str, line: int | None, param: str | None = None) -> dict[str, Any]:
    """As a batch's `errors` lists it."""
    return {"code": code, "message": message, "line": line, "param": param}


def check_requests(
    path: Path, endpoint: str, given_up: Callable[[], bool] = lambda: False
) -> tuple[int, list[dict[str, Any]]]:
    """-> how many requests there are, and every fault of the file with its line; nothing to go by when given up."""
    faults: list[dict[str, Any]] = []
    seen: dict[str, int] = {}
    count = 0

    def fault(code: str, message: str, line: int | None, param: str | None = None) -> None:
        faults.append(fault_of(code, message, line, param))

    with path.open("rb") as file:
        for number, line in _numbered(file):
            count += 1
            if given_up():
                break
            if count > MAX_REQUESTS:
                fault("too_many_tasks", f"the file has more than {MAX_REQUESTS} requests; split it", number)
                break
            if len(line) > MAX_LINE_BYTES:
                fault("line_too_long", f"the line has {len(line)} bytes, the limit is {MAX_LINE_BYTES}", number)
                continue
            try:
                request = json.loads(line)
            except (ValueError, RecursionError):
                fault("invalid_json_line", "this line is no JSON object", number)
                continue
            if not isinstance(request, dict):
                fault("invalid_json_line", "this line is no JSON object", number)
                continue
            try:
                halved = has_half_character(request)
            except ValueError as error:
                fault("invalid_json_line", f"in this line {error}", number)
                continue
            if halved:
                fault("invalid_json_line", "this line has half of a surrogate pair, which is no character", number)
                continue
            custom_id = request.get("custom_id")
            if not isinstance(custom_id, str) or not 1 <= len(custom_id) <= 512:
                fault(
                    "missing_required_parameter", "custom_id must be a text of 1 to 512 characters", number, "custom_id"
                )
            elif custom_id in seen:
                message = f"custom_id {custom_id!r} stands in line {seen[custom_id]} already; give each its own"
                fault("duplicate_custom_id", message, number, "custom_id")
            else:
                seen[custom_id] = number
            if request.get("method") != "POST":
                fault("invalid_method", f"method is {request.get('method')!r}; it must be 'POST'", number, "method")
            if request.get("url") != endpoint:
                message = f"url is {request.get('url')!r}; this batch is for {endpoint!r}"
                fault("mismatched_url", message, number, "url")
            if not isinstance(request.get("body"), dict):
                fault("missing_required_parameter", "body must be an object: the request", number, "body")
    if not count:
        fault("empty_file", "the file has no requests; write one JSON object a line", None)
    return count, faults


def _numbered(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Lines that are not empty, with their numbers from 1."""
    for number, line in enumerate(file, start=1):
        if line.strip():
            yield number, line


def _next_line(file: BinaryIO) -> bytes | None:
    while line := file.readline():
        if line.strip():
            return line
    return None


def _writable(path: Path) -> io.BufferedRandom:
    """To be read and written, as it is; empty where it was not there."""
    path.touch()
    return path.open("r+b")
