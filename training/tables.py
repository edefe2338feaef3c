"""Files and `datasets` sources as numbered rows of fields, whatever they mean. Called by `data.py`.

JSONL, CSV with a header, and Parquet are told apart by their content: an upload has no trustworthy name. A row's line
is its line in a text file, its number from 1 in Parquet and in a data set.
"""

import csv
import hashlib
import io
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from training.decoding import Text, decode
from training.faults import Fault

Fields = dict[str, Any]
BATCH_ROWS = 10_000  # of a Parquet file, turned into Python objects together
BATCH_BYTES = 2**28  # that one batch of it may take, if each of its values were as large as a whole column
LEAST_BUDGET_BYTES = (
    2**31
)  # for the rows of a Parquet file as Python objects; packed rows can be a thousand times smaller
BUDGET_SHARE = 20  # of the file's size, where that is more: what rows of JSONL can come to
CELL_BYTES = 100  # of a Python object and its place in a row
FILE_ENDINGS = (".jsonl", ".json", ".csv", ".parquet", ".txt", ".tsv")  # names that mean a file, not a data set
LIST_COLUMNS = {"labels": "|", "tokens": " ", "tags": " "}  # how a CSV cell that is no JSON list is split
CSV_KINDS = ("label", "labels", "score")  # one of these makes a CSV with 'text' a labelled one
SOURCE_HELP = (
    "labelled rows: a JSONL, CSV or Parquet file, a folder saved by `datasets`, or a data set's name; ':SPLIT' after a "
    "folder or name chooses a split (default: train)"
)


@dataclass(frozen=True)
class Table:
    """The rows of one source as they were written, with what could not be read."""

    rows: list[tuple[int, Fields]]
    faults: list[Fault]
    sha256: str


def read_table(source: Path | datasets.Dataset) -> Table:
    """A file, a data set saved to disk, or one in memory."""
    if isinstance(source, datasets.Dataset):
        return _of_dataset(source)
    if source.is_dir():
        return _of_dataset(_load_folder(source, "train"))
    raw = source.read_bytes()
    faults: list[Fault] = []
    rows = list(_parse(raw, faults))
    return Table(rows, faults, hashlib.sha256(raw).hexdigest())


def find_source(name: str) -> Path | datasets.Dataset:
    """What a user names: a file, a folder written by `save_to_disk`, or a data set that `datasets` knows.

    `NAME:SPLIT` chooses a split of a folder or data set; without it the training split is taken.
    """
    path = Path(name)
    if path.is_file():
        return path
    if path.suffix in FILE_ENDINGS:
        raise ValueError(f"there is no file {name!r}; check the path")
    base, _, split = name.rpartition(":") if ":" in name and not path.exists() else (name, "", "train")
    if Path(base).is_dir():
        return _load_folder(Path(base), split)
    with _as_value_error(f"{name!r} is no file here, and `datasets` could not load it"):
        return datasets.load_dataset(base, split=split)


@contextmanager
def _as_value_error(what: str) -> Iterator[None]:
    """The library raises errors of many kinds, of its own, of pyarrow and of the network; the first has the reason."""
    try:
        yield
    except Exception as error:
        first: BaseException = error
        while first.__cause__ is not None:
            first = first.__cause__
        reason = str(first).strip().splitlines()[0][:200] if str(first).strip() else type(first).__name__
        raise ValueError(f"{what}: {reason}") from error


def _load_folder(folder: Path, split: str) -> datasets.Dataset:
    saved = any((folder / name).is_file() for name in ("dataset_dict.json", "state.json"))
    with _as_value_error(f"`datasets` could not load the folder {str(folder)!r}"):
        if not saved:
            return datasets.load_dataset(str(folder), split=split)
        loaded = datasets.load_from_disk(str(folder))
    if isinstance(loaded, datasets.Dataset):
        return loaded
    if split not in loaded:
        raise ValueError(f"{folder.name} has the splits {sorted(loaded)}, not {split!r}; name one as FOLDER:SPLIT")
    return loaded[split]


def _of_dataset(dataset: datasets.Dataset) -> Table:
    """Class numbers become their names, so that a label reads the same from every source."""
    named = {
        name: feature for name, feature in dataset.features.items() if isinstance(feature, datasets.ClassLabel)
    } | {
        name: feature.feature
        for name, feature in dataset.features.items()
        if isinstance(getattr(feature, "feature", None), datasets.ClassLabel)
    }
    rows = []
    digest = hashlib.sha256()
    for number, fields in enumerate(dataset, start=1):
        for name, feature in named.items():
            fields[name] = _names(feature, fields[name])
        digest.update(json.dumps(fields, sort_keys=True, default=str).encode())
        rows.append((number, _present(fields)))
    return Table(rows, [], digest.hexdigest())


def _present(fields: Fields) -> Fields:
    """A column that a row has nothing in is one that the row does not have."""
    return {name: value for name, value in fields.items() if value is not None}


def _names(feature: datasets.ClassLabel, value: Any) -> Any:
    if isinstance(value, list):
        return [_names(feature, item) for item in value]
    return feature.int2str(value) if isinstance(value, int) and 0 <= value < feature.num_classes else None


def _parse(raw: bytes, faults: list[Fault]) -> Iterator[tuple[int, Fields]]:
    if raw.startswith(b"PAR1"):
        yield from _parse_parquet(raw, faults)
        return
    if (found := decode(raw, faults)) is None:
        return
    if found.text.lstrip()[:1] in ("{", "[", ""):
        yield from _parse_jsonl(found, faults)
    else:
        yield from _parse_csv(found, faults)


def _parse_jsonl(source: Text, faults: list[Fault]) -> Iterator[tuple[int, Fields]]:
    if fault := _whole_document(source.text):
        faults.append(Fault(0, fault))
        return
    for number, line in enumerate(source.text.split("\n"), start=1):
        if not line.strip() or number in source.unreadable:
            continue
        try:
            fields = json.loads(line, object_pairs_hook=_distinct)
        except (ValueError, RecursionError) as error:
            faults.append(Fault(number, _json_fault(error)))
            continue
        if isinstance(fields, dict):
            yield number, fields
        else:
            faults.append(Fault(number, f"a {type(fields).__name__}, not an object with 'text' and 'label'"))


def _whole_document(text: str) -> str | None:
    """Why a file that is one JSON value over several lines, or one list of rows, has no lines to read."""
    first = text.lstrip().partition("\n")[0]
    try:
        if isinstance(json.loads(first), dict):
            return None
    except (ValueError, RecursionError):
        pass
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return f"the file is one JSON {'list' if isinstance(whole, list) else 'object'}; write one object a line"


class _KeyTwice(ValueError):
    """An object names a key twice: readers disagree about which value counts."""


def _distinct(pairs: list[tuple[str, Any]]) -> Fields:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        raise _KeyTwice(f"the key {next(name for name in names if names.count(name) > 1)!r} stands twice; keep one")
    return fields


def _json_fault(error: Exception) -> str:
    if isinstance(error, _KeyTwice):
        return str(error)
    if isinstance(error, json.JSONDecodeError):
        reason = error.msg
    else:
        reason = "nested too deeply" if isinstance(error, RecursionError) else "a number with too many digits"
    return f"not JSON ({reason}); write one object a line"


def _parse_csv(source: Text, faults: list[Fault]) -> Iterator[tuple[int, Fields]]:
    csv.field_size_limit(sys.maxsize)  # the limit of a text is `kinds.py`'s
    reader = csv.reader(io.StringIO(source.text, newline=""), strict=True)
    header: list[str] | None = None
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if "end of data" in str(error):
                faults.append(
                    Fault(line, "broken CSV (a quote that begins in this row is never closed); check the quotes")
                )
            else:
                faults.append(Fault(reader.line_num, f"broken CSV ({error}); check the quotes"))
            continue
        readable = source.unreadable.isdisjoint(range(line, reader.line_num + 1))
        if header is None:
            if not readable:
                return
            if fields:
                header = [name.strip() for name in fields]
                if fault := _header_fault(header):
                    faults.append(Fault(line, fault))
                    return
        elif fields and readable:
            if len(fields) == len(header):
                yield line, {name: _cell(name, value) for name, value in zip(header, fields, strict=True)}
            else:
                message = f"{len(fields)} fields, the header has {len(header)}; quote texts with commas"
                faults.append(Fault(line, message))


def _header_fault(header: list[str]) -> str | None:
    """Why no row under this header can be read; None for a good one."""
    if twice := sorted({name for name in header if header.count(name) > 1}):
        return f"the header names {twice[:10]} twice; give every column a name of its own"
    known = set(header)
    labelled = "text" in known and known.intersection(CSV_KINDS)
    if labelled or header == ["text"] or {"tokens", "tags"} <= known or "messages" in known:
        return None
    remedy = "put it above the rows"
    if len(header) == 1 and (other := next((mark for mark in ";\t|" if mark in header[0]), None)):
        remedy = f"separate columns by commas, not by {other!r}"
    return (
        f"the header is {[name[:40] for name in header[:10]]}; a CSV needs the columns 'text' and 'label' ('labels' or "
        f"'score' in its place), or 'tokens' and 'tags'; {remedy}"
    )


def _cell(name: str, value: str) -> Any:
    """A CSV cell has no type: columns of lists hold JSON or separated words, a score is a number."""
    if name == "score":
        try:
            return float(value)
        except ValueError:
            return value or None
    if name in LIST_COLUMNS or name == "messages":
        if value.lstrip().startswith("["):
            try:
                return json.loads(value)
            except (ValueError, RecursionError):
                return value
        if name in LIST_COLUMNS:
            return [part.strip() for part in value.split(LIST_COLUMNS[name]) if part.strip()]
    return value


def _parse_parquet(raw: bytes, faults: list[Fault]) -> Iterator[tuple[int, Fields]]:
    number = 0
    try:
        file = pq.ParquetFile(pa.BufferReader(raw))
        names = file.schema_arrow.names
        if twice := sorted({name for name in names if names.count(name) > 1}):
            faults.append(Fault(0, f"the columns {twice[:10]} stand twice; give every column a name of its own"))
            return
        budget = max(LEAST_BUDGET_BYTES, BUDGET_SHARE * len(raw))
        row_bytes = CELL_BYTES * (1 + len(names))
        unpacked, promised = 0, file.metadata.num_rows * row_bytes
        for batch in file.iter_batches(_batch_rows(file.metadata)) if promised <= budget else ():
            unpacked += sum(map(_plain_bytes, batch.columns)) + batch.num_rows * row_bytes
            if unpacked > budget:
                break
            for fields in batch.to_pylist():
                number += 1
                yield number, _present(fields)
        if max(unpacked, promised) > budget:
            size = f"the file's {len(raw):,} bytes unpack to {file.metadata.num_rows:,} rows of over {budget:,} bytes"
            faults.append(Fault(0, f"{size}; split the file"))
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:  # of bytes, of dates beyond Python's
        reason = str(error).splitlines()[0][:200]
        faults.append(Fault(0, f"broken Parquet ({reason}); write the file again"))


def _batch_rows(metadata: pq.FileMetaData) -> int:
    """Rows that can be unpacked at once: encodings may repeat one large value, which no size in the file tells."""
    groups = (metadata.row_group(number) for number in range(metadata.num_row_groups))
    largest = max((column.total_uncompressed_size for group in groups for column in _columns(group)), default=0)
    return max(1, min(BATCH_ROWS, BATCH_BYTES // max(1, largest)))


def _columns(group: pq.RowGroupMetaData) -> Iterator[pq.ColumnChunkMetaData]:
    return (group.column(number) for number in range(group.num_columns))


def _plain_bytes(array: pa.Array) -> int:
    """What its values take when each stands for itself: a dictionary holds a value once for all its rows."""
    if isinstance(array, pa.DictionaryArray):
        return int(array.dictionary_decode().nbytes)
    if isinstance(array, pa.StructArray):
        return sum(map(_plain_bytes, array.flatten()))
    if isinstance(array, pa.ListArray | pa.LargeListArray | pa.FixedSizeListArray):
        return int(array.nbytes) + _plain_bytes(array.flatten())
    return int(array.nbytes)
