"""Every format and source of training rows, the task that columns tell, and the warnings."""

import json
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pytest

from training.config import Recipe
from training.data import (
    DataFaults,
    DataTask,
    check_training,
    check_validation,
    join_words,
    load_examples,
    split_validation,
)
from training.finetune import load_data
from training.oddities import FEW_ROWS, balance_warnings, find_copies, odd_rows
from training.tables import find_source

RECIPE = Recipe()


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


KINDS: dict[DataTask, list[dict[str, Any]]] = {
    "classification": [
        {"text": "好, 看", "label": "a"},
        {"text": "bad\nfilm", "label": "b"},
        {"text": "so so", "label": "a"},
    ],
    "multi_label": [{"text": "x", "labels": ["a", "b"]}, {"text": "y", "labels": []}, {"text": "z", "labels": ["b"]}],
    "regression": [{"text": "x", "score": 1.5}, {"text": "y", "score": -2.0}, {"text": "z", "score": 0.25}],
    "tagging": [{"tokens": ["北京", "很"], "tags": ["B-P", "O"]}, {"tokens": ["a"], "tags": ["O"]}],
    "language_model": [{"text": "x"}, {"text": "y"}],
}


@pytest.mark.parametrize("task", KINDS)
@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet", "folder", "memory"])
def test_every_form_of_every_task_reads_the_same(tmp_path: Path, task: DataTask, form: str) -> None:
    rows = KINDS[task]
    source: Any = tmp_path / "data"
    if form == "jsonl":
        write(source, rows)
    elif form == "csv":
        frame = pd.DataFrame(rows)
        for name in ("labels", "tokens", "tags"):
            if name in frame:
                frame[name] = frame[name].map(lambda value: json.dumps(value, ensure_ascii=False))
        frame.to_csv(source, index=False)
    elif form == "parquet":
        pd.DataFrame(rows).to_parquet(source)
    elif form == "folder":
        datasets.Dataset.from_list(rows).save_to_disk(str(source))
    else:
        source = datasets.Dataset.from_list(rows)
    examples = load_examples(source)
    assert examples.task == task
    assert [{name: row[name] for name in rows[0]} for row in examples.rows] == rows
    assert examples.warnings == ()


def test_chat_rows_are_classification_and_what_is_left_out_is_said(tmp_path: Path) -> None:
    said = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Is it good?"}]
    more = [{"role": "assistant", "content": "What?"}, {"role": "user", "content": "The film."}]
    rows = [{"messages": [*said, *more, {"role": "assistant", "content": " yes "}]}]
    rows.append({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "no"}]})
    examples = load_examples(write(tmp_path / "chat", rows))
    assert examples.task == "classification"
    assert examples.inputs == ["Is it good?\nThe film.", "x"]
    assert examples.labels == ["yes", "no"]
    assert ["left out" in warning.message and "line 1" in warning.message for warning in examples.warnings] == [True]


def test_lines_count_blank_lines_and_columns_without_use_are_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text('\n{"text": "a", "label": 1, "id": 7, "score": 2}\n\n{"text": "b", "label": 2}\n')
    examples = load_examples(tmp_path / "file")
    assert examples.lines == (2, 4)
    messages = [warning.message for warning in examples.warnings]
    assert any("'id' is not used" in message for message in messages)
    assert any("'score' is not used" in message and "task='regression'" in message for message in messages)
    assert load_examples(tmp_path / "file", "classification").labels == ["1", "2"]


def test_a_task_may_be_chosen_and_is_checked(tmp_path: Path) -> None:
    rows = [{"text": "a", "label": 0.5, "score": 9}, {"text": "b", "label": 1.5, "score": 8}]
    assert list(load_examples(write(tmp_path / "both", rows), "regression").rows["score"]) == [9, 8]
    rows = [{"text": "a", "label": 0.5}, {"text": "b", "label": "1.5"}]
    assert list(load_examples(write(tmp_path / "label", rows), "regression").rows["score"]) == [0.5, 1.5]
    with pytest.raises(
        DataFaults, match="task 'tagging' needs 'tokens' and 'tags'; the rows of this file are for 'classification'"
    ):
        load_examples(tmp_path / "label", "tagging")


def test_class_numbers_of_a_data_set_become_names() -> None:
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    rows = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features)
    assert load_examples(rows).labels == ["yes", "no"]
    tags = datasets.Features(
        {
            "tokens": datasets.List(datasets.Value("string")),
            "tags": datasets.List(datasets.ClassLabel(names=["O", "B-X"])),
        }
    )
    words = datasets.Dataset.from_dict({"tokens": [["a", "b"]], "tags": [[1, 0]]}, tags)
    assert load_examples(words).label_sets == [("B-X", "O")]


def test_sources_are_found_by_path_folder_and_split(tmp_path: Path) -> None:
    rows = datasets.Dataset.from_list(KINDS["classification"])
    datasets.DatasetDict({"train": rows, "test": rows.select([0, 1])}).save_to_disk(str(tmp_path / "saved"))
    assert len(load_examples(find_source(str(tmp_path / "saved"))).rows) == 3
    assert len(load_examples(find_source(f"{tmp_path / 'saved'}:test")).rows) == 2
    with pytest.raises(ValueError, match=r"splits \['test', 'train'\], not 'dev'"):
        find_source(f"{tmp_path / 'saved'}:dev")
    with pytest.raises(ValueError, match="there is no file"):
        find_source(str(tmp_path / "missing.jsonl"))
    plain = tmp_path / "plain"
    plain.mkdir()
    write(plain / "train.jsonl", KINDS["classification"])
    assert len(load_examples(find_source(str(plain))).rows) == 3


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("train.jsonl", '{"text": "a"\nno json\n', "JSON parse error"),
        ("train.csv", 'text,label\n"never closed,a\n', "EOF inside string"),
        ("state.json", "{}", "neither a `Dataset` directory"),
    ],
)
def test_a_folder_that_can_not_be_loaded_says_why(tmp_path: Path, name: str, content: str, reason: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=f"`datasets` could not load the folder .*{reason}"):
        find_source(str(tmp_path))


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"text": "a", "score": 1}, {"text": "b", "score": 1.0}], "all 2 rows have the score 1"),
        ([{"text": "a", "labels": ["x"]}, {"text": "b", "labels": ["x"]}], "nothing to tell apart"),
        ([{"tokens": ["a", "b"], "tags": ["O", "O"]}], "all 2 words have the tag 'O'"),
        ([{"text": "a", "label": "x"}, {"text": "b", "label": "y"}, {"text": "c", "label": "y"}], r"\['x'\] have one row each"),
        ([{"text": "a"}], "vitrine pretrain"),
    ],
)  # fmt: skip
def test_rows_that_teach_nothing_are_refused(tmp_path: Path, rows: list[dict[str, Any]], words: str) -> None:
    examples = load_examples(write(tmp_path / "file", rows))
    with pytest.raises(DataFaults, match=words):
        check_training(examples)


def test_unseen_validation_labels_are_named_by_line_whatever_the_task(tmp_path: Path) -> None:
    (tmp_path / "file").write_text('{"tokens": ["a"], "tags": ["x"]}\n\n{"tokens": ["a"], "tags": ["new"]}\n')
    with pytest.raises(DataFaults, match="line 3: tag 'new' is not in the training file"):
        check_validation(load_examples(tmp_path / "file"), ["x", "y"])


def labelled(pairs: list[tuple[str, str]]) -> list[dict[str, Any]]:
    return [{"text": text, "label": label} for text, label in pairs]


def test_copies_contradictions_and_rare_labels_are_warnings_with_lines(tmp_path: Path) -> None:
    rows = labelled([("same", "a"), ("same", "a"), ("both", "a"), ("both", "b"), *((f"t{i}", "a") for i in range(8))])
    examples = load_examples(write(tmp_path / "file", rows))
    copies = find_copies(examples)
    assert copies.repeated == [[0, 1]]
    assert copies.contradictory == [[2, 3]]
    messages = [str(warning) for warning in odd_rows(examples)]
    assert any("1 row repeats an earlier one" in message and "line 2" in message for message in messages)
    assert any("1 text stands with different labels (lines 3, 4)" in message for message in messages)
    assert any(f"1 label with fewer than {FEW_ROWS} rows: 'b' (1)" in message for message in messages)
    assert any("'a' is 91.7% of the file" in message for message in messages)
    assert not balance_warnings(load_examples(write(tmp_path / "even", labelled([("x", "a"), ("y", "b")] * 5))))


def test_leaks_between_the_files_are_counted_with_lines(tmp_path: Path) -> None:
    train = write(tmp_path / "train", labelled([(f"text {i}", "ab"[i % 2]) for i in range(20)]))
    validation = write(tmp_path / "validation", labelled([("text 4", "a"), ("new", "b"), ("text 5", "a")]))
    data = load_data(train, validation, RECIPE)
    (warning,) = [str(fault) for fault in data.warnings if "also stand in training" in str(fault)]
    assert "2 of 3 validation rows (66.7%)" in warning
    assert "lines 1, 3" in warning
    assert "1 of them with the same label" in warning
    other = write(tmp_path / "other", KINDS["regression"])
    with pytest.raises(DataFaults, match="for 'regression', the training rows for 'classification'"):
        load_data(train, other, RECIPE)
    faulty = write(tmp_path / "faulty", labelled([("fine", "a"), ("", "b")]))
    with pytest.raises(DataFaults, match=r"^validation file: line 2: 'text' is empty; remove the row or fill it$"):
        load_data(train, faulty, RECIPE)
    with pytest.raises(DataFaults, match=r"^line 2: 'text' is empty"):
        load_data(faulty, train, RECIPE)


def test_an_automatic_split_leaks_no_repeated_text(tmp_path: Path) -> None:
    rows = labelled(
        [(f"text {i % 60}", "ab"[i % 2]) for i in range(120)] + [(f"own {i}", "ab"[i % 2]) for i in range(80)]
    )
    train, validation = split_validation(load_examples(write(tmp_path / "file", rows)), 0.2, seed=1)
    assert len(train.rows) + len(validation.rows) == 200
    assert len(validation.rows) > 5
    assert not set(train.inputs) & set(validation.inputs)


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_every_class_stays_on_both_sides_of_a_split(tmp_path: Path, share: float) -> None:
    rows = labelled([(f"text {i}", "a" if i < 2 else "b") for i in range(12)])
    train, validation = split_validation(load_examples(write(tmp_path / "file", rows)), share, seed=0)
    assert set(train.labels) == set(validation.labels) == {"a", "b"}


def test_a_row_alone_is_not_split(tmp_path: Path) -> None:
    path = write(tmp_path / "file", [{"tokens": ["Ann", "sings"], "tags": ["B-P", "O"]}])
    with pytest.raises(DataFaults, match=r"the file has 1 row, and a part of them is held out .* give at least 2, or"):
        load_data(path, None, RECIPE)
    assert len(load_data(path, path, RECIPE).train.rows) == 1


def test_words_are_joined_as_their_script_is_written() -> None:
    assert join_words(["New", "York", "很", "大", "，", "ok"]) == ("New York很大，ok", [0, 4, 8, 9, 10, 11])
