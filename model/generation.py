"""Writing text token by token: sampling for many rows at once, and beam search.

Driven a step at a time by its caller, so that the serving engine can do other work between two steps. Works with
causal decoders and encoder-decoders.
Shapes: B rows, T tokens, S source tokens, D width, V vocabulary.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from model.batch import Batch, pad_ids
from model.cache import Cache
from model.heads import TextModel
from model.transformer import Decoder, EncoderDecoder

FinishReason = Literal["stop", "length"]
COLD = 1e-5  # below this temperature the likeliest token is certain, and a division by it leaves float32


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen. Raises ValueError with value, limit and remedy."""

    max_tokens: int = 16
    temperature: float = 1.0  # 0 is greedy; above 1 flattens the distribution
    top_k: int = 0  # only the k likeliest tokens; 0 takes all
    top_p: float = 1.0  # only the likeliest tokens that together have this probability (Holtzman et al. 2020)
    seed: int | None = None  # the same seed gives the same text
    top_logprobs: int = 0  # how many of the likeliest tokens to note at each step

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens is {self.max_tokens}; it must be at least 1")
        if not 0.0 <= self.temperature <= 2.0:
            raise ValueError(f"temperature is {self.temperature}; choose from 0 to 2")
        if self.top_k < 0:
            raise ValueError(f"top_k is {self.top_k}; choose 0 for all tokens, or a count")
        if not 0.0 < self.top_p <= 1.0:
            raise ValueError(f"top_p is {self.top_p}; choose a value above 0 and at most 1")


@dataclass
class Writing:
    """One text being written: a prompt (the source text of an encoder-decoder), and what has come of it so far."""

    prompt: Sequence[int]
    sampling: Sampling
    ids: list[int] = field(default_factory=list)  # written tokens, the end token left out
    logprobs: list[float] = field(default_factory=list)  # natural log, under the model's own distribution
    alternatives: list[dict[int, float]] = field(default_factory=list)  # the likeliest tokens at each step
    finish_reason: FinishReason | None = None
    generator: torch.Generator = field(default_factory=torch.Generator)

    def __post_init__(self) -> None:
        if self.sampling.seed is None:
            self.generator.seed()
        else:
            self.generator.manual_seed(self.sampling.seed)


def check_room(model: TextModel, prompt_tokens: int, max_tokens: int) -> None:
    """Raises ValueError when prompt and answer do not fit the model's positions, or the prompt is empty."""
    if prompt_tokens < 1:
        raise ValueError("the prompt is empty; send at least one token")
    limit = model.config.max_positions
    if model.config.architecture == "decoder":
        if prompt_tokens + max_tokens > limit:
            raise ValueError(
                f"{prompt_tokens} prompt tokens and max_tokens {max_tokens} exceed {limit}; "
                "shorten the prompt or lower max_tokens"
            )
    elif max(prompt_tokens, max_tokens) > limit:
        raise ValueError(
            f"{prompt_tokens} prompt tokens or max_tokens {max_tokens} exceed {limit}; "
            "shorten the prompt or lower max_tokens"
        )


class Decoding:
    """Rows that are written together. New ones join between two steps, finished ones leave: nobody waits for the
    longest. A row's text does not depend on its neighbours."""

    def __init__(self, model: TextModel) -> None:
        self.model = model
        self.rows: list[Writing] = []
        self._cache: Cache | None = None

    def join(self, writings: Sequence[Writing]) -> None:
        """Reads the prompts in one pass and writes the first token of each."""
        with torch.inference_mode():
            states, cache = read_prompts(self.model, [writing.prompt for writing in writings])
            self._cache = cache if self._cache is None else Cache.join([self._cache, cache])
            self.rows += writings
            self._choose(writings, self.model.vocabulary_logits(states))
            self._drop_finished()

    def step(self) -> None:
        """Writes one more token in every row."""
        if not self.rows:
            return
        with torch.inference_mode():
            assert self._cache is not None
            states = write_tokens(self.model, [[row.ids[-1]] for row in self.rows], self._cache)
            self._choose(self.rows, self.model.vocabulary_logits(states[:, -1]))
            self._drop_finished()

    def stop(self, writing: Writing) -> None:
        """Takes a row out: its client left, or a stop text was found."""
        writing.finish_reason = writing.finish_reason or "stop"
        self._drop_finished()

    def _choose(self, writings: Sequence[Writing], logits: Tensor) -> None:
        """logits [B, V]: one token a row, each by its own settings and its own random numbers."""
        logprobs = torch.log_softmax(logits.float(), dim=-1)  # [B, V]
        for writing, row in zip(writings, logprobs, strict=True):
            chosen = choose(row, writing.sampling, writing.generator)
            if chosen == self.model.config.eos_id:
                writing.finish_reason = "stop"
                continue
            writing.ids.append(chosen)
            writing.logprobs.append(float(row[chosen]))
            if wanted := writing.sampling.top_logprobs:
                best = row.topk(min(wanted, len(row)))
                writing.alternatives.append(dict(zip(best.indices.tolist(), best.values.tolist(), strict=True)))
            if len(writing.ids) >= writing.sampling.max_tokens:
                writing.finish_reason = "length"

    def _drop_finished(self) -> None:
        kept = [index for index, row in enumerate(self.rows) if row.finish_reason is None]
        if len(kept) == len(self.rows):
            return
        self.rows = [self.rows[index] for index in kept]
        if not kept:
            self._cache = None
        elif self._cache is not None:
            self._cache.select(torch.tensor(kept, device=self._cache.lengths.device))


def read_prompts(model: TextModel, prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Cache]:
    """Prompts -> the hidden state [B, D] that the first new token is chosen from, and the cache behind it."""
    stack, config = model.stack, model.config
    assert isinstance(stack, Decoder | EncoderDecoder)
    cache = stack.new_cache(len(prompts))
    if isinstance(stack, EncoderDecoder):
        assert config.bos_id is not None
        memory, memory_mask = stack.read(_batch(model, prompts))
        start = _batch(model, [[config.bos_id]] * len(prompts))
        return stack.write(start, memory, memory_mask, cache)[:, -1], cache
    states = stack(_batch(model, prompts), cache)  # [B, T, D]
    last = cache.lengths - 1
    return states[torch.arange(len(prompts), device=states.device), last], cache


def write_tokens(model: TextModel, tokens: Sequence[Sequence[int]], cache: Cache) -> Tensor:
    """The next token (or tokens) of every row -> hidden states [B, T, D]."""
    stack = model.stack
    batch = _batch(model, tokens)
    if isinstance(stack, EncoderDecoder):
        return stack.write(batch, None, None, cache)
    states: Tensor = stack(batch, cache)
    return states


def _batch(model: TextModel, rows: Sequence[Sequence[int]]) -> Batch:
    return pad_ids(rows, model.config.pad_id).to(model.stack.embeddings.token.weight.device)


def choose(logprobs: Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    """One token from log-probabilities [V], after temperature, top-k and top-p, in this order."""
    if sampling.temperature < COLD:
        return int(logprobs.argmax())
    allowed = filtered(logprobs / sampling.temperature, sampling.top_k, sampling.top_p)
    weights = torch.softmax(allowed, dim=-1).cpu()
    return int(torch.multinomial(weights, 1, generator=generator))


def filtered(scores: Tensor, top_k: int, top_p: float) -> Tensor:
    """scores [V] with the tokens that may not be chosen at minus infinity; the likeliest one always stays."""
    if 0 < top_k < len(scores):
        scores = scores.masked_fill(scores < scores.topk(top_k).values[-1], -math.inf)
    if top_p < 1.0:
        ordered, order = scores.sort(descending=True)
        before = torch.softmax(ordered, dim=-1).cumsum(dim=-1) - torch.softmax(ordered, dim=-1)  # mass of likelier ones
        over = before >= top_p
        over[0] = False  # where rounding leaves it more mass before it than a tiny top_p
        refused = torch.zeros_like(scores, dtype=torch.bool).scatter(0, order, over)
        scores = scores.masked_fill(refused, -math.inf)
    return scores


class BeamSearch:
    """The `width` likeliest texts kept at each step, the best finished one wins (section 6.1 of the paper).

    Scores are log-probabilities divided by the length penalty of Wu et al. 2016, ((5 + length) / 6) ** alpha.
    """

    def __init__(
        self, model: TextModel, prompt: Sequence[int], width: int, max_tokens: int, length_alpha: float = 0.6
    ) -> None:
        self.model = model
        self.ids: list[int] = []  # the best text so far
        self.finish_reason: FinishReason | None = None
        self._width, self._max_tokens, self._alpha = width, max_tokens, length_alpha
        self._prompt = prompt
        self._cache: Cache | None = None
        self._live: list[tuple[float, list[int]]] = [(0.0, [])]  # summed log-probability, tokens
        self._finished: list[tuple[float, list[int]]] = []  # penalised score, tokens

    def step(self) -> None:
        """Grows every live text by one token."""
        with torch.inference_mode():
            if self._cache is None:
                states, self._cache = read_prompts(self.model, [self._prompt])
            else:
                states = write_tokens(self.model, [[ids[-1]] for _, ids in self._live], self._cache)[:, -1]
            logprobs = torch.log_softmax(self.model.vocabulary_logits(states).float(), dim=-1)  # [B, V]
            summed = logprobs + torch.tensor([[score] for score, _ in self._live], device=logprobs.device)
            best = summed.flatten().topk(min(2 * self._width, summed.numel()))
        grown: list[tuple[float, list[int]]] = []
        parents: list[int] = []
        for rank, (score, index) in enumerate(zip(best.values.tolist(), best.indices.tolist(), strict=True)):
            parent, token = divmod(index, logprobs.size(1))
            ids = self._live[parent][1]
            if token == self.model.config.eos_id:
                if rank >= self._width:  # an ended text must be one of the likeliest too: width 1 is greedy
                    continue
                self._finished.append((self._penalised(score, len(ids) + 1), ids))
            elif len(grown) < self._width:
                grown.append((score, [*ids, token]))
                parents.append(parent)
        self._live = grown
        self._cache.select(torch.tensor(parents, device=logprobs.device))
        self._finish_if_done()

    def _penalised(self, score: float, length: int) -> float:
        return float(score / ((5 + length) / 6) ** self._alpha)

    def _finish_if_done(self) -> None:
        longest = len(self._live[0][1])
        self._finished.sort(key=lambda item: -item[0])
        hope = self._penalised(self._live[0][0], self._max_tokens)  # the most a live text can still reach
        if self._finished and self._finished[0][0] >= hope:
            self.ids, self.finish_reason = self._finished[0][1], "stop"
        elif longest >= self._max_tokens:
            live = [(self._penalised(score, len(ids)), ids) for score, ids in self._live]
            best = max([*self._finished, *live], key=lambda item: item[0])
            self.ids = best[1]
            self.finish_reason = "stop" if any(ids is best[1] for _, ids in self._finished) else "length"


def write_all(
    model: TextModel, writings: Sequence[Writing], max_rows: int = 64, on_step: Callable[[int], None] | None = None
) -> None:
    """Writes all texts to their ends, at most `max_rows` at a time; `on_step` hears how many have ended."""
    decoding = Decoding(model)
    waiting = list(writings)
    while waiting or decoding.rows:
        room = max_rows - len(decoding.rows)
        if waiting and room > max_rows // 4:
            decoding.join(waiting[:room])
            waiting = waiting[room:]
        decoding.step()
        if on_step is not None:
            on_step(len(writings) - len(waiting) - len(decoding.rows))
