"""Methods side by side: each as if alone, the passes of their control shared."""

import dataclasses
from collections.abc import Iterator

import pytest
import torch

from model.batch import pad
from model.explain.comparison import compare, predicted
from model.explain.faithfulness import Trial, faithfulness, faithfulness_of_each
from model.explain.methods import all_methods, attention_paid
from model.explain.target import Attribution, Target
from tests.explained import CLOSE, MASK, counted_passes, framed, smooth
from tests.small import gap

TEXTS = [framed(list(range(5, 17))), framed([9, 8, 7, 6]), framed([30])]
passes = pytest.fixture(counted_passes)


@pytest.mark.parametrize("beam_width", [0, 1])
def test_each_method_has_the_figures_it_has_alone(beam_width: int) -> None:
    model, trial = smooth(pooling="first", pooler="tanh"), Trial(num_random=4, seed=3, beam_width=beam_width)
    names = list(all_methods(MASK))
    compared = list(compare(model, TEXTS, all_methods(MASK, seed=1), MASK, trial))
    again = all_methods(MASK, seed=1)
    for index, (text, found) in enumerate(zip(TEXTS, compared, strict=True)):
        assert list(found) == names
        target, own = predicted(model, text), dataclasses.replace(trial, seed=3 + index)
        for name, explain in again.items():
            alone = faithfulness(model, text, target, explain(model, text, target).scores, MASK, own)
            beside = found[name].faithfulness
            assert found[name].seconds > 0.0
            assert beside.verdict == alone.verdict
            for ours, theirs in (
                (beside.comprehensiveness, alone.comprehensiveness),
                (beside.sufficiency, alone.sufficiency),
            ):
                assert ours.at == pytest.approx(theirs.at, abs=CLOSE)
                assert ours.random.mean == pytest.approx(theirs.random.mean, abs=CLOSE)
                assert (ours.bounds is None) == (beam_width == 0)


def test_methods_share_the_control_and_the_search_for_bounds(passes: list[int]) -> None:
    model, text, trial = smooth(), framed(list(range(5, 35))), Trial(num_random=20, beam_width=1)
    one, many = [torch.rand(32)], [torch.rand(32) for _ in range(8)]
    faithfulness_of_each(model, text, Target(0), one, MASK, trial)
    alone = sum(passes)
    passes.clear()
    faithfulness_of_each(model, text, Target(0), many, MASK, trial)
    assert sum(passes) < 1.5 * alone


def test_bounds_hold_every_method_that_was_tried() -> None:
    model, text = smooth(seed=5), framed(list(range(5, 25)))
    scores = [torch.rand(22, generator=torch.Generator().manual_seed(seed)) for seed in range(30)]
    for found in faithfulness_of_each(model, text, Target(0), scores, MASK, Trial(num_random=2, beam_width=1)):
        for part in (found.comprehensiveness, found.sufficiency):
            assert part.bounds is not None
            assert part.bounds.lower <= part.aopc <= part.bounds.upper


@pytest.mark.parametrize(("pooling", "place"), [("first", 0), ("last", -1), ("mean", None)])
def test_attention_paid_is_that_of_the_token_that_the_head_reads(pooling: str, place: int | None) -> None:
    model, text = smooth(pooling=pooling), framed([5, 6, 7])
    stacked = torch.stack(model.trace(pad([text], 0)).probabilities)[:, 0]  # [L, H, T, T]
    raw = stacked.mean(dim=(0, 1))
    layers = [0.5 * layer.mean(dim=0) + 0.5 * torch.eye(5) for layer in stacked]
    rolled = layers[1] @ layers[0]
    for method, expected in (("raw", raw), ("rollout", rolled)):
        found = attention_paid(model, text, method).scores  # type: ignore[arg-type]
        assert gap(found, expected.mean(dim=0) if place is None else expected[place]) < CLOSE
        assert float(found.sum()) == pytest.approx(1.0, abs=CLOSE)


def test_the_answer_that_is_explained_is_the_models_own() -> None:
    for seed in range(5):
        model, text = smooth(seed=seed), TEXTS[0]
        assert predicted(model, text).label == int(model.classify(pad([text], 0)).argmax())
    assert predicted(smooth(task="regression", labels=()), TEXTS[0]) == Target(0)


def test_a_text_is_compared_when_it_is_asked_for() -> None:
    def texts() -> Iterator[object]:
        yield TEXTS[0]
        raise AssertionError("the second text was asked for too early")

    fixed = {"one": lambda _model, encoding, _: Attribution(torch.arange(float(len(encoding.ids))), 0.0)}
    found = next(iter(compare(smooth(), texts(), fixed, MASK, Trial(num_random=2, beam_width=0))))  # type: ignore[arg-type]
    assert found["one"].faithfulness.comprehensiveness.bounds is None
