"""Text to token ids with character offsets, by the `tokenizers` library. Used by training and serving alike.

Two kinds are trained here: WordPiece (BERT) for encoders, byte-level BPE (GPT-2) for what writes text.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers.decoders import DecodeStream

TOKENIZER_FILE = "tokenizer.json"
PAD, UNKNOWN, CLS, SEP, MASK = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"  # ids 0 to 4 of a WordPiece trained here
END_OF_TEXT = "<|endoftext|>"  # id 0 of a byte-level BPE trained here; GPT-2's name for the same
BEGIN, END = "<s>", "</s>"  # ids 1 and 2 of one for an encoder-decoder
CHARACTERS_A_TOKEN = 8  # of a long text, that are read at first for each token that is kept: few texts have more
SPARE_TOKENS = 64  # read behind those that are kept: what is further off changes none of them
LONGEST_WORD = 256  # characters that are searched for a space
CHUNK_TEXTS = 1_000  # whose marks are in memory at once where only ids are kept

Text = str | tuple[str, str]


@dataclass(frozen=True)
class Marks:
    """What is known of each token beside its id; all tuples have the same length T."""

    tokens: tuple[str, ...]
    offsets: tuple[tuple[int, int], ...]  # [start, end) in characters of the text; (0, 0) for special tokens
    texts: tuple[int, ...]  # which text of a pair a token is of: 0 or 1
    special: tuple[bool, ...]  # True for tokens that stand for no text, such as [CLS]
    words: tuple[int, ...]  # number of the word a token belongs to, as the tokenizer splits text; -1 for special tokens

    def take(self, kept: Sequence[int]) -> "Marks":
        """Of these tokens alone."""
        return Marks(
            tokens=tuple(self.tokens[index] for index in kept),
            offsets=tuple(self.offsets[index] for index in kept),
            texts=tuple(self.texts[index] for index in kept),
            special=tuple(self.special[index] for index in kept),
            words=tuple(self.words[index] for index in kept),
        )


@dataclass(frozen=True)
class Encoding:
    """One text (or pair of texts) as the model reads it. Its marks are made when they are asked for: what only computes
    needs none, and they cost more than the ids."""

    ids: tuple[int, ...]
    segments: tuple[int, ...]  # token types: 0 for the first text, 1 for the second; in RoBERTa 0 for both
    full_length: int  # tokens before truncation
    make_marks: Callable[[], Marks] = field(repr=False, compare=False)
    estimated: bool = False  # whether full_length is what the text's beginning suggests

    @classmethod
    def of_ids(cls, ids: Sequence[int], full_length: int | None = None) -> "Encoding":
        """Bare token ids, of which no text is known."""
        count = len(ids)
        return cls(tuple(ids), (0,) * count, full_length or count, partial(_no_marks, count))

    def bare(self) -> "Encoding":
        """The same for a model; of its tokens no text is known any more, which takes a quarter of the memory."""
        return replace(self, make_marks=partial(_no_marks, len(self.ids)))

    def take(self, kept: Sequence[int], full_length: int | None = None) -> "Encoding":
        """These tokens alone; with `full_length`, as a text that was cut."""
        ids, segments = (tuple(values[index] for index in kept) for values in (self.ids, self.segments))
        return Encoding(ids, segments, full_length or len(ids), lambda: self.marks.take(kept), self.estimated)

    @property
    def truncated(self) -> bool:
        return self.full_length > len(self.ids)

    @cached_property
    def marks(self) -> Marks:
        return self.make_marks()

    @property
    def tokens(self) -> tuple[str, ...]:
        return self.marks.tokens

    @property
    def offsets(self) -> tuple[tuple[int, int], ...]:
        return self.marks.offsets

    @property
    def texts(self) -> tuple[int, ...]:
        return self.marks.texts

    @property
    def special(self) -> tuple[bool, ...]:
        return self.marks.special

    @property
    def words(self) -> tuple[int, ...]:
        return self.marks.words


class Tokenizer:
    """A trained tokenizer. Thread-safe: truncation and padding are never switched on inside the library.

    What looks like a special token in a text ("[SEP]", "<|endoftext|>") is text like any other: who writes a text must
    not be able to end it, or to begin another.
    """

    def __init__(self, inner: tokenizers.Tokenizer) -> None:
        inner.no_truncation()
        inner.no_padding()
        inner.encode_special_tokens = True
        self._inner = inner

    @classmethod
    def load(cls, folder: Path) -> "Tokenizer":
        try:
            return cls(tokenizers.Tokenizer.from_file(str(folder / TOKENIZER_FILE)))
        except Exception as error:  # the library knows no narrower one
            raise ValueError(f"{TOKENIZER_FILE} can't be read ({error}); fetch the folder again") from None

    def save(self, folder: Path) -> None:
        """Raises OSError where it can't be written."""
        try:
            self._inner.save(str(folder / TOKENIZER_FILE))
        except Exception as error:  # the library raises no narrower kind
            raise OSError(f"{TOKENIZER_FILE} can't be written: {error}") from error

    @property
    def vocab_size(self) -> int:
        return self._inner.get_vocab_size()

    def id_of(self, token: str) -> int | None:
        """A token's id; None when the vocabulary lacks it."""
        number: int | None = self._inner.token_to_id(token)
        return number

    def token_of(self, number: int) -> str:
        """An id's token; empty when the vocabulary lacks it (some models have more rows than tokens)."""
        return self._inner.id_to_token(number) or ""

    @property
    def mask_token(self) -> str | None:
        """What stands for a hidden token: [MASK] in BERT's vocabularies, <mask> in RoBERTa's."""
        return next((token for token in (MASK, "<mask>") if self.id_of(token) is not None), None)

    @property
    def unknown_id(self) -> int | None:
        """What stands for text outside the vocabulary; None for byte-level tokenizers, which have no such text."""
        return next((number for token in (UNKNOWN, "<unk>") if (number := self.id_of(token)) is not None), None)

    @cached_property
    def added_ids(self) -> frozenset[int]:
        """Of the special tokens that stand around a text, or between two."""
        (empty,) = self.encode([("", "")], 2**30)
        return frozenset(empty.ids)

    def unknown_rate(self, texts: Sequence[str]) -> float:
        """Share of the tokens that stand for text outside the vocabulary."""
        encodings = self.encode_ids(texts, 2**30, special_tokens=False)
        unknown = self.unknown_id
        total = sum(len(encoding.ids) for encoding in encodings)
        return sum(encoding.ids.count(unknown) for encoding in encodings if unknown is not None) / max(1, total)

    def normalise(self, text: str) -> str:
        """The text as the tokenizer cuts it: its case, accents and white space already changed."""
        if self._inner.normalizer is None:
            return text
        changed: str = self._inner.normalizer.normalize_str(text)
        return changed

    def same_as(self, other: "Tokenizer") -> bool:
        """Whether both cut every text alike, into tokens of the same ids; they may have been read from two folders."""
        return self is other or self._inner.to_str() == other._inner.to_str()

    def decode(self, ids: Sequence[int]) -> str:
        """The text of these tokens, special tokens left out."""
        text: str = self._inner.decode(list(ids), skip_special_tokens=True)
        return text

    def decode_stream(self) -> "TextStream":
        return TextStream(self._inner)

    @cached_property
    def _reading_masks(self) -> tokenizers.Tokenizer:
        """The same tokenizer, for which the mask token alone is no special token, and so is found in texts."""
        fields = json.loads(self._inner.to_str())
        for token in fields["added_tokens"]:
            token["special"] = token["special"] and token["content"] != self.mask_token
        inner = tokenizers.Tokenizer.from_str(json.dumps(fields))
        inner.encode_special_tokens = True
        return inner

    def encode(
        self,
        texts: Sequence[Text],
        max_length: int,
        special_tokens: bool = True,
        masks: bool = False,
        estimate: bool = False,
    ) -> list[Encoding]:
        """Texts, or pairs of texts, -> encodings of at most max_length tokens, special tokens included.

        Too long a single text loses tokens at its end, a pair loses them from its longer text, one by one;
        `truncated` and `full_length` tell. Without `special_tokens` the text's own tokens come alone. With `masks` the
        mask token is read where a text has it. With `estimate` a text is read no further than what is kept of it takes;
        the tokens are the same, and how many it has in full is estimated then. (Of two long texts that are about
        equally long, either may be taken for the longer, and keep one token more.)
        """
        inner = self._reading_masks if masks else self._inner
        found: dict[int, Encoding] = {}
        reach = CHARACTERS_A_TOKEN * (max_length + SPARE_TOKENS) if estimate else None
        while left := [index for index in range(len(texts)) if index not in found]:
            heads = [_beginning(texts[index], reach) for index in left]
            encoded = inner.encode_batch(heads, add_special_tokens=special_tokens)
            for index, head, item in zip(left, heads, encoded, strict=True):
                if _suffices(texts[index], head, item, max_length):
                    found[index] = self._finish(item, max_length, _times(texts[index], head))
            reach = reach and 4 * reach
        return [found[index] for index in range(len(texts))]

    def encode_ids(self, texts: Sequence[Text], max_length: int, special_tokens: bool = True) -> list[Encoding]:
        """As `encode`, bare: for what only computes, with many texts at a time."""
        chunks = (texts[start : start + CHUNK_TEXTS] for start in range(0, len(texts), CHUNK_TEXTS))
        return [one.bare() for chunk in chunks for one in self.encode(chunk, max_length, special_tokens)]

    def encode_words(self, sentences: Sequence[Sequence[str]], max_length: int) -> list[Encoding]:
        """Sentences as lists of words -> encodings whose `words` number the words given."""
        encoded = self._inner.encode_batch([list(words) for words in sentences], is_pretokenized=True)
        return [self._finish(item, max_length) for item in encoded]

    def _finish(self, item: tokenizers.Encoding, max_length: int, times: tuple[float, float] = (1.0, 1.0)) -> Encoding:
        """Each text is so many times as long as what the item was made of. The library builds a new list at each access
        of a property, so each is asked for once."""
        ids = item.ids
        full = Encoding(tuple(ids), tuple(item.type_ids), len(ids), partial(_marks, item), max(times) > 1.0)
        if len(ids) <= max_length:
            return full
        kept, full_length = _truncate(item.special_tokens_mask, item.sequence_ids, max_length, times)
        return full.take(kept, full_length)


def _marks(item: tokenizers.Encoding) -> Marks:
    return Marks(
        tokens=tuple(item.tokens),
        offsets=tuple(item.offsets),
        texts=tuple(text or 0 for text in item.sequence_ids),  # None: a token that the tokenizer added
        special=tuple(map(bool, item.special_tokens_mask)),
        words=tuple(-1 if word is None else word for word in item.word_ids),
    )


def _no_marks(count: int) -> Marks:
    """Of tokens whose text is not known."""
    return Marks(("",) * count, ((0, 0),) * count, (0,) * count, (False,) * count, (-1,) * count)


def _parts(text: Text) -> tuple[str, ...]:
    return (text,) if isinstance(text, str) else text


def _times(text: Text, head: Text) -> tuple[float, float]:
    """How many times as long as its head each text is."""
    times = [len(whole) / max(1, len(part)) for whole, part in zip(_parts(text), _parts(head), strict=True)]
    return (times[0], times[-1])


def _beginning(text: Text, reach: int | None) -> Text:
    """The first so many characters, of a pair of each; all without a reach. The end lies before a space, where one is
    near: there no tokenizer joins what stands on both sides."""
    if reach is None or all(len(part) <= reach for part in _parts(text)):
        return text
    cut = [part if len(part) <= reach else part[: _space_before(part, reach)] for part in _parts(text)]
    return cut[0] if isinstance(text, str) else (cut[0], cut[1])


def _space_before(text: str, end: int) -> int:
    near = [found for space in " \n" if (found := text.rfind(space, end - LONGEST_WORD, end)) > 0]
    return max(near, default=end)


def _suffices(text: Text, head: Text, item: tokenizers.Encoding, max_length: int) -> bool:
    """Whether the tokens that are kept of the text are those that are kept of its beginning."""
    cut = [len(whole) > len(part) for whole, part in zip(_parts(text), _parts(head), strict=True)]
    if not any(cut):
        return True
    tokens = Counter(item.sequence_ids)
    return all(not was_cut or tokens[number] >= max_length + SPARE_TOKENS for number, was_cut in enumerate(cut))


def _truncate(
    special: Sequence[int], texts: Sequence[int | None], max_length: int, times: tuple[float, float]
) -> tuple[list[int], int]:
    """Indices to keep: all special tokens, and of each text its first tokens, the longer text cut first -> and how many
    tokens there are in full, when each text has so many times those that are here.

    `texts` tells which text a token is of; token types don't.
    """
    by_segment = {0: [], 1: []} if any(texts) else {0: []}  # type: dict[int, list[int]]
    for index, (is_special, text) in enumerate(zip(special, texts, strict=True)):
        if not is_special:
            by_segment[text or 0].append(index)
    room = max(0, max_length - sum(special))
    in_full = {segment: round(len(indices) * times[segment]) for segment, indices in by_segment.items()}
    if len(by_segment) == 1:
        quota = {0: room}
    else:
        first, second = in_full[0], in_full[1]
        short = min(first, second, room // 2)
        quota = {0: short, 1: room - short} if first <= second else {0: room - short, 1: short}
    kept = [index for index, is_special in enumerate(special) if is_special]
    for segment, indices in by_segment.items():
        kept += indices[: quota[segment]]
    return sorted(kept), sum(special) + sum(in_full.values())


class TextStream:
    """Tokens to text as they come: a character is given out when its last byte has arrived."""

    def __init__(self, inner: tokenizers.Tokenizer) -> None:
        self._inner = inner
        self._stream = DecodeStream(skip_special_tokens=True)
        self._ids: list[int] = []
        self._given = 0  # characters given out

    def push(self, number: int) -> str:
        """The text that became complete with this token; often empty within a Chinese character."""
        self._ids.append(number)
        text = self._stream.step(self._inner, number) or ""
        self._given += len(text)
        return text

    def flush(self) -> str:
        """What is left at the end: complete characters that waited behind half a one, which is dropped."""
        whole: str = self._inner.decode(self._ids, skip_special_tokens=True)
        return whole[self._given :].rstrip("\ufffd")


def train_wordpiece(texts: Iterable[str], vocab_size: int, lowercase: bool = True) -> Tokenizer:
    """WordPiece (Schuster and Nakajima 2012) as BERT uses it, trained on these texts; the same texts give the same one.

    Text is put in Unicode's compatibility form first (full-width letters and digits become plain ones), control
    characters are dropped, and every Chinese character is a word of its own. The texts are read twice: those of an
    iterator, which can be read once only, are kept in memory.
    """
    texts = list(texts) if isinstance(texts, Iterator) else texts
    special = [PAD, UNKNOWN, CLS, SEP, MASK]
    inner = _blank_wordpiece({}, lowercase)
    inner.train_from_iterator(_non_empty(texts), trainers.WordPieceTrainer(vocab_size=0, show_progress=False))
    # The library numbers the characters within words ("##a") in the order of a hash table, another in each run, and
    # settles ties by number. Named beforehand, as special tokens, they have an order.
    within = sorted(token for token in inner.get_vocab() if token.startswith("##"))
    trainer = trainers.WordPieceTrainer(vocab_size=vocab_size, special_tokens=[*special, *within], show_progress=False)
    inner.train_from_iterator(_non_empty(texts), trainer)
    trained = _blank_wordpiece(inner.get_vocab(), lowercase)
    trained.add_special_tokens(special)
    trained.post_processor = processors.TemplateProcessing(
        single=f"{CLS} $A {SEP}", pair=f"{CLS} $A {SEP} $B:1 {SEP}:1", special_tokens=[(CLS, 2), (SEP, 3)]
    )
    return Tokenizer(trained)


def _blank_wordpiece(vocabulary: dict[str, int], lowercase: bool) -> tokenizers.Tokenizer:
    inner = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token=UNKNOWN))
    inner.normalizer = normalizers.Sequence(
        [
            normalizers.NFKC(),
            normalizers.BertNormalizer(clean_text=True, handle_chinese_chars=True, lowercase=lowercase),
        ]
    )
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.decoder = decoders.WordPiece()
    return inner


def train_byte_bpe(
    texts: Iterable[str], vocab_size: int, encoder_decoder: bool = False, split_characters: bool = False
) -> Tokenizer:
    """Byte-level BPE (Radford et al. 2019): any text can be written, none is unknown.

    A causal model's vocabulary begins with <|endoftext|>; an encoder-decoder's with [PAD], <s> and </s>. With
    `split_characters` no token spans two Chinese characters, which a model that cuts text between them needs.
    """
    special = [PAD, BEGIN, END] if encoder_decoder else [END_OF_TEXT]
    inner = tokenizers.Tokenizer(models.BPE())
    inner.normalizer = normalizers.NFC()
    bytes_of_words = pre_tokenizers.ByteLevel(add_prefix_space=False)
    hanzi = pre_tokenizers.Split(Regex(r"\p{Han}"), "isolated")
    inner.pre_tokenizer = pre_tokenizers.Sequence([hanzi, bytes_of_words]) if split_characters else bytes_of_words
    inner.decoder = decoders.ByteLevel()
    inner.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(_non_empty(texts), trainer)
    return Tokenizer(inner)


def _non_empty(texts: Iterable[str]) -> Iterator[str]:
    return (text for text in texts if text.strip())
