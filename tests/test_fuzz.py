"""Any bytes in the place of a file: data, or the reader's own error in clear words; never another exception, never memory
that the bytes do not fill. Seeds are valid files, damaged by hypothesis, beside bytes that were never valid.
"""

import io
import json
import re
import shutil
import struct
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from model.huggingface.folder import write_folder
from model.lora import load_adapter, save_adapter
from model.tokenizer import train_wordpiece
from model.weights import load_model, save_model
from service.attention_format import attention_bytes
from service.bulk import check_requests
from tests.conftest import ROOT
from tests.faults import Faults
from tests.small import random_model, small_config
from tests.zoo import random_adapter
from training import tables
from training.data import DataFaults, read_examples

few = settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
WORDS = re.compile(r"\w{2}.*\s\w")  # some words, not a bare number or nothing
ODD = [
    None,
    True,
    -1,
    0,
    1.5,
    10**30,
    2**40,
    "",
    "x",
    [],
    {},
    [[]],
    "\ud800",
    float("nan"),
    float("inf"),
    "a\0b",
    [1],
    {"a": 1},
]
WRITTEN = [json.dumps(value).encode() for value in ODD] + [b"[" * 20_000, b'{"a":' * 20_000, b"9" * 5_000]


@st.composite
def damaged(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """One of the seeds with a few bytes changed, cut out, doubled or put in; sometimes none of it."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=200))
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 4))):
        place, length = draw(st.integers(0, len(data))), draw(st.integers(1, 40))
        how = draw(st.sampled_from(["change", "cut", "double", "insert", "end", "value"]))
        if how == "change":
            data[place : place + 1] = draw(st.binary(min_size=1, max_size=4))
        elif how == "cut":
            del data[place : place + length]
        elif how == "double":
            data[place:place] = data[place : place + length]
        elif how == "insert":
            data[place:place] = draw(
                st.sampled_from(
                    [b"\0", b"\xff\xfe", b'"', b"\n", b",", b"\r", b"\xef\xbb\xbf", b"\\ud800", b"\xff" * 8]
                )
            )
        elif how == "end":
            del data[place:]
        elif found := list(re.finditer(rb'(?<=: )("[^"]*"|[\w.]+|\[\]|\{\})', bytes(data))):
            value = found[draw(st.integers(0, len(found) - 1))]
            data[value.start() : value.end()] = draw(st.sampled_from(WRITTEN))
    return bytes(data)


def parquet(table: pa.Table, **options: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, **options)
    return buffer.getvalue()


ROWS = [{"text": f"a text {number}", "label": "ab"[number % 2]} for number in range(4)]
JSONL = [
    "".join(json.dumps(row) + "\n" for row in ROWS).encode(),
    b'{"text": "one", "text_pair": "two", "score": 0.5}\n{"text": "x", "text_pair": "y", "score": 2}\n',
    b'{"text": "one", "labels": ["a", "b"]}\n{"text": "two", "labels": []}\n',
    b'{"tokens": ["a", "b"], "tags": ["X", "O"]}\n',
    b'{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "greeting"}]}\n',
    '\ufeff{"text": "电影", "label": "好"}\n'.encode(),
]
CSV = [
    b'text,label\na text,a\n"quoted, ""text""",b\n',
    b"text,score\nx,1.5\ny,-2\n",
    b'tokens,tags\n"[""a"", ""b""]",X O\n',
]
PARQUET = [
    parquet(pa.table({"text": ["a", "b"] * 50, "label": ["x", "y"] * 50}), compression=compression)
    for compression in ("none", "snappy", "gzip", "zstd")
] + [
    parquet(pa.table({"tokens": [["a", "b"]] * 3, "tags": [["X", "O"]] * 3})),
    parquet(pa.table({"text": ["a"] * 9, "score": [0.5] * 9}), use_dictionary=False),
]
BATCH = [
    b'{"custom_id": "1", "method": "POST", "url": "/v1/embeddings", "body": {"model": "m", "input": "x"}}\n'
    b'{"custom_id": "2", "method": "POST", "url": "/v1/embeddings", "body": {"model": "m", "input": ["y"]}}\n'
]  # fmt: skip


@pytest.mark.parametrize(("form", "seeds"), [("JSONL", JSONL), ("CSV", CSV), ("Parquet", PARQUET)])
def test_any_upload_is_rows_or_faults_with_their_lines(
    tmp_path: Path, faults: Faults, form: str, seeds: list[bytes]
) -> None:
    path, counts = tmp_path / "upload", {"read": 0, "faulty": 0}

    @few
    @given(damaged(seeds))
    @example(seeds[0])
    def holds(raw: bytes) -> None:
        path.write_bytes(raw)
        examples, found, _ = read_examples(path)
        counts["faulty" if found else "read"] += 1
        for fault in found:
            assert 0 <= fault.line <= raw.count(b"\n") + raw.count(b"\r") + len(raw)
            assert WORDS.search(fault.message), fault
        str(DataFaults(found or [])).encode()  # its words go into answers and the store
        for row in examples.rows:
            json.dumps(row, ensure_ascii=False).encode()

    holds()
    assert min(counts.values()) > 0
    faults.saw(
        f"{sum(counts.values())} damaged {form} uploads",
        f"{counts['read']} read, {counts['faulty']} refused with line and reason, 0 other errors",
    )


def test_any_file_of_requests_is_counted_or_told_its_faults(tmp_path: Path, faults: Faults) -> None:
    path, counts = tmp_path / "requests", {"read": 0, "faulty": 0}

    @few
    @given(damaged(BATCH))
    @example(BATCH[0])
    @example(rb'{"custom_id": "\ud800", "method": "POST", "url": "/v1/embeddings", "body": {}}')
    def holds(raw: bytes) -> None:
        path.write_bytes(raw)
        _, found = check_requests(path, "/v1/embeddings")
        counts["faulty" if found else "read"] += 1
        assert all(WORDS.search(fault["message"]) for fault in found)
        json.dumps(found, ensure_ascii=False).encode()
        if not found:
            for line in raw.split(b"\n"):
                json.dumps(json.loads(line.strip() or b"0"), ensure_ascii=False).encode()

    holds()
    assert min(counts.values()) > 0
    faults.saw(
        f"{sum(counts.values())} damaged batch files",
        f"{counts['read']} read, {counts['faulty']} refused with line and reason, 0 other errors",
    )


def repeated(text: str, rows: int) -> pa.Table:
    """One text, stored once, in every row."""
    return pa.table(
        {"text": pa.DictionaryArray.from_arrays(pa.array([0] * rows), [text]), "label": ["a", "b"] * (rows // 2)}
    )


BOMBS: list[tuple[str, Callable[[], bytes]]] = [
    ("one text of 1 MB in each of 2,000 rows", lambda: parquet(repeated("x" * 2**20, 2_000))),
    ("5,000,000 equal rows", lambda: parquet(pa.table({"text": pa.array(np.zeros(5_000_000, np.int8))}), compression="zstd")),
    ("a text of 50 MB of one letter", lambda: parquet(pa.table({"text": ["x" * 50_000_000, "y"]}), compression="zstd", use_dictionary=False)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "make"), BOMBS, ids=[name for name, _ in BOMBS])
def test_a_parquet_bomb_is_refused_within_its_budget(
    tmp_path: Path, faults: Faults, monkeypatch: pytest.MonkeyPatch, name: str, make: Callable[[], bytes]
) -> None:
    """With a hundredth of the real budget, so that the bombs are small."""
    monkeypatch.setattr(tables, "LEAST_BUDGET_BYTES", 20 * 2**20)
    monkeypatch.setattr(tables, "BATCH_BYTES", 10 * 2**20)
    path = tmp_path / "bomb.parquet"
    path.write_bytes(make())
    assert path.stat().st_size < 2**20
    arrow = pa.default_memory_pool().bytes_allocated()
    tracemalloc.start()
    began = time.monotonic()
    _, found, _ = read_examples(path)
    seconds = time.monotonic() - began
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    held = pa.default_memory_pool().bytes_allocated() - arrow
    assert "unpack to" in found[0].message
    assert most + held < 100 * 2**20
    faults.saw(
        f"a Parquet of {path.stat().st_size:,} bytes: {name}, 20 MiB allowed",
        f"{found[0]}; {most / 2**20:,.0f} MiB were held at most",
        seconds,
    )


def attention_reader() -> Callable[[bytes], list[Any]]:
    found = re.search(r"```python\n(.*?)```", (ROOT / "docs/en/attention-format.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(found[1] if found else "", names)
    made: Callable[[bytes], list[Any]] = names["read_attention"]
    return made


def test_any_bytes_are_attention_or_the_reader_s_error(faults: Faults) -> None:
    read, counts = attention_reader(), {"read": 0, "refused": 0}
    unclear: list[str] = []
    weights = np.random.default_rng(0).random((2, 2, 3, 3), dtype=np.float32)
    one = attention_bytes(weights, {"model": "m"})
    head = json.dumps({"shape": [1, 1, 1, 1]}).encode()
    zeros = zlib.compress(bytes(2**26))
    bomb = b"VATN" + struct.pack("<III", 1, len(head), len(zeros)) + head + zeros

    @few
    @given(damaged([one, one + one, bomb]))
    @example(one)
    @example(bomb)
    @example(bomb.replace(b"[1, 1, 1, 1]", b"[1e9,1,1, 1]"))
    @example(bomb.replace(b"[1, 1, 1, 1]", b"[9999, 9999]"))
    def holds(raw: bytes) -> None:
        tracemalloc.start()
        try:
            documents = read(raw)
            counts["read"] += 1
        except ValueError as error:
            counts["refused"] += 1
            unclear.extend([str(error)] if "VATN" not in str(error) else [])
        else:
            assert all(found.ndim == 4 for _, found in documents)
        finally:
            most = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert most < 2**22, "64 MB of zeros are not unpacked for a document of one weight"

    holds()
    assert not unclear
    assert min(counts.values()) > 0
    faults.saw(
        f"{sum(counts.values())} damaged attention documents, with bombs",
        f"{counts['read']} read, {counts['refused']} refused by ValueError, 0 other errors",
    )


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Small models: in our layout, in Hugging Face's."""
    home = tmp_path_factory.mktemp("folders")
    tokenizer = train_wordpiece(["red green blue cat dog"] * 5, 60)
    config = small_config(
        "encoder",
        vocab_size=tokenizer.vocab_size,
        num_layers=1,
        num_segments=2,
        norm_embeddings=True,
        bos_id=None,
        eos_id=None,
    )
    model = random_model(config.with_task("classification", ("x", "y"), "first", "tanh"))
    save_model(model, tokenizer, home / "ours")
    write_folder(model, tokenizer, home / "bert")
    return {"ours": home / "ours", "bert": home / "bert"}


@pytest.mark.parametrize("layout", ["ours", "bert"])
def test_any_model_folder_is_loaded_or_a_value_error(
    folders: dict[str, Path], tmp_path: Path, faults: Faults, layout: str
) -> None:
    whole = {path.name: path.read_bytes() for path in folders[layout].iterdir() if path.is_file()}
    damageable = sorted(
        name for name in whole if name in ("vitrine.json", "config.json", "model.safetensors", "tokenizer.json")
    )
    folder, counts = tmp_path / "model", {"loaded": 0, "refused": 0}
    unclear: list[str] = []
    shutil.copytree(folders[layout], folder)

    @few
    @given(st.sampled_from(damageable).flatmap(lambda name: st.tuples(st.just(name), damaged([whole[name]]))))
    @example((damageable[0], whole[damageable[0]]))
    def holds(change: tuple[str, bytes]) -> None:
        name, raw = change
        (folder / name).write_bytes(raw)
        try:
            model, tokenizer = load_model(folder)
            counts["loaded"] += 1
            assert isinstance(model.config.width, int)
            assert tokenizer.vocab_size >= 0
        except ValueError as error:
            counts["refused"] += 1
            unclear.extend([str(error)] if not WORDS.search(str(error)) else [])
        finally:
            (folder / name).write_bytes(whole[name])

    holds()
    assert not unclear
    assert min(counts.values()) > 0
    faults.saw(
        f"{sum(counts.values())} damaged model folders ({layout})",
        f"{counts['loaded']} loaded, {counts['refused']} refused by ValueError, 0 other errors",
    )


HUGE = [
    ("width", 2**40),
    ("width", 65_536),
    ("num_layers", 10**9),
    ("vocab_size", 10**7),
    ("max_positions", 10**6),
    ("feed_forward_width", 10**6),
]


@pytest.mark.parametrize(("field", "size"), HUGE)
def test_a_config_asks_for_no_more_memory_than_its_weights_fill(
    folders: dict[str, Path], tmp_path: Path, faults: Faults, field: str, size: int
) -> None:
    shutil.copytree(folders["ours"], tmp_path / "model")
    path = tmp_path / "model" / "vitrine.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: size}))
    with pytest.raises(ValueError, match=r"must be a whole number|do not fit the config") as raised:
        load_model(tmp_path / "model")
    faults.saw(f"a model whose config says {field} {size:,}", f"{type(raised.value).__name__}: {raised.value}")


def test_any_adapter_folder_is_loaded_or_a_value_error(tmp_path: Path, faults: Faults) -> None:
    base = random_model(small_config("encoder", num_layers=1))
    save_adapter(random_adapter(base, 2, ("a", "b"), seed=1), "base", tmp_path / "adapter")
    whole = {path.name: path.read_bytes() for path in (tmp_path / "adapter").iterdir()}
    counts = {"loaded": 0, "refused": 0}
    unclear: list[str] = []

    @few
    @given(st.sampled_from(sorted(whole)).flatmap(lambda name: st.tuples(st.just(name), damaged([whole[name]]))))
    @example((min(whole), whole[min(whole)]))
    def holds(change: tuple[str, bytes]) -> None:
        name, raw = change
        (tmp_path / "adapter" / name).write_bytes(raw)
        try:
            load_adapter(tmp_path / "adapter")
            counts["loaded"] += 1
        except ValueError as error:
            counts["refused"] += 1
            unclear.extend([str(error)] if not WORDS.search(str(error)) else [])
        finally:
            (tmp_path / "adapter" / name).write_bytes(whole[name])

    holds()
    assert not unclear
    assert min(counts.values()) > 0
    faults.saw(
        f"{sum(counts.values())} damaged adapters",
        f"{counts['loaded']} loaded, {counts['refused']} refused by ValueError, 0 other errors",
    )


def test_a_pickle_in_the_place_of_weights_is_never_opened(
    folders: dict[str, Path], tmp_path: Path, faults: Faults
) -> None:
    shutil.copytree(folders["ours"], tmp_path / "model")
    torch.save({"x": torch.zeros(1)}, tmp_path / "model" / "model.safetensors")
    with pytest.raises(ValueError, match="no whole safetensors file") as raised:
        load_model(tmp_path / "model")
    faults.saw("a pickle named model.safetensors", f"{type(raised.value).__name__}: {raised.value}")
