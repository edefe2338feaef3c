"""Tokenizers trained here: offsets point at the text they stand for, and no text is lost on the way and back."""

import unicodedata
from collections.abc import Callable
from itertools import pairwise, permutations
from pathlib import Path

import pytest
import tokenizers
from hypothesis import example, given, settings
from hypothesis import strategies as st

from model.tokenizer import (
    BEGIN,
    CHARACTERS_A_TOKEN,
    CHUNK_TEXTS,
    CLS,
    END,
    END_OF_TEXT,
    MASK,
    PAD,
    SEP,
    SPARE_TOKENS,
    UNKNOWN,
    Encoding,
    Tokenizer,
    train_byte_bpe,
    train_wordpiece,
)
from tests.reference import tiny_tokenizer

CORPUS = [
    "我们今天去看电影，电影很好看。", "这部电影不太好看，票价是１２３元。", "我们明天再去看一部好电影吧！", "",
    "The film was good, the other film was ＶＥＲＹ good!", "A film is a film; the goodness of films.", "   ",
    "café naïve façade über", "cafe\u0301 nai\u0308ve e\u0301te\u0301 a\u0323\u0302", "😀 fine 👍🏽 👨‍👩‍👧 ok 🇨🇳",
    "مرحبا بالعالم", "한국어 각", "ﬁne ㍿ ½ ①", "हिन्दी नमस्ते", "Ελλάς Straße", "tab\tand\nline\u200b",
]  # fmt: skip
LETTERS = sorted({letter for text in CORPUS for letter in text})
mixed = st.text(st.sampled_from(LETTERS), max_size=40)  # letters the tokenizers know, in any order
anything = st.text(st.sampled_from(LETTERS) | st.characters(exclude_categories=["Cs"]), max_size=40)
often = settings(max_examples=60, deadline=None, derandomize=True)  # encoding takes microseconds


@pytest.fixture(scope="module")
def wordpiece() -> Tokenizer:
    return train_wordpiece(CORPUS * 3, 400)


@pytest.fixture(scope="module")
def byte_bpe() -> Tokenizer:
    return train_byte_bpe(CORPUS * 3, 500)


@pytest.fixture(scope="module")
def split() -> Tokenizer:
    return train_byte_bpe(CORPUS * 3, 500, encoder_decoder=True, split_characters=True)


def encode(tokenizer: Tokenizer, text: str) -> Encoding:
    """The text's own tokens, all of them."""
    (encoding,) = tokenizer.encode([text], 2**30, special_tokens=False)
    return encoding


def is_hanzi(letter: str) -> bool:
    return "\u4e00" <= letter <= "\u9fff"


def plain(text: str, lowercase: bool = True) -> str:
    """What WordPiece keeps of a text: compatibility form, lower case, no accents (as BERT does), no controls."""
    text = unicodedata.normalize("NFKC", text)
    if lowercase:
        text = unicodedata.normalize("NFD", text).lower()
        text = "".join(letter for letter in text if unicodedata.category(letter) != "Mn")
    return "".join(letter for letter in text if unicodedata.category(letter) not in ("Cc", "Cf"))


# ---- WordPiece


@often
@given(text=mixed)
@example("ＶＥＲＹ ﬁne films, 票价是１２３元")
@example("cafe\u0301s e\u0301te\u0301, a\u0323\u0302b")
def test_offsets_of_wordpiece_point_at_the_text(wordpiece: Tokenizer, text: str) -> None:
    encoding = encode(wordpiece, text)
    assert all(0 <= start < end <= len(text) for start, end in encoding.offsets)
    assert all(a[0] <= b[0] and a[1] <= b[1] for a, b in pairwise(encoding.offsets))
    for token, (start, end) in zip(encoding.tokens, encoding.offsets, strict=True):
        letters, known = plain(text[start:end]), token.removeprefix("##")
        expands = any(len(plain(letter)) > 1 for letter in text[start:end])  # ㍿ to four letters, 각 to its jamo
        if token != UNKNOWN:
            assert known == letters or (expands and known in letters)


@often
@given(text=anything)
def test_offsets_of_wordpiece_lie_within_any_text(wordpiece: Tokenizer, text: str) -> None:
    encoding = encode(wordpiece, text)
    assert all(0 <= start < end <= len(text) for start, end in encoding.offsets)
    assert all(a[0] <= b[0] and a[1] <= b[1] for a, b in pairwise(encoding.offsets))


def test_case_is_kept_when_asked() -> None:
    cased = train_wordpiece(CORPUS * 3, 400, lowercase=False)
    (encoding,) = cased.encode(["ＶＥＲＹ The café"], 99, special_tokens=False)
    for token, (start, end) in zip(encoding.tokens, encoding.offsets, strict=True):
        assert token.removeprefix("##") == plain("ＶＥＲＹ The café"[start:end], lowercase=False)
    assert cased.decode(encoding.ids) == "VERY The café"


@often
@given(text=mixed)
@example("我们看the电影films好")
def test_every_hanzi_is_a_wordpiece_of_its_own(wordpiece: Tokenizer, text: str) -> None:
    tokens = encode(wordpiece, text).tokens
    for token in tokens:
        if any(map(is_hanzi, token)):
            assert len(token) == 1
    assert [token for token in tokens if is_hanzi(token[0])] == [letter for letter in plain(text) if is_hanzi(letter)]


def test_special_tokens_of_wordpiece_have_the_first_ids_and_their_places(wordpiece: Tokenizer) -> None:
    assert [wordpiece.id_of(token) for token in (PAD, UNKNOWN, CLS, SEP, MASK)] == [0, 1, 2, 3, 4]
    assert (wordpiece.mask_token, wordpiece.unknown_id) == (MASK, 1)
    single, pair = wordpiece.encode(["film", ("film", "电影")], 99)
    assert single.tokens == (CLS, "film", SEP)
    assert pair.tokens == (CLS, "film", SEP, "电", "影", SEP)
    assert pair.segments == (0, 0, 0, 1, 1, 1)
    assert pair.special == (True, False, True, False, False, True)
    assert [pair.offsets[index] for index in (0, 2, 5)] == [(0, 0)] * 3
    assert wordpiece.id_of("no such token") is None
    assert wordpiece.token_of(10**6) == ""


@often
@given(first=mixed, second=mixed, max_length=st.integers(3, 30))
def test_a_truncated_pair_keeps_its_special_tokens_and_loses_from_its_longer_text(
    wordpiece: Tokenizer, first: str, second: str, max_length: int
) -> None:
    (encoding,) = wordpiece.encode([(first, second)], max_length)
    whole = [encode(wordpiece, text).ids for text in (first, second)]
    full = sum(map(len, whole)) + 3
    assert (encoding.full_length, encoding.truncated) == (full, full > max_length)
    assert len(encoding.ids) == min(full, max_length)
    assert next(index for index, number in enumerate(encoding.ids) if encoding.special[index]) == 0
    assert [encoding.tokens[index] for index, special in enumerate(encoding.special) if special] == [CLS, SEP, SEP]
    where = encoding.tokens.index(SEP)
    kept = [encoding.ids[1:where], encoding.ids[where + 1 : -1]]
    assert [part[: len(ids)] for part, ids in zip(whole, kept, strict=True)] == kept, "the first tokens of each"
    for (mine, kept_mine), (_, kept_other) in permutations(zip(whole, kept, strict=True)):
        assert len(kept_mine) == len(mine) or len(kept_mine) + 1 >= len(kept_other), "the longer text is cut first"
    every = (encoding.tokens, encoding.offsets, encoding.segments, encoding.texts, encoding.special, encoding.words)
    assert {len(part) for part in every} == {len(encoding.ids)}


@pytest.mark.parametrize("layout", ["bert", "roberta", "gpt2"])
def test_each_token_of_a_pair_tells_which_text_it_is_of(layout: str) -> None:
    pair = ("the film was good", "no, 电影 was longer!")
    (encoding,) = Tokenizer(tiny_tokenizer(layout)).encode([pair], 64)
    assert max(encoding.segments) == (0 if layout == "roberta" else 1)
    for which in (0, 1):
        own = [index for index, text in enumerate(encoding.texts) if text == which and not encoding.special[index]]
        pieces = dict.fromkeys(encoding.offsets[index] for index in own)  # the bytes of one character share a place
        assert "".join("".join(pair[which][start:end] for start, end in pieces).split()) == "".join(pair[which].split())


@pytest.mark.parametrize("train", [train_wordpiece, train_byte_bpe])
def test_the_same_texts_give_the_same_tokenizer(train: Callable[..., Tokenizer]) -> None:
    words = [f"{first}{second}{first}" for first, second in permutations("abcdefgäöüкиת", 2)]  # full of ties
    texts = [*CORPUS, " ".join(words)]
    first = train(texts, 420)
    assert first.vocab_size == 420
    for again in (train(texts, 420), train(iter(texts), 420), train(tuple(texts), 420)):
        assert again._inner.to_str() == first._inner.to_str()


@often
@given(text=mixed, max_length=st.integers(2, 20))
def test_a_truncated_text_loses_its_end(wordpiece: Tokenizer, text: str, max_length: int) -> None:
    (encoding,) = wordpiece.encode([text], max_length)
    own = encode(wordpiece, text).ids
    assert encoding.ids == (2, *own[: max_length - 2], 3)
    assert encoding.truncated == (len(own) + 2 > max_length)


pieces = st.lists(st.sampled_from([*CORPUS, "good" * 300, " " * 700, "电影" * 200, "\n"]), min_size=1, max_size=400)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(first=pieces, second=pieces, glue=st.sampled_from([" ", "", "\n"]), max_length=st.integers(3, 24))
def test_of_a_long_text_the_beginning_is_read_and_gives_the_same_tokens(
    wordpiece: Tokenizer, byte_bpe: Tokenizer, first: list[str], second: list[str], glue: str, max_length: int
) -> None:
    texts = [glue.join(first), (glue.join(first), glue.join(second)), "short", (glue.join(second), "short")]
    for tokenizer in (wordpiece, byte_bpe):
        exact = tokenizer.encode(texts, max_length)
        for own, whole in zip(tokenizer.encode(texts, max_length, estimate=True), exact, strict=True):
            assert (own.ids, own.segments, own.marks) == (whole.ids, whole.segments, whole.marks)
            assert own.truncated == whole.truncated
            assert own.estimated or own.full_length == whole.full_length


@pytest.mark.parametrize("letters", ["good films ", "电影很好", "good"])
def test_a_text_is_read_no_further_than_it_takes(
    byte_bpe: Tokenizer, monkeypatch: pytest.MonkeyPatch, letters: str
) -> None:
    read: list[int] = []
    inner = byte_bpe._inner

    class Noting:
        def encode_batch(self, texts: list[str], **fields: bool) -> list[tokenizers.Encoding]:
            read.extend(map(len, texts))
            return inner.encode_batch(texts, **fields)

    monkeypatch.setattr(byte_bpe, "_inner", Noting())
    text = letters * 50_000
    (encoding,) = byte_bpe.encode([text], 20, estimate=True)
    assert sum(read) < 5 * CHARACTERS_A_TOKEN * (20 + SPARE_TOKENS)
    assert (len(encoding.ids), encoding.truncated, encoding.estimated) == (20, True, True)
    assert encoding.full_length == pytest.approx(len(inner.encode(text).ids), rel=0.05)


def test_bare_encodings_are_the_same_to_a_model_however_many_texts(wordpiece: Tokenizer) -> None:
    texts = [*CORPUS, ("电影很好看", "The film was good, the other film was ＶＥＲＹ good!")] * (
        CHUNK_TEXTS // len(CORPUS) + 1
    )
    assert len(texts) > CHUNK_TEXTS
    for special_tokens in (True, False):
        bare = wordpiece.encode_ids(texts, 8, special_tokens)
        assert bare == wordpiece.encode(texts, 8, special_tokens)  # which leaves the marks out
    assert any(encoding.truncated for encoding in bare)
    assert {token for encoding in bare for token in encoding.tokens} == {""}
    assert all(len(encoding.offsets) == len(encoding.ids) for encoding in bare)


@pytest.mark.parametrize("layout", ["bert", "roberta", "gpt2"])
def test_the_ids_that_stand_around_texts_are_those_that_are_marked(layout: str) -> None:
    tokenizer = Tokenizer(tiny_tokenizer(layout))
    found = tokenizer.encode(["the film", ("the film", "is good")], 64)
    marked = {number for one in found for number, special in zip(one.ids, one.special, strict=True) if special}
    assert tokenizer.added_ids == marked


def test_the_unknown_rate_is_the_share_of_unknown_tokens(wordpiece: Tokenizer, byte_bpe: Tokenizer) -> None:
    assert wordpiece.unknown_rate(["film film", "电影"]) == 0.0
    assert wordpiece.unknown_rate(["film ж", "电影"]) == 0.25
    assert wordpiece.unknown_rate(["ж", "ж"]) == 1.0
    assert wordpiece.unknown_rate([]) == wordpiece.unknown_rate([""]) == 0.0
    assert byte_bpe.unknown_id is None
    assert byte_bpe.unknown_rate(["ж"]) == 0.0


@often
@given(
    sentences=st.lists(st.lists(st.text(st.sampled_from("film电影s"), min_size=1, max_size=6), max_size=6), max_size=3)
)
def test_encode_words_numbers_the_words_given(wordpiece: Tokenizer, sentences: list[list[str]]) -> None:
    for words, encoding in zip(sentences, wordpiece.encode_words(sentences, 99), strict=True):
        assert (encoding.words[0], encoding.words[-1]) == (-1, -1)
        numbers = encoding.words[1:-1]
        assert sorted(set(numbers)) == list(range(len(words)))
        assert list(numbers) == sorted(numbers)
        for number, word in enumerate(words):
            tokens = [token for token, own in zip(encoding.tokens, encoding.words, strict=True) if own == number]
            assert "".join(token.removeprefix("##") for token in tokens) == word


# ---- byte-level BPE


@often
@given(text=anything)
@example("")
@example(" two  spaces\n\n\ttab ")
@example("e\u0301 \u1100\u1161 \u0344 \ufffd x")
def test_byte_level_text_comes_back_in_composed_form(byte_bpe: Tokenizer, split: Tokenizer, text: str) -> None:
    for tokenizer in (byte_bpe, split):
        assert tokenizer.decode(encode(tokenizer, text).ids) == unicodedata.normalize("NFC", text)


@often
@given(text=anything)
@example("cafe\u0301 a\u0323\u0302b 👨‍👩‍👧 各")
def test_offsets_of_bytes_point_at_the_text(byte_bpe: Tokenizer, split: Tokenizer, text: str) -> None:
    for tokenizer in (byte_bpe, split):
        encoding = encode(tokenizer, text)
        assert all(0 <= start < end <= len(text) for start, end in encoding.offsets)
        assert all(a[0] <= b[0] and a[1] <= b[1] for a, b in pairwise(encoding.offsets))
        groups: list[tuple[int, int, list[int]]] = []  # tokens that share a character stand together
        for number, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
            if groups and start < groups[-1][1]:
                first, last, ids = groups.pop()
                groups.append((first, max(last, end), [*ids, number]))
            else:
                groups.append((start, end, [number]))
        # the library leaves a combining mark out of its letter's offsets, so a group reaches to the next one's start
        starts = [start for start, _, _ in groups]
        assert starts[:1] in ([], [0])
        for (start, end, ids), following in zip(groups, [*starts[1:], len(text)], strict=False):
            assert tokenizer.decode(ids) == unicodedata.normalize("NFC", text[start:following])
            assert not any(letter.isalnum() for letter in text[end:following] if not unicodedata.combining(letter))


@often
@given(text=anything)
@example("我们👨‍👩‍👧看电影")
def test_a_stream_gives_the_same_text_and_never_half_a_character(byte_bpe: Tokenizer, text: str) -> None:
    text = text.replace("\ufffd", "")  # in a text of its own it looks like half a character and waits
    stream, so_far = byte_bpe.decode_stream(), ""
    whole = byte_bpe.decode(encode(byte_bpe, text).ids)
    for number in encode(byte_bpe, text).ids:
        so_far += stream.push(number)
        assert whole.startswith(so_far)
    assert so_far == whole


@often
@given(numbers=st.lists(st.integers(0, 499), max_size=20))
def test_a_stream_of_any_tokens_runs_and_only_waits_for_the_end_of_a_character(
    byte_bpe: Tokenizer, numbers: list[int]
) -> None:
    """What an untrained model writes is often no text at all."""
    numbers = [number % byte_bpe.vocab_size for number in numbers]
    stream = byte_bpe.decode_stream()
    streamed = "".join(stream.push(number) for number in numbers)
    whole = byte_bpe.decode(numbers)
    assert whole.startswith(streamed)
    assert streamed == whole or whole.endswith("\ufffd")


@often
@given(text=mixed)
@example("我们看the电影films好")
def test_no_token_spans_two_hanzi_when_characters_are_split(split: Tokenizer, text: str) -> None:
    encoding = encode(split, text)
    for start, end in encoding.offsets:
        if any(map(is_hanzi, text[start:end])):
            assert end - start == 1
    for letter in filter(is_hanzi, text):
        assert split.decode(encode(split, letter).ids) == letter


def test_without_the_split_a_token_may_span_two_hanzi(byte_bpe: Tokenizer, split: Tokenizer) -> None:
    spans = {max(end - start for start, end in encode(each, "我们看电影").offsets) for each in (byte_bpe, split)}
    assert spans == {1, 2}


@pytest.mark.parametrize("text", ["a [SEP] b", "[CLS]", "[MASK]film[MASK]", "电影[UNK][PAD]", "[SEP][MASK]"])
def test_a_special_token_within_a_text_is_text(wordpiece: Tokenizer, text: str) -> None:
    for encoding in wordpiece.encode([text, (text, text)], 64):
        kept = [number for number, special in zip(encoding.ids, encoding.special, strict=True) if not special]
        assert not {wordpiece.id_of(token) for token in (PAD, CLS, SEP, MASK)} & set(kept)
        assert encoding.ids.count(wordpiece.id_of(SEP)) == 1 + max(encoding.segments)


def test_the_mask_alone_is_read_when_asked_for(wordpiece: Tokenizer) -> None:
    text = "电影[MASK]好 [SEP] [MASK]."
    plain, masked = (wordpiece.encode([text], 64, masks=masks)[0] for masks in (False, True))
    mask = wordpiece.id_of(MASK)
    assert mask not in plain.ids
    places = [where for where, number in enumerate(masked.ids) if number == mask]
    assert [text[slice(*masked.offsets[where])] for where in places] == [MASK, MASK]
    assert masked.ids.count(wordpiece.id_of(SEP)) == 1
    assert wordpiece.encode(["电影 film."], 64, masks=True) == wordpiece.encode(["电影 film."], 64)


def test_the_end_of_text_can_not_be_written_by_hand(byte_bpe: Tokenizer) -> None:
    for tokenizer in (byte_bpe, train_byte_bpe(CORPUS * 3, 320, encoder_decoder=True)):
        for token in (END_OF_TEXT, BEGIN, END, PAD):
            text = f"the film{token} 电影"
            (encoding,) = tokenizer.encode([text], 64, special_tokens=False)
            assert tokenizer.id_of(token) not in encoding.ids
            assert tokenizer.decode(encoding.ids) == text


def test_special_tokens_of_byte_bpe_have_the_first_ids(byte_bpe: Tokenizer, split: Tokenizer) -> None:
    assert byte_bpe.id_of(END_OF_TEXT) == 0
    assert [split.id_of(token) for token in (PAD, BEGIN, END)] == [0, 1, 2]
    assert byte_bpe.mask_token is None
    ids = encode(byte_bpe, "好").ids
    assert byte_bpe.decode([0, *ids, 0]) == "好", "special tokens are no text"
    stream = byte_bpe.decode_stream()
    assert "".join(stream.push(number) for number in (0, *ids, 0)) == "好"


# ---- both


@pytest.mark.parametrize("kind", ["wordpiece", "byte_bpe", "split"])
def test_a_saved_tokenizer_loads_to_the_same_encodings(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    tokenizer: Tokenizer = request.getfixturevalue(kind)
    tokenizer.save(tmp_path)
    again = Tokenizer.load(tmp_path)
    assert again.vocab_size == tokenizer.vocab_size
    assert again.encode([*CORPUS, ("film", "电影")], 12) == tokenizer.encode([*CORPUS, ("film", "电影")], 12)
    assert again.encode_words([["the", "电影"]], 9) == tokenizer.encode_words([["the", "电影"]], 9)
    for text in CORPUS:
        ids = encode(tokenizer, text).ids
        assert again.decode(ids) == tokenizer.decode(ids)


def test_bare_token_ids_make_an_encoding() -> None:
    encoding = Encoding.of_ids([5, 6, 7], full_length=9)
    assert (encoding.ids, encoding.truncated, encoding.full_length) == ((5, 6, 7), True, 9)
    assert not Encoding.of_ids([5, 6]).truncated


def test_a_text_stream_that_ends_within_a_character_gives_all_complete_ones() -> None:
    tokenizer = train_byte_bpe(["abc"], 257)  # bytes only: a Hanzi is three tokens
    ids = tokenizer.encode(["ab北京"], 64, special_tokens=False)[0].ids
    for cut in range(1, len(ids) + 1):
        stream = tokenizer.decode_stream()
        text = "".join(stream.push(number) for number in ids[:cut]) + stream.flush()
        assert text == "ab北京"[: min(cut, 2) + max(0, cut - 2) // 3]


def test_a_tokenizer_that_can_not_be_written_is_an_error_of_files(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"tokenizer.json can't be written: No such file"):
        train_wordpiece(["red"], 40).save(tmp_path / "missing")
