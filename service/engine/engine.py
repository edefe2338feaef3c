"""The engine: coroutines submit texts, one thread reads them into tokens, others answer them in batches, one for each
core of a CPU (`cores.py`).

Two kinds of work take turns on these: fast requests (classify, embed, tag, fill a mask) in a token-bounded queue, and
texts being written, one token a turn. Bulk work, in small batches, gets the turns that nobody else wants. Who looks
inside a model has a thread of its own (`looking.py`). The event loop never runs model code.
"""

import asyncio
import math
import threading
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from model.explain.attention import AttentionMethod
from model.explain.two_texts import DecoderPart
from model.threads import all_threads, threads
from model.tokenizer import Encoding, Text, Tokenizer
from service.engine.cores import Cores, Work, compute, share_of
from service.engine.line import MAX_RETRY_SECONDS, is_bulk
from service.engine.looking import Interrupted, Looker
from service.engine.queue import Item, QueueFull, TokenQueue
from service.engine.reading import Reader
from service.engine.replies import deliver, settle
from service.engine.runner import Array, LoadedModel, Operation, attend
from service.engine.shared import Pass, Shared
from service.engine.spans import Trace, current_trace
from service.engine.timings import add_time, current_timings
from service.engine.writer import Order, Told, Writer, Written
from service.errors import Busy, TimedOut, Unavailable
from service.ids import new_id
from service.metrics import Metrics

CHARACTERS_PER_TOKEN = 16  # at most, of texts that wait to be tokenized beside the tokens that wait
RATE_WEIGHT = 0.1  # of the last batch in the running mean of the device's speed
BULK_BATCH_TOKENS = 512  # of one forward pass, half of it where several cores compute: a live request waits for no more
STOP_SECONDS = 30.0  # for what is being computed
Result = TypeVar("Result")


@contextmanager
def in_bulk() -> Iterator[None]:
    """Within, what this task submits waits until nobody else does, for as long as that takes."""
    token = is_bulk.set(True)
    try:
        yield
    finally:
        is_bulk.reset(token)


class _Asked:
    """The texts of one call, and the future of all their answers."""

    def __init__(self, count: int) -> None:
        self.loop = asyncio.get_running_loop()
        self.reply: asyncio.Future[list[Any]] = self.loop.create_future()
        self.since = time.monotonic()
        self.began = self.ended = 0.0  # the first forward pass, and the last; set by the cores
        self.trace: Trace | None = current_trace()
        self.batches: list[tuple[Shared, int]] = []  # of a traced call: in which so many of its texts were
        self._answers: list[Any] = [None] * count
        self._missing = count

    def settle(self, index: int, answer: Any) -> None:
        """In the caller's loop. An exception is the answer to all."""
        if isinstance(answer, Exception):
            settle(self.reply, answer)
            return
        self._answers[index] = answer
        self._missing -= 1
        if self._missing == 0:
            settle(self.reply, self._answers)


@dataclass(frozen=True)
class _Text:
    loaded: LoadedModel
    encoding: Encoding
    asked: _Asked
    index: int  # among the texts of the call


class Engine:
    """Owns the threads that compute. `start` and `stop` are called by the application's lifespan."""

    def __init__(
        self,
        metrics: Metrics,
        max_queue_tokens: int,
        max_batch_tokens: int,
        max_attention_queue: int,
        max_writing_queue: int,
        timeout_seconds: float,
        cores: int,
    ) -> None:
        """`cores` threads compute, see `cores_on`."""
        self._metrics = metrics
        self._max_batch_tokens = max_batch_tokens
        self._max_writing_queue = max_writing_queue
        self._timeout_seconds = timeout_seconds
        self._queue: TokenQueue[Item] = TokenQueue(max_queue_tokens)
        self._bulk_queue: TokenQueue[Item] = TokenQueue(max_queue_tokens)
        self._looker = Looker(metrics, max_attention_queue, timeout_seconds)
        self._writer = Writer(metrics, max_batch_tokens)
        self._writing = False  # one core grows the texts that are written
        self._writers_turn = False
        self.reader = Reader(max_queue_tokens * CHARACTERS_PER_TOKEN)
        self._lock = threading.Lock()
        self._cores = Cores(cores, self._lock, self._take)
        self._threads_a_core = max(1, all_threads() // cores)
        self._tokens_per_second = 0.0  # of a core of late, while it worked; 0: not known yet

    def start(self) -> None:
        self.reader.start()
        self._looker.start()
        self._cores.start()

    def stop(self) -> None:
        """Answers what is running, refuses what waits, ends the threads."""
        self.reader.stop()
        self._looker.stop()
        self._cores.stop(STOP_SECONDS)
        stopping = Unavailable("the service is stopping; try again in a moment", retry_after_seconds=5)
        with self._lock:
            leftover = [*self._queue.drain(), *self._bulk_queue.drain()]
            orders = self._writer.drain()
            self._note_depth()
        _reply(leftover, [stopping] * len(leftover))
        for order in orders:
            order.fail(stopping)

    @property
    def running(self) -> bool:
        return self._cores.running

    async def encode(
        self, tokenizer: Tokenizer, texts: Sequence[Text], max_length: int, masks: bool = False
    ) -> list[Encoding]:
        """As `Reader.encode`, of texts for the queue. Raises Busy when it is so full that the tokens would surely not
        fit (to read what is then refused would slow down what is answered), TooLarge when they never would."""
        least = self.reader.least_tokens(tokenizer, texts, max_length)
        if not is_bulk.get() and self._queue.tokens + least > self._queue.max_tokens and self._queue.tokens:
            raise self._full(self._queue, f"about {least}")
        return await self.reader.encode(tokenizer, texts, max_length, masks=masks, max_tokens=self._queue.max_tokens)

    async def submit(
        self, loaded: LoadedModel, operation: Operation, encodings: Sequence[Encoding], owner: str
    ) -> list[Any]:
        """One row of results for each encoding, in order.

        Raises Busy when the queue is full, TimedOut when the answer takes too long, and what the model raised.
        A caller that is cancelled (a client that left) takes its texts out of the queue. Bulk work has no time limit.
        """
        items = _items(loaded, operation, encodings, owner)
        queue = self._bulk_queue if is_bulk.get() else self._queue
        with self._lock:
            self._check_running()
            try:
                queue.put_all(items)
            except QueueFull:
                raise self._full(queue, str(sum(item.num_tokens for item in items))) from None
            self._note_depth()
            self._cores.wake()
        try:
            return await self._wait(items)
        except BaseException:  # cancelled among them: whoever is not answered is not computed for
            with self._lock:
                queue.withdraw(items)
                self._note_depth()
            raise

    async def look(self, operation: str, encoding: Encoding, compute: Callable[[Interrupted], Result]) -> Result:
        """What `compute` finds inside a model for one text, in the lane of its own. Raises Busy, TimedOut and what
        `compute` raised."""
        return await self._looker.run(operation, len(encoding.ids), compute)

    async def attention(
        self,
        loaded: LoadedModel,
        encoding: Encoding,
        method: AttentionMethod,
        layers: Sequence[int],
        heads: Sequence[int],
        part: DecoderPart = "cross",
    ) -> Array:
        """Attention [L, H, T, T] of one text, of these layers and heads (rollout: [L, 1, T, T], whatever the heads), in
        the same lane."""
        return await self.look("attention", encoding, lambda _: attend(loaded, encoding, method, layers, heads, part))

    async def write(self, orders: Sequence[Order]) -> AsyncGenerator[Written, None]:
        """Texts being written, as they grow: each order's tokens one by one, the last with its finish reason.

        Raises Busy when too many wait, TimedOut when no token comes in time. A caller that stops asking (a client
        that left, a stop text that was found) takes its orders out, and frees their room at once.
        """
        with self._lock:
            self._check_running()
            if self._writer.waiting + len(orders) > self._max_writing_queue:
                raise Busy(
                    f"{len(orders)} texts to write do not fit beside the {self._writer.waiting} waiting; the queue "
                    f"holds {self._max_writing_queue}; send fewer or try again later",
                    retry_after_seconds=2,
                )
            self._writer.put(orders)
            self._note_depth()
            self._cores.wake()
        left = len(orders)
        told = Told(current_trace(), orders)
        timings = current_timings()  # here: later the stream may be read in another task
        try:
            while left:
                async with asyncio.timeout(self._timeout_seconds):
                    written = await orders[0].replies.get()  # one queue for all orders of a request
                if isinstance(written, Exception):
                    raise written
                left -= written.finish_reason is not None
                told.note(written)
                if timings is not None:  # until now: a stream's headers go out with its first token
                    timings.set(orders[0].since, orders[0].began, time.monotonic())
                yield written
        except TimeoutError:
            raise TimedOut(
                f"no token within {self._timeout_seconds:g} s; send fewer texts or try again later"
            ) from None
        finally:
            with self._lock:
                self._writer.withdraw(orders)  # no effect on those already finished
                self._note_depth()
            told.end(left)

    def _check_running(self) -> None:
        if not self.running:
            raise Unavailable("the service is stopping; try again in a moment", retry_after_seconds=5)

    async def _wait(self, items: list[Item]) -> list[Any]:
        asked: _Asked = items[0].payload.asked
        try:
            async with asyncio.timeout(None if is_bulk.get() else self._timeout_seconds):
                answers = await asked.reply
            add_time(asked.since, asked.began, asked.ended)
            return answers
        except TimeoutError:
            raise TimedOut(
                f"no answer within {self._timeout_seconds:g} s; send fewer texts a request or try again later"
            ) from None
        finally:
            _tell(asked, items[0].payload.loaded)

    def _full(self, queue: TokenQueue[Item], wanted: str) -> Busy:
        return Busy(
            f"{wanted} tokens do not fit beside the {queue.tokens} waiting; the queue holds {queue.max_tokens}; send "
            "fewer or try again later",
            retry_after_seconds=self._seconds_of(queue.tokens),
        )

    def _seconds_of(self, tokens: int) -> int:
        """How long all cores take for so many, by how fast they were of late."""
        seconds = tokens / (self._tokens_per_second * self._cores.count) if self._tokens_per_second else 1.0
        return min(MAX_RETRY_SECONDS, max(1, math.ceil(seconds)))

    def _note_depth(self) -> None:
        for lane, queue in (("fast", self._queue), ("bulk", self._bulk_queue)):
            self._metrics.queue(lane, len(queue), queue.tokens / queue.max_tokens)
        self._metrics.queue("write", self._writer.waiting, self._writer.waiting / self._max_writing_queue)

    def _take(self, idle: int) -> Work | None:
        """What a core does next, while so many others have nothing to do. Called under the lock."""
        may_write = self._writer.busy and not self._writing
        if may_write and (self._writers_turn or not len(self._queue)):
            work = self._turn(idle)
        elif len(self._queue):
            batch = self._queue.next_batch(min(self._max_batch_tokens, self._share(idle)))
            work = self._answering(batch, self._threads(0 if len(self._queue) or may_write else idle))
        elif len(self._bulk_queue) and not self._writer.busy:
            batch = self._bulk_queue.next_batch(BULK_BATCH_TOKENS // min(2, self._cores.count))
            work = self._answering(batch, self._threads(0 if len(self._bulk_queue) else idle))
        else:
            return None
        self._note_depth()
        if len(self._queue) or len(self._bulk_queue) or (self._writer.busy and not self._writing):
            self._cores.wake()
        return work

    def _share(self, idle: int) -> int:
        count = self._cores.count
        return self._max_batch_tokens if count == 1 else share_of(self._queue.tokens, count, idle)

    def _threads(self, spare: int) -> int:
        """Of the CPU, that a core may take when so many others have nothing to do."""
        return self._threads_a_core * (1 + spare)

    def _turn(self, idle: int) -> Work:
        prompts = self._writer.take()
        self._writing, self._writers_turn = True, False
        most_threads = self._threads(0 if len(self._queue) else idle)

        def turn() -> None:
            with threads(most_threads):
                self._writer.turn(prompts)
            with self._lock:
                self._writing = False

        return turn

    def _answering(self, batch: list[Item], most_threads: int) -> Work:
        self._writers_turn = True

        def answer() -> None:
            self._answer(batch, most_threads)

        return answer

    def _answer(self, batch: list[Item], most_threads: int) -> None:
        now = time.monotonic()
        _, operation = batch[0].key
        for item in batch:
            self._metrics.queue_wait(operation, now - item.payload.asked.since)
            item.payload.asked.began = item.payload.asked.began or now
        passes: list[Pass] = []
        for part, results in _computed(batch, most_threads, passes):
            ended = time.monotonic()
            for item in part:
                item.payload.asked.ended = ended
            _note(batch, part, passes, now, ended)
            _reply(part, results)
        tokens, seconds = sum(item.num_tokens for item in batch), max(time.monotonic() - now, 1e-6)
        self._metrics.batch(operation, len(batch), tokens, seconds)
        rate = self._tokens_per_second or tokens / seconds
        self._tokens_per_second = rate + RATE_WEIGHT * (tokens / seconds - rate)


def _items(loaded: LoadedModel, operation: str, encodings: Sequence[Encoding], owner: str) -> list[Item]:
    asked = _Asked(len(encodings))
    key = (loaded.bank, operation)  # not its tag: a base that was loaded again has other adapters in its slots
    return [
        Item(key, owner, len(encoding.ids), _Text(loaded, encoding, asked, index))
        for index, encoding in enumerate(encodings)
    ]


def _computed(batch: list[Item], most_threads: int, passes: list[Pass]) -> Iterator[tuple[list[Item], Sequence[Any]]]:
    """Parts of the batch with a result for each text. When it fails its halves are tried, so that a text no model can
    read fails alone; the error is its result. The thread lives on. `passes` grows by every try."""
    operation: Operation = batch[0].key[1]  # type: ignore[assignment]
    texts = [item.payload for item in batch]
    began, tokens = time.monotonic(), sum(item.num_tokens for item in batch)
    try:
        models, encodings = [text.loaded for text in texts], [text.encoding for text in texts]
        results = compute(models, operation, encodings, most_threads)
    except Exception as error:
        passes.append(Pass(began, time.monotonic(), len(batch), tokens, type(error).__name__))
        if len(batch) == 1:
            yield batch, [error]
            return
        middle = len(batch) // 2
        yield from _computed(batch[:middle], most_threads, passes)
        yield from _computed(batch[middle:], most_threads, passes)
        return
    passes.append(Pass(began, time.monotonic(), len(batch), tokens))
    yield batch, results


def _note(batch: list[Item], part: list[Item], passes: list[Pass], began: float, ended: float) -> None:
    """For those of the part that are traced."""
    own_rows = Counter(item.payload.asked for item in part if item.payload.asked.trace is not None)
    if not own_rows:
        return
    asked = list(dict.fromkeys(item.payload.asked for item in batch))
    members = list(dict.fromkeys(one.trace for one in asked if one.trace is not None))
    tokens = sum(item.num_tokens for item in batch)
    shared = Shared(
        new_id("batch"), batch[0].key[1], began, ended, len(batch), tokens, len(asked), tuple(passes), members
    )  # fmt: skip
    for one, rows in own_rows.items():
        one.batches.append((shared, rows))


def _tell(asked: _Asked, loaded: LoadedModel) -> None:
    """The spans of a traced call that has ended, by an answer or without."""
    if asked.trace is None:
        return
    waited = None if asked.began else "not_computed"
    asked.trace.add("queue", asked.since, asked.began or time.monotonic(), {"lane": "fast"}, waited)
    for shared, own_rows in list(asked.batches):
        shared.tell(asked.trace, own_rows, loaded.id, loaded.dtype)


def _reply(items: Sequence[Item], results: Sequence[Any]) -> None:
    texts = [item.payload for item in items]
    deliver(
        (text.asked.loop, text.asked.settle, (text.index, result)) for text, result in zip(texts, results, strict=True)
    )
