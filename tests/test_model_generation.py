"""Writing text: the cache, company and timing never change a text, and chance follows the distribution asked for."""

import dataclasses
import itertools
import math
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from model.batch import pad_ids
from model.config import TransformerConfig
from model.generation import BeamSearch, Decoding, Sampling, Writing, check_room, choose, filtered, write_all
from model.heads import TextModel
from model.transformer import EncoderDecoder
from tests.small import configs, few, random_model, small_config, texts

BOTH = ("decoder", "encoder_decoder")
seeds = st.integers(0, 1000)
random_settings = st.builds(
    Sampling,
    max_tokens=st.integers(1, 8),
    temperature=st.sampled_from([0.0, 0.7, 1.0, 2.0]),
    top_k=st.sampled_from([0, 3]),
    top_p=st.sampled_from([1.0, 0.8]),
    seed=seeds,
)


def next_logprobs(model: TextModel, prompt: Sequence[int], ids: Sequence[int]) -> Tensor:
    """Log-probabilities [V] of the token after `ids`, by one full pass without a cache."""
    stack = model.stack
    if isinstance(stack, EncoderDecoder):
        assert model.config.bos_id is not None
        hidden = stack(pad_ids([prompt], 0), pad_ids([[model.config.bos_id, *ids]], 0))
    else:
        hidden = stack(pad_ids([[*prompt, *ids]], 0))
    return torch.log_softmax(model.vocabulary_logits(hidden[0, -1]), dim=-1)


def greedy(model: TextModel, prompt: Sequence[int], max_tokens: int) -> list[int]:
    ids: list[int] = []
    while len(ids) < max_tokens:
        token = int(next_logprobs(model, prompt, ids).argmax())
        if token == model.config.eos_id:
            break
        ids.append(token)
    return ids


def written(model: TextModel, prompt: Sequence[int], sampling: Sampling) -> Writing:
    """One text, written alone."""
    writing = Writing(prompt, sampling)
    write_all(model, [writing])
    return writing


def long_model(architecture: str, **fields: int) -> TextModel:
    """One that hardly ever ends a text by itself: its end token's score is always 0, others reach above."""
    model = random_model(small_config(architecture, tied_embeddings=False, **fields))
    assert model.language_model is not None
    assert model.language_model.output is not None
    model.language_model.output.weight[2] = 0.0
    return model


# ---- the cache, and company


@few
@given(config=configs(*BOTH), prompts=texts(1, 4), max_tokens=st.integers(1, 10), seed=seeds)
def test_greedy_text_equals_full_passes_without_cache(
    config: TransformerConfig, prompts: list[list[int]], max_tokens: int, seed: int
) -> None:
    model = random_model(config, seed)
    writings = [Writing(prompt, Sampling(max_tokens=max_tokens, temperature=0.0)) for prompt in prompts]
    write_all(model, writings)
    for writing, prompt in zip(writings, prompts, strict=True):
        assert writing.ids == greedy(model, prompt, max_tokens)
        for place, logprob in enumerate(writing.logprobs):
            expected = next_logprobs(model, prompt, writing.ids[:place])[writing.ids[place]]
            assert logprob == pytest.approx(float(expected), abs=1e-4)


@few
@given(
    config=configs(*BOTH), prompts=texts(2, 5), settings=st.lists(random_settings, min_size=5, max_size=5),
    starts=st.lists(st.integers(0, 4), min_size=5, max_size=5), seed=seeds,
)  # fmt: skip
def test_a_text_depends_neither_on_its_neighbours_nor_on_when_it_joins(
    config: TransformerConfig, prompts: list[list[int]], settings: list[Sampling], starts: list[int], seed: int
) -> None:
    model = random_model(config, seed)
    alone = [written(model, prompt, sampling) for prompt, sampling in zip(prompts, settings, strict=False)]
    together = [Writing(prompt, sampling) for prompt, sampling in zip(prompts, settings, strict=False)]
    decoding = Decoding(model)
    for step in range(max(starts) + 10):
        if joining := [writing for writing, start in zip(together, starts, strict=False) if start == step]:
            decoding.join(joining)
        decoding.step()
    assert not decoding.rows
    for mine, other in zip(alone, together, strict=True):
        assert (mine.ids, mine.finish_reason) == (other.ids, other.finish_reason)
        assert mine.logprobs == pytest.approx(other.logprobs, abs=1e-4)


@pytest.mark.parametrize("architecture", BOTH)
def test_a_stopped_row_leaves_and_the_others_write_on(architecture: str) -> None:
    model = long_model(architecture)
    sampling = Sampling(max_tokens=6, seed=1)
    expected = [written(model, prompt, sampling).ids for prompt in ([5], [6, 7], [8, 9, 10])]
    rows = [Writing(prompt, sampling) for prompt in ([5], [6, 7], [8, 9, 10])]
    decoding = Decoding(model)
    decoding.join(rows)
    decoding.step()
    decoding.stop(rows[1])
    assert [row is rows[index] for row, index in zip(decoding.rows, (0, 2), strict=True)] == [True, True]
    while decoding.rows:
        decoding.step()
    assert [row.ids for row in rows] == [expected[0], expected[1][:2], expected[2]]
    assert [row.finish_reason for row in rows] == ["length", "stop", "length"]
    decoding.step()  # with no rows there is nothing to do
    decoding.join([again := Writing([5], sampling)])
    while decoding.rows:
        decoding.step()
    assert again.ids == expected[0], "an emptied decoding starts afresh"


# ---- chance


@pytest.mark.parametrize("architecture", BOTH)
def test_the_same_seed_gives_the_same_text_and_another_seed_another(architecture: str) -> None:
    model = long_model(architecture)
    by_seed = [written(model, [5, 6], Sampling(max_tokens=12, seed=seed)).ids for seed in (1, 1, 2, 3)]
    assert by_seed[0] == by_seed[1]
    assert len({tuple(ids) for ids in by_seed}) == 3
    assert len({Writing([5], Sampling()).generator.initial_seed() for _ in range(4)}) == 4, "no seed, no repetition"


@few
@given(config=configs(*BOTH), prompts=texts(1, 3), seed=seeds)
def test_top_k_1_and_a_tiny_top_p_are_greedy(config: TransformerConfig, prompts: list[list[int]], seed: int) -> None:
    model = random_model(config, seed)
    for prompt in prompts:
        expected = greedy(model, prompt, 6)
        for fields in ({"temperature": 0.0}, {"top_k": 1}, {"top_p": 1e-6}, {"top_k": 1, "temperature": 2.0}):
            assert written(model, prompt, Sampling(max_tokens=6, seed=seed, **fields)).ids == expected


@pytest.mark.parametrize(
    ("probabilities", "top_k", "top_p", "kept"),
    [
        ([0.4, 0.3, 0.2, 0.1], 0, 1.0, {0, 1, 2, 3}),
        ([0.4, 0.3, 0.2, 0.1], 4, 1.0, {0, 1, 2, 3}),
        ([0.4, 0.3, 0.2, 0.1], 9, 1.0, {0, 1, 2, 3}),
        ([0.1, 0.3, 0.2, 0.4], 2, 1.0, {1, 3}),
        ([0.1, 0.3, 0.2, 0.4], 1, 1.0, {3}),
        ([0.4, 0.3, 0.2, 0.1], 0, 0.39, {0}),
        ([0.4, 0.3, 0.2, 0.1], 0, 0.41, {0, 1}),  # the first alone has less than 0.41
        ([0.1, 0.2, 0.3, 0.4], 0, 0.69, {2, 3}),
        ([0.1, 0.2, 0.3, 0.4], 0, 0.71, {1, 2, 3}),
        ([0.1, 0.2, 0.3, 0.4], 0, 0.91, {0, 1, 2, 3}),
        ([0.4, 0.3, 0.2, 0.1], 2, 0.55, {0}),  # of the two left, the first has 0.4 / 0.7 = 0.571
        ([0.4, 0.3, 0.2, 0.1], 2, 0.60, {0, 1}),
        ([0.4, 0.3, 0.2, 0.1], 3, 0.75, {0, 1}),  # 0.7 / 0.9 = 0.778
        ([0.4, 0.3, 0.2, 0.1], 3, 0.80, {0, 1, 2}),
    ],
)
def test_top_k_and_top_p_keep_exactly_the_right_tokens(
    probabilities: list[float], top_k: int, top_p: float, kept: set[int]
) -> None:
    scores = torch.tensor(probabilities).log()
    for shift in (0.0, 5.0):  # scores need not be normalised
        result = filtered(scores + shift, top_k, top_p)
        assert {index for index, score in enumerate(result.tolist()) if score > -math.inf} == kept
        assert torch.equal(result[list(kept)], (scores + shift)[list(kept)]), "what is kept stays as it is"


@few
@given(
    weights=st.lists(st.floats(0.01, 1.0), min_size=1, max_size=30, unique=True),
    top_k=st.integers(0, 35), top_p=st.floats(0.01, 1.0),
)  # fmt: skip
def test_the_kept_tokens_are_the_fewest_likeliest_that_reach_top_p(
    weights: list[float], top_k: int, top_p: float
) -> None:
    order = sorted(range(len(weights)), key=lambda index: -weights[index])[: top_k or len(weights)]
    total = sum(weights[index] for index in order)
    masses = [sum(weights[index] for index in order[:count]) / total for count in range(len(order))]  # of likelier ones
    if any(abs(mass - top_p) < 1e-5 for mass in masses):
        return  # float32 may fall to either side
    expected = {index for index, mass in zip(order, masses, strict=True) if mass < top_p}
    kept = filtered(torch.tensor(weights).log(), top_k, top_p) > -math.inf
    assert set(kept.nonzero().flatten().tolist()) == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, [0.4, 0.3, 0.2, 0.1]),
        ({"temperature": 0.5}, [16 / 30, 9 / 30, 4 / 30, 1 / 30]),
        ({"temperature": 2.0}, [root / sum(map(math.sqrt, (4, 3, 2, 1))) for root in map(math.sqrt, (4, 3, 2, 1))]),
        ({"top_k": 2}, [4 / 7, 3 / 7, 0.0, 0.0]),
        ({"top_p": 0.75}, [4 / 9, 3 / 9, 2 / 9, 0.0]),
        ({"temperature": 0.5, "top_k": 3, "top_p": 0.8}, [16 / 25, 9 / 25, 0.0, 0.0]),
        ({"temperature": 0.0}, [1.0, 0.0, 0.0, 0.0]),
    ],
)
def test_frequencies_follow_the_distribution(fields: dict[str, float], expected: list[float]) -> None:
    draws = 4000
    logprobs = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()
    generator = torch.Generator().manual_seed(0)
    counts = [0] * 4
    for _ in range(draws):
        counts[choose(logprobs, Sampling(**fields), generator)] += 1  # type: ignore[arg-type]
    assert all(count == 0 for count, share in zip(counts, expected, strict=True) if share == 0.0)
    pairs = zip(counts, expected, strict=True)
    square = sum((count - draws * share) ** 2 / (draws * share) for count, share in pairs if share)
    assert square < 16.3, f"{counts}: beyond the 99.9% quantile of chi-square with 3 degrees of freedom"


@pytest.mark.parametrize(
    "fields", [{"temperature": 5e-324}, {"temperature": 1e-40}, {"top_p": 5e-324}, {"top_p": 1e-9}]
)
def test_the_smallest_values_take_the_likeliest_token(fields: dict[str, float]) -> None:
    logprobs = torch.randn(300, generator=torch.Generator().manual_seed(0)).mul(4).log_softmax(-1)
    assert choose(logprobs, Sampling(**fields), torch.Generator()) == int(logprobs.argmax())  # type: ignore[arg-type]


def test_the_noted_alternatives_are_the_likeliest_tokens() -> None:
    model = long_model("decoder")
    writing = written(model, [5, 6], Sampling(max_tokens=4, seed=3, temperature=2.0, top_logprobs=3))
    assert len(writing.alternatives) == len(writing.ids) == 4
    for place, noted in enumerate(writing.alternatives):
        best = next_logprobs(model, [5, 6], writing.ids[:place]).topk(3)
        assert list(noted) == best.indices.tolist()
        assert list(noted.values()) == pytest.approx(best.values.tolist(), abs=1e-4)


# ---- the end of a text


@pytest.mark.parametrize("architecture", BOTH)
@pytest.mark.parametrize("max_tokens", [1, 2, 7])
def test_max_tokens_ends_a_text(architecture: str, max_tokens: int) -> None:
    writing = written(long_model(architecture), [5, 6], Sampling(max_tokens=max_tokens, temperature=0.0))
    assert (len(writing.ids), writing.finish_reason) == (max_tokens, "length")


@pytest.mark.parametrize("architecture", BOTH)
def test_the_end_token_ends_a_text_and_is_not_part_of_it(architecture: str) -> None:
    model = long_model(architecture)
    ids = written(model, [5, 6], Sampling(max_tokens=8, seed=0)).ids
    for place, token in enumerate(ids):
        if token in ids[:place]:
            continue
        model.config = dataclasses.replace(model.config, eos_id=token)
        writing = written(model, [5, 6], Sampling(max_tokens=8, seed=0))
        assert (writing.ids, writing.finish_reason) == (ids[:place], "stop")
        assert len(writing.logprobs) == place
    model.config = dataclasses.replace(model.config, eos_id=ids[0])
    at_once = written(model, [5, 6], Sampling(max_tokens=1, seed=0))
    assert (at_once.ids, at_once.finish_reason) == ([], "stop")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"max_tokens": 0}, "max_tokens is 0; it must be at least 1"),
        ({"temperature": -0.1}, "temperature is -0.1; choose from 0 to 2"),
        ({"temperature": 2.1}, "temperature is 2.1; choose from 0 to 2"),
        ({"temperature": math.nan}, "temperature is nan"),
        ({"top_k": -1}, "top_k is -1; choose 0"),
        ({"top_p": 0.0}, "top_p is 0.0; choose a value above 0"),
        ({"top_p": 1.1}, "top_p is 1.1"),
    ],
)
def test_sampling_errors_name_value_and_limit(fields: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Sampling(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("architecture", BOTH)
def test_a_text_that_just_fits_is_written_and_a_longer_one_refused(architecture: str) -> None:
    model = long_model(architecture, max_positions=12)
    prompt, room = (12, 12) if architecture == "encoder_decoder" else (7, 5)
    check_room(model, prompt, room)
    writing = written(model, [5] * prompt, Sampling(max_tokens=room, temperature=0.0))
    assert (len(writing.ids), writing.finish_reason) == (room, "length")
    for tokens, limit in ((prompt + 1, room), (prompt, room + 1)):
        with pytest.raises(ValueError, match=rf"{tokens} prompt tokens .*max_tokens {limit} exceed 12; shorten"):
            check_room(model, tokens, limit)
    with pytest.raises(ValueError, match="the prompt is empty"):
        check_room(model, 0, 1)


# ---- beam search


def beam(model: TextModel, prompt: Sequence[int], width: int, max_tokens: int, alpha: float) -> BeamSearch:
    search = BeamSearch(model, prompt, width, max_tokens, alpha)
    for _ in range(max_tokens):
        if search.finish_reason is None:
            search.step()
    assert search.finish_reason is not None
    return search


@few
@given(config=configs(*BOTH), prompts=texts(1, 3), max_tokens=st.integers(1, 8), seed=seeds)
def test_a_beam_of_width_1_is_greedy(
    config: TransformerConfig, prompts: list[list[int]], max_tokens: int, seed: int
) -> None:
    model = random_model(dataclasses.replace(config, vocab_size=6), seed)  # so that texts often end
    for prompt in prompts:
        prompt = [token % 6 for token in prompt]
        search = beam(model, prompt, 1, max_tokens, 0.0)
        alone = written(model, prompt, Sampling(max_tokens=max_tokens, temperature=0.0))
        assert (search.ids, search.finish_reason) == (alone.ids, alone.finish_reason)


@few
@given(
    config=configs(*BOTH), prompt=st.lists(st.integers(0, 3), min_size=1, max_size=5), max_tokens=st.integers(1, 3),
    alpha=st.sampled_from([0.0, 0.6, 2.0]), seed=seeds,
)  # fmt: skip
def test_a_beam_as_wide_as_all_texts_finds_the_best_of_all(
    config: TransformerConfig, prompt: list[int], max_tokens: int, alpha: float, seed: int
) -> None:
    model = random_model(dataclasses.replace(config, vocab_size=4), seed)
    end = model.config.eos_id
    assert end is not None
    letters = [token for token in range(4) if token != end]
    every = [(*ids, end) for size in range(max_tokens) for ids in itertools.product(letters, repeat=size)]
    every += list(itertools.product(letters, repeat=max_tokens))
    scores = {}
    for ids in every:
        summed = sum(float(next_logprobs(model, prompt, ids[:place])[token]) for place, token in enumerate(ids))
        scores[ids] = summed / ((5 + len(ids)) / 6) ** alpha
    search = beam(model, prompt, 4**max_tokens, max_tokens, alpha)
    found = (*search.ids, end) if search.finish_reason == "stop" else tuple(search.ids)
    assert scores[found] == pytest.approx(max(scores.values()), abs=1e-4)


# ---- many texts


@pytest.mark.parametrize("architecture", BOTH)
@pytest.mark.parametrize("max_rows", [1, 3, 64])
def test_write_all_writes_every_text_and_holds_no_more_rows_than_asked(
    architecture: str, max_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = random_model(small_config(architecture))
    prompts = [[5 + number] * (1 + number % 4) for number in range(11)]
    settings = [Sampling(max_tokens=1 + number % 5, seed=number) for number in range(11)]
    expected = [written(model, prompt, sampling) for prompt, sampling in zip(prompts, settings, strict=True)]
    held: list[int] = []
    choose_ = Decoding._choose
    monkeypatch.setattr(Decoding, "_choose", lambda self, *rest: (held.append(len(self.rows)), choose_(self, *rest))[1])
    writings = [Writing(prompt, sampling) for prompt, sampling in zip(prompts, settings, strict=True)]
    ended: list[int] = []
    write_all(model, writings, max_rows, ended.append)
    assert [(w.ids, w.finish_reason) for w in writings] == [(w.ids, w.finish_reason) for w in expected]
    assert max(held) <= max_rows
    assert ended == sorted(ended)
    assert ended[-1] == 11
    write_all(model, [])
