"""Text to token ids beside the event loop: one thread takes all texts that wait at once, so that a thread's wake-up is
paid once for many requests. Owned by `engine.py`; it works while the device does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from model.tokenizer import Encoding, Tokenizer
from service.engine.line import Call, Line
from service.engine.replies import deliver
from service.errors import Busy

Text = str | tuple[str, str]
RATIO_WEIGHT = 0.1  # of the last texts in the running mean of tokens a character


@dataclass(eq=False)
class _Wanted(Call):
    tokenizer: Tokenizer
    texts: Sequence[Text]
    max_length: int
    masks: bool

    @property
    def kind(self) -> tuple[int, int, bool]:
        """Those of one kind can be read together."""
        return id(self.tokenizer), self.max_length, self.masks

    @property
    def characters(self) -> int:
        return characters_of(self.texts)


def characters_of(texts: Sequence[Text]) -> int:
    return sum(len(text) if isinstance(text, str) else len(text[0]) + len(text[1]) for text in texts)


class Reader:
    """Tokenizes for all requests of a process."""

    def __init__(self, max_characters: int) -> None:
        self._max_characters = max_characters  # waiting, beside one call that may be longer
        self._tokens_per_character: WeakKeyDictionary[Tokenizer, float] = WeakKeyDictionary()  # running means
        self._line = Line("vitrine-reader", self._serve)
        self.start, self.stop = self._line.start, self._line.stop

    def guess_tokens(self, tokenizer: Tokenizer, texts: Sequence[Text]) -> int:
        """About how many tokens these texts have, by what this tokenizer made of others; 0 when it has read none."""
        return int(self._tokens_per_character.get(tokenizer, 0.0) * characters_of(texts))

    async def encode(
        self, tokenizer: Tokenizer, texts: Sequence[Text], max_length: int, masks: bool = False
    ) -> list[Encoding]:
        """As `Tokenizer.encode`. Raises Busy when too much text waits."""
        wanted = _Wanted(tokenizer, texts, max_length, masks)
        self._line.put(wanted, lambda waiting: self._check(waiting, wanted.characters))
        encodings: list[Encoding] = await wanted.reply
        return encodings

    def _check(self, waiting: Sequence[_Wanted], characters: int) -> None:
        before = sum(wanted.characters for wanted in waiting)
        if before and before + characters > self._max_characters:
            raise Busy(
                f"{characters} characters do not fit beside the {before} waiting to be tokenized; the limit is "
                f"{self._max_characters}; send fewer or try again later",
                retry_after_seconds=1,
            )

    def _serve(self, taken: list[_Wanted]) -> None:
        by_kind: dict[tuple[int, int, bool], list[_Wanted]] = {}
        for wanted in taken:
            if not wanted.reply.cancelled():
                by_kind.setdefault(wanted.kind, []).append(wanted)
        for group in by_kind.values():
            answers = _read(group)
            deliver(wanted.answered(answer) for wanted, answer in zip(group, answers, strict=True))
            self._learn(group, answers)

    def _learn(self, group: Sequence[_Wanted], answers: Sequence[list[Encoding] | Exception]) -> None:
        read = [(wanted, answer) for wanted, answer in zip(group, answers, strict=True) if isinstance(answer, list)]
        characters = sum(wanted.characters for wanted, _ in read)
        if characters:
            ratio = sum(len(encoding.ids) for _, answer in read for encoding in answer) / characters
            before = self._tokens_per_character.get(group[0].tokenizer, ratio)
            self._tokens_per_character[group[0].tokenizer] = before + RATIO_WEIGHT * (ratio - before)


def _read(group: Sequence[_Wanted]) -> list[list[Encoding] | Exception]:
    """An answer to each; the error of a text that can't be read goes to the request it came in."""
    first = group[0]
    try:
        texts = [text for wanted in group for text in wanted.texts]
        encodings = iter(first.tokenizer.encode(texts, first.max_length, masks=first.masks))
        return [[next(encodings) for _ in wanted.texts] for wanted in group]
    except Exception as error:
        return [error] if len(group) == 1 else [answer for wanted in group for answer in _read([wanted])]
