"""Running text on disk and in packed rows: no token is lost, no document sees another's wrapping."""

import hashlib
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import training.corpus
from model.tokenizer import CLS, END_OF_TEXT, SEP, Tokenizer, train_byte_bpe, train_wordpiece
from tests.running_text import corpus_of, sentences
from tests.small import few, small_config
from training.corpus import Documents, PackedRows, build_corpus, open_corpus, pack_pieces, read_documents
from training.pretrain import packed_rows


@pytest.fixture(scope="module")
def wordpiece() -> Tokenizer:
    return train_wordpiece(sentences(200), 120)


@pytest.fixture(scope="module")
def byte_bpe() -> Tokenizer:
    return train_byte_bpe(sentences(200), 320)


def test_a_corpus_holds_each_text_as_the_tokenizer_gives_it(
    wordpiece: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training.corpus, "CHUNK_DOCUMENTS", 7)
    texts = sentences(40)
    built = build_corpus(iter([*texts[:20], "", " \n", *texts[20:]]), wordpiece, tmp_path / "corpus")
    for corpus in (built, open_corpus(tmp_path / "corpus")):
        assert len(corpus) == 40
        encodings = wordpiece.encode(texts, 2**30, special_tokens=False)
        assert [corpus.document(index) for index in range(40)] == [list(encoding.ids) for encoding in encodings]
        assert corpus.num_tokens == sum(len(encoding.ids) for encoding in encodings)
        assert corpus.num_characters == sum(map(len, texts))
        assert corpus.sha256 == hashlib.sha256("".join(f"{text}\0" for text in texts).encode()).hexdigest()
    assert not list((tmp_path / "corpus").glob(".*")), "no temporary file is left"


def test_a_corpus_without_text_is_refused(wordpiece: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the corpus has no text"):
        build_corpus(["", "  "], wordpiece, tmp_path)


def test_documents_are_read_a_line_each(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text('one\n\n 电影 \n{"text": "x"}', encoding="utf-8")
    (tmp_path / "b.jsonl").write_text('{"text": "one\\ntwo"}\n\n{"text": "电影", "more": 1}\n', encoding="utf-8")
    assert list(read_documents(tmp_path / "a.txt")) == ["one", "", "电影", '{"text": "x"}']
    assert list(read_documents(tmp_path / "b.jsonl")) == ["one\ntwo", "电影"]
    for name in ("b.JSONL", "b.ndjson", "b.jsonlines"):
        (tmp_path / name).write_bytes((tmp_path / "b.jsonl").read_bytes())
        assert list(read_documents(tmp_path / name)) == ["one\ntwo", "电影"]
    twice = Documents(tmp_path / "a.txt")
    assert list(twice) == list(twice) == ["one", "", "电影", '{"text": "x"}']


@pytest.mark.parametrize("ending", [".csv", ".CSV", ".json", ".parquet"])
def test_a_file_of_something_else_is_not_read_as_text(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"documents{ending}"
    path.write_text('[{"text": "a"},\n{"text": "b"}]')
    with pytest.raises(ValueError, match=f"documents{ending} has no document a line; write .txt with one a line"):
        next(read_documents(path))


@pytest.mark.parametrize(
    ("name", "line", "words"),
    [
        ("x.jsonl", b'{"text": ', 'not an object with "text"; write one a line'),
        ("x.jsonl", b'{"txt": "a"}', "not an object"),
        ("x.jsonl", b'["text"]', "not an object"),
        ("x.jsonl", b"7", "not an object"),
        ("x.jsonl", b'{"text": 5}', "'text' is a int; it must be a string"),
        ("x.jsonl", b'{"text": null}', "'text' is a NoneType"),
        ("x.jsonl", b'{"a":' * 100_000, "not an object"),
        ("x.jsonl", rb'{"text": "a \ud800"}', "half of a surrogate pair"),
        ("x.jsonl", b'{"text": "caf\xe9"}', "byte 0xe9 is not UTF-8; save the file as UTF-8"),
        ("x.txt", b"caf\xe9", "byte 0xe9 is not UTF-8"),
        ("x.txt", "cat".encode("utf-16-le"), "has NUL characters; save the file as UTF-8"),
    ],
)
def test_a_faulty_line_is_named_with_its_file(tmp_path: Path, name: str, line: bytes, words: str) -> None:
    good = b'{"text": "good"}\n' if name.endswith("jsonl") else b"good\n"
    (tmp_path / name).write_bytes(good * 2 + line + b"\n" + good)
    read = read_documents(tmp_path / name)
    assert len([next(read), next(read)]) == 2, "what comes before is read"
    with pytest.raises(ValueError, match=f"{name}, line 3: .*{words}"):
        next(read)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(lengths=st.lists(st.integers(1, 40), max_size=80), spare=st.integers(0, 30), pool=st.sampled_from([3, 4000]))
def test_packing_keeps_every_piece_once_and_no_row_overflows(lengths: list[int], spare: int, pool: int) -> None:
    row_tokens = max(lengths, default=1) + spare
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.corpus, "POOL_PIECES", pool)
        rows = pack_pieces(lengths, row_tokens)
    assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
    assert all(row and sum(lengths[index] for index in row) <= row_tokens for row in rows)
    assert rows == pack_pieces(lengths, row_tokens) or pool == 3, "the same rows each time"


def test_real_lengths_leave_little_padding() -> None:
    chance = random.Random(0)
    lengths = [min(128, max(3, round(chance.lognormvariate(3.5, 0.7)))) for _ in range(6000)]
    rows = pack_pieces(lengths, 128)
    assert 1 - sum(lengths) / (128 * len(rows)) < 0.02
    assert 1 - sum(lengths) / (128 * len(lengths)) > 0.6, "a row each would be mostly padding"


PREFIX, SUFFIX, PADDING = 1, 2, 7


@few
@given(
    sizes=st.lists(st.integers(0, 40), min_size=1, max_size=12),
    row_tokens=st.integers(8, 24),
    causal=st.booleans(),
    more=st.integers(0, 40),
)
@example(sizes=[6, 12, 13, 18], row_tokens=8, causal=True, more=0)  # pieces that end exactly at a row's end
@example(sizes=[40], row_tokens=8, causal=False, more=34)  # all of a document has its own positions
def test_every_token_of_every_document_is_in_one_piece_with_its_wrapping(
    sizes: list[int], row_tokens: int, causal: bool, more: int
) -> None:
    first = np.cumsum([10, *sizes]).tolist()
    documents = [list(range(start, start + size)) for start, size in zip(first, sizes, strict=False)]  # no number twice
    rows = PackedRows(corpus_of(documents), row_tokens, PREFIX, SUFFIX, PADDING, causal, row_tokens + more)
    batch = rows.batch(list(range(len(rows))))
    assert batch.packed
    assert batch.ids.shape == (len(rows), row_tokens)
    assert not batch.segments.any()
    assert set(batch.ids[~batch.real].tolist()) <= {PADDING}
    assert not batch.positions[~batch.real].any()
    owner = {number: index for index, document in enumerate(documents) for number in document}
    predicted: Counter[tuple[int, int]] = Counter()  # (document, token): what stands after another token of its piece
    for row in range(len(rows)):
        for number in range(1, int(batch.documents[row].max()) + 1):
            where = batch.documents[row] == number
            ids = batch.ids[row, where].tolist()
            positions = batch.positions[row, where].tolist()
            (which,) = {owner[token] for token in ids if token in owner}
            document = documents[which]
            own = [token for token in ids[1:] if token in owner]
            assert own == list(range(own[0], own[-1] + 1))
            begin = positions[1] - 1
            assert positions == [begin if causal else 0, *range(begin + 1, begin + len(ids))]
            assert positions[-1] < row_tokens + more
            if own[-1] - document[0] + 3 <= row_tokens + more:
                assert begin == own[0] - document[0], "where it stands in its document"
            if not causal:
                assert ids == [PREFIX, *own, SUFFIX]
            else:
                assert ids[0] == (PREFIX if own[0] == document[0] else own[0] - 1), "a later piece starts one earlier"
                assert (ids[-1] == SUFFIX) == (own[-1] == document[-1])
            predicted.update((which, token) for token in ids[1:] if token in owner or causal)
    ends = {(index, SUFFIX) for index, document in enumerate(documents) if document} if causal else set()
    assert predicted.keys() == {(which, token) for token, which in owner.items()} | ends
    assert set(predicted.values()) <= {1}
    if len(rows):
        assert rows.padding_share == pytest.approx(batch.padding_share)


def test_the_wrapping_follows_the_task(wordpiece: Tokenizer, byte_bpe: Tokenizer, tmp_path: Path) -> None:
    for tokenizer, architecture, edges in (
        (wordpiece, "encoder", (CLS, SEP)),
        (byte_bpe, "decoder", (END_OF_TEXT,) * 2),
    ):
        corpus = build_corpus(["the film"], tokenizer, tmp_path / architecture)
        rows = packed_rows(corpus, tokenizer, small_config(architecture), 16)
        ids = rows.batch([0]).ids[0, rows.batch([0]).real[0]].tolist()
        assert [tokenizer.token_of(ids[0]), tokenizer.token_of(ids[-1])] == list(edges)
        other = byte_bpe if tokenizer is wordpiece else wordpiece
        with pytest.raises(ValueError, match=r"the tokenizer lacks .* train one for task"):
            packed_rows(corpus, other, small_config(architecture), 16)
