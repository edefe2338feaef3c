"""From text to a pre-trained model: runs resume to the same weights, texts are prepared once until they change."""

import dataclasses
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from benchmarks.report import took
from model.batch import pad_ids
from model.config import TransformerConfig
from model.heads import TextModel
from model.tokenizer import CLS, MASK, PAD, SEP, UNKNOWN, Tokenizer, train_byte_bpe, train_wordpiece
from model.weights import load_model
from tests.running_text import sentences
from tests.small import small_config
from training.config import Optimisation, PretrainRecipe
from training.events import Evaluated, Progress, Started, TrainingEvent
from training.objectives import CausalLanguageModel, MaskedLanguageModel
from training.optim import learning_rate_at
from training.pretrain import Corpora, packed_rows, prepare, pretrain
from training.results import read_manifest

CPU = torch.device("cpu")
CLOSE = 1e-5


@pytest.fixture(scope="module")
def wordpiece() -> Tokenizer:
    return train_wordpiece(sentences(200), 120)


@pytest.fixture(scope="module")
def byte_bpe() -> Tokenizer:
    return train_byte_bpe(sentences(200), 320)


RECIPE = PretrainRecipe(
    num_epochs=2, batch_rows=4, row_tokens=32, learning_rate=3e-3, checkpoint_steps=7, dropout=0.05, bfloat16=False
)  # fmt: skip
ARCHITECTURES = ["encoder", "decoder"]


def config_for(architecture: str, tokenizer: Tokenizer) -> TransformerConfig:
    return small_config(architecture, vocab_size=tokenizer.vocab_size, width=32, feed_forward_width=64, dropout=0.2)


@pytest.fixture(scope="module")
def runs(
    wordpiece: Tokenizer, byte_bpe: Tokenizer, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[TransformerConfig, Corpora, Path, list[TrainingEvent]]]:
    """One uninterrupted run of each kind of language model."""
    done = {}
    for architecture, tokenizer in zip(ARCHITECTURES, (wordpiece, byte_bpe), strict=True):
        folder = tmp_path_factory.mktemp(architecture)
        train, validation = (lambda: sentences(200)), (lambda: sentences(30, seed=1))
        corpora = prepare(train, validation, lambda _, own=tokenizer: own, architecture, folder)  # type: ignore[misc]
        config = config_for(architecture, tokenizer)
        done[architecture] = (config, corpora, folder, list(pretrain(config, corpora, RECIPE, folder, CPU)))
    return done


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_few_steps_lower_the_loss(runs: dict, architecture: str) -> None:
    config, corpora, folder, events = runs[architecture]
    losses = [event.train_loss for event in events if isinstance(event, Progress)]
    scores = [event.evaluation for event in events if isinstance(event, Evaluated)]
    assert losses[0] < math.log(config.vocab_size) + 0.5
    assert losses[-1] < losses[0] - 0.5
    assert scores[1].loss < scores[0].loss
    assert [event.step for event in events if isinstance(event, Evaluated)] == [
        events[0].total_steps // 2,
        events[0].total_steps,
    ]
    progress = [event for event in events if isinstance(event, Progress)]
    real = sum(map(len, (corpora.train.document(index) for index in range(len(corpora.train)))))
    assert progress[-1].tokens_seen >= 2 * real, "each token once an epoch"
    assert progress[-1].epoch == 2.0
    manifest = read_manifest(folder)
    assert manifest["metrics"] == scores[-1].to_dict()
    assert manifest["train_tokens"] == corpora.train.num_tokens == real
    assert re.fullmatch(r"\d+\.\d minutes on \d+ threads?", took(manifest)), "as the benchmarks' results tell it"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_pre_trained_folder_loads_with_the_dropout_of_its_config(runs: dict, architecture: str) -> None:
    config, corpora, folder, events = runs[architecture]
    model, tokenizer = load_model(folder / "model")
    assert model.config == config
    assert model.config.dropout == 0.2 != RECIPE.dropout
    assert not model.training
    texts = sentences(5, seed=2)
    assert tokenizer.encode(texts, 32) == corpora.tokenizer.encode(texts, 32)
    rows = packed_rows(corpora.validation, tokenizer, config, RECIPE.row_tokens)
    special = [tokenizer.id_of(token) or 0 for token in (PAD, UNKNOWN, CLS, SEP, MASK)]
    objective = (
        MaskedLanguageModel(model, rows, rows, 4, RECIPE.seed, RECIPE.mask_share, special[-1], special)
        if architecture == "encoder"
        else CausalLanguageModel(model, rows, rows, 4, RECIPE.seed)
    )
    with torch.inference_mode():
        assert objective.evaluate().loss == pytest.approx(events[-1].evaluation.loss, abs=CLOSE)


def timeless(events: Sequence[TrainingEvent]) -> list[TrainingEvent]:
    return [dataclasses.replace(e, tokens_per_second=0.0) if isinstance(e, Progress) else e for e in events]


def until(run: Iterator[TrainingEvent], kind: type, step: int) -> list[TrainingEvent]:
    """Takes events up to the first of this kind at or after `step`, then closes the run as a cancelled job does."""
    events = []
    for event in run:
        events.append(event)
        if isinstance(event, kind) and event.step >= step:
            run.close()  # type: ignore[attr-defined]
            return events
    raise AssertionError(f"the run ended before a {kind.__name__} at step {step}")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("cut", ["before the first checkpoint", "in an epoch", "at an epoch's end", "twice"])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(
    runs: dict, architecture: str, cut: str, tmp_path: Path
) -> None:
    config, corpora, folder, whole = runs[architecture]
    half = whole[0].total_steps // 2
    assert half > 10
    assert half % RECIPE.checkpoint_steps, "an epoch's end is between two of the other checkpoints"
    again = lambda: pretrain(config, corpora, RECIPE, tmp_path, CPU)  # noqa: E731
    if cut == "before the first checkpoint":
        until(again(), Started, 0)
        start = 0
    elif cut == "at an epoch's end":
        until(again(), Evaluated, half)
        start = half // 7 * 7  # its scores are told before they are saved: twice rather than never
    else:
        until(again(), Progress, 10)
        start = 7
    if cut == "twice":
        stopped = until(again(), Progress, half + 8)[-1].step  # its checkpoint, if any, comes after the event
        start = max(half, (stopped - 1) // 7 * 7)
    assert not (tmp_path / "manifest.json").exists()
    rest = list(again())
    assert rest[0] == dataclasses.replace(whole[0], step=start, memory_bytes=rest[0].memory_bytes)
    expected = [e for e in whole[1:] if e.step > start]
    assert timeless(rest[1:]) == timeless(expected)
    first, second = (path / "model" / "model.safetensors" for path in (folder, tmp_path))
    assert first.read_bytes() == second.read_bytes()
    assert read_manifest(tmp_path)["metrics"] == read_manifest(folder)["metrics"]


def test_a_checkpoint_of_another_recipe_or_shape_is_not_resumed(runs: dict, tmp_path: Path) -> None:
    config, corpora, _, _ = runs["encoder"]
    until(pretrain(config, corpora, RECIPE, tmp_path, CPU), Progress, 10)
    for recipe, shape in (
        (dataclasses.replace(RECIPE, mask_share=0.2), config),
        (RECIPE, dataclasses.replace(config, dropout=0.1)),
        (RECIPE, config),
    ):
        run = pretrain(shape, corpora, recipe, tmp_path, CPU)
        started = next(event for event in run if isinstance(event, Started))
        run.close()  # type: ignore[attr-defined]
        assert started.step == (7 if (recipe, shape) == (RECIPE, config) else 0)


def test_texts_are_tokenized_once_until_they_or_the_tokenizer_change(wordpiece: Tokenizer, tmp_path: Path) -> None:
    made = []

    def make(texts: object) -> Tokenizer:
        made.append(texts)
        return wordpiece

    def sizes(train: int, validation: int, kind: str) -> tuple[int, int]:
        corpora = prepare(lambda: sentences(train), lambda: sentences(validation), make, kind, tmp_path)
        assert corpora.tokenizer.vocab_size == wordpiece.vocab_size
        return len(corpora.train), len(corpora.validation)

    assert sizes(9, 3, "wordpiece 120") == sizes(9, 3, "wordpiece 120") == (9, 3)
    assert len(made) == 1, "found again"
    assert sizes(12, 3, "wordpiece 120") == (12, 3)
    assert sizes(12, 5, "wordpiece 120") == (12, 5)
    assert sizes(12, 5, "wordpiece 121") == (12, 5)
    assert len(made) == 4, "other text, other held-out text, another kind"


def test_a_corpus_that_was_interrupted_while_it_changed_is_built_again(wordpiece: Tokenizer, tmp_path: Path) -> None:
    def broken(_: object) -> Tokenizer:
        raise KeyboardInterrupt

    prepare(lambda: sentences(9), lambda: sentences(3), lambda _: wordpiece, "a", tmp_path)
    with pytest.raises(KeyboardInterrupt):
        prepare(lambda: sentences(12), lambda: sentences(3), broken, "a", tmp_path)
    made = []
    again = prepare(lambda: sentences(9), lambda: sentences(3), lambda _: made.append(1) or wordpiece, "a", tmp_path)
    assert made == [1]
    assert len(again.train) == 9


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"row_tokens": 7}, "row_tokens is 7"),
        ({"batch_rows": 0}, "batch_rows 0"),
        ({"mask_share": 0.0}, "mask_share is 0.0; choose a value between 0 and 1"),
        ({"mask_share": 1.0}, "mask_share is 1.0"),
        ({"num_epochs": 0}, "n_epochs is 0; choose at least 1"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
    ],
)
def test_recipe_errors_name_value_and_limit(fields: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        PretrainRecipe(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("schedule", "warmup_share", "step", "rate"),
    [
        ("linear", 0.1, 0, 0.1), ("linear", 0.1, 4, 0.5), ("linear", 0.1, 9, 1.0), ("linear", 0.1, 10, 1.0),
        ("linear", 0.1, 55, 0.5), ("linear", 0.1, 99, 1 / 90), ("linear", 0.1, 100, 0.0),
        ("cosine", 0.1, 0, 0.1), ("cosine", 0.1, 9, 1.0), ("cosine", 0.1, 10, 1.0), ("cosine", 0.1, 55, 0.5),
        ("cosine", 0.1, 40, 0.75), ("cosine", 0.1, 99, 0.5 * (1 - math.cos(math.pi / 90))), ("cosine", 0.1, 100, 0.0),
        ("linear", 0.0, 0, 1.0), ("cosine", 0.0, 0, 1.0), ("cosine", 0.0, 50, 0.5),
    ],
)  # fmt: skip
def test_learning_rates_rise_in_a_line_and_fall_as_asked(
    schedule: str, warmup_share: float, step: int, rate: float
) -> None:
    optimisation = Optimisation(1, 1.0, warmup_share=warmup_share, schedule=schedule)  # type: ignore[arg-type]
    assert learning_rate_at(step, 100, optimisation) == pytest.approx(rate, abs=1e-9)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_untrained_model_knows_nothing(architecture: str) -> None:
    """The loss of the first steps is that of a guess: the initialisation gives no token an advantage."""
    torch.manual_seed(0)
    model = TextModel(small_config(architecture, dropout=0.0)).eval().requires_grad_(False)
    hidden = model.body(pad_ids([[5, 6, 7, 8]], 0))[0]
    assert float(F.cross_entropy(model.vocabulary_logits(hidden), torch.tensor([9, 10, 11, 12]))) == pytest.approx(
        math.log(40), abs=0.3
    )
