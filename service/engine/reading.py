"""Text to token ids beside the event loop: one thread takes all texts that wait at once, so that a thread's wake-up is
paid once for many requests. Owned by `engine.py`; it works while the device does.

Nobody waits for another's book: the texts of a large request are read a part at a time, in turns with those of others,
and single texts of great length have a thread of their own. Bulk work is read when nothing else waits.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from model.tokenizer import Encoding, Text, Tokenizer
from service.engine.line import Call, Line
from service.engine.replies import deliver
from service.engine.spans import Part
from service.errors import Busy, TooLarge

LAST = 0.1  # the share of the texts read last in a running mean
FIRST_ERROR = 0.1  # of a guess of how many tokens texts have, before it is known how far such guesses are off
SURELY = 3.0  # so many times the usual error a guess is seldom off
PART_CHARACTERS = 65_536  # of one request, that are read before others have their turn: some 50 ms
LONG_CHARACTERS = 262_144  # of a text that is read apart from others, for it can't be read in parts

Kind = tuple[int, int, bool, bool]


@dataclass(eq=False)
class _Wanted(Call):
    tokenizer: Tokenizer
    texts: Sequence[Text]
    max_length: int
    special_tokens: bool
    masks: bool
    max_tokens: int | None
    found: list[Encoding] = field(default_factory=list)  # of the first texts
    tokens: int = 0  # of those

    @property
    def kind(self) -> Kind:
        """Those of one kind can be read together."""
        return id(self.tokenizer), self.max_length, self.special_tokens, self.masks

    @property
    def characters(self) -> int:
        """Not read yet."""
        return characters_of(self.texts[len(self.found) :])

    @property
    def done(self) -> bool:
        return len(self.found) == len(self.texts)

    def next_part(self) -> Sequence[Text]:
        """The next texts, one at least."""
        start = end = len(self.found)
        characters = 0
        while end < len(self.texts) and (end == start or characters < PART_CHARACTERS):
            characters += characters_of(self.texts[end : end + 1])
            end += 1
        return self.texts[start:end]


class _Density:
    """How many tokens a tokenizer makes of a byte of UTF-8, and by how much such guesses were too high: running means
    of what it has read."""

    def __init__(self) -> None:
        self._tokens_a_byte = 0.0  # 0: not known yet
        self._error_squared = FIRST_ERROR**2  # of a guess, as a share of it; 0 where it was too low

    def learn(self, texts: Sequence[Text], tokens: int) -> None:
        num_bytes = sum(map(_num_bytes, texts))
        if not num_bytes:
            return
        density = tokens / num_bytes
        if self._tokens_a_byte:
            error = max(0.0, 1.0 - density / self._tokens_a_byte)
            self._error_squared += LAST * (error**2 - self._error_squared)
        self._tokens_a_byte += (LAST if self._tokens_a_byte else 1.0) * (density - self._tokens_a_byte)

    def least(self, texts: Sequence[Text], max_length: int) -> int:
        guess = sum(min(max_length, self._tokens_a_byte * _num_bytes(text)) for text in texts)
        return int(guess * max(0.0, 1.0 - SURELY * math.sqrt(self._error_squared)))


def characters_of(texts: Sequence[Text]) -> int:
    return sum(len(text) if isinstance(text, str) else len(text[0]) + len(text[1]) for text in texts)


def _num_bytes(text: Text) -> int:
    """In UTF-8, of which tokens of any language take about as many; of characters those of Chinese take fewer."""
    return sum(len(part) if part.isascii() else len(part.encode("utf-8", "replace")) for part in _parts(text))


def _parts(text: Text) -> Sequence[str]:
    return (text,) if isinstance(text, str) else text


class Reader:
    """Tokenizes for all requests of a process."""

    def __init__(self, max_characters: int) -> None:
        """So many characters wait at most, beside one call that may be longer and bulk work, which bounds itself."""
        self._max_characters = max_characters
        self._densities: WeakKeyDictionary[Tokenizer, _Density] = WeakKeyDictionary()
        self._line: Line[_Wanted] = Line("vitrine-reader", lambda taken: self._serve(taken, self._line))
        self._long: Line[_Wanted] = Line("vitrine-reader-long", lambda taken: self._serve(taken, self._long))

    def start(self) -> None:
        self._line.start()
        self._long.start()

    def stop(self) -> None:
        self._line.stop()
        self._long.stop()

    def least_tokens(self, tokenizer: Tokenizer, texts: Sequence[Text], max_length: int) -> int:
        """So many are kept of these texts at least, by what this tokenizer made of others: a guess less what such
        guesses are off. 0 when it has read none."""
        density = self._densities.get(tokenizer)
        return density.least(texts, max_length) if density else 0

    async def encode(
        self,
        tokenizer: Tokenizer,
        texts: Sequence[Text],
        max_length: int,
        special_tokens: bool = True,
        masks: bool = False,
        max_tokens: int | None = None,
    ) -> list[Encoding]:
        """As `Tokenizer.encode` with estimates. Raises Busy when too much text waits, TooLarge as soon as the texts
        have more than `max_tokens` together."""
        wanted = _Wanted(tokenizer, texts, max_length, special_tokens, masks, max_tokens)
        is_long = any(characters_of([text]) > LONG_CHARACTERS for text in texts)
        line = self._long if is_long else self._line
        with Part("tokenize", texts=len(texts)) as known:
            line.put(wanted, lambda waiting: self._check(waiting, wanted))
            encodings: list[Encoding] = await wanted.reply
            known["tokens"] = sum(len(encoding.ids) for encoding in encodings)
        return encodings

    def _check(self, waiting: Sequence[_Wanted], wanted: _Wanted) -> None:
        before = sum(other.characters for other in waiting if not other.bulk)
        if before and before + wanted.characters > self._max_characters and not wanted.bulk:
            raise Busy(
                f"{wanted.characters} characters do not fit beside the {before} waiting to be tokenized; the limit is "
                f"{self._max_characters}; send fewer or try again later",
                retry_after_seconds=1,
            )

    def _serve(self, taken: list[_Wanted], line: Line[_Wanted]) -> None:
        waiting = [wanted for wanted in taken if not wanted.reply.cancelled()]
        bulk = [wanted for wanted in waiting if wanted.bulk]
        turn = [wanted for wanted in waiting if not wanted.bulk]
        if not turn:  # a part of one, so that who comes now waits for no more
            turn, bulk = bulk[:1], bulk[1:]
        line.put_back(bulk)
        by_kind: dict[Kind, list[_Wanted]] = {}
        for wanted in turn:
            by_kind.setdefault(wanted.kind, []).append(wanted)
        for group in by_kind.values():
            line.put_back(self._turn(group))

    def _turn(self, group: Sequence[_Wanted]) -> list[_Wanted]:
        """A part of each, all of one kind -> those that have more."""
        parts = [wanted.next_part() for wanted in group]
        answers = _read(group[0], parts)
        self._learn(group[0].tokenizer, parts, answers)
        ended: list[tuple[_Wanted, list[Encoding] | Exception]] = []
        for wanted, answer in zip(group, answers, strict=True):
            if isinstance(answer, Exception):
                ended.append((wanted, answer))
                continue
            wanted.found += answer
            wanted.tokens += sum(len(encoding.ids) for encoding in answer)
            if wanted.max_tokens is not None and wanted.tokens > wanted.max_tokens:
                ended.append((wanted, _too_large(wanted)))
            elif wanted.done:
                ended.append((wanted, wanted.found))
        deliver(wanted.answered(answer) for wanted, answer in ended)
        over = {id(wanted) for wanted, _ in ended}
        return [wanted for wanted in group if id(wanted) not in over]

    def _learn(
        self,
        tokenizer: Tokenizer,
        parts: Sequence[Sequence[Text]],
        answers: Sequence[list[Encoding] | Exception],
    ) -> None:
        density = self._densities.setdefault(tokenizer, _Density())
        for part, answer in zip(parts, answers, strict=True):
            if isinstance(answer, list):
                density.learn(part, sum(encoding.full_length for encoding in answer))


def _too_large(wanted: _Wanted) -> TooLarge:
    read, texts = len(wanted.found), len(wanted.texts)
    what = "this request has" if read == texts else f"the first {read} of {texts} texts have"
    return TooLarge(f"{what} {wanted.tokens} tokens; the limit is {wanted.max_tokens}, send several requests", "input")


def _read(first: _Wanted, parts: Sequence[Sequence[Text]]) -> list[list[Encoding] | Exception]:
    """An answer to each, all of the kind of `first`; the error of a text that can't be read goes to its own part."""
    try:
        texts = [text for part in parts for text in part]
        encoded = first.tokenizer.encode(
            texts, first.max_length, first.special_tokens, masks=first.masks, estimate=True
        )
        encodings = iter(encoded)
        return [[next(encodings) for _ in part] for part in parts]
    except Exception as error:
        return [error] if len(parts) == 1 else [answer for part in parts for answer in _read(first, [part])]
