"""Data faults, batching, and a run that resumes to the same weights."""

import json
import random
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.weights import read_tensors
from tests.conftest import Rows, write_jsonl
from training.catalogue import movie_sentiment, write_splits
from training.collate import epoch_batches
from training.config import Recipe
from training.data import DataFaults, check_training, check_validation, load_examples, split_validation
from training.evaluate import score
from training.events import Evaluated, Progress, Started, TrainingEvent
from training.finetune import finetune, load_data
from training.optim import learning_rate_at
from training.results import read_manifest

CPU = torch.device("cpu")


def test_csv_and_jsonl_read_the_same(tmp_path: Path) -> None:
    rows = [{"text": 'a, "quoted"\nline', "label": "x"}, {"text": "电影", "label": "1"}]
    jsonl = load_examples(write_jsonl(tmp_path / "rows.jsonl", rows))
    (tmp_path / "rows.csv").write_text('text,label\n"a, ""quoted""\nline",x\n电影,1\n', encoding="utf-8")
    assert list(load_examples(tmp_path / "rows.csv").rows) == list(jsonl.rows)


def test_one_class_and_unseen_labels_are_refused(tmp_path: Path) -> None:
    one = load_examples(write_jsonl(tmp_path / "one.jsonl", [{"text": "x", "label": "a"}] * 3))
    with pytest.raises(DataFaults, match="all 3 rows have the label 'a'"):
        check_training(one)
    with pytest.raises(DataFaults, match="label 'a' is not in the training file"):
        check_validation(one, ["b", "c"])


def test_automatic_split_is_stratified_and_loses_nothing(tmp_path: Path) -> None:
    rows = [{"text": f"text {index}", "label": "rare" if index % 20 == 0 else "common"} for index in range(200)]
    train, validation = split_validation(load_examples(write_jsonl(tmp_path / "rows.jsonl", rows)), 0.1, seed=3)
    assert len(train.rows) + len(validation.rows) == 200
    assert not set(train.rows["text"]) & set(validation.rows["text"])
    assert validation.labels.count("rare") == 1
    assert validation.labels.count("common") == 19


@given(
    lengths=st.lists(st.integers(1, 200), min_size=1, max_size=300), size=st.integers(1, 40), epoch=st.integers(0, 3)
)
def test_epoch_batches_hold_every_row_once_and_repeat_exactly(lengths: list[int], size: int, epoch: int) -> None:
    batches = epoch_batches(lengths, size, seed=7, epoch=epoch)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert max(map(len, batches)) <= size
    assert batches == epoch_batches(lengths, size, seed=7, epoch=epoch)


def test_buckets_pad_far_less_than_random_order(movie_rows: Rows) -> None:
    lengths = [len(row["text"].split()) for row in movie_rows]

    def padding(batches: list[list[int]]) -> float:
        padded = sum(len(batch) * max(lengths[index] for index in batch) for batch in batches)
        return 1 - sum(lengths) / padded

    order = random.Random(0).sample(range(len(lengths)), len(lengths))
    arbitrary = [order[start : start + 32] for start in range(0, len(order), 32)]
    assert padding(epoch_batches(lengths, 32, 0, 0)) < padding(arbitrary) / 4


def test_learning_rate_warms_up_and_decays() -> None:
    recipe = Recipe(learning_rate=1.0, warmup_share=0.1).optimisation_for("loss")
    rates = [learning_rate_at(step, 100, recipe) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == rates[10] == pytest.approx(1.0)
    assert rates[-1] == pytest.approx(1 / 90)


def test_scores_by_hand() -> None:
    logits = torch.tensor([[2.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 0.0]])
    result = score(logits, [0, 0, 1, 1], ("no", "yes"))
    assert result.accuracy == 0.75
    assert result.confusion == ((2, 0), (1, 1))
    assert result.macro_f1 == pytest.approx((0.8 + 2 / 3) / 2)
    assert result.majority_baseline == 0.5


def test_interrupted_run_ends_with_the_same_weights_and_events(minilm: Path, movie_rows: Rows, tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "rows.jsonl", movie_rows[:100])
    recipe = Recipe(num_epochs=2, batch_size=16, checkpoint_steps=4, max_length=32)
    data = load_data(file, None, recipe)

    def run(output: Path, stop_at: int | None, until: type | None = None) -> list[TrainingEvent]:
        output.mkdir(exist_ok=True)
        events: list[TrainingEvent] = []
        for event in finetune(minilm, data, recipe, output, CPU):
            events.append(event)
            if stop_at is not None and isinstance(event, Progress) and event.step >= stop_at:
                break
            if until is not None and isinstance(event, until):
                break
        return events

    whole = run(tmp_path / "whole", None)
    run(tmp_path / "cut", 10)
    rest = run(tmp_path / "cut", None)
    assert isinstance(rest[0], Started)
    assert rest[0].step == 8, "continues from the last checkpoint before step 10, amid the second epoch"
    at_epoch_end = run(tmp_path / "epoch", None, until=Evaluated)
    resumed = run(tmp_path / "epoch", None)
    scored = [event.step for event in resumed if isinstance(event, Evaluated)]
    assert scored == [event.step for event in whole if isinstance(event, Evaluated)], "no score is lost"
    assert isinstance(at_epoch_end[-1], Evaluated)
    first, second = (read_tensors(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    key = lambda events: [(e.step, e.train_loss) for e in events if isinstance(e, Progress)]  # noqa: E731
    assert key(rest) == [pair for pair in key(whole) if pair[0] > 8]
    assert read_manifest(tmp_path / "whole")["metrics"] == read_manifest(tmp_path / "cut")["metrics"]


def test_a_checkpoint_of_other_data_is_not_resumed(minilm: Path, movie_rows: Rows, tmp_path: Path) -> None:
    recipe = Recipe(num_epochs=1, batch_size=16, checkpoint_steps=2, max_length=16)
    starts = []
    for name, rows in (("one", movie_rows[:64]), ("two", movie_rows[64:128])):
        data = load_data(write_jsonl(tmp_path / f"{name}.jsonl", rows), None, recipe)
        (tmp_path / "run").mkdir(exist_ok=True)
        starts += [e.step for e in finetune(minilm, data, recipe, tmp_path / "run", CPU) if isinstance(e, Started)]
    assert starts == [0, 0]


def test_catalogue_splits_are_disjoint_and_of_known_size(cache: Path, tmp_path: Path) -> None:
    splits = movie_sentiment(cache)
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 8454, "validation": 1057, "test": 1057}
    paths = write_splits("movie-sentiment", cache, tmp_path)
    assert json.loads(paths[0].read_text(encoding="utf-8").splitlines()[0]) == splits["train"][0]
