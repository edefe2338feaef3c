"""Texts being written for clients: takes prompts, grows every text by a token a turn, sends each token as it comes.

Owned by `engine.py`: `put`, `withdraw`, `take` and `drain` run under its lock, `turn` on one of its cores at a time.
"""

import asyncio
import sys
import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

from model.generation import BeamSearch, Decoding, FinishReason, Writing
from model.lora import AdapterBank
from service.engine.queue import TokenQueue
from service.engine.replies import deliver
from service.engine.runner import LoadedModel
from service.engine.spans import Trace
from service.metrics import Metrics

MAX_ROWS = 32  # texts of one model written side by side


@dataclass(frozen=True)
class Written:
    """One more token of a text (a whole text for a beam search), or its end."""

    index: int  # of the text in its request
    ids: Sequence[int]
    logprobs: Sequence[float]
    alternatives: Sequence[dict[int, float]]
    finish_reason: FinishReason | None


@dataclass(eq=False)
class Order:
    """One text a client wants written. All orders of a request share one reply queue."""

    loaded: LoadedModel
    index: int
    writing: Writing
    replies: "asyncio.Queue[Written | Exception]"
    loop: asyncio.AbstractEventLoop
    owner: str
    num_beams: int = 1
    cancelled: bool = False
    since: float = field(default_factory=time.monotonic)
    began: float = 0.0  # when its prompt was read
    sent: int = 0  # tokens the client has
    beam: BeamSearch | None = None

    @property
    def key(self) -> AdapterBank:
        """Texts of one are written together: of the same weights in memory, not of the same name."""
        return self.loaded.bank

    @property
    def num_tokens(self) -> int:
        return len(self.writing.prompt)

    def send(self, written: Written) -> None:
        deliver([(self.loop, self.replies.put_nowait, (written,))])

    def fail(self, error: Exception) -> None:
        deliver([(self.loop, self.replies.put_nowait, (error,))])


class Writer:
    """Every text being written and every prompt that waits."""

    def __init__(self, metrics: Metrics, max_prompt_tokens: int) -> None:
        self._metrics = metrics
        self._max_prompt_tokens = max_prompt_tokens  # read in one pass, so that a turn stays short
        self._waiting: TokenQueue[Order] = TokenQueue(sys.maxsize)  # the engine has a bound of texts
        self._decodings: dict[Hashable, Decoding] = {}  # by the orders' key, as these
        self._orders: dict[Hashable, list[Order]] = {}
        self._beams: list[Order] = []

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def busy(self) -> bool:
        return bool(self.waiting or self._orders or self._beams)

    def put(self, orders: Sequence[Order]) -> None:
        self._waiting.put_all(orders)

    def withdraw(self, orders: Sequence[Order]) -> None:
        """Nobody wants these any more: those that wait leave at once, those being written at their next token."""
        self._waiting.withdraw(orders)
        for order in orders:
            order.cancelled = True

    def take(self) -> list[Order]:
        """Prompts whose turn has come: of one model, within the token budget and the model's free rows."""
        return self._waiting.next_batch(self._max_prompt_tokens, self._free_rows)

    def _free_rows(self, key: Hashable) -> int:
        beams = sum(order.key is key for order in self._beams)
        return MAX_ROWS - len(self._orders.get(key, ())) - beams

    def drain(self) -> list[Order]:
        """Everything unfinished, and forgets it."""
        rows = [order for orders in self._orders.values() for order in orders]
        orders = [*self._waiting.drain(), *self._beams, *rows]
        self._beams.clear()
        self._orders.clear()
        self._decodings.clear()
        return orders

    def turn(self, prompts: Sequence[Order]) -> None:
        """Reads new prompts, then grows every text by one token."""
        for order in prompts:
            order.began = time.monotonic()
            self._metrics.queue_wait("write", order.began - order.since)
        self._beams += [order for order in prompts if order.num_beams > 1]
        if plain := [order for order in prompts if order.num_beams == 1]:
            self._orders.setdefault(plain[0].key, [])
            self._grow(plain[0].key, plain)
        for key in list(self._orders):
            self._grow(key, [])
        for order in list(self._beams):
            self._grow_beam(order)

    def _grow(self, key: Hashable, new: Sequence[Order]) -> None:
        """One step of one model's texts: the new ones read their prompts, or else all write a token."""
        started = time.monotonic()
        orders = self._orders[key]
        decoding = self._decodings.get(key) or Decoding((new or orders)[0].loaded.model)
        self._decodings[key] = decoding
        try:
            for order in orders:
                if order.cancelled:
                    decoding.stop(order.writing)
            orders[:] = [order for order in orders if not order.cancelled]
            if new:
                orders += new
                decoding.join([order.writing for order in new])
            else:
                decoding.step()
        except Exception as error:  # every waiter hears of it; the thread lives on
            for order in orders:
                order.fail(error)
            orders.clear()
        grown = new or orders
        if grown:
            read = sum(len(order.writing.prompt) for order in new) or len(grown)
            self._metrics.batch("write", len(grown), read, time.monotonic() - started)
        for order in list(orders):
            self._report(order)
        if not orders:
            del self._orders[key]
            del self._decodings[key]

    def _report(self, order: Order) -> None:
        writing, sent = order.writing, order.sent
        if len(writing.ids) > sent or writing.finish_reason is not None:
            alternatives = writing.alternatives[sent:]
            order.send(
                Written(order.index, writing.ids[sent:], writing.logprobs[sent:], alternatives, writing.finish_reason)
            )
            order.sent = len(writing.ids)
        if writing.finish_reason is not None:
            self._orders[order.key].remove(order)

    def _grow_beam(self, order: Order) -> None:
        if order.cancelled:
            self._beams.remove(order)
            return
        started = time.monotonic()
        try:
            if order.beam is None:
                sampling = order.writing.sampling
                order.beam = BeamSearch(order.loaded.model, order.writing.prompt, order.num_beams, sampling.max_tokens)
            order.beam.step()
        except Exception as error:
            self._beams.remove(order)
            order.fail(error)
            return
        self._metrics.batch("write", order.num_beams, order.num_beams, time.monotonic() - started)
        if order.beam.finish_reason is not None:
            self._beams.remove(order)
            order.send(Written(order.index, order.beam.ids, [], [], order.beam.finish_reason))


class Told:
    """The spans of one request for texts: its wait, and one for all the steps of writing, however many."""

    def __init__(self, trace: Trace | None, orders: Sequence[Order]) -> None:
        """Without a trace it does nothing."""
        self._trace = trace
        self._orders = orders
        self._first_at = 0.0
        self._tokens = 0

    def note(self, written: Written) -> None:
        if self._trace is not None:
            self._first_at = self._first_at or time.monotonic()
            self._tokens += len(written.ids)

    def end(self, left: int) -> None:
        """So many texts are unfinished: the request failed, or its client left or has enough."""
        if self._trace is None:
            return
        orders, now = self._orders, time.monotonic()
        began = min((order.began for order in orders if order.began), default=0.0)
        waited = None if began else "not_computed"
        self._trace.add("queue", orders[0].since, began or now, {"lane": "write"}, waited)
        if not began:
            return
        known: dict[str, Any] = {"model": orders[0].loaded.id, "dtype": orders[0].loaded.dtype, "texts": len(orders)}
        known |= {"prompt_tokens": sum(len(order.writing.prompt) for order in orders), "tokens": self._tokens}
        known |= {"steps": max(len(order.writing.ids) for order in orders), "beams": orders[0].num_beams}
        known["unfinished"] = left
        moments = {"first token": self._first_at} if self._first_at else {}
        self._trace.add("write", began, now, known, moments=moments)


def new_orders(loaded: LoadedModel, writings: Sequence[Writing], num_beams: int, owner: str) -> list[Order]:
    """The orders of one request, with one reply queue on the running event loop."""
    replies: asyncio.Queue[Written | Exception] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    return [Order(loaded, index, writing, replies, loop, owner, num_beams) for index, writing in enumerate(writings)]
