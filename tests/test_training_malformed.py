"""Malformed training files of every form: all faults at once, each at its line; and odd files that are none."""

import gzip
import io
import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from training.data import DataFaults, check_training, load_examples
from training.faults import MAX_FAULTS, Fault, told
from training.oddities import odd_rows

LABELLED = '{"text": "fine", "label": "a"}\n'
SCORED = '{"text": "fine", "score": 1}\n'
SEVERAL = '{"text": "fine", "labels": ["a"]}\n'
TAGGED = '{"tokens": ["a", "b"], "tags": ["x", "y"]}\n'
CHAT = '{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "greeting"}]}\n'
CHINESE = '{"text": "电影很好看", "label": "好"}\n'
HEADER = b"text,label\n"
Expected = list[tuple[int, str]]


def parquet(**columns: Any) -> bytes:
    return parquet_of(pa.table(columns))


def parquet_of(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def broken_utf8_parquet() -> bytes:
    """A column that says it is text and holds other bytes."""
    offsets = pa.py_buffer(b"".join(number.to_bytes(4, "little") for number in (0, 1, 2)))
    text = pa.Array.from_buffers(pa.string(), 2, [None, offsets, pa.py_buffer(b"a\xff")])
    return parquet_of(pa.table({"text": text, "label": ["x", "y"]}))


def after(good: str, line: str) -> bytes:
    """One good row, then this line."""
    return (good + line + "\n").encode()


TWICE = pa.Table.from_arrays([pa.array(["a"]), pa.array(["x"]), pa.array(["y"])], names=["text", "label", "label"])
GOOD_PARQUET = parquet(text=["a", "b"], label=["x", "y"])
GZIPPED = gzip.compress(LABELLED.encode() * 50)

ENCODINGS: list[tuple[str, bytes, Expected]] = [
    ("UTF-16", "text,label\nx,a\n".encode("utf-16"), [(0, "is UTF-16; save it as UTF-8")]),
    ("UTF-16 without a mark", (CHINESE * 2).encode("utf-16-le"), [(0, "looks like UTF-16 without a byte order mark")]),
    ("big-endian UTF-16 without a mark", (CHINESE * 2).encode("utf-16-be"), [(0, "looks like UTF-16 without")]),
    ("GBK", (LABELLED + CHINESE).encode("gbk"), [(2, "byte 0xb5 is not UTF-8, at byte 11 of the line; .*GB18030")]),
    ("GB18030 CSV", HEADER + "x,a\n电影,好\n不好,坏\n".encode("gb18030"), [(3, "0xb5 .*GB18030"), (4, "0xb2 .*GB18030")]),
    ("GBK header", "文本,标签\nx,a\n".encode("gbk"), [(1, "byte 0xce .*GB18030")]),
    ("Latin-1", after(LABELLED, '{"text": "caf\xe9", "label": "a"}').decode().encode("latin-1"), [(2, "byte 0xe9 is not UTF-8, at byte 14 of the line; save the file as UTF-8")]),
    ("two bad bytes", LABELLED.encode() + b'{"text": "\xff", "label": "a"}\n' + LABELLED.encode() + b'{"text": "", "label": "\xfe"}\n', [(2, "byte 0xff .*at byte 11"), (4, "byte 0xfe")]),
    ("bad byte in CSV", b"text,label\nx,a\ncaf\xe9,a\n,a\n", [(3, "byte 0xe9"), (4, "'text' is empty")]),
    ("bad byte in a row of two lines", b'text,label\n"a\n\xff",x\n,y\n', [(3, "byte 0xff"), (4, "'text' is empty")]),
    ("zero byte", after(LABELLED, '{"text": "a\x00b", "label": "a"}'), [(2, "byte 0x00 is no text, at byte 12 of the line")]),
    ("late zero byte in CSV", HEADER + b"x,a\n" * 20_000 + b"a\x00b,a\n,b\n", [(20_002, "byte 0x00"), (20_003, "'text' is empty")]),
    ("second mark within the file", LABELLED.encode() + b"\xef\xbb\xbf" + LABELLED.encode(), [(2, "Unexpected UTF-8 BOM")]),
    ("picture", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", [(0, "the file is binary; upload JSONL or CSV")]),
    ("pickle", b"\x80\x04\x95\x10\x00", [(0, "the file is binary")]),
    ("gzip", GZIPPED, [(0, "the file is compressed by gzip; upload JSONL or CSV text")]),
    ("cut gzip", GZIPPED[:40], [(0, "compressed by gzip")]),
    ("Excel", b"PK\x03\x04\x14\x00\x06\x00", [(0, "a ZIP archive or an Excel workbook")]),
    ("empty", b"", [(0, "no rows")]),
    ("a mark alone", b"\xef\xbb\xbf", [(0, "no rows")]),
    ("blank lines", b"\n\n  \n\t\n", [(0, "no rows")]),
]  # fmt: skip
JSON: list[tuple[str, bytes, Expected]] = [
    ("broken", (LABELLED + '{"text": "x", \n' + LABELLED).encode(), [(2, "not JSON")]),
    ("two faults", b'{"text": "", "label": ""}\nnope\n', [(1, "empty"), (1, "no 'label'"), (2, "not JSON")]),
    ("comma at the end", after(LABELLED, '{"text": "x", "label": "a",}'), [(2, "not JSON .*; write one object a line")]),
    ("Python's quotes", after(LABELLED, "{'text': 'x', 'label': 'a'}"), [(2, "not JSON")]),
    ("two objects a line", after(LABELLED, (LABELLED * 2).replace("\n", "")), [(2, r"not JSON \(Extra data\)")]),
    ("key twice", after(LABELLED, '{"text": "x", "label": "a", "label": "b"}'), [(2, "the key 'label' stands twice; keep one")]),
    ("key twice within", after(CHAT, '{"messages": [{"role": "user", "role": "system", "content": "a"}]}'), [(2, "the key 'role' stands twice")]),
    ("list of rows", json.dumps([{"text": "a", "label": "x"}] * 2).encode(), [(0, "the file is one JSON list; write one object a line")]),
    ("list over lines", json.dumps([{"text": "a", "label": "x"}] * 2, indent=1).encode(), [(0, "one JSON list")]),
    ("object over lines", json.dumps({"text": "a", "label": "x"}, indent=1).encode(), [(0, "one JSON object")]),
    ("row that is a list", after(LABELLED, '["x", "a"]'), [(2, "a list, not an object")]),
    ("rows that are no objects", after(LABELLED, '"x"\n5\nnull\ntrue'), [(2, "a str"), (3, "a int"), (4, "a NoneType"), (5, "a bool")]),
    ("deep lists", after(LABELLED, '{"text": ' + "[" * 100_000), [(2, "nested too deeply")]),
    ("deep objects", after(LABELLED, '{"a":' * 50_000 + "1" + "}" * 50_000), [(2, "nested too deeply")]),
    ("endless number", after(LABELLED, '{"text": "x", "label": ' + "9" * 5000 + "}"), [(2, "a number with too many digits")]),
    ("CSV after JSON", after(LABELLED, "text,label\nx,y"), [(2, "not JSON"), (3, "not JSON")]),
    ("old Mac lines", (LABELLED * 2).replace("\n", "\r").encode(), [(1, r"not JSON \(Extra data\)")]),
    ("other columns", b'{"sentence": "x", "class": "a"}\n', [(1, r"no 'text'; the row has \['class', 'sentence'\]"), (1, "no 'label'")]),
]  # fmt: skip
TEXTS: list[tuple[str, bytes, Expected]] = [
    ("missing", after(LABELLED, '{"label": "a"}'), [(2, "no 'text'; the row has")]),
    ("null", after(LABELLED, '{"text": null, "label": "a"}'), [(2, "no 'text'")]),
    ("number", after(LABELLED, '{"text": 5, "label": "a"}'), [(2, "'text' is a int; it must be a string")]),
    ("list", after(LABELLED, '{"text": ["a", "b"], "label": "a"}'), [(2, "'text' is a list")]),
    ("white space", after(LABELLED, '{"text": " \\u3000\\n", "label": "a"}'), [(2, "'text' is empty; remove the row or fill it")]),
    ("marks without width", after(LABELLED, '{"text": "\u200b\u2060\ufeff", "label": "a"}'), [(2, "'text' is empty")]),
    ("control characters alone", after(LABELLED, '{"text": "\\u0007\\u001f", "label": "a"}'), [(2, "'text' is empty")]),
    ("zero character", after(LABELLED, '{"text": "a\\u0000b", "label": "a"}'), [(2, r"'text' has U\+0000 at character 2; remove it")]),
    ("half a pair, twice", after(LABELLED, r'{"text": "a \ud800", "label": "\udfff"}'), [(2, "'text' has half of a surrogate pair"), (2, "'label' has half")]),
    ("too long", after(LABELLED, '{"text": "' + "电" * 1_000_001 + '", "label": "a"}'), [(2, "'text' has 1000001 characters; the limit is 1000000")]),
    ("pair that is a number", after(LABELLED, '{"text": "a", "text_pair": 3, "label": "a"}'), [(2, "'text_pair' is a int")]),
    ("pair of white space", after(LABELLED, '{"text": "a", "text_pair": " ", "label": "a"}'), [(2, "'text_pair' is empty")]),
]  # fmt: skip
LABELS: list[tuple[str, bytes, Expected]] = [
    ("missing", after(LABELLED, '{"text": "x"}'), [(2, "no 'label'")]),
    ("null", after(LABELLED, '{"text": "x", "label": null}'), [(2, "no 'label'; every row needs one")]),
    ("empty", after(LABELLED, '{"text": "x", "label": ""}'), [(2, "no 'label'")]),
    ("white space", after(LABELLED, '{"text": "x", "label": " \\u200b"}'), [(2, "'label' is empty")]),
    ("float", after(LABELLED, '{"text": "x", "label": 0.5}'), [(2, "'label' is a float; .*'regression'")]),
    ("NaN", after(LABELLED, '{"text": "x", "label": NaN}'), [(2, "'label' is a float")]),
    ("true", after(LABELLED, '{"text": "x", "label": true}'), [(2, "'label' is a bool; use a string or a whole number")]),
    ("list", after(LABELLED, '{"text": "x", "label": ["a"]}'), [(2, "'label' is a list")]),
    ("object", after(LABELLED, '{"text": "x", "label": {}}'), [(2, "'label' is a dict")]),
    ("control character", after(LABELLED, '{"text": "x", "label": "a\\u0007"}'), [(2, r"'label' has the control character U\+0007 at character 2")]),
    ("a whole text", after(LABELLED, '{"text": "x", "label": "' + "很" * 1_001 + '"}'), [(2, "'label' has 1001 characters; the limit is 1000")]),
    ("huge number", after(LABELLED, '{"text": "x", "label": ' + "9" * 4_000 + "}"), [(2, "'label' has 4000 characters")]),
    ("labels as text", after(SEVERAL, '{"text": "x", "labels": "a"}'), [(2, "'labels' is a str")]),
    ("labels null", after(SEVERAL, '{"text": "x", "labels": null}'), [(2, "no 'labels'")]),
    ("empty string in labels", after(SEVERAL, '{"text": "x", "labels": ["a", " "]}'), [(2, "empty string at place 1")]),
    ("list in labels", after(SEVERAL, '{"text": "x", "labels": [["a"]]}'), [(2, "'labels' has a list at place 0")]),
    ("true in labels", after(SEVERAL, '{"text": "x", "labels": [true]}'), [(2, "'labels' has a bool at place 0")]),
    ("NaN score", after(SCORED, '{"text": "x", "score": NaN}'), [(2, "'score' is nan; it must be a finite number")]),
    ("infinite scores", after(SCORED, '{"text": "x", "score": -Infinity}\n{"text": "x", "score": 1e999}'), [(2, "'score' is -inf"), (3, "'score' is inf")]),
    ("huge score", after(SCORED, '{"text": "x", "score": ' + "9" * 400 + "}"), [(2, r"'score' is 9{20}; it must be a finite number of at most 1e\+15$")]),
    ("score as text", after(SCORED, '{"text": "x", "score": "5"}'), [(2, "'score' is a str")]),
    ("score true", after(SCORED, '{"text": "x", "score": true}'), [(2, "'score' is a bool")]),
    ("score null", after(SCORED, '{"text": "x", "score": null}'), [(2, "no 'score'")]),
    ("no label among labelled rows", after(SCORED, '{"text": "x"}'), [(2, "no 'score'")]),
    ("mixed tasks", (LABELLED + LABELLED + TAGGED + SCORED).encode(), [(3, "'tokens' and 'tags', other rows .*'label'"), (4, "'text' and 'score'")]),
]  # fmt: skip
WORDS: list[tuple[str, bytes, Expected]] = [
    ("too few tags", after(TAGGED, '{"tokens": ["a", "b"], "tags": ["x"]}'), [(2, "2 tokens and 1 tags; each token needs one tag")]),
    ("no tags", after(TAGGED, '{"tokens": ["a"]}'), [(2, "no 'tags'")]),
    ("no tokens", after(TAGGED, '{"tokens": [], "tags": []}'), [(2, "'tokens' is empty")]),
    ("number as token", after(TAGGED, '{"tokens": [1], "tags": ["x"]}'), [(2, "'tokens' has a int at place 0")]),
    ("token that can't be seen", after(TAGGED, '{"tokens": ["a", "\\u200b"], "tags": ["x", "x"]}'), [(2, "'tokens' has an empty string at place 1")]),
    ("half a pair in a token", after(TAGGED, '{"tokens": ["\\ud800"], "tags": ["x"]}'), [(2, "'tokens', place 0, has half of a surrogate")]),
    ("control character in a tag", after(TAGGED, '{"tokens": ["a"], "tags": ["x\\u0000"]}'), [(2, r"'tags', place 0, has the control character U\+0000")]),
    ("tokens as text", after(TAGGED, '{"tokens": "a b", "tags": "x y"}'), [(2, "'tokens' is a str"), (2, "'tags' is a str")]),
    ("chat without an answer", after(CHAT, '{"messages": [{"role": "user", "content": "hi"}]}'), [(2, "not the assistant's; its content is the label")]),
    ("chat with an empty answer", after(CHAT, '{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": " "}]}'), [(2, "no 'label'")]),
    ("chat with an answer that is null", after(CHAT, '{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": null}]}'), [(2, "message 1 needs a 'role' .* and a string 'content'")]),
    ("chat of another role", after(CHAT, '{"messages": [{"role": "robot", "content": "hi"}]}'), [(2, "message 0 needs a 'role'")]),
    ("chat of content parts", after(CHAT, '{"messages": [{"role": "user", "content": [1]}]}'), [(2, "a string 'content'")]),
    ("chat that is no list", after(CHAT, '{"messages": "hi"}'), [(2, "'messages' must be a list")]),
    ("chat without messages", after(CHAT, '{"messages": []}'), [(2, "'messages' must be a list")]),
    ("chat without a question", after(CHAT, '{"messages": [{"role": "assistant", "content": "x"}]}'), [(2, "no 'text'")]),
]  # fmt: skip
CSV: list[tuple[str, bytes, Expected]] = [
    ("ragged rows", HEADER + b"a,x\nb\nc,y,z\n\nd,y\n", [(3, "1 fields, the header has 2"), (4, "3 fields, the header has 2; quote texts")]),
    ("open quote", HEADER + b'a,x\n"b,y\nc,x\n', [(3, "a quote that begins in this row is never closed")]),
    ("text after a quote, and more", HEADER + b'"a"b,x\n,y\nc,z\n', [(2, "broken CSV"), (3, "'text' is empty")]),
    ("column twice", b"text,label,label\nx,a,b\n", [(1, "'label'.* twice; give every column a name")]),
    ("no header", b"x,a\ny,b\n", [(1, "needs the columns 'text' and 'label' .*; put it above the rows")]),
    ("no header after blank lines", b"\n\nx,a\n", [(3, "needs the columns")]),
    ("semicolons", b"text;label\na;x\n", [(1, "separate columns by commas, not by ';'")]),
    ("tabs", b"text\tlabel\na\tx\n", [(1, r"separate columns by commas, not by '\\t'")]),
    ("header alone", HEADER, [(0, "no rows")]),
    ("empty cells", HEADER + b",\n ,x\nb, \n", [(2, "'text' is empty"), (2, "no 'label'"), (3, "'text' is empty"), (4, "'label' is empty")]),
    ("scores that are no numbers", b"text,score\nx,1\ny,high\nz,nan\n", [(3, "'score' is a str"), (4, "'score' is nan")]),
    ("broken list", b'text,labels\nx,a\ny,"[1"\n', [(3, "'labels' is a str")]),
    ("too few tags", b"tokens,tags\na b,O\nc,X\n", [(2, "2 tokens and 1 tags")]),
    ("web page", b"<!doctype html><html><body>Not found</body></html>", [(1, "the header is .*; a CSV needs the columns")]),
]  # fmt: skip
PARQUET: list[tuple[str, bytes, Expected]] = [
    ("magic alone", b"PAR1", [(0, "broken Parquet")]),
    ("end cut off", GOOD_PARQUET[:-20], [(0, "broken Parquet .*; write the file again")]),
    ("middle overwritten", GOOD_PARQUET[:30] + b"\xff" * 20 + GOOD_PARQUET[50:], [(0, "broken Parquet")]),
    ("text that is not UTF-8", broken_utf8_parquet(), [(0, "broken Parquet")]),
    ("column twice", parquet_of(TWICE), [(0, r"the columns \['label'\] stand twice")]),
    ("no rows", parquet(text=pa.array([], pa.string()), label=pa.array([], pa.string())), [(0, "no rows")]),
    ("nothing in cells", parquet(text=["a", None, "c"], label=["x", "y", None]), [(2, "no 'text'"), (3, "no 'label'")]),
    ("bytes", parquet(text=[b"a"], label=["x"]), [(1, "'text' is a bytes")]),
    ("dates", parquet(text=["a"], label=[datetime(2026, 1, 1)]), [(1, "'label' is a datetime")]),
    ("dates beyond Python's", parquet(text=["a"], label=pa.array([2**50], pa.timestamp("s"))), [(0, "broken Parquet")]),
    ("floats", parquet(text=["a", "b"], label=[0.0, 1.0]), [(1, "'label' is a float"), (2, "'label' is a float")]),
    ("NaN", parquet(text=["a", "b"], score=[float("nan"), 1.0]), [(1, "'score' is nan")]),
    ("too few tags", parquet(tokens=[["a"], ["a", "b"]], tags=[["O"], ["X"]]), [(2, "2 tokens and 1 tags")]),
]  # fmt: skip
ALL = {
    "encodings": ENCODINGS,
    "JSON": JSON,
    "texts": TEXTS,
    "labels": LABELS,
    "words": WORDS,
    "CSV": CSV,
    "Parquet": PARQUET,
}
CASES = [(f"{part}: {name}", content, expected) for part, cases in ALL.items() for name, content, expected in cases]


@pytest.mark.parametrize(("name", "content", "expected"), CASES, ids=[case[0] for case in CASES])
def test_every_fault_is_reported_with_its_line(tmp_path: Path, name: str, content: bytes, expected: Expected) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(DataFaults) as caught:
        load_examples(path)
    found = [(fault.line, fault.message) for fault in caught.value.faults]
    assert [line for line, _ in found] == [line for line, _ in expected], found
    for (_, message), (_, words) in zip(found, expected, strict=True):
        assert re.search(words, message), message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (LABELLED.encode() * 3, "all 3 rows have the label 'a'; at least 2 labels are needed"),
        (LABELLED.encode(), "all 1 rows have the label 'a'"),
        (HEADER + b"x,a\ny,b\n", r"\['a', 'b'\] have one row each; give every label at least 2 rows"),
        (parquet(text=["a", "b"], score=[2, 2]), "all 2 rows have the score 2"),
        (b"tokens,tags\na b,O O\n", "all 2 words have the tag 'O'"),
    ],
)
def test_too_little_to_learn_is_a_fault_of_the_file(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(DataFaults, match=words):
        check_training(load_examples(tmp_path / "file"))


ROWS = [("fine, 好", "a"), ("bad", "b")]
PLAIN = "".join(json.dumps({"text": text, "label": label}, ensure_ascii=False) + "\n" for text, label in ROWS)
ODD: list[tuple[str, bytes]] = [
    ("a byte order mark", b"\xef\xbb\xbf" + PLAIN.encode()),
    ("two byte order marks", b"\xef\xbb\xbf" * 2 + PLAIN.encode()),
    ("Windows lines", PLAIN.replace("\n", "\r\n").encode()),
    ("blank lines and no last line end", ("\n \n" + PLAIN.replace("\n", "\n\n").strip()).encode()),
    (
        "escaped characters",
        json.dumps({"text": "fine, 好", "label": "a"}).encode() + b"\n" + PLAIN.split("\n")[1].encode(),
    ),
    ("pairs that are null", PLAIN.replace('{"text"', '{"text_pair": null, "text"').encode()),
    ("Parquet with null pairs", parquet(text=["fine, 好", "bad"], label=["a", "b"], text_pair=pa.array([None, None]))),
    ("CSV with a mark", b'\xef\xbb\xbftext,label\n"fine, \xe5\xa5\xbd",a\nbad,b\n'),
    ("CSV with old Mac lines", 'text,label\r"fine, 好",a\rbad,b\r'.encode()),
    ("CSV with spaces in its header", 'label , text\na,"fine, 好"\nb,bad\n'.encode()),
    ("Parquet of categories", parquet(text=["fine, 好", "bad"], label=pa.array(["a", "b"]).dictionary_encode())),
]


@pytest.mark.parametrize(("name", "content"), ODD, ids=[case[0] for case in ODD])
def test_an_odd_form_of_the_same_rows_reads_the_same(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    examples = load_examples(tmp_path / "file")
    assert list(zip(examples.rows["text"][:], examples.labels, strict=True)) == ROWS


def test_a_long_cell_of_csv_is_read_like_any_other_text(tmp_path: Path) -> None:
    (tmp_path / "file").write_text(f'text,label\n"{"长" * 200_000}",a\nx,b\n', encoding="utf-8")
    assert load_examples(tmp_path / "file").inputs == ["长" * 200_000, "x"]


def test_a_line_separator_within_a_text_ends_no_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text(
        '{"text": "a\u2028b\x85c", "label": "a"}\n{"text": "", "label": "b"}\n', encoding="utf-8"
    )
    with pytest.raises(DataFaults, match=r"^line 2: 'text' is empty"):
        load_examples(tmp_path / "file")


def test_garbled_texts_and_labels_alike_are_warnings(tmp_path: Path) -> None:
    rows = [("a\ufffdb", "Good"), ("c\x07d", "good"), ("e", "ｇｏｏｄ"), ("f\tg\n", "bad"), ("h", " bad")]
    lines = [json.dumps({"text": text, "label": label}) for text, label in rows]
    (tmp_path / "file").write_text("\n".join(lines), encoding="utf-8")
    messages = [str(warning) for warning in odd_rows(load_examples(tmp_path / "file"))]
    assert "control characters or U+FFFD in texts; were they decoded wrongly? (2 rows: lines 1, 2)" in messages
    alike = "labels that differ only in case, width or white space: ' bad', 'bad'; 'Good', 'good', 'ｇｏｏｄ'; are they one?"
    assert alike in messages


def test_a_million_faults_are_told_by_the_first_and_their_number() -> None:
    faults = [Fault(line, "'text' is empty") for line in range(1, 1_000_001)]
    words = told(faults)
    assert len(words) == MAX_FAULTS + 1
    assert (words[0], words[-1]) == ("line 1: 'text' is empty", "and 999,900 more")
    assert told(faults[:MAX_FAULTS])[-1] == f"line {MAX_FAULTS}: 'text' is empty"
    assert str(DataFaults(faults)) == "; ".join(words)
