"""The evaluation: every figure against the library's own or by hand, properties of calibration and slices, files."""

import csv
import json
import math
import random
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score, mean_absolute_error

from model.config import TransformerConfig
from model.heads import TextModel
from model.tokenizer import Tokenizer, train_wordpiece
from training.baselines.tfidf import FEW_TEXTS, counts_characters, fit_tfidf, logistic_regression, tfidf
from training.baselines.words import CommonestTag
from training.data import DataFaults, Examples, load_examples
from training.dynamics import Dynamics, cartography
from training.evaluate import score
from training.evaluation import Evidence, evaluation_report, open_task
from training.evaluation.files import PREDICTIONS_FILE, REPORT_FILE, judge, write_evaluation
from training.evaluation.mislabelled import mislabelled, out_of_fold
from training.evaluation.slices import by_script, script_of
from training.evaluation.task import Prediction
from training.scores import score_label_sets

WORDS = ["red", "green", "blue", "cat", "dog", "bird", "runs", "sleeps", "今天", "很", "好"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_wordpiece([" ".join(WORDS)] * 5, 150)


def read(folder: Path, rows: Sequence[dict[str, Any]], name: str = "rows.jsonl") -> Examples:
    path = folder / name
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return load_examples(path)


def model_for(task: str, labels: Sequence[str], tokenizer: Tokenizer) -> TextModel:
    """Random, and sure of itself."""
    torch.manual_seed(3)
    config = TransformerConfig(
        vocab_size=tokenizer.vocab_size, width=16, num_layers=1, num_heads=2, feed_forward_width=24, max_positions=32,
        num_segments=2, dropout=0.0, task=task, labels=tuple(labels),  # type: ignore[arg-type]
    )  # fmt: skip
    model = TextModel(config).eval()
    assert model.classifier is not None
    with torch.no_grad():
        model.classifier.linear.weight.normal_(std=3.0)
    return model


CLASS_ROWS = [
    {"text": f"{a} {b} {c}", "label": {"red": "warm", "green": "cold", "blue": "cold"}[a]}
    for a in WORDS[:3]
    for b in WORDS[3:6]
    for c in WORDS[6:8]
]
ROWS: dict[str, list[dict[str, Any]]] = {
    "classification": CLASS_ROWS,
    "multi_label": [{"text": row["text"], "labels": [word for word in row["text"].split() if word in ("red", "cat", "runs")]} for row in CLASS_ROWS],
    "regression": [{"text": row["text"], "score": float(len(row["text"]))} for row in CLASS_ROWS],
    "tagging": [{"tokens": [*row["text"].split(), "今天"], "tags": ["O", "B-ANIMAL", "I-ANIMAL", "B-TIME"]} for row in CLASS_ROWS],
}  # fmt: skip
LABELS = {
    "classification": ["cold", "warm"],
    "multi_label": ["cat", "red", "runs"],
    "regression": [],
    "tagging": ["B-ANIMAL", "B-TIME", "I-ANIMAL", "O"],
}


@pytest.mark.parametrize("task", ROWS)
def test_a_report_of_every_task_is_plain_json_and_beats_or_names_its_baselines(
    tmp_path: Path, tokenizer: Tokenizer, task: str
) -> None:
    rows = read(tmp_path, ROWS[task])
    report = evaluation_report(model_for(task, LABELS[task], tokenizer), tokenizer, rows, Evidence(rows))
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert report["rows"] == 18
    assert [baseline["name"] for baseline in report["baselines"]] == {
        "regression": ["mean", "TF-IDF"],
        "tagging": ["majority", "usual tag"],
    }.get(task, ["majority", "TF-IDF"])
    low, high = report["headline"]["interval"]
    assert low <= report["headline"]["value"] <= high
    best = report["baselines"][-1]["headline"]["value"]
    versus = report["versus"]
    assert versus["value"] == pytest.approx(report["headline"]["value"] - best)
    assert versus["interval"][0] <= versus["value"] <= versus["interval"][1]
    if task == "tagging":
        assert best == 1.0  # each word has one tag here
    for part in report["slices"]:
        total = sum(group["rows"] for group in part["groups"])
        assert total == 18 or (part["by"] == "label" and task in ("multi_label", "tagging"))
        if total == 18:
            values = sum(group["value"] * group["rows"] for group in part["groups"] if group["value"] is not None)
            if task in ("classification", "regression"):  # plain means add up too
                assert values / 18 == pytest.approx(report["headline"]["value"])


def task_of(tmp_path: Path, tokenizer: Tokenizer, task: str, rows: Sequence[dict[str, Any]]) -> Any:
    return open_task(model_for(task, LABELS[task], tokenizer), tokenizer, read(tmp_path, rows))


def test_classes_are_scored_as_by_hand(tmp_path: Path, tokenizer: Tokenizer) -> None:
    rows = [{"text": "red", "label": label} for label in ("cold", "cold", "cold", "warm", "warm")]
    task = task_of(tmp_path, tokenizer, "classification", rows)
    answers = [0, 0, 1, 1, 0]
    probabilities = [np.array([p, 1 - p]) for p in (0.9, 0.8, 0.4, 0.3, 0.6)]
    figures = task.figures(answers)
    cold, warm = 2 * 2 / (3 + 3), 2 * 1 / (2 + 2)
    assert figures["accuracy"] == pytest.approx(3 / 5)
    assert figures["macro_f1"] == pytest.approx((cold + warm) / 2)
    assert figures["weighted_f1"] == pytest.approx((3 * cold + 2 * warm) / 5)
    assert figures["macro_precision"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert figures["matthews_correlation"] == pytest.approx((2 * 1 - 1 * 1) / math.sqrt(3 * 3 * 2 * 2))
    described = task.describe(Prediction(answers, probabilities))
    assert described["confusion"] == {"labels": ["cold", "warm"], "counts": [[2, 1], [1, 1]]}
    assert {(item["true"], item["predicted"], item["count"]) for item in described["confusions"]} == {
        ("cold", "warm", 1),
        ("warm", "cold", 1),
    }
    assert described["per_label"][0] == {
        "label": "cold", "precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3, "support": 3, "predicted": 3,
    }  # fmt: skip
    given = [0.9, 0.8, 0.4, 0.7, 0.4]  # probability of the true class
    assert described["figures"]["log_loss"] == pytest.approx(-np.log(given).mean())
    assert described["figures"]["brier"] == pytest.approx(np.square(np.subtract(1, given)).mean())
    assert [(mistake.row, mistake.size) for mistake in task.mistakes(Prediction(answers, probabilities))] == [
        (2, pytest.approx(0.6)),
        (4, pytest.approx(0.6)),
    ]


def test_a_class_that_only_the_model_knows_keeps_its_column(tmp_path: Path, tokenizer: Tokenizer) -> None:
    rows = read(tmp_path, [{"text": "red cat", "label": "warm"}, {"text": "red dog", "label": "warm"}])
    report = evaluation_report(model_for("classification", ["cold", "hot", "warm"], tokenizer), tokenizer, rows)
    assert report["confusion"]["labels"] == ["cold", "hot", "warm"]
    assert [score["support"] for score in report["per_label"]] == [0, 0, 2]
    assert report["baselines"] == []
    assert "versus" not in report


def test_labels_that_no_row_has_and_no_answer_names_do_not_count(tmp_path: Path, tokenizer: Tokenizer) -> None:
    rows = [{"text": "red", "label": label} for label in ("cold", "cold", "warm")]
    model = model_for("classification", ["cold", "hot", "mild", "warm"], tokenizer)
    task = open_task(model, tokenizer, read(tmp_path, rows))
    assert task.figures([0, 0, 3])["macro_f1"] == task.figures([0, 0, 3])["macro_recall"] == 1.0
    assert task.figures([0, 0, 1])["macro_f1"] == pytest.approx((1.0 + 0.0 + 0.0) / 3), "a class that is named counts"
    logits = torch.eye(4)[[0, 0, 3]] * 9
    assert score(logits, [0, 0, 3], model.config.labels).macro_f1 == 1.0
    rows = [{"text": "red", "labels": labels} for labels in (["cat"], ["cat"], [])]
    task = open_task(model_for("multi_label", ["cat", "red", "runs"], tokenizer), tokenizer, read(tmp_path, rows))
    first, second, nothing = (True, False, False), (True, True, False), (False, False, False)
    assert task.figures([first, first, nothing])["macro_f1"] == 1.0
    assert task.figures([second, first, nothing])["macro_f1"] == pytest.approx((1.0 + 0.0) / 2)
    assert task.figures([nothing] * 3)["macro_f1"] == 0.0
    none = score_label_sets(torch.full((2, 3), -9.0), [(0.0, 0.0, 0.0)] * 2, ("cat", "red", "runs"))
    assert none.macro_f1 == 0.0


def test_sets_of_labels_are_scored_as_by_hand(tmp_path: Path, tokenizer: Tokenizer) -> None:
    rows = [{"text": "red", "labels": labels} for labels in (["cat"], ["cat", "red"], [], ["runs"])]
    task = task_of(tmp_path, tokenizer, "multi_label", rows)
    answers = [(True, False, False), (True, False, True), (False, False, False), (False, False, False)]
    figures = task.figures(answers)
    right, found, wanted = 2, 3, 4
    assert figures["micro_f1"] == pytest.approx(2 * right / (found + wanted))
    assert task.ratio(answers).value == pytest.approx(figures["micro_f1"])
    assert figures["macro_f1"] == pytest.approx((1.0 + 0.0 + 0.0) / 3)
    assert figures["accuracy"] == 2 / 4
    assert figures["hamming_loss"] == pytest.approx(3 / 12)
    probabilities = [np.array(row) for row in ([0.9, 0.1, 0.2], [0.8, 0.3, 0.9], [0.1, 0.1, 0.1], [0.4, 0.2, 0.3])]
    mistakes = task.mistakes(Prediction(answers, probabilities))
    assert [(mistake.row, mistake.size) for mistake in mistakes] == [(1, pytest.approx(0.9)), (3, pytest.approx(0.7))]
    assert task.show(answers[1]) == "cat, runs"
    assert task.show(answers[2]) == "none"
    assert task.groups() == {"cat": [0, 1], "red": [1], "runs": [3]}


def test_numbers_are_scored_as_by_hand(tmp_path: Path, tokenizer: Tokenizer) -> None:
    task = task_of(tmp_path, tokenizer, "regression", [{"text": "red", "score": score} for score in (1.0, 2.0, 6.0)])
    figures = task.figures([2.0, 2.0, 4.0])
    assert figures["mean_absolute_error"] == pytest.approx(1.0)
    assert figures["median_absolute_error"] == 1.0
    assert figures["root_mean_squared_error"] == pytest.approx(math.sqrt(5 / 3))
    assert figures["r2"] == pytest.approx(1 - 5 / 14)
    assert figures["correlation"] == pytest.approx(np.corrcoef([1, 2, 6], [2, 2, 4])[0, 1])
    assert figures["rank_correlation"] == pytest.approx(np.corrcoef([1, 2, 3], [1.5, 1.5, 3])[0, 1])
    constant = task.figures([3.0, 3.0, 3.0])
    assert (constant["correlation"], constant["r2"]) == (0.0, 0.0)
    assert [mistake.row for mistake in task.mistakes(Prediction([2.0, 2.0, 4.0], []))] == [2, 0, 1]
    assert sorted(row for rows in task.groups().values() for row in rows) == [0, 1, 2]


def test_tags_are_scored_by_word_and_by_whole_span(tmp_path: Path, tokenizer: Tokenizer) -> None:
    rows = [
        {"tokens": ["cat", "runs", "red"], "tags": ["B-ANIMAL", "I-ANIMAL", "O"]},
        {"tokens": ["今天", "dog"], "tags": ["B-TIME", "B-ANIMAL"]},
    ]
    task = task_of(tmp_path, tokenizer, "tagging", rows)
    number = {label: index for index, label in enumerate(LABELS["tagging"])}
    answers = [
        tuple(number[tag] for tag in tags) for tags in (("B-ANIMAL", "O", "O"), ("B-TIME", "B-ANIMAL"))
    ]  # the first span ends too early
    figures = task.figures(answers)
    assert figures["accuracy"] == 4 / 5
    assert figures["span_f1"] == pytest.approx(2 * 2 / (3 + 3))
    assert figures["span_precision"] == figures["span_recall"] == pytest.approx(2 / 3)
    assert figures["span_macro_f1"] == pytest.approx((0.5 + 1.0) / 2)
    assert task.ratio(answers).value == figures["span_f1"]
    assert task.groups() == {"ANIMAL": [0, 1], "TIME": [1]}
    words = [0.9, 0.7, 0.8, 0.6, 0.6]
    rest = iter(words)
    probabilities = [
        np.array([[p if tag == own else (1 - p) / 3 for tag in range(4)] for own in answer for p in [next(rest)]])
        for answer in answers
    ]
    described = task.describe(Prediction(answers, probabilities))
    assert {span["label"]: (span["precision"], span["support"]) for span in described["spans"]} == {
        "ANIMAL": (0.5, 2),
        "TIME": (1.0, 1),
    }
    assert described["words"] == {"judged": 5, "unread": 0}
    found = task.calibration(Prediction(answers, probabilities), 1.0)
    assert found["mean_confidence"] == pytest.approx(np.mean(words))
    (mistake,) = task.mistakes(Prediction(answers, probabilities))
    assert (mistake.row, mistake.size) == (0, pytest.approx(0.7))


def test_spans_of_one_word_and_spans_ends_are_scored(tmp_path: Path, tokenizer: Tokenizer) -> None:
    tags = ["B-ANIMAL", "E-ANIMAL", "S-ANIMAL", "O", "S-TIME"]
    labels = sorted({*tags, "M-ANIMAL"})
    rows = read(tmp_path, [{"tokens": ["cat", "dog", "bird", "runs", "今天"], "tags": tags}])
    task = open_task(model_for("tagging", labels, tokenizer), tokenizer, rows)
    (true,) = task.truth
    found = tuple(labels.index(tag) for tag in ("B-ANIMAL", "E-ANIMAL", "O", "O", "O"))
    assert task.figures([true])["span_f1"] == 1.0
    assert task.figures([found])["span_f1"] == pytest.approx(2 * 1 / (1 + 3))
    assert task.groups() == {"ANIMAL": [0], "TIME": [0]}


def test_words_beyond_the_models_length_are_counted_not_judged(tmp_path: Path, tokenizer: Tokenizer) -> None:
    rows = read(tmp_path, [{"tokens": ["cat"] * 40, "tags": ["O"] * 40}, {"tokens": ["dog"], "tags": ["B-ANIMAL"]}])
    report = evaluation_report(model_for("tagging", LABELS["tagging"], tokenizer), tokenizer, rows, Evidence(rows))
    assert report["words"] == {"judged": 31, "unread": 10}  # 32 positions, two of them special
    assert [part["by"] for part in report["slices"]] == ["length", "cut"]


# Baselines, slices, suspects


def test_the_script_decides_between_words_and_characters() -> None:
    assert not counts_characters(["A good film", "An ambitious mess 好"])
    assert counts_characters(["一部好电影", "不好看, never again"])
    assert counts_characters(["!!!", "a b c"])


def test_the_word_baseline_remembers_and_falls_back() -> None:
    tagger = CommonestTag([["cat", "runs", "cat"], ["cat", "red"]], [["A", "O", "A"], ["B", "A"]])
    assert tagger.tag(["cat", "runs", "unseen"]) == ["A", "O", "A"]


def test_scripts_are_told_apart_and_rare_ones_share_a_slice() -> None:
    texts = ["A film", "好电影", "とても良い", "хороший фильм", "123!", "한국 영화", "mostly Latin 好"]
    assert list(map(script_of, texts)) == ["Latin", "Han", "Japanese", "Cyrillic", "no letters", "Hangul", "Latin"]
    groups = by_script(["a"] * 300 + ["好"] * 100 + ["ф", "1"])
    assert {name: len(rows) for name, rows in groups.items()} == {"Latin": 300, "Han": 100, "other": 2}


def flipped_rows() -> tuple[list[dict[str, Any]], list[int]]:
    """Four hundred rows that a bag of words can tell apart, twelve of them under the wrong label."""
    generator = np.random.default_rng(5)
    rows = []
    for index in range(400):
        colour = ("red", "blue")[index % 2]
        rest = " ".join(generator.choice(WORDS[3:8], 4))
        rows.append({"text": f"{colour} {rest} {index}", "label": {"red": "warm", "blue": "cold"}[colour]})
    wrong = sorted(generator.choice(400, 12, replace=False).tolist())
    for row in wrong:
        rows[row]["label"] = {"warm": "cold", "cold": "warm"}[rows[row]["label"]]
    return rows, wrong


def test_flipped_labels_are_named_first_with_the_label_they_should_have(tmp_path: Path) -> None:
    rows, wrong = flipped_rows()
    found = mislabelled(read(tmp_path, rows), None)
    assert found is not None
    first = found["worst"][: len(wrong)]
    assert {item["line"] - 1 for item in first} == set(wrong)
    assert all(item["suggested"] != item["given"] for item in first)
    assert found["named"] < 40


def test_both_witnesses_together_name_what_one_alone_does_not(tmp_path: Path) -> None:
    rows, wrong = flipped_rows()
    examples = read(tmp_path, rows)
    probability = torch.full((2, len(rows)), 0.9)
    probability[:, wrong[:6]] = 0.2  # the model noticed half of them, and is sure of the rest
    probability[:, wrong[6:]] = 0.6
    dynamics = Dynamics(2, len(rows))
    for epoch in range(2):
        dynamics.record(epoch, range(len(rows)), probability[epoch])
    found = mislabelled(examples, cartography(dynamics))
    assert found is not None
    assert {item["line"] - 1 for item in found["worst"][:6]} == set(wrong[:6])
    assert {item["line"] - 1 for item in found["worst"][:12]} == set(wrong)
    assert "Pleiss" in found["rule"]
    assert "Northcutt" in found["rule"]


def test_rare_labels_are_not_held_against_a_row(tmp_path: Path) -> None:
    rows, _ = flipped_rows()
    rows += [{"text": "a rare case", "label": "rare"}, {"text": "another rare case", "label": "rare"}]
    examples = read(tmp_path, rows)
    outside = out_of_fold(examples, ["cold", "rare", "warm"])
    assert outside is not None
    assert np.isnan(outside.probability[-2:]).all()
    assert not np.isnan(outside.probability[:-2]).any()
    found = mislabelled(examples, None)
    assert found is not None
    assert not any(item["given"] == "rare" for item in found["worst"])


def test_texts_without_a_term_in_common_have_no_second_witness(tmp_path: Path, tokenizer: Tokenizer) -> None:
    draw = random.Random(0)
    names = ["".join(draw.choices(string.ascii_lowercase, k=9)) for _ in range(2 * FEW_TEXTS)]
    examples = read(tmp_path, [{"text": name, "label": ("cold", "warm")[i % 2]} for i, name in enumerate(names)])
    assert out_of_fold(examples, ["cold", "warm"]) is None
    model = model_for("classification", ["cold", "warm"], tokenizer)
    report = evaluation_report(model, tokenizer, examples, Evidence(examples))
    assert report["mislabelled"] is None
    assert "no terms remain" in report["baselines_failed"]


def test_what_is_drawn_from_many_rows_has_each_of_the_classes_that_take_turns(
    tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.evaluation.task.BASELINE_ROWS", 100)
    labels = ["bird", "blue", "cat", "red"]
    rows = [{"text": f"{labels[number % 4]} runs {number}", "label": labels[number % 4]} for number in range(400)]
    examples = read(tmp_path, rows)
    report = evaluation_report(
        model_for("classification", labels, tokenizer), tokenizer, read(tmp_path, rows[:40], "own"), Evidence(examples)
    )
    (known,) = [one for one in report["baselines"] if one["name"] == "TF-IDF"]
    assert known["headline"]["value"] == 1.0
    outside = out_of_fold(examples, labels)
    assert outside is not None
    asked = np.flatnonzero(~np.isnan(outside.probability))
    assert len(asked) == 100
    assert (outside.probability[asked] > 0.5).all(), "each by its own label"
    assert all(outside.other[row] != row % 4 for row in asked)


def test_with_many_classes_a_linear_model_has_fewer_terms() -> None:
    """Its weights are a term a class, and no part of the memory that a run is said to need."""
    for classes, terms in ((1, 100_000), (2, 100_000), (20, 50_000), (200, 5_000)):
        assert tfidf(["red cat"] * FEW_TEXTS, logistic_regression(), classes)[0].max_features == terms
    generator = random.Random(0)
    texts = [" ".join(generator.choices(string.ascii_lowercase, k=4)) for _ in range(600)]
    labels = [number % 60 for number in range(600)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.baselines.tfidf.MAX_WEIGHTS", 600)
        model = fit_tfidf([f"{text} {text[::-1]}xy" for text in texts], labels, logistic_regression(), 60)
    assert model[-1].coef_.shape == (60, 10)


# Refusals and files


def test_rows_that_the_model_can_not_be_asked_about_are_refused(tmp_path: Path, tokenizer: Tokenizer) -> None:
    rows = read(tmp_path, ROWS["classification"])
    with pytest.raises(ValueError, match="the model is for 'regression', the rows are for 'classification'"):
        open_task(model_for("regression", [], tokenizer), tokenizer, rows)
    with pytest.raises(ValueError, match="the model is for 'masked_lm'"):
        open_task(
            TextModel(TransformerConfig(vocab_size=9, width=4, num_layers=1, num_heads=1, task="masked_lm")),
            tokenizer,
            rows,
        )
    with pytest.raises(DataFaults, match=r"line 1: label 'warm' is none of the model's, which are \['cold', 'hot'\]"):
        open_task(model_for("classification", ["cold", "hot"], tokenizer), tokenizer, rows)


class Splits:
    def __init__(self, train: Examples, validation: Examples) -> None:
        self.train, self.validation = train, validation


@pytest.mark.parametrize("task", ROWS)
def test_a_run_leaves_a_report_and_every_prediction(tmp_path: Path, tokenizer: Tokenizer, task: str) -> None:
    train, held_out = read(tmp_path, ROWS[task]), read(tmp_path, ROWS[task][::3], "held.jsonl")
    dynamics = Dynamics(2, len(train.rows))
    for epoch in range(2):
        dynamics.record(epoch, range(len(train.rows)), torch.linspace(0.1, 0.9, len(train.rows)))
    history = [{"step": 1, "train_loss": 0.5}, {"step": 1, "valid_loss": 0.4}]
    known = None if task == "regression" else dynamics
    judged = judge(model_for(task, LABELS[task], tokenizer), tokenizer, held_out)
    write_evaluation(judged, Splits(train, held_out), known, history, tmp_path)
    report = json.loads((tmp_path / REPORT_FILE).read_text(encoding="utf-8"))
    assert report["history"] == history
    assert ("dynamics" in report) == (task != "regression")
    if task != "regression":
        assert report["dynamics"]["hardest"][0]["line"] == 1
        assert len(report["dynamics"]["points"]) == 18
    table = list(csv.DictReader((tmp_path / PREDICTIONS_FILE).open(encoding="utf-8", newline="")))
    assert [int(row["line"]) for row in table] == [1, 2, 3, 4, 5, 6]
    true, predicted = ([row[name] for row in table] for name in ("true", "predicted"))
    value = report["headline"]["value"]
    if task == "classification":
        assert accuracy_score(true, predicted) == pytest.approx(value)
        for row in table:
            sure = {label: float(row[f"probability:{label}"]) for label in LABELS[task]}
            assert sum(sure.values()) == pytest.approx(1)
            assert max(sure, key=sure.__getitem__) == row["predicted"]
    elif task == "regression":
        assert mean_absolute_error(list(map(float, true)), list(map(float, predicted))) == pytest.approx(value)
    elif task == "tagging":
        assert [row["words"].split()[-1] for row in table] == ["今天"] * 6
        assert all(len(row["probabilities"].split()) == 4 for row in table)
    else:
        sets = [
            [[label in row[name].split(", ") for label in LABELS[task]] for row in table]
            for name in ("true", "predicted")
        ]
        assert f1_score(*sets, average="micro", zero_division=0.0) == pytest.approx(value)


@pytest.mark.parametrize("task", ROWS)
def test_ten_times_the_rows_are_no_more_reads_of_a_column(
    tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    """A column that is read for each row takes the square of the rows: minutes for some thousands."""
    reads: list[Any] = []
    real = datasets.Dataset.__getitem__

    def counted(self: datasets.Dataset, key: Any) -> Any:
        reads.append(key)
        return real(self, key)

    monkeypatch.setattr(datasets.Dataset, "__getitem__", counted)
    model, counts = model_for(task, LABELS[task], tokenizer), []
    for times in (10, 100):
        train, held_out = read(tmp_path, ROWS[task] * times), read(tmp_path, ROWS[task][::3] * times, "held.jsonl")
        reads.clear()
        write_evaluation(judge(model, tokenizer, held_out), Splits(train, held_out), None, [], tmp_path)
        counts.append(len(reads))
    assert counts[0] == counts[1] > 0


def test_pairs_keep_both_texts_and_hostile_cells_stay_cells(tmp_path: Path, tokenizer: Tokenizer) -> None:
    rows = [
        {"text": 'red, "cat"\nruns', "text_pair": "=1+1", "label": "warm"},
        {"text": "blue", "text_pair": "dog", "label": "cold"},
    ] * 3
    examples = read(tmp_path, rows)
    judged = judge(model_for("classification", LABELS["classification"], tokenizer), tokenizer, examples)
    write_evaluation(judged, Splits(examples, examples), None, [], tmp_path)
    table = list(csv.DictReader((tmp_path / PREDICTIONS_FILE).open(encoding="utf-8", newline="")))
    assert (table[0]["text"], table[0]["text_pair"]) == ('red, "cat"\nruns', "=1+1")
    assert len(table) == 6
    assert not list(tmp_path.glob(".*.tmp"))


def test_a_single_label_a_row_may_have_or_not(tmp_path: Path, tokenizer: Tokenizer) -> None:
    rows = read(
        tmp_path, [{"text": f"{word} cat", "labels": ["red"] * (word == "red")} for word in ("red", "blue") * 10]
    )
    report = evaluation_report(model_for("multi_label", ["red"], tokenizer), tokenizer, rows, Evidence(rows))
    assert report["per_label"][0]["support"] == 10
    scores = score_label_sets(torch.tensor([[2.0], [2.0], [-2.0]]), [(1.0,), (0.0,), (0.0,)], ("red",))
    assert scores.micro_f1 == scores.macro_f1 == scores.per_label[0].f1 == pytest.approx(2 / 3)
    assert report["baselines"][1]["headline"]["value"] == 1.0
