"""An embedding table whose rows wait until they are read is changed as by torch's AdamW."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import training.optim
from model.heads import TextModel
from model.lora import LoraConfig, make_trainable
from tests.parallel_run import LABELS, classify, masked, model_for
from tests.short_runs import assert_equal, trainer_of, until, weights_of
from tests.small import random_model, small_config
from training.checkpoints import load_checkpoint
from training.config import Optimisation
from training.finetune import freeze
from training.optim import LARGE_VOCABULARY, clip_gradients, make_optimizer
from training.row_adamw import FADED_STEPS, ROW_STEPS, RowAdamW

VOCABULARY, WIDTH, STEPS = 40, 6, 700


def rate_at(step: int) -> float:
    """Up, and down to zero."""
    return 0.02 * min((step + 1) / 50, (STEPS - step) / (STEPS - 50))


class Scores(nn.Module):
    """A table, and a layer that is changed as ever."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table, self.layer = nn.Embedding(VOCABULARY, WIDTH), nn.Linear(WIDTH, 1)
        self.double()

    def forward(self, ids: Tensor) -> Tensor:
        loss: Tensor = (self.layer(self.table(ids)).tanh() - ids[:, None] / VOCABULARY).square().sum()
        return loss


def batches() -> Iterator[Tensor]:
    """Row 0 is never read, row 1 just once, row 2 after more steps than a gradient lasts, the others now and then."""
    generator = torch.Generator().manual_seed(1)
    for step in range(STEPS):
        ids = torch.randint(3, VOCABULARY, (4,), generator=generator)
        if step == 5:
            ids = torch.tensor([1, 2, 2, 7])
        yield torch.cat([ids, torch.tensor([2])]) if step == FADED_STEPS + 100 else ids


def optimizers(
    weight_decay: float, second: float, epsilon: float
) -> tuple[Scores, torch.optim.AdamW, Scores, RowAdamW]:
    fields = {"betas": (0.9, second), "eps": epsilon, "lr": rate_at(0), "fused": True}
    usual, rows = Scores(), Scores()
    described = [
        [
            {"params": list(model.table.parameters()), "weight_decay": weight_decay, "rate_share": 0.5},
            {"params": list(model.layer.parameters()), "weight_decay": 0.0, "rate_share": 1.0},
        ]
        for model in (usual, rows)
    ]
    plain = torch.optim.AdamW(described[0], **fields)  # type: ignore[arg-type]
    return usual, plain, rows, RowAdamW(described[1], rows.table, rate_at, **fields)


def one_step(model: Scores, optimizer: torch.optim.AdamW, ids: Tensor, step: int) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate_at(step) * group["rate_share"]
    optimizer.zero_grad()
    model(ids).backward()
    weight = model.table.weight
    if weight.grad is not None and weight.grad.is_sparse:
        weight.grad = weight.grad.coalesce()
    clip_gradients(list(model.parameters()), 0.5)
    optimizer.step()


def largest_difference(first: Scores, second: Scores) -> float:
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    return max(float((one - other).detach().abs().max()) for one, other in pairs)


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
@pytest.mark.parametrize("second", [0.999, 0.95])
def test_weights_and_moments_are_those_of_torchs_adamw(weight_decay: float, second: float) -> None:
    usual, plain, rows, ours = optimizers(weight_decay, second, 1e-12)
    start = usual.table.weight.detach().clone()
    with ours.follow():
        for step, ids in enumerate(batches()):
            one_step(usual, plain, ids, step)
            one_step(rows, ours, ids, step)
            if step == 200:
                assert torch.equal(rows.table.weight[0], start[0])
                assert (rows.table.weight[1] - usual.table.weight[1]).abs().max() > 1e-3, "the row waits"
                ours.catch_up()
                assert largest_difference(usual, rows) < 1e-8
    ours.catch_up()
    assert largest_difference(usual, rows) < 1e-8
    assert (usual.table.weight[1] - start[1]).abs().max() > 1e-2
    theirs, kept = plain.state[usual.table.weight], ours.state[rows.table.weight]
    for moment in ("exp_avg", "exp_avg_sq"):
        torch.testing.assert_close(kept[moment], theirs[moment], rtol=1e-3, atol=1e-9)
    assert float(kept["step"]) == float(theirs["step"]) == STEPS
    assert kept[ROW_STEPS].eq(STEPS).all()


def test_an_epsilon_that_counts_makes_little_difference() -> None:
    """Gradients near 1e-4: the bar is a hundredth of what the last gradients still move."""
    usual, plain, rows, ours = optimizers(0.1, 0.999, 1e-4)
    with ours.follow():
        for step, ids in enumerate(batches()):
            one_step(usual, plain, ids, step)
            one_step(rows, ours, ids, step)
    before = largest_difference(usual, rows)
    ours.catch_up()
    assert largest_difference(usual, rows) < before / 100


def test_steps_with_the_whole_gradient_may_come_between() -> None:
    """As when a run is continued by several processes, or was begun by AdamW itself."""
    usual, plain, rows, ours = optimizers(0.1, 0.999, 1e-12)
    for step, ids in enumerate(batches()):
        one_step(usual, plain, ids, step)
        if step == 100:
            state = ours.state_dict()
            del state["state"][0][ROW_STEPS]
            ours.load_state_dict(state)
        if step // 100 in (0, 3, 5):
            ours.catch_up()
            one_step(rows, ours, ids, step)
        else:
            with ours.follow():
                one_step(rows, ours, ids, step)
    ours.catch_up()
    assert largest_difference(usual, rows) < 1e-8


# ---- in the trainer


def classifier(dropout: float = 0.0) -> TextModel:
    config = small_config("encoder", dropout=dropout, task="classification", **LABELS)
    return random_model(config).requires_grad_(True)


@pytest.fixture
def small_counts_as_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training.optim, "LARGE_VOCABULARY", 40)


@pytest.mark.parametrize("micro_batch_size", [None, 3])
def test_a_run_ends_with_the_weights_of_one_that_changes_all_rows_at_each_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, micro_batch_size: int | None
) -> None:
    fields = {"micro_batch_size": micro_batch_size, "evaluation_steps": 4, "weight_decay": 0.1, "layer_decay": 0.9}
    usual = trainer_of(classify(classifier().double()), tmp_path / "usual", **fields)
    usual_events = list(usual.run())
    monkeypatch.setattr(training.optim, "LARGE_VOCABULARY", 40)
    waiting = trainer_of(classify(classifier().double()), tmp_path / "waiting", **fields)
    events = list(waiting.run())
    assert [type(event) for event in events] == [type(event) for event in usual_events]
    differences = {
        name: float((parameter - dict(usual.model.named_parameters())[name]).detach().abs().max())
        for name, parameter in waiting.model.named_parameters()
    }
    assert 0 < max(differences.values()) < 1e-5
    assert not waiting.model.stack.embeddings.token.sparse, "the model is left as it was"


def test_a_run_taken_up_amid_an_epoch_ends_with_the_same_bits(tmp_path: Path, small_counts_as_large: None) -> None:
    fields = {"evaluation_steps": 5, "checkpoint_steps": 1, "bfloat16": True}
    whole = trainer_of(classify(classifier(0.1)), tmp_path / "whole", **fields)
    list(whole.run())
    for step in (5, 10):
        until(trainer_of(classify(classifier(0.1)), tmp_path / "cut", **fields).run(), step)
    rest = trainer_of(classify(classifier(0.1)), tmp_path / "cut", **fields)
    list(rest.run())
    assert_equal(weights_of(rest.model), weights_of(whole.model))
    assert rest.position.history == whole.position.history


def test_a_checkpoint_with_waiting_rows_is_taken_up_by_plain_adamw(tmp_path: Path, small_counts_as_large: None) -> None:
    until(trainer_of(classify(classifier()), tmp_path, evaluation_steps=5, checkpoint_steps=1).run(), 5)
    model = classifier()
    plain = make_optimizer(model, Optimisation(1, 1e-3), 10, sharded=True)
    load_checkpoint(tmp_path / "checkpoint", model, plain)
    state = plain.state[model.stack.embeddings.token.weight]
    assert set(state) == {"step", "exp_avg", "exp_avg_sq"}


def test_it_is_used_for_large_tables_of_which_few_rows_are_read() -> None:
    def used(model: TextModel, sharded: bool = False) -> bool:
        return isinstance(make_optimizer(model, Optimisation(1, 1e-3), 10, sharded), RowAdamW)

    large = {"task": "classification", "vocab_size": LARGE_VOCABULARY} | LABELS
    assert used(model_for(**large))
    assert not used(model_for(**large | {"vocab_size": LARGE_VOCABULARY - 1}))
    assert not used(model_for(**large), sharded=True)
    frozen, adapted = model_for(**large), model_for(**large)
    freeze(frozen, 1)
    make_trainable(adapted, LoraConfig(rank=2))
    assert not used(frozen)
    assert not used(adapted)
    assert not used(masked().model), "its scores are of all tokens"
    assert not used(model_for(vocab_size=LARGE_VOCABULARY)), "its scores are of all tokens"
