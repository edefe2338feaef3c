"""Losses of language models: those of documents and pairs one by one; what is hidden, and how often."""

import math
import random
from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from model.batch import pad_ids
from tests.running_text import corpus_of
from tests.small import few, random_model, small_config
from training.corpus import PackedRows
from training.objectives import CausalLanguageModel, MaskedLanguageModel, SequenceToSequence, TextPairs

CLOSE = 1e-5
SPECIAL = (0, 1, 2, 3, 4)


def masked_objective(mask_share: float = 0.3, seed: int = 0) -> MaskedLanguageModel:
    chance = random.Random(5)
    documents = [[chance.randint(1, 39) for _ in range(chance.randint(1, 40))] for _ in range(120)]  # 1 is [UNK]
    rows = PackedRows(corpus_of(documents), 32, 2, 3, 0, causal=False)
    model = random_model(small_config("encoder"))
    return MaskedLanguageModel(model, rows, rows, 8, seed, mask_share, 4, SPECIAL)


def hidden_by(objective: MaskedLanguageModel, rows: Sequence[int], step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """One loss -> the ids the model saw [B, T], and which positions it had to name [B, T], found by their states."""
    seen: list[torch.Tensor] = []
    model = objective.model
    hooks = [
        model.encoder.register_forward_hook(lambda _, given, states: seen.extend([given[0].ids, states])),
        model.language_model.register_forward_hook(lambda _, given, _logits: seen.append(given[0])),  # type: ignore[union-attr]
    ]
    result = objective.loss(rows, step)
    loss, tokens = result.mean, result.tokens
    for hook in hooks:
        hook.remove()
    ids, states, asked = seen
    assert tokens == int(objective.train.batch(rows).real.sum())
    assert math.isfinite(float(loss))
    chosen = (states[:, :, None] == asked[None, None]).all(dim=-1).any(dim=-1)  # [B, T, M, D] -> [B, T]
    chosen &= objective.train.batch(rows).real
    assert int(chosen.sum()) == len(asked)
    expected = F.cross_entropy(model.vocabulary_logits(states[chosen]), objective.train.batch(rows).ids[chosen])
    assert float(loss) == pytest.approx(float(expected), abs=CLOSE), "the targets are the original ids"
    return ids, chosen


def test_masking_hides_its_share_of_ordinary_tokens_and_no_special_ones() -> None:
    objective = masked_objective()
    rows = list(range(len(objective.train)))
    batch = objective.train.batch(rows)
    ids, chosen = hidden_by(objective, rows, step=3)
    special = torch.isin(batch.ids, torch.tensor(SPECIAL)) | ~batch.real
    assert special.sum() > 200
    assert not chosen[special].any()
    assert torch.equal(ids[~chosen], batch.ids[~chosen])
    candidates, count = int((~special).sum()), int(chosen.sum())
    assert abs(count - 0.3 * candidates) < 4 * math.sqrt(candidates * 0.3 * 0.7)
    masked = int((ids[chosen] == 4).sum())
    kept = int((ids[chosen] == batch.ids[chosen]).sum())
    for number, share in ((masked, 0.8), (kept, 0.1), (count - masked - kept, 0.1)):
        assert abs(number - share * count) < 4 * math.sqrt(count * share * (1 - share))


def test_the_same_step_hides_the_same_tokens_and_another_step_others() -> None:
    objective = masked_objective()
    rows = [0, 1, 2]
    first, again, other = (hidden_by(objective, rows, step)[0] for step in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, hidden_by(masked_objective(seed=1), rows, 5)[0]), "the seed counts too"
    with torch.inference_mode():
        assert objective.evaluate() == objective.evaluate()


def test_very_little_text_still_hides_one_ordinary_token() -> None:
    model = random_model(small_config("encoder"))
    rows = PackedRows(corpus_of([[1, 1, 9, 1]]), 16, 2, 3, 0, causal=False)
    objective = MaskedLanguageModel(model, rows, rows, 1, 0, 1e-9, 4, SPECIAL)
    _, chosen = hidden_by(objective, [0], 0)
    assert rows.batch([0]).ids[chosen].tolist() == [9]


@few
@given(
    documents=st.lists(st.lists(st.integers(0, 39), min_size=1, max_size=14), min_size=1, max_size=8),
    seed=st.integers(0, 1000),
)
def test_the_causal_loss_equals_that_of_each_document_by_itself(documents: list[list[int]], seed: int) -> None:
    model = random_model(small_config("decoder"), seed)
    rows = PackedRows(corpus_of(documents), 16, 0, 0, 0, causal=True)
    losses: list[torch.Tensor] = []
    right = 0
    for document in documents:
        ids = [0, *document, 0]
        logits = model.vocabulary_logits(model.decoder(pad_ids([ids[:-1]], 0))[0])
        losses.append(F.cross_entropy(logits, torch.tensor(ids[1:]), reduction="none"))
        right += int((logits.argmax(dim=-1) == torch.tensor(ids[1:])).sum())
    expected = torch.cat(losses)
    objective = CausalLanguageModel(model, rows, rows, 4, 0)
    result = objective.loss(list(range(len(rows))), 0)
    loss, tokens = result.mean, result.tokens
    assert float(loss) == pytest.approx(float(expected.mean()), rel=CLOSE)
    assert tokens == sum(map(len, documents)) + 2 * len(documents)
    scores = objective.evaluate()
    assert scores.loss == pytest.approx(float(expected.mean()), rel=CLOSE)
    assert (scores.num_tokens, scores.accuracy) == (len(expected), pytest.approx(right / len(expected)))
    assert scores.perplexity == pytest.approx(math.exp(scores.loss))


@few
@given(
    pairs=st.lists(
        st.tuples(*[st.lists(st.integers(0, 39), min_size=least, max_size=9) for least in (1, 0)]),
        min_size=1,
        max_size=6,
    ),
    smoothing=st.sampled_from([0.0, 0.1]),
    seed=st.integers(0, 1000),
)
def test_the_loss_of_pairs_equals_that_of_each_pair_by_itself(
    pairs: list[tuple[list[int], list[int]]], smoothing: float, seed: int
) -> None:
    model = random_model(small_config("encoder_decoder"), seed)
    smoothed, plain = [], []
    for source, target in pairs:
        states = model.transformer(pad_ids([source], 0), pad_ids([[1, *target]], 0))[0]
        logits, wanted = model.vocabulary_logits(states), torch.tensor([*target, 2])
        smoothed.append(F.cross_entropy(logits, wanted, reduction="none", label_smoothing=smoothing))
        plain.append(F.cross_entropy(logits, wanted, reduction="none"))
    data = TextPairs([source for source, _ in pairs], [target for _, target in pairs])
    objective = SequenceToSequence(model, data, data, 4, 0, smoothing)
    result = objective.loss(list(range(len(pairs))), 0)
    loss, tokens = result.mean, result.tokens
    assert float(loss) == pytest.approx(float(torch.cat(smoothed).mean()), rel=CLOSE)
    assert tokens == sum(len(source) + len(target) for source, target in pairs)
    scores = objective.evaluate()
    assert scores.loss == pytest.approx(float(torch.cat(plain).mean()), rel=CLOSE), "scores are without smoothing"
    assert scores.num_tokens == sum(len(target) + 1 for _, target in pairs)
    for epoch in (0, 1):
        assert sorted(row for rows in objective.steps(epoch) for row in rows) == list(range(len(pairs)))


def test_each_epoch_takes_every_packed_row_once_in_an_order_of_its_own() -> None:
    objective = masked_objective()
    epochs = [objective.steps(epoch) for epoch in (0, 1, 0)]
    for epoch in epochs:
        assert sorted(row for rows in epoch for row in rows) == list(range(len(objective.train)))
        assert max(map(len, epoch)) == 8
    assert epochs[0] == epochs[2] != epochs[1]
