"""`/v1/completions`: text written by a causal language model or an encoder-decoder, whole or streamed, as OpenAI's."""

import json
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from model.generation import Sampling, Writing, check_room
from model.tokenizer import Tokenizer
from service.context import CallerOf, Parts, PartsOf
from service.engine.runner import LoadedModel
from service.engine.writer import Order, Written, new_orders
from service.errors import InvalidRequest, ServiceError, TooLarge, body_of
from service.routes.answers import forms
from service.schemas.completions import Completion, CompletionRequest, CompletionResponse, CompletionUsage, Logprobs

router = APIRouter(prefix="/v1", tags=["inference"])
MAX_STOPS = 4  # as in OpenAI's API
MAX_TEXTS = 128  # written for one request
SAMPLING_FIELDS = ("temperature", "top_p", "top_k", "seed")
STREAM_RESPONSE = forms(
    "JSON; server-sent events when stream is true, each `data:` a piece of the same shape, the last `[DONE]`",
    "text/event-stream",
)


@router.post(
    "/completions", operation_id="create_completion", response_model=CompletionResponse, responses=STREAM_RESPONSE
)
async def completions(
    body: CompletionRequest, parts: PartsOf, caller: CallerOf
) -> CompletionResponse | StreamingResponse:
    """Continues each prompt; an encoder-decoder answers it. Every text is written by itself, whatever runs beside."""
    loaded = await parts.model(body.model, caller.owner)
    prompts, shown = await _prompts(parts, loaded, body)
    stops = _stops(body)
    texts = [_Text(loaded.tokenizer, stops, shown[row] if body.echo else "") for row in range(len(prompts))
             for _ in range(body.n)]  # fmt: skip
    orders = new_orders(loaded, _writings(body, prompts), body.num_beams, caller.owner)
    reply = _Reply(body, orders, texts, sum(len(prompt) for prompt in prompts))
    if not body.stream:
        return await reply.whole(parts)
    events = parts.engine.write(orders)
    first = await anext(events)  # a full queue is refused with its status, before the stream begins
    return StreamingResponse(reply.stream(first, events), media_type="text/event-stream")


async def _prompts(parts: Parts, loaded: LoadedModel, body: CompletionRequest) -> tuple[list[list[int]], list[str]]:
    """Token ids of every prompt, and its text."""
    if loaded.config.task not in ("causal_lm", "seq2seq"):
        raise InvalidRequest(
            f"model {body.model!r} can't write text: its task is {loaded.config.task!r}; use a causal language model "
            "or an encoder-decoder, see GET /v1/models",
            "model",
        )
    given = body.prompt
    rows: Sequence[Any] = [given] if isinstance(given, str) or (given and isinstance(given[0], int)) else given
    if len(rows) * body.n > MAX_TEXTS:
        raise TooLarge(f"{len(rows)} prompts with n {body.n} ask for more than {MAX_TEXTS} texts; send fewer", "prompt")
    prompts: list[list[int]] = []
    shown: list[str] = []
    limit = loaded.config.max_positions
    texts = [row for row in rows if isinstance(row, str)]  # all or none
    encodings = await parts.engine.reader.encode(loaded.tokenizer, texts, limit, special_tokens=False) if texts else []
    for index, row in enumerate(rows):
        if isinstance(row, str):
            ids, in_full = list(encodings[index].ids), encodings[index].full_length
            about = "about " if encodings[index].estimated else ""
        else:
            ids, in_full, about = list(row), len(row), ""
            if bad := [number for number in ids if not 0 <= number < loaded.config.vocab_size]:
                raise InvalidRequest(
                    f"token id {bad[0]} is outside the vocabulary of {loaded.config.vocab_size}", "prompt"
                )
        if not ids and loaded.config.bos_id is not None and loaded.config.task == "causal_lm":
            ids = [loaded.config.bos_id]  # an empty prompt: the model writes from the start of a text
        if not ids:
            raise InvalidRequest(f"prompt {index} is empty; send at least one character", "prompt")
        try:
            check_room(loaded.model, max(len(ids), in_full), body.max_tokens)
        except ValueError as error:
            raise InvalidRequest(f"prompt {index}: {about}{error}", "prompt", "context_length_exceeded") from None
        prompts.append(ids)
        shown.append(row if isinstance(row, str) else loaded.tokenizer.decode(ids))
    return prompts, shown


def _stops(body: CompletionRequest) -> list[str]:
    stops = [body.stop] if isinstance(body.stop, str) else list(body.stop or [])
    if len(stops) > MAX_STOPS or not all(stops):
        raise InvalidRequest(f"stop has {len(stops)} texts; send at most {MAX_STOPS}, none of them empty", "stop")
    return stops


def _writings(body: CompletionRequest, prompts: list[list[int]]) -> list[Writing]:
    if body.num_beams > 1 and (body.n > 1 or body.logprobs is not None):
        raise InvalidRequest(f"num_beams {body.num_beams} goes with n 1 and without logprobs", "num_beams")
    set_here = [name for name in SAMPLING_FIELDS if name in body.model_fields_set and getattr(body, name) is not None]
    if body.num_beams > 1 and set_here:
        raise InvalidRequest(
            f"num_beams {body.num_beams} takes the likeliest text and samples nothing; "
            f"leave out {', '.join(set_here)}, or num_beams",
            set_here[0],
        )
    writings = []
    for prompt in prompts:
        for number in range(body.n):
            seed = None if body.seed is None else (body.seed + number) % 2**63
            sampling = Sampling(
                max_tokens=body.max_tokens,
                temperature=body.temperature,
                top_k=body.top_k,
                top_p=body.top_p,
                seed=seed,
                top_logprobs=body.logprobs or 0,
            )
            writings.append(Writing(prompt, sampling))
    return writings


@dataclass
class _Text:
    """One text on its way to the client: tokens to characters, and the search for stop texts."""

    tokenizer: Tokenizer
    stops: list[str]
    echo: str
    held: str = ""  # could be the beginning of a stop text: not sent yet
    stopped: bool = False
    tokens: int = 0

    def __post_init__(self) -> None:
        self._stream = self.tokenizer.decode_stream()
        self._places = _Places(self.tokenizer, len(self.echo))

    def push(self, written: Written) -> str:
        """The characters that can be sent after these tokens."""
        if self.stopped:
            return ""
        self.tokens += len(written.ids)
        self.held += "".join(self._stream.push(number) for number in written.ids)
        if written.finish_reason is not None:
            self.held += self._stream.flush()
        found = [where for stop in self.stops if (where := self.held.find(stop)) >= 0]
        if found:
            self.stopped = True
            return self._give(min(found))
        if written.finish_reason is not None:
            return self._give(len(self.held))
        longest = max(map(len, self.stops), default=1) - 1
        ready = len(self.held) - longest
        return self._give(ready) if ready > 0 else ""

    def _give(self, count: int) -> str:
        given, self.held = self.held[:count], self.held[count:]
        echo, self.echo = self.echo, ""
        return echo + given

    def logprobs(self, written: Written) -> Logprobs:
        """OpenAI's older shape, of the next tokens: their log-probabilities, the likeliest others, and where each
        begins in the text, the echoed prompt included."""
        return Logprobs(
            tokens=[self.tokenizer.decode([number]) for number in written.ids],
            token_logprobs=list(written.logprobs),
            top_logprobs=[self._named(step) for step in written.alternatives],
            text_offset=[self._places.next(number) for number in written.ids],
        )

    def _named(self, step: dict[int, float]) -> dict[str, float]:
        """By text; of several tokens with one text (parts of a character) the likeliest, which comes first."""
        named: dict[str, float] = {}
        for number, value in step.items():
            named.setdefault(self.tokenizer.decode([number]), value)
        return named


class _Places:
    """Where each token begins in the text, in characters; the tokens of one character all begin where it does."""

    def __init__(self, tokenizer: Tokenizer, start: int) -> None:
        self._tokenizer = tokenizer
        self._start = start  # of what follows the last whole character
        self._ids: list[int] = []  # since then
        self._text = ""  # of these, its last character perhaps a half one

    def next(self, number: int) -> int:
        self._ids.append(number)
        before, self._text = self._text, self._tokenizer.decode(self._ids)
        new = not before or (self._text != before and self._text.startswith(before))  # else it goes on with half a one
        place = self._start + len(before) - (0 if new else 1)
        if not self._text.endswith("\ufffd"):
            self._start, self._ids, self._text = self._start + len(self._text), [], ""
        return place


@dataclass
class _Reply:
    """One request's answer, whole or as a stream."""

    body: CompletionRequest
    orders: list[Order]
    texts: list[_Text]
    prompt_tokens: int

    def __post_init__(self) -> None:
        self.id = f"cmpl-{secrets.token_hex(12)}"
        self.created = int(time.time())

    async def whole(self, parts: Parts) -> CompletionResponse:
        pieces: list[list[str]] = [[] for _ in self.orders]
        logprobs: list[list[Logprobs]] = [[] for _ in self.orders]
        reasons: list[Literal["stop", "length"] | None] = [None] * len(self.orders)
        async for index, piece, written, reason in self._pieces(parts.engine.write(self.orders)):
            pieces[index].append(piece)
            if self.body.logprobs is not None:
                logprobs[index].append(self.texts[index].logprobs(written))
            reasons[index] = reason or reasons[index]
        choices = [
            Completion(
                index=index,
                text="".join(pieces[index]),
                logprobs=_joined(logprobs[index]),
                finish_reason=reasons[index],
            )
            for index in range(len(self.texts))
        ]
        return CompletionResponse(
            id=self.id, created=self.created, model=self.body.model, choices=choices, usage=self._usage()
        )

    async def stream(self, first: Written, events: AsyncGenerator[Written, None]) -> AsyncIterator[str]:
        """Server-sent events: a chunk for each piece of text, the usage when asked for, [DONE]."""
        try:
            async for index, piece, written, reason in self._pieces(_again(first, events)):
                if not piece and reason is None and self.body.logprobs is None:
                    continue
                text = self.texts[index]
                logprobs = None if self.body.logprobs is None else text.logprobs(written)
                choice = Completion(index=index, text=piece, logprobs=logprobs, finish_reason=reason)
                yield self._event([choice.model_dump()], None)
            if self.body.stream_options is not None and self.body.stream_options.include_usage:
                yield self._event([], self._usage().model_dump())
        except ServiceError as error:  # the status is out already: the error comes as an event
            yield f"data: {json.dumps(body_of(error), ensure_ascii=False)}\n\n"
        finally:
            await events.aclose()  # the client may have left
        yield "data: [DONE]\n\n"

    async def _pieces(
        self, events: AsyncIterator[Written]
    ) -> AsyncIterator[tuple[int, str, Written, Literal["stop", "length"] | None]]:
        """Each order's text as it grows, ended by the model, by its length or by a stop text."""
        left = len(self.orders)
        async for written in events:
            text, order = self.texts[written.index], self.orders[written.index]
            if text.stopped:
                continue
            piece = text.push(written)
            reason = "stop" if text.stopped else written.finish_reason
            yield written.index, piece, written, reason
            if reason is not None:
                order.cancelled = True
                left -= 1
                if not left:
                    return

    def _usage(self) -> CompletionUsage:
        written = sum(text.tokens for text in self.texts)
        return CompletionUsage(
            prompt_tokens=self.prompt_tokens, completion_tokens=written, total_tokens=self.prompt_tokens + written
        )

    def _event(self, choices: list[dict[str, Any]], usage: dict[str, int] | None) -> str:
        fields = {"id": self.id, "object": "text_completion", "created": self.created, "model": self.body.model}
        return f"data: {json.dumps({**fields, 'choices': choices, 'usage': usage}, ensure_ascii=False)}\n\n"


async def _again(first: Written, rest: AsyncIterator[Written]) -> AsyncIterator[Written]:
    yield first
    async for written in rest:
        yield written


def _joined(parts: Sequence[Logprobs]) -> Logprobs | None:
    """The log-probabilities of a whole text; None when nobody asked for them."""
    if not parts:
        return None
    return Logprobs(
        tokens=[token for part in parts for token in part.tokens],
        token_logprobs=[value for part in parts for value in part.token_logprobs],
        top_logprobs=[step for part in parts for step in part.top_logprobs],
        text_offset=[offset for part in parts for offset in part.text_offset],
    )
