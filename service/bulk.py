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
import time
from collections.abc import Iterable, Iterator, Sequence
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
        requests, total, faults = await asyncio.to_thread(self._read, batch)
        if faults:
            await asyncio.to_thread(self._store.finish, batch.id, self._name, "failed", (), faults[:SHOWN_ERRORS])
            return
        status = await asyncio.to_thread(self._store.begin, batch.id, self._name, total)
        answers = await asyncio.to_thread(Answers, self._parts.files.folder, batch)
        try:
            with requests.open("rb") as lines:
                for _ in range(answers.done.completed + answers.done.failed):
                    _next_line(lines)
                while status == "in_progress" and time.time() < batch.expires_at:
                    group = [line for _ in range(TOGETHER) if (line := _next_line(lines)) is not None]
                    if not group:
                        break
                    status = await self._answer(batch, group, answers)
        finally:
            answers.close()
        if status is None:
            raise Lost
        expired = status == "in_progress" and answers.done.completed + answers.done.failed < total
        end = {"cancelling": "cancelled", "in_progress": "expired" if expired else "completed"}[status]
        files = await asyncio.to_thread(self._publish, batch, answers)
        if await asyncio.to_thread(self._store.finish, batch.id, self._name, end, files):
            await asyncio.to_thread(answers.remove)  # not before: who takes over an open batch needs them

    def _read(self, batch: Batch) -> tuple[Path, int, list[dict[str, Any]]]:
        """-> the file of requests on this host, how many there are, and its faults."""
        try:
            requests = self._parts.files.path(batch.input_file)
        except FileNotFoundError:
            gone = "the bytes of the input file are gone; upload it again"
            return Path(), 0, [fault_of("file_not_found", gone, None)]
        return requests, *check_requests(requests, batch.endpoint)

    async def _answer(self, batch: Batch, lines: Sequence[bytes], answers: "Answers") -> str | None:
        """Asks some requests, and keeps the lease meanwhile, however long live requests come first -> the status."""
        asking = asyncio.create_task(self._ask_all(batch, lines))
        try:
            while not asking.done():
                await asyncio.wait([asking], timeout=LEASE_SECONDS / 4)
                if not asking.done():
                    status = await asyncio.to_thread(self._store.keep, batch.id, self._name, None, LEASE_SECONDS)
                    if status != "in_progress":
                        return status
        finally:
            asking.cancel()
        await asyncio.to_thread(answers.add, asking.result())
        return await asyncio.to_thread(self._store.keep, batch.id, self._name, answers.done, LEASE_SECONDS)

    async def _ask_all(self, batch: Batch, lines: Sequence[bytes]) -> list[Result]:
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

    def _publish(self, batch: Batch, answers: "Answers") -> list[File]:
        """Puts the files in place -> their rows. The same ids when a worker that takes over does it again."""
        rows, now = [], self._store.clock()
        for kind, path in (("output", answers.output), ("error", answers.errors)):
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
    """The two growing files of a batch. What a killed worker wrote beyond its last report is cut off; where the disk
    has less than was reported, the batch begins anew."""

    def __init__(self, folder: Path, batch: Batch) -> None:
        self.output, self.errors = (folder / f".{batch.id}.{kind}" for kind in ("output", "errors"))
        self.done = Done(batch.completed, batch.failed, batch.tokens, batch.output_bytes, batch.error_bytes)
        reported = {self.output: batch.output_bytes, self.errors: batch.error_bytes}
        if any(size > (path.stat().st_size if path.is_file() else 0) for path, size in reported.items()):
            log.warning("the answers of batch %s are gone from the disk; it begins anew", batch.id)
            self.done = Done(0, 0, 0, 0, 0)
            reported = dict.fromkeys(reported, 0)
        self._files = [_opened_at(path, size) for path, size in reported.items()]

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


def check_requests(path: Path, endpoint: str) -> tuple[int, list[dict[str, Any]]]:
    """-> how many requests there are, and every fault of the file with its line."""
    faults: list[dict[str, Any]] = []
    seen: dict[str, int] = {}
    count = 0

    def fault(code: str, message: str, line: int | None, param: str | None = None) -> None:
        faults.append(fault_of(code, message, line, param))

    with path.open("rb") as file:
        for number, line in _numbered(file):
            count += 1
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


def _opened_at(path: Path, size: int) -> io.BufferedRandom:
    """A file cut back to this size, to be written on."""
    path.touch()
    file = path.open("r+b")
    file.truncate(size)
    file.seek(size)
    return file
