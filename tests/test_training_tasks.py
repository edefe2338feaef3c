"""Every task of labelled text from a file to a tuned model: what is learned, how it is scored, and that it is learned."""

import itertools
import json
import math
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from model.batch import pad
from model.config import TransformerConfig
from model.heads import TextModel
from model.lora import load_adapter, merge
from model.tokenizer import END_OF_TEXT, Tokenizer, train_byte_bpe, train_wordpiece
from model.weights import WEIGHTS_FILE, load_model, save_model
from training.checkpoints import remove_checkpoints
from training.config import Recipe
from training.data import DataFaults, join_words
from training.evaluate import predict
from training.events import Evaluated, Finishing, Noted, TrainingEvent
from training.finetune import encode, finetune, load_data, make_objective, metric_of
from training.labelled import NOT_LEARNED, align_tags
from training.results import read_manifest
from training.scores import score_label_sets, score_numbers, score_tags

CPU = torch.device("cpu")
WORDS = ["red", "green", "blue", "cat", "dog", "bird", "runs", "sleeps", "北京", "上海", "去", "在"]
RECIPE = Recipe(num_epochs=14, batch_size=8, learning_rate=1e-2, max_length=24, bfloat16=False, pooling="mean")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random encoder of a few thousand weights."""
    folder = tmp_path_factory.mktemp("base")
    tokenizer = train_wordpiece([" ".join(WORDS)] * 5, 200)
    config = TransformerConfig(
        vocab_size=tokenizer.vocab_size, width=32, num_layers=1, num_heads=2, feed_forward_width=64, max_positions=64,
        num_segments=2, norm_embeddings=True, dropout=0.0, task="masked_lm",
    )  # fmt: skip
    torch.manual_seed(0)
    save_model(TextModel(config), tokenizer, folder)
    return folder


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a causal model with a byte-level tokenizer."""
    folder = tmp_path_factory.mktemp("decoder")
    tokenizer = train_byte_bpe([" ".join(WORDS)] * 5, 320)
    end = tokenizer.id_of(END_OF_TEXT)
    config = TransformerConfig(
        vocab_size=tokenizer.vocab_size, architecture="decoder", width=32, num_layers=1, num_heads=2,
        feed_forward_width=64, max_positions=64, norm_first=True, dropout=0.0, bos_id=end, eos_id=end, task="causal_lm",
    )  # fmt: skip
    torch.manual_seed(0)
    save_model(TextModel(config), tokenizer, folder)
    return folder


def write(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def sentences() -> list[list[str]]:
    return [[a, b, c] for a in WORDS[:3] for b in WORDS[3:6] for c in WORDS[6:8]] * 4


def numbered(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each row made a text of its own by a count of words that say nothing."""
    for index, row in enumerate(rows):
        tail = ["在"] * (index // 18)
        if "tokens" in row:
            row["tokens"], row["tags"] = row["tokens"] + tail, row["tags"] + ["O"] * len(tail)
        else:
            row["text"] += "在" * len(tail)
    return rows


SCORES = {"red": -900.0, "green": 100.0, "blue": 2000.0}
TASK_ROWS: dict[str, list[dict[str, Any]]] = {
    "classification": numbered([{"text": " ".join(words), "label": words[0]} for words in sentences()]),
    "multi_label": numbered(
        [{"text": " ".join(words), "labels": [word for word in words if word in ("red", "cat", "runs")]} for words in sentences()]
    ),
    "regression": numbered([{"text": " ".join(words), "score": SCORES[words[0]]} for words in sentences()]),
    "tagging": numbered(
        [{"tokens": [*words, "北京"], "tags": ["O", "B-ANIMAL", "O", "B-PLACE"]} for words in sentences()]
        + [{"tokens": ["去", "上海", "东"], "tags": ["O", "B-PLACE", "I-PLACE"]}] * 2
    ),
}  # fmt: skip


def run(base: Path, rows: list[dict[str, Any]], folder: Path, recipe: Recipe = RECIPE) -> list[TrainingEvent]:
    folder.mkdir(exist_ok=True)
    data = load_data(write(folder / "rows.jsonl", rows), None, recipe)
    return list(finetune(base, data, recipe, folder, CPU))


@pytest.mark.parametrize("task", TASK_ROWS)
def test_each_task_is_learned_and_its_model_is_of_that_task(base: Path, tmp_path: Path, task: str) -> None:
    run(base, TASK_ROWS[task], tmp_path)
    manifest = read_manifest(tmp_path)
    metrics = manifest["metrics"]
    assert manifest["task"] == task
    model, tokenizer = load_model(tmp_path / "model")
    assert model.config.task == task
    json.dumps(metrics, allow_nan=False)
    if task == "regression":
        assert metrics["r2"] > 0.9
        assert metrics["mean_absolute_error"] < metrics["mean_baseline"] / 3
        batch_of = tokenizer.encode(["blue dog runs", "red dog runs"], 24)
        high, low = model.classify(pad(batch_of, 0))[:, 0].tolist()
        assert high == pytest.approx(2000, abs=400), "served in the data's own scale"
        assert low == pytest.approx(-900, abs=400)
    else:
        assert metrics["accuracy"] > 0.9
        assert metrics["accuracy"] > metrics["majority_baseline"]
    if task == "tagging":
        assert metrics["span_f1"] > 0.9
        assert metrics["num_unread_words"] == 0


ENDS = ("evaluation.json", "predictions.csv", "model", "manifest.json")


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_what_comes_after_the_last_step_is_told_before_it_is_done(base: Path, tmp_path: Path, task: str) -> None:
    data = load_data(write(tmp_path / "rows.jsonl", TASK_ROWS[task]), None, RECIPE)
    told: list[tuple[str, list[str]]] = []  # since the last evaluation, each with what the run had left by then
    for event in finetune(base, data, RECIPE, tmp_path, CPU):
        if isinstance(event, Evaluated):
            told.clear()
        if isinstance(event, Finishing):
            told.append((event.what, [name for name in ENDS if (tmp_path / name).exists()]))
    looks = ", looking for labels that are likely wrong" if task == "classification" else ""
    assert told == [
        (f"Judging the model by {len(data.validation.rows)} held-out rows", []),
        (f"Fitting simple models for comparison{looks}: {len(data.train.rows)} training rows", []),
        ("Writing the model", ["evaluation.json", "predictions.csv"]),
    ]


@pytest.mark.parametrize("task", TASK_ROWS)
def test_a_saved_adapter_scores_what_its_manifest_says(base: Path, tmp_path: Path, task: str) -> None:
    recipe = Recipe(num_epochs=2, batch_size=8, learning_rate=1e-2, max_length=24, bfloat16=False, adapter="lora")
    run(base, TASK_ROWS[task], tmp_path, recipe)
    stack, tokenizer = load_model(base)
    tuned = merge(stack, load_adapter(tmp_path / "model"))
    assert tuned.config.task == task
    metrics = read_manifest(tmp_path)["metrics"]
    data = load_data(tmp_path / "rows.jsonl", None, recipe)
    held_out = encode(data.validation, tokenizer, data.labels, recipe.max_length)
    if task == "regression":
        outputs = predict(tuned, held_out.encodings)[:, 0].tolist()
        assert score_numbers(outputs, held_out.targets, 1.0).mean_absolute_error == pytest.approx(
            metrics["mean_absolute_error"], rel=1e-3
        )
    else:
        objective = make_objective(data.task, tuned, held_out, held_out, RECIPE)
        served = objective.evaluate()
        assert served.accuracy == pytest.approx(metrics["accuracy"])
        assert served.loss <= metrics["loss"] * 1.001
        with objective.served(1 / metrics["temperature"]):
            assert objective.evaluate().loss == pytest.approx(metrics["loss"], rel=1e-3)


def noisy_rows() -> dict[str, list[dict[str, Any]]]:
    """Labels that no text tells."""
    draw = random.Random(0)
    texts = [" ".join(words) for words in draw.sample([*itertools.product(WORDS[:8], repeat=4)], 240)]
    sets = [[name for name in "ab" if draw.random() < 0.5] for _ in texts]
    return {
        "classification": [{"text": text, "label": str("a" in own)} for text, own in zip(texts, sets, strict=True)],
        "multi_label": [{"text": text, "labels": own} for text, own in zip(texts, sets, strict=True)],
        "tagging": [{"tokens": text.split(), "tags": [draw.choice("ab") for _ in text.split()]} for text in texts],
    }


NOISY_ROWS = noisy_rows()


@pytest.mark.parametrize("task", NOISY_ROWS)
def test_what_learned_by_heart_serves_probabilities_that_fit_and_the_same_answers(
    base: Path, tmp_path: Path, task: str
) -> None:
    run(base, NOISY_ROWS[task], tmp_path, replace(RECIPE, num_epochs=40, evaluation_steps=9_999, validation_share=0.4))
    metrics = read_manifest(tmp_path)["metrics"]
    report = json.loads((tmp_path / "evaluation.json").read_text(encoding="utf-8"))
    found = report["calibration"]
    assert found["temperature"] == metrics["temperature"] > 1.2
    assert found["ece"] < found["before"]["ece"]
    assert report["figures"]["log_loss"] < metrics["loss"]
    assert report["figures"]["accuracy"] == pytest.approx(metrics["accuracy"]), "no answer is another"


@pytest.mark.parametrize("task", ["regression", "tagging"])
def test_decoders_learn_them_too(decoder: Path, tmp_path: Path, task: str) -> None:
    run(decoder, TASK_ROWS[task], tmp_path, replace(RECIPE, pooling=None, num_epochs=25))
    model, _ = load_model(tmp_path / "model")
    assert model.config.architecture == "decoder"
    metrics = read_manifest(tmp_path)["metrics"]
    assert metrics["r2"] > 0.5 if task == "regression" else metrics["accuracy"] > metrics["majority_baseline"]


def test_another_run_in_the_folder_is_not_replaced_unless_asked(base: Path, tmp_path: Path) -> None:
    recipe = replace(RECIPE, num_epochs=1)
    run(base, TASK_ROWS["classification"], tmp_path, recipe)
    weights = (tmp_path / "model" / WEIGHTS_FILE).read_bytes()
    data = load_data(tmp_path / "rows.jsonl", None, recipe)
    other = finetune(base, data, replace(recipe, seed=7), tmp_path, CPU, replaces=False)
    with pytest.raises(
        ValueError, match=r"holds another run, which had other data.* stands at step \d+; give --output"
    ):
        list(other)
    (tmp_path / "checkpoint").rename(tmp_path / ".checkpoint.old")  # as a kill between a writer's two renames leaves it
    with pytest.raises(ValueError, match="stands at step"):
        list(finetune(base, data, replace(recipe, seed=7), tmp_path, CPU, replaces=False))
    list(finetune(base, data, recipe, tmp_path, CPU, replaces=False))  # itself once more
    remove_checkpoints(tmp_path / "checkpoint")
    with pytest.raises(ValueError, match=r"holds another run.* made \d+ steps; give --output"):
        list(finetune(base, data, replace(recipe, seed=7), tmp_path, CPU, replaces=False))
    assert (tmp_path / "model" / WEIGHTS_FILE).read_bytes() == weights
    list(finetune(base, data, replace(recipe, seed=7), tmp_path, CPU))
    assert (tmp_path / "model" / WEIGHTS_FILE).read_bytes() != weights


def test_cut_rows_are_said_and_counted(base: Path, tmp_path: Path) -> None:
    rows = [*TASK_ROWS["tagging"], {"tokens": ["red"] * 40, "tags": ["O"] * 40}]
    recipe = Recipe(num_epochs=1, batch_size=8, max_length=12, bfloat16=False)
    notes = [event.message for event in run(base, rows, tmp_path, recipe) if isinstance(event, Noted)]
    assert any("longer than 12 tokens" in note and "are not read" in note for note in notes), notes


def test_held_out_rows_of_one_score_are_judged_by_the_error(base: Path, tmp_path: Path) -> None:
    rows = [{"text": text, "score": float(len(text))} for text in WORDS]
    train, one = write(tmp_path / "train", rows), write(tmp_path / "one", [{"text": "blue cat", "score": 6}])
    data = load_data(train, one, RECIPE)
    (warning,) = map(str, data.warnings)
    assert "there is 1 validation row, of which R² and correlation can't be told" in warning
    (tmp_path / "run").mkdir()
    list(finetune(base, data, RECIPE, tmp_path / "run", CPU))
    manifest = read_manifest(tmp_path / "run")
    errors = {row["step"]: row["valid_mean_absolute_error"] for row in manifest["history"] if "valid_loss" in row}
    assert len(errors) == RECIPE.num_epochs
    assert manifest["best_step"] == min(errors, key=errors.__getitem__)
    with pytest.raises(
        ValueError, match=r"metric is 'r2', but the held-out rows all have one score; choose one of \['mean"
    ):
        next(finetune(base, data, replace(RECIPE, metric="r2"), tmp_path / "other", CPU))
    assert metric_of(None, load_data(train, train, RECIPE)) == "r2"


def test_spans_are_no_metric_for_tags_without_them(base: Path, tmp_path: Path) -> None:
    plain = write(tmp_path / "plain", [{"tokens": ["red", "cat"], "tags": ["A", "N"]}] * 4)
    with pytest.raises(
        ValueError, match="metric is 'span_f1', but no tag of the data begins with 'B-' or 'I-'; choose one of"
    ):
        next(finetune(base, load_data(plain, None, RECIPE), replace(RECIPE, metric="span_f1"), tmp_path / "run", CPU))
    spans = write(tmp_path / "spans", [{"tokens": ["red", "cat"], "tags": ["O", "B-N"]}] * 4)
    assert metric_of("span_f1", load_data(spans, None, RECIPE)) == "span_f1"


def test_plain_text_is_refused_with_the_command_that_takes_it(tmp_path: Path) -> None:
    with pytest.raises(DataFaults, match="vitrine pretrain"):
        load_data(write(tmp_path / "rows.jsonl", [{"text": "a"}, {"text": "b"}]), None, RECIPE)


def number_of(tags: Sequence[str]) -> dict[str, int]:
    return {tag: index for index, tag in enumerate(sorted(set(tags)))}


def test_tags_lie_on_the_tokens_that_serving_reads() -> None:
    tokenizer = train_wordpiece(["unhappy people 北京 在"] * 3, 60)
    words, tags = ["don't", "unhappily", "北京", "在"], ["O", "B-X", "B-X", "O"]
    number = number_of([*tags, "I-X"])
    (encoding,) = tokenizer.encode([join_words(words)[0]], 64)
    target = align_tags(encoding, words, tags, number)
    name = {index: tag for tag, index in number.items()} | {NOT_LEARNED: "-"}
    learned = {
        (encoding.tokens[index], start): name[target.tags[index]] for index, (start, _) in enumerate(encoding.offsets)
    }
    assert learned["北", 15] == "B-X"
    assert learned["京", 16] == "I-X", "the inside of a Chinese word is read by /v1/tag, so it is taught"
    assert all(
        tag == "-" for (token, _), tag in learned.items() if token.startswith("##") or token in ("[CLS]", "[SEP]")
    )
    assert [encoding.offsets[place][0] for place in target.places] == [0, 6, 15, 17]


def test_a_word_without_a_token_is_not_judged() -> None:
    tokenizer: Tokenizer = train_wordpiece(["one two three"] * 3, 60)
    words, tags = ["one", "two", "three"], ["A", "B", "A"]
    (encoding,) = tokenizer.encode(["one two three"], 4)
    assert align_tags(encoding, words, tags, {"A": 0, "B": 1}).places == (1, 2, -1)


def test_many_tagged_rows_are_read_in_chunks_and_keep_only_what_a_model_reads(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = load_data(write(tmp_path / "rows.jsonl", TASK_ROWS["tagging"]), None, RECIPE)
    _, tokenizer = load_model(base)
    whole = encode(data.train, tokenizer, data.labels, 24)
    monkeypatch.setattr("training.labelled.CHUNK_TEXTS", 5)
    assert len(data.train.rows) % 5
    assert encode(data.train, tokenizer, data.labels, 24) == whole
    assert {token for encoding in whole.encodings for token in encoding.tokens} == {""}


def test_tagging_scores_by_hand() -> None:
    labels = ("B-A", "I-A", "O")
    wanted = [[0, 1, 2], [2, 0]]
    guessed = [0, 2, 2, 2, 0]  # the first span is cut short, the second right
    scores = score_tags(torch.eye(3)[guessed] * 9, wanted, 4, labels)
    assert scores.accuracy == 0.8
    assert scores.span_f1 == pytest.approx(2 * 1 / (2 + 2))
    assert scores.majority_baseline == 0.4
    assert (scores.num_words, scores.num_unread_words) == (5, 4)
    marks = ("B-A", "M-A", "E-A", "S-A", "O")
    guessed = [0, 4, 4, 4, 4]  # neither the rest of the first span nor the one-word span is found
    assert score_tags(torch.eye(5)[guessed] * 9, [[0, 1, 2, 4, 3]], 0, marks).span_f1 == 0.0


def test_label_set_scores_by_hand() -> None:
    logits = torch.tensor([[9.0, -9.0], [9.0, 9.0], [-9.0, -9.0]])
    scores = score_label_sets(logits, [(1.0, 0.0), (1.0, 0.0), (0.0, 0.0)], ("a", "b"))
    assert scores.accuracy == pytest.approx(2 / 3)
    assert scores.micro_f1 == pytest.approx(0.8)  # 2 right, 1 too many
    assert scores.macro_f1 == pytest.approx(0.5)
    assert scores.majority_baseline == pytest.approx(2 / 3)


def test_number_scores_by_hand() -> None:
    scores = score_numbers([1.0, 2.0, 4.0], [1.0, 2.0, 3.0], unit=2.0)
    assert scores.mean_absolute_error == pytest.approx(1 / 3)
    assert scores.root_mean_squared_error == pytest.approx(math.sqrt(1 / 3))
    assert scores.loss == pytest.approx(1 / 12)
    assert scores.r2 == pytest.approx(0.5)
    assert scores.mean_baseline == pytest.approx(2 / 3)
