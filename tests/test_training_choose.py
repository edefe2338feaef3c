"""What is chosen for the user follows from the data, is said with its reason, and never overrides a wish."""

from pathlib import Path
from typing import Any

import pytest
import torch

from model.batch import pad
from model.config import TransformerConfig
from model.heads import TextModel
from model.tokenizer import train_byte_bpe
from model.weights import load_model, save_model
from tests.conftest import write_jsonl
from tests.small import save_small_encoder
from training.choose import choose_recipe
from training.config import Recipe
from training.events import Evaluated, Started
from training.few_shot import few_shot_fields
from training.finetune import Data, finetune, load_data
from training.optim import usual_learning_rate
from training.results import read_manifest


@pytest.mark.parametrize("seed", [-(2**63) - 1, 2**63])
def test_a_seed_that_no_generator_takes_is_refused(seed: int) -> None:
    with pytest.raises(ValueError, match=rf"seed is {seed}; choose from -2\^63 to 2\^63 - 1"):
        Recipe(seed=seed)
    assert Recipe(seed=seed + (1 if seed < 0 else -1))


def data_of(folder: Path, counts: dict[str, int], words: int = 6) -> Data:
    rows = [
        {"text": f"{label} {index} " + "word " * (words - 2), "label": label}
        for label, count in counts.items()
        for index in range(count)
    ]
    return load_data(write_jsonl(folder / "rows.jsonl", rows), None, Recipe())


def choices_of(base: Path, data: Data, **wanted: Any) -> tuple[Recipe, dict[str, str]]:
    chosen = choose_recipe(wanted, data, base)
    return chosen.recipe, {choice.name: choice.reason for choice in chosen.choices}


def test_a_wish_is_never_overridden_and_needs_no_reason(minilm: Path, tmp_path: Path) -> None:
    data = data_of(tmp_path, {"a": 40, "b": 40})
    wanted: dict[str, Any] = {
        "num_epochs": 7, "batch_size": 5, "learning_rate": 3e-4, "max_length": 9, "layer_decay": 0.5,
        "class_weights": "balanced", "evaluation_steps": 3, "adapter": "lora", "seed": 11,
    }  # fmt: skip
    recipe, reasons = choices_of(minilm, data, **wanted)
    assert {name: getattr(recipe, name) for name in wanted} == wanted
    assert not reasons.keys() & wanted.keys()


def test_rows_are_measured_a_part_at_a_time_and_only_where_it_is_asked(
    minilm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = data_of(tmp_path, {"a": 40, "b": 40}, words=30)
    whole = choices_of(minilm, data)[0].max_length
    assert whole > 30
    monkeypatch.setattr("training.choose.CHUNK_TEXTS", 7)
    assert choices_of(minilm, data)[0].max_length == whole
    monkeypatch.setattr("training.choose.load_tokenizer", None)
    assert choices_of(minilm, data, max_length=12)[0].max_length == 12


def test_a_rank_without_the_adapter_is_refused(minilm: Path, tmp_path: Path) -> None:
    data = data_of(tmp_path, {"a": 4, "b": 4})
    with pytest.raises(ValueError, match="lora_rank is 4, but the adapter is 'full'; choose adapter 'lora', or none"):
        choices_of(minilm, data, lora_rank=4)
    assert choices_of(minilm, data, lora_rank=4, adapter="lora")[0].lora_rank == 4


def test_the_few_shot_method_is_refused_where_it_cannot_be_had(minilm: Path, tmp_path: Path) -> None:
    """It was taken, and the run was a plain one with the hyperparameters of neither."""
    rows = [{"text": f"row {number}", "score": float(number)} for number in range(20)]
    numbers = load_data(write_jsonl(tmp_path / "numbers.jsonl", rows), None, Recipe())
    with pytest.raises(ValueError, match=r"method is 'few_shot', which learns one label a text; .* for 'regression'"):
        choices_of(minilm, numbers, method="few_shot")
    tokenizer = train_byte_bpe(["a b row"], 270)
    config = TransformerConfig(
        vocab_size=tokenizer.vocab_size, width=16, num_layers=1, num_heads=2, feed_forward_width=24, max_positions=64,
        architecture="decoder", norm_first=True, task="causal_lm",
    )  # fmt: skip
    save_model(TextModel(config), tokenizer, tmp_path / "writer")
    texts = data_of(tmp_path, {"a": 8, "b": 8})
    with pytest.raises(ValueError, match="starts from an encoder's vectors; 'writer' is a decoder"):
        choices_of(tmp_path / "writer", texts, method="few_shot")
    assert choices_of(tmp_path / "writer", texts)[0].method == "fine_tune"


def test_few_rows_get_small_batches_and_more_epochs(minilm: Path, tmp_path: Path) -> None:
    few, _ = choices_of(minilm, data_of(tmp_path, {"a": 100, "b": 100}))
    many, reasons = choices_of(minilm, data_of(tmp_path, {"a": 2_000, "b": 2_000}))
    assert few.batch_size < many.batch_size
    assert few.num_epochs > many.num_epochs
    assert "4,000" not in reasons["batch_size"]
    assert "3,600 rows" in reasons["batch_size"], "a tenth is held out"


def test_classes_are_balanced_only_where_one_would_be_ignored(minilm: Path, tmp_path: Path) -> None:
    even, _ = choices_of(minilm, data_of(tmp_path, {"a": 60, "b": 30}))
    assert even.class_weights == "none"
    uneven, reasons = choices_of(minilm, data_of(tmp_path, {"a": 400, "b": 20}))
    assert uneven.class_weights == "balanced"
    assert "'a' has 360 rows, 'b' 18" in reasons["class_weights"]


@pytest.mark.parametrize(("words", "length"), [(6, 8), (300, 302), (2_000, 512)])
def test_no_text_is_cut_unless_the_base_must(minilm: Path, tmp_path: Path, words: int, length: int) -> None:
    recipe, reasons = choices_of(minilm, data_of(tmp_path, {"a": 10, "b": 10}, words))
    assert recipe.max_length == length
    assert ("the most this base reads" in reasons["max_length"]) == (words == 2_000)


def test_the_multiplier_scales_the_rate_that_suits_the_adapter(minilm: Path, tmp_path: Path) -> None:
    data = data_of(tmp_path, {"a": 100, "b": 100})
    rates = {
        (adapter, multiplier): choose_recipe({"adapter": adapter}, data, minilm, multiplier).recipe.learning_rate
        for adapter in ("full", "lora")
        for multiplier in (1.0, 3.0)
    }
    assert rates["full", 3.0] == pytest.approx(3 * rates["full", 1.0])
    assert rates["lora", 1.0] >= 5 * rates["full", 1.0]
    assert str(rates["full", 3.0]) == "0.0006", "as it is told, not 0.0006000000000000001"


@pytest.mark.parametrize(("width", "rate"), [(128, 5e-4), (256, 4.5e-4), (384, 2e-4), (768, 5e-5), (2_048, 2e-5)])
def test_a_wide_base_learns_slower(width: int, rate: float) -> None:
    assert usual_learning_rate(width) == pytest.approx(rate)


def test_tuning_the_whole_drops_nothing_and_keeps_a_mean(minilm: Path, tmp_path: Path) -> None:
    """What the rules were found with; the other ways to tune keep what they were found with."""
    data = data_of(tmp_path, {"a": 100, "b": 100})
    whole, reasons = choices_of(minilm, data)
    assert (whole.method, whole.dropout, whole.average_share) == ("fine_tune", 0.0, 0.1)
    assert {"dropout", "average_share"} <= reasons.keys()
    adapter, _ = choices_of(minilm, data, adapter="lora")
    few, _ = choices_of(minilm, data, method="few_shot")
    for recipe in (adapter, few):
        assert (recipe.dropout, recipe.average_share) == (None, 0.0)
    assert few.learning_rate == pytest.approx(whole.learning_rate / 2)
    wished, reasons = choices_of(minilm, data, dropout=0.2, average_share=0.0)
    assert (wished.dropout, wished.average_share) == (0.2, 0.0)
    assert not {"dropout", "average_share"} & reasons.keys()


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_a_dropout_that_leaves_nothing_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match=f"dropout is {share}; choose at least 0 and less than 1"):
        Recipe(dropout=share)


@pytest.mark.parametrize(("width", "rate"), [(128, 5e-4), (192, 4e-4), (384, 1e-4), (768, 2.5e-5), (2_048, 2e-5)])
def test_few_labels_keep_the_rates_they_were_tuned_with(width: int, rate: float) -> None:
    assert few_shot_fields(32, width)["learning_rate"] == pytest.approx(rate)


def test_few_rows_of_every_label_get_a_method_of_their_own(minilm: Path, tmp_path: Path) -> None:
    few, reasons = choices_of(minilm, data_of(tmp_path, {"a": 60, "b": 12}))
    assert (few.method, few.pooling) == ("few_shot", "mean")
    assert "no label has more than 54 rows" in reasons["method"]
    more, reasons = choices_of(minilm, data_of(tmp_path, {"a": 90, "b": 12}))
    assert more.method == "fine_tune"
    assert "'a' has 81 rows" in reasons["method"]
    wished, reasons = choices_of(minilm, data_of(tmp_path, {"a": 60, "b": 12}), method="fine_tune")
    assert (wished.method, wished.pooling) == ("fine_tune", None)
    assert "method" not in reasons
    adapter, _ = choices_of(minilm, data_of(tmp_path, {"a": 60, "b": 12}), adapter="lora")
    assert adapter.method == "fine_tune", "adapters are tuned plainly"


def test_a_few_rows_are_judged_often_enough_to_end_early(minilm: Path, tmp_path: Path) -> None:
    data = data_of(tmp_path, {"a": 20, "b": 20})
    usual, _ = choices_of(minilm, data)
    early, reasons = choices_of(minilm, data, patience=2)
    assert early.method == usual.method == "few_shot"
    assert early.patience is not None
    assert early.evaluation_steps is not None
    assert usual.evaluation_steps is not None
    assert usual.evaluation_steps >= (early.patience + 1) * early.evaluation_steps
    assert "evaluation_steps" in reasons


@pytest.mark.parametrize(
    "wanted",
    [{}, {"num_epochs": 5}, {"batch_size": 4}, {"num_epochs": 2, "batch_size": 64}, {"patience": 1}],
    ids=str,
)
def test_a_few_shot_run_is_judged_by_the_steps_that_it_makes(tmp_path: Path, wanted: dict[str, Any]) -> None:
    """An epoch goes through few rows several times. It is judged at its end, or several times an epoch with patience."""
    base = save_small_encoder(tmp_path / "base", ["a", "b", "word", *"0123456789"])
    data = data_of(tmp_path, {"a": 20, "b": 20})
    recipe, _ = choices_of(base, data, **wanted)
    (tmp_path / "run").mkdir()
    events = list(finetune(base, data, recipe, tmp_path / "run", torch.device("cpu")))
    (planned,) = [event.total_steps for event in events if isinstance(event, Started)]
    judged = [event.step for event in events if isinstance(event, Evaluated)]
    assert recipe.method == "few_shot"
    assert planned >= 10 * recipe.num_epochs
    if "patience" in wanted:
        assert 1 < planned / recipe.num_epochs / judged[0] <= 4, "evaluations an epoch"
        assert judged[0] > recipe.warmup_share * planned
    else:
        assert judged == [planned]
        assert read_manifest(tmp_path / "run")["best_step"] == planned


def test_a_few_rows_become_a_model_that_knows_them(minilm: Path, tmp_path: Path) -> None:
    texts = {"sport": ["the striker scored twice", "a late goal won the match", "the team lost the final", "a fast race"],
             "food": ["bake the bread for an hour", "add salt to the soup", "a pinch of sugar", "fry the onions"]}  # fmt: skip
    rows = [
        {"text": f"{text}, {more}", "label": label} for label, own in texts.items() for text in own for more in "xyz"
    ]
    data = load_data(write_jsonl(tmp_path / "rows.jsonl", rows), None, Recipe())
    recipe = choose_recipe({}, data, minilm).recipe
    (tmp_path / "run").mkdir()
    for _ in finetune(minilm, data, recipe, tmp_path / "run", torch.device("cpu")):
        pass
    model, tokenizer = load_model(tmp_path / "run" / "model")
    asked = ["the goalkeeper saved a penalty", "stir the sauce and add pepper"]
    with torch.inference_mode():
        answers = model.classify(pad(tokenizer.encode(asked, 32), 0)).argmax(dim=-1)
    assert [model.config.labels[answer] for answer in answers] == ["sport", "food"]
    assert read_manifest(tmp_path / "run")["recipe"]["method"] == "few_shot"


def test_the_same_data_gets_the_same_recipe(minilm: Path, tmp_path: Path) -> None:
    data = data_of(tmp_path, {"a": 33, "b": 21, "c": 5})
    assert choose_recipe({}, data, minilm) == choose_recipe({}, data, minilm)
