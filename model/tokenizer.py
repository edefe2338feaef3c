"""Text to token ids with character offsets, by the `tokenizers` library. Used by training and serving alike."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tokenizers

TOKENIZER_FILE = "tokenizer.json"


@dataclass(frozen=True)
class Encoding:
    """One text (or pair of texts) as the model reads it; all tuples have the same length T."""

    ids: tuple[int, ...]
    tokens: tuple[str, ...]
    offsets: tuple[tuple[int, int], ...]  # [start, end) in characters of the text; (0, 0) for special tokens
    segments: tuple[int, ...]  # 0 for the first text, 1 for the second
    special: tuple[bool, ...]  # True for tokens that stand for no text, such as [CLS]
    truncated: bool
    full_length: int  # tokens before truncation


class Tokenizer:
    """A trained tokenizer. Thread-safe: truncation and padding are never switched on inside the library."""

    def __init__(self, inner: tokenizers.Tokenizer) -> None:
        inner.no_truncation()
        inner.no_padding()
        self._inner = inner

    @classmethod
    def load(cls, folder: Path) -> "Tokenizer":
        return cls(tokenizers.Tokenizer.from_file(str(folder / TOKENIZER_FILE)))

    def save(self, folder: Path) -> None:
        self._inner.save(str(folder / TOKENIZER_FILE))

    @property
    def vocab_size(self) -> int:
        return self._inner.get_vocab_size()

    def encode(self, texts: Sequence[str | tuple[str, str]], max_length: int) -> list[Encoding]:
        """Texts, or pairs of texts, -> encodings of at most max_length tokens, special tokens included.

        Too long a single text loses tokens at its end, a pair loses them from its longer text, one by one;
        `truncated` and `full_length` tell.
        """
        encoded = self._inner.encode_batch(list(texts))
        return [self._finish(item, max_length) for item in encoded]

    def _finish(self, item: tokenizers.Encoding, max_length: int) -> Encoding:
        full_length = len(item.ids)
        kept = list(range(full_length))
        if full_length > max_length:
            kept = _truncate(item.special_tokens_mask, item.type_ids, max_length)
        return Encoding(
            ids=tuple(item.ids[i] for i in kept),
            tokens=tuple(item.tokens[i] for i in kept),
            offsets=tuple(item.offsets[i] for i in kept),
            segments=tuple(item.type_ids[i] for i in kept),
            special=tuple(bool(item.special_tokens_mask[i]) for i in kept),
            truncated=full_length > max_length,
            full_length=full_length,
        )


def _truncate(special: Sequence[int], segments: Sequence[int], max_length: int) -> list[int]:
    """Indices to keep: all special tokens, and of each text its first tokens, the longer text cut first."""
    by_segment = {0: [], 1: []} if any(segments) else {0: []}  # type: dict[int, list[int]]
    for index, (is_special, segment) in enumerate(zip(special, segments, strict=True)):
        if not is_special:
            by_segment[segment].append(index)
    room = max(0, max_length - sum(special))
    if len(by_segment) == 1:
        quota = {0: room}
    else:
        first, second = len(by_segment[0]), len(by_segment[1])
        short = min(first, second, room // 2)
        quota = {0: short, 1: room - short} if first <= second else {0: room - short, 1: short}
    kept = [index for index, is_special in enumerate(special) if is_special]
    for segment, indices in by_segment.items():
        kept += indices[: quota[segment]]
    return sorted(kept)
