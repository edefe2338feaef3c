"""Few labelled rows: better than chance, the same after a kill, linear in the rows, whatever the labels look like."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from model.batch import Batch
from model.config import TransformerConfig
from model.heads import TextModel
from model.tokenizer import Tokenizer, train_wordpiece
from model.weights import load_model, save_model
from tests.conftest import Rows as RowList
from training.catalogue import movie_sentiment
from training.config import Recipe
from training.evaluate import evaluate, text_vectors
from training.few_shot import (
    INVERSE_PENALTY,
    FewShot,
    few_shot_config,
    few_shot_fields,
    few_shot_objective,
    fit_head,
    label_names,
)
from training.finetune import with_head
from training.labelled import Rows
from training.objectives import balanced_weights
from training.trainer import Evaluated, Progress, Trainer

SUBJECTS, VERBS, OBJECTS = ["red", "green", "blue"], ["cat", "dog", "bird"], ["runs", "sleeps", "在北京"]
Text = str | tuple[str, str]


@dataclass(frozen=True)
class Base:
    """A small random encoder with dropout."""

    model: TextModel
    tokenizer: Tokenizer

    def rows(self, texts: Sequence[Text], targets: Sequence[int]) -> Rows[int]:
        return Rows(self.tokenizer.encode(texts, 32), targets)

    def objective(
        self,
        train: Rows[int],
        held_out: Rows[int],
        labels: tuple[str, ...],
        weights: Tensor | None = None,
        **fields: Any,
    ) -> FewShot:
        torch.manual_seed(0)
        model = with_head(self.model, few_shot_config(self.model.config, labels))
        return few_shot_objective(model, self.tokenizer, train, held_out, recipe(train, **fields), weights)


def recipe(train: Rows[int], **fields: Any) -> Recipe:
    return Recipe(
        **(
            {**few_shot_fields(len(train.targets), 384), "learning_rate": 1e-4, "max_length": 32, "bfloat16": False}
            | fields
        )
    )


def trainer(objective: FewShot, folder: Path, **fields: Any) -> Trainer:
    folder.mkdir(exist_ok=True)
    return Trainer(
        objective, recipe(objective.train, **fields).optimisation_for("accuracy"), folder / "checkpoint", "key"
    )


@pytest.fixture(scope="module")
def base() -> Base:
    tokenizer = train_wordpiece([" ".join(SUBJECTS + VERBS + OBJECTS)] * 5, 200)
    config = TransformerConfig(
        vocab_size=tokenizer.vocab_size, width=32, num_layers=2, num_heads=2, feed_forward_width=64, max_positions=32,
        num_segments=2, norm_embeddings=True, dropout=0.1, task="masked_lm",
    )  # fmt: skip
    torch.manual_seed(0)
    return Base(TextModel(config), tokenizer)


def sentences(count: int, labels: Sequence[str] = SUBJECTS) -> tuple[list[Text], list[int]]:
    """Texts that begin with one of the labels, in turn."""
    chance = random.Random(count)
    texts: list[Text] = [
        f"{labels[index % len(labels)]} {chance.choice(VERBS)} {chance.choice(OBJECTS)}" for index in range(count)
    ]
    return texts, [index % len(labels) for index in range(count)]


def test_a_fitted_head_is_that_of_scikit_learn_and_reads_vectors_of_any_length() -> None:
    torch.manual_seed(0)
    for classes in (2, 5):
        targets = [index % classes for index in range(40)]
        vectors = F.normalize(torch.randn(40, 8) + 2 * F.one_hot(torch.tensor(targets), 8), dim=-1)
        head = fit_head(7.0 * vectors, targets, [1.0] * 40, classes)
        theirs = LogisticRegression(C=INVERSE_PENALTY, max_iter=1_000).fit(vectors.numpy(), targets)
        ours = torch.softmax(7.0 * vectors @ head.weight.T + head.bias, dim=-1)
        assert torch.allclose(ours, torch.from_numpy(theirs.predict_proba(vectors.numpy())).float(), atol=1e-3)


def test_a_share_counts_as_so_many_copies_of_the_row() -> None:
    torch.manual_seed(0)
    vectors, targets = torch.randn(6, 4), [0, 1, 2, 0, 1, 2]
    shared = fit_head(vectors, targets, [1.0, 1.0, 1.0, 1.0, 1.0, 2.0], 3)
    copied = fit_head(torch.cat([vectors, vectors[-1:]]), [*targets, 2], [1.0] * 7, 3)
    lengths = [v.norm(dim=-1).mean() for v in (vectors, torch.cat([vectors, vectors[-1:]]))]
    assert torch.allclose(shared.weight * lengths[0], copied.weight * lengths[1], atol=1e-3)


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (("negative", "very_positive"), ["negative", "very positive"]),
        (("正面", "负面"), ["正面", "负面"]),
        (("0", "1"), []),
        (("LABEL_0", "LABEL_1"), []),
        (("good", "-"), []),
    ],
)
def test_labels_are_read_as_words_unless_they_say_nothing(labels: tuple[str, ...], names: list[str]) -> None:
    assert label_names(labels) == names


def test_labels_with_words_help_when_there_is_one_row_of_each(base: Base) -> None:
    """Each class's only row lacks the word that tells the class; its name is that word."""
    train = base.rows(["cat runs", "dog runs", "bird runs"], [0, 1, 2])
    held_out = base.rows(*sentences(60))
    named = base.objective(train, held_out, ("red", "green", "blue"))
    unnamed = base.objective(train, held_out, ("1", "2", "3"))
    assert named.evaluate().accuracy > unnamed.evaluate().accuracy + 0.2


def test_few_rows_of_synthetic_text_are_learned(base: Base, tmp_path: Path) -> None:
    objective = base.objective(base.rows(*sentences(24)), base.rows(*sentences(90)), ("1", "2", "3"))
    before = objective.evaluate()
    events = list(trainer(objective, tmp_path).run())
    scores = [event.evaluation for event in events if isinstance(event, Evaluated)]
    assert len(scores) == 1, "the last weights, judged once"
    after = scores[0].to_dict()
    assert after["accuracy"] >= 0.9 > 1.5 * after["majority_baseline"]
    assert after["loss"] < before.loss


def test_an_evaluation_scores_what_the_end_will_leave_and_changes_nothing(base: Base, tmp_path: Path) -> None:
    held_out = base.rows(*sentences(31))
    objective = base.objective(base.rows(*sentences(12)), held_out, ("red", "green", "blue"))
    events = list(trainer(objective, tmp_path).run())
    trained = {name: tensor.clone() for name, tensor in objective.model.state_dict().items()}
    said = objective.evaluate()
    assert all(torch.equal(tensor, trained[name]) for name, tensor in objective.model.state_dict().items())
    assert events[-1] == Evaluated(events[-1].step, said, True)
    with objective.served(1.0):
        assert evaluate(objective.model, held_out.encodings, held_out.targets) == said
        served = {name: tensor.clone() for name, tensor in objective.model.state_dict().items()}
    assert all(torch.equal(tensor, trained[name]) for name, tensor in objective.model.state_dict().items())
    changed = {name for name in served if not torch.equal(served[name], trained[name])}
    assert changed == {"classifier.linear.weight", "classifier.linear.bias"}


@pytest.mark.parametrize("stop", [1, 10, 20, 40])
def test_a_run_that_was_cut_ends_with_the_same_bits(base: Base, tmp_path: Path, stop: int) -> None:
    def life(folder: Path, until: int) -> dict[str, Tensor]:
        train, held_out = base.rows(*sentences(24)), base.rows(*sentences(9))
        objective = base.objective(train, held_out, ("red", "green", "blue"))
        for event in trainer(objective, folder, checkpoint_steps=7).run():
            if isinstance(event, Progress) and event.step >= until:
                break
        with objective.served(1.0):
            return {name: tensor.clone() for name, tensor in objective.model.state_dict().items()}

    whole = life(tmp_path / "whole", 1_000)
    life(tmp_path / "cut", stop)
    resumed = life(tmp_path / "cut", 1_000)
    assert all(torch.equal(tensor, whole[name]) for name, tensor in resumed.items())


def test_work_and_memory_grow_with_the_rows_and_not_with_their_pairs(
    base: Base, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[int] = []
    pooled = TextModel.pooled

    def counted(model: TextModel, batch: Batch) -> Tensor:
        seen.append(len(batch.ids))
        return pooled(model, batch)

    monkeypatch.setattr(TextModel, "pooled", counted)

    def texts_read(count: int) -> int:
        seen.clear()
        objective = base.objective(
            base.rows(*sentences(count)), base.rows(*sentences(6)), ("1", "2", "3"), num_epochs=2
        )
        in_training = [rows for epoch in range(2) for rows in objective.steps(epoch)]
        assert max(map(len, in_training)) <= objective.batch_size
        held = [item for value in vars(objective).values() if isinstance(value, list) for item in value]
        assert len(held) <= 6 * count + 50
        list(trainer(objective, tmp_path / str(count), num_epochs=2).run())
        with objective.served(1.0):
            return sum(seen)

    small, large = texts_read(160), texts_read(320)
    assert large - small == 160 * (2 + 2), (
        "each epoch, and the head at the start and at the end, where it is judged too"
    )


def test_one_row_a_class_of_fifty_classes(base: Base, tmp_path: Path) -> None:
    words = [f"{a} {b} {c}" for a in SUBJECTS for b in VERBS for c in OBJECTS]
    texts: list[Text] = (words + [f"{text} {text}" for text in words])[:50]
    labels = tuple(f"class {index}" for index in range(50))
    train = base.rows(texts, list(range(50)))
    objective = base.objective(train, train, labels)
    assert [event for event in trainer(objective, tmp_path).run() if isinstance(event, Evaluated)]
    with objective.served(1.0):
        assert evaluate(objective.model, train.encodings, train.targets).accuracy > 0.5


def test_pairs_of_texts_are_learned(base: Base, tmp_path: Path) -> None:
    """Whether the second text begins with one word or another, whatever the first says."""
    firsts = [f"{a} {b}" for a in SUBJECTS for b in VERBS]
    pairs: list[Text] = [(first, f"{verb} sleeps") for first in firsts for verb in ("cat", "dog")]
    targets = [0, 1] * len(firsts)
    objective = base.objective(base.rows(pairs[:12], targets[:12]), base.rows(pairs[12:], targets[12:]), ("cat", "dog"))
    list(trainer(objective, tmp_path, learning_rate=3e-3).run())
    assert objective.evaluate().accuracy >= 5 / 6


def test_class_weights_reach_the_head_and_the_loss(base: Base) -> None:
    texts, targets = ["cat runs"] * 20 + ["dog runs"], [0] * 20 + [1]
    train = base.rows(texts, targets)
    plain = base.objective(train, train, ("1", "2"))
    fair = base.objective(train, train, ("1", "2"), balanced_weights(targets, 2))
    rare = [train.encodings[-1]]
    for_rare = [
        float(torch.softmax(objective.model.classify(batch_of(objective, rare)), -1)[0, 1])
        for objective in (plain, fair)
    ]
    assert for_rare[1] > for_rare[0]
    assert float(fair.loss([20], 0).total) == pytest.approx(
        float(fair.loss([20], 0).mean) * float(balanced_weights(targets, 2)[1]), rel=1e-5
    )


def batch_of(objective: FewShot, encodings: Iterable[Any]) -> Batch:
    from model.batch import pad

    return pad(list(encodings), objective.model.config.pad_id)


def test_a_label_without_a_row_is_refused_by_name(base: Base) -> None:
    train = base.rows(["cat runs", "dog runs"], [0, 0])
    with pytest.raises(ValueError, match=r"labels \['dog'\] have 0 training rows; .* at least 1 a label"):
        base.objective(train, train, ("cat", "dog"))


def test_a_model_with_a_pooler_is_refused(base: Base) -> None:
    config = base.model.config.with_task("classification", ("cat", "dog"), "first", "tanh")
    rows = base.rows(["cat", "dog"], [0, 1])
    with pytest.raises(ValueError, match="pooler is 'tanh'"):
        FewShot(with_head(base.model, config), rows, rows, [], 2, 0, 1)


def test_vectors_do_not_depend_on_the_number_format_of_training(base: Base) -> None:
    encodings = base.rows(*sentences(5)).encodings
    plain = text_vectors(base.model, encodings)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(text_vectors(base.model, encodings), plain)


def test_the_result_is_an_ordinary_model(base: Base, tmp_path: Path) -> None:
    rows = base.rows(*sentences(12))
    objective = base.objective(rows, rows, ("red", "green", "blue"))
    save_model(objective.model, base.tokenizer, tmp_path / "model")
    loaded, _ = load_model(tmp_path / "model")
    assert evaluate(loaded, rows.encodings, rows.targets) == objective.evaluate()


@pytest.mark.slow
def test_sixteen_movie_sentences_a_class_beat_chance(minilm: Path, cache: Path, tmp_path: Path) -> None:
    splits = movie_sentiment(cache)
    labels = ("negative", "positive")
    drawn: RowList = []
    for label in labels:
        drawn += random.Random(1).sample([row for row in splits["train"] if row["label"] == label], 16)
    held_out = list(splits["validation"])[:300]
    model, tokenizer = load_model(minilm)
    base = Base(model, tokenizer)
    train, judged = (
        base.rows([row["text"] for row in rows], [labels.index(row["label"]) for row in rows])
        for rows in (drawn, held_out)
    )
    objective = base.objective(train, judged, labels)
    list(trainer(objective, tmp_path).run())
    assert objective.evaluate().accuracy > 0.6
