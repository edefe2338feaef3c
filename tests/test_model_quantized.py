"""Linears in int8: no row depends on its neighbours, answers stay those of float32, adapters and plain copies are exact."""

import random
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from model.batch import pad_ids, unpad
from model.capability import activation_levels, has_int8
from model.heads import TextModel, pool_unpadded
from model.lora import AdapterBank, RoutedLinear, Span, merge
from model.quantized import QuantizedLinear, quantize, sample, token_levels, uneven_channels
from model.tokenizer import Encoding, Tokenizer, train_wordpiece
from model.weights import load_model
from tests.conftest import Rows
from tests.small import few, gap, random_model, small_config
from tests.test_model_lora import varied
from training.catalogue import chinese_reviews

pytestmark = pytest.mark.skipif(not has_int8(torch.device("cpu")), reason="needs AVX2")
Models = tuple[TextModel, TextModel, Tokenizer]  # in float32, in int8


@pytest.fixture(scope="module")
def models(minilm: Path) -> Models:
    (plain, tokenizer), (rounded, _) = load_model(minilm), load_model(minilm)
    quantize(rounded, tokenizer)
    return plain, rounded, tokenizer


@pytest.fixture(scope="module")
def small_tokenizer() -> Tokenizer:
    return train_wordpiece(["red green blue cat dog"] * 5, 40)


def small_pair(tokenizer: Tokenizer, seed: int) -> tuple[TextModel, TextModel]:
    config = small_config("encoder", vocab_size=tokenizer.vocab_size, width=32, feed_forward_width=64)
    plain, rounded = random_model(config, seed), random_model(config, seed)
    quantize(rounded, tokenizer)
    return plain, rounded


def linear_of(inputs: int, outputs: int, seed: int, uneven: int = 4) -> QuantizedLinear:
    torch.manual_seed(seed)
    return QuantizedLinear(nn.Linear(inputs, outputs), torch.randperm(inputs)[:uneven], activation_levels())


def embedded(model: TextModel, encodings: list[Encoding]) -> Tensor:
    """Unit vectors [B, D]."""
    with torch.no_grad():
        documents = unpad(encodings)
        return F.normalize(pool_unpadded(model.body.forward_unpadded(documents), documents, "mean"), dim=-1)


def levels_in(linear: QuantizedLinear, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return token_levels(rows * linear._even, linear.levels, True)


@few
@given(
    inputs=st.sampled_from([8, 33, 384]), outputs=st.sampled_from([3, 65, 384]), before=st.integers(0, 70),
    after=st.integers(0, 300), seed=st.integers(0, 1000), uneven=st.sampled_from([0, 1, 4]),
)  # fmt: skip
def test_a_row_is_the_same_whatever_its_neighbours(
    inputs: int, outputs: int, before: int, after: int, seed: int, uneven: int
) -> None:
    """Neighbours a hundred times as large, among them one of zeros, before and after it: its levels and their product to
    the bit, the sum with what stays in float32 to float32's own rounding."""
    row = torch.randn(1, inputs, generator=torch.Generator().manual_seed(seed))
    many = 100 * torch.randn(before + 1 + after, inputs)
    many[-1] = 0
    many[before] = row
    linear = linear_of(inputs, outputs, seed, uneven)
    for alone, together in zip(levels_in(linear, row), levels_in(linear, many), strict=True):
        assert torch.equal(alone[0], together[before])
    assert gap(linear(many)[before], linear(row)[0]) < 1e-6
    linear._exact_weight.zero_()
    assert torch.equal(linear(many)[before], linear(row)[0])


@few
@given(
    inputs=st.sampled_from([8, 100, 384]), outputs=st.sampled_from([1, 64]), size=st.floats(1e-3, 1e3),
    seed=st.integers(0, 1000), uneven=st.sampled_from([0, 4]),
)  # fmt: skip
def test_it_is_the_linear_within_the_rounding_of_its_levels(
    inputs: int, outputs: int, size: float, seed: int, uneven: int
) -> None:
    linear = linear_of(inputs, outputs, seed, uneven)
    rows = size * torch.randn(2, 9, inputs)
    before = rows.clone()
    exact = F.linear(rows, linear.weight, linear.bias)
    largest, weights = rows.abs().amax(-1, keepdim=True), linear.weight.abs()
    of_activations = largest / linear.levels * weights.sum(1)
    of_weights = weights.amax(1) / 127 / 2 * (rows.abs().sum(-1, keepdim=True) + inputs * largest / linear.levels)
    assert linear(rows).shape == (2, 9, outputs)
    assert torch.equal(rows, before), "what it reads, others read too"
    assert bool(((linear(rows) - exact).abs() <= (of_activations + of_weights) * 1.01 + 1e-6).all())


def test_the_largest_products_do_not_overflow() -> None:
    """Activations and weights at their highest level but for one input, and pairs of products are summed in 16 bits."""
    linear = nn.Linear(512, 64)
    torch.nn.init.constant_(linear.weight, 0.5)
    for sign in (1.0, -1.0):
        rounded = QuantizedLinear(linear, torch.tensor([7]), activation_levels())
        rows = torch.full((40, 512), sign * 3.0)
        rows[:, 0] = -sign * 3.0
        assert set(levels_in(rounded, rows)[0].unique().tolist()) >= {0, rounded.levels}
        assert torch.allclose(rounded(rows), linear(rows), rtol=1e-4)


@pytest.mark.parametrize("levels", [126, 254])
def test_both_numbers_of_levels_are_right(levels: int) -> None:
    """Whatever the CPU: with one weight an output no pair of products overflows."""
    torch.manual_seed(0)
    linear = nn.Linear(64, 64)
    with torch.no_grad():
        linear.weight.copy_(torch.diag(torch.randn(64)))
    rounded = QuantizedLinear(linear, torch.tensor([3]), levels)
    rows = torch.cat([torch.randn(20, 64), 5 + torch.rand(20, 64), torch.full((1, 64), 0.1), torch.zeros(1, 64)])
    found, lowest, step = levels_in(rounded, rows)
    assert (int(found.min()), int(found.max())) == (0, levels)
    near = found.float() * step + lowest
    assert bool(((near - rows * rounded._even).abs() <= step / 2 * 1.001 + 1e-6).all())
    assert bool(((rounded(rows) - linear(rows)).abs() <= step / 2 * 1.001 * linear.weight.diag().abs() + 1e-5).all())


@few
@given(
    levels=st.sampled_from([126, 254]), offset=st.floats(-1e9, 1e9), size=st.sampled_from([0.0, 1e-30, 1e-3, 1.0, 100.0]),
    seed=st.integers(0, 1000),
)  # fmt: skip
def test_no_level_runs_over_however_far_from_zero_a_token_lies(
    levels: int, offset: float, size: float, seed: int
) -> None:
    """A step may be less than what float32 can tell apart there; a level that ran over would come out at the other end."""
    rows = offset + size * torch.randn(8, 40, generator=torch.Generator().manual_seed(seed))
    found, lowest, step = token_levels(rows, levels, in_place=False)
    near = found.double() * step.double() + lowest.double()
    assert bool(((near - rows.double()).abs() <= step.double() * 1.001).all())


@few
@given(seed=st.integers(0, 1000), loud=st.integers(0, 20), inputs=st.sampled_from([8, 64, 384]))
def test_as_few_channels_are_uneven_as_leave_steps_of_twice_the_least(seed: int, loud: int, inputs: int) -> None:
    largest = 1 + torch.rand(inputs, generator=torch.Generator().manual_seed(seed))
    largest[torch.randperm(inputs)[:loud]] *= 10
    most = min(15, inputs // 8)
    ordered = largest.sort(descending=True).values.tolist()
    found = uneven_channels(largest)
    left = largest.clone().index_fill_(0, found, 0.0).max()
    assert len(found) <= most
    assert left <= 2 * ordered[most]
    fewer = [count for count in (0, 1, 3, 7) if count < len(found)]
    assert all(ordered[count] > 2 * ordered[most] for count in fewer)


def test_uneven_channels_are_exact() -> None:
    linear = linear_of(384, 64, seed=0)
    rows = torch.zeros(5, 384)
    rows[:, linear._uneven] = torch.randn(5, 4) * 1000
    assert torch.allclose(linear(rows), F.linear(rows, linear.weight, linear.bias), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("language", ["english", "chinese"])
def test_vectors_keep_their_direction(models: Models, sentences: list[str], cache: Path, language: str) -> None:
    plain, rounded, tokenizer = models
    reviews = [row["text"] for row in chinese_reviews(cache)["train"]]
    texts = sentences if language == "english" else random.Random(1).sample(reviews, 32)
    encodings = tokenizer.encode(texts, 128)
    cosine = (embedded(plain, encodings) * embedded(rounded, encodings)).sum(dim=1)
    assert cosine.min() >= 0.995
    assert cosine.min() < 0.99999, "it is not float32"


def test_a_text_among_others_has_the_vector_it_has_alone(models: Models, sentences: list[str]) -> None:
    _, rounded, tokenizer = models
    encodings = tokenizer.encode([*sentences[:8], "!" * 300, "的" * 100, " ".join(sentences)], 512)
    together = embedded(rounded, encodings)
    alone = torch.cat([embedded(rounded, [encoding]) for encoding in encodings])
    assert (together * alone).sum(dim=1).min() > 0.9999, "closer by far than int8 is to float32"


def test_labels_of_a_head_trained_on_movie_sentences_stay(models: Models, movie_rows: Rows) -> None:
    """A regularised head: one that is overfitted to so few rows has margins of chance, which any rounding turns."""
    plain, rounded, tokenizer = models
    rows = random.Random(2).sample(movie_rows, 400)
    encodings = tokenizer.encode([row["text"] for row in rows], 64)
    exact, near = embedded(plain, encodings), embedded(rounded, encodings)
    positive = torch.tensor([row["label"] == "positive" for row in rows])
    head = nn.Linear(384, 2)
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    optimizer = torch.optim.AdamW(head.parameters(), lr=0.05, weight_decay=1.0)
    for _ in range(200):
        optimizer.zero_grad()
        F.cross_entropy(head(exact[:250]), positive[:250].long()).backward()
        optimizer.step()
    before, after = head(exact[250:]).argmax(1), head(near[250:]).argmax(1)
    assert (before == positive[250:]).float().mean() > 0.65
    assert (before == after).float().mean() >= 0.99


def test_the_sample_is_the_same_each_time_and_fits(small_tokenizer: Tokenizer) -> None:
    first, second = sample(small_tokenizer, 20), sample(small_tokenizer, 20)
    assert [one.ids for one in first] == [one.ids for one in second]
    assert 1 <= min(len(one.ids) for one in first) <= max(len(one.ids) for one in first) <= 20


@few
@given(seed=st.integers(0, 1000))
def test_adapters_stay_float32_over_an_int8_base(small_tokenizer: Tokenizer, seed: int) -> None:
    plain, rounded = small_pair(small_tokenizer, seed)
    bank = AdapterBank(rounded)
    adapters = varied(plain)
    slots = [bank.add(adapter) for adapter in adapters]
    for slot, adapter in zip(slots, adapters, strict=True):
        with bank.route([Span(slot)]):
            for name, (down, up) in adapter.factors.items():
                routed = rounded.get_submodule(name)
                assert isinstance(routed, RoutedLinear)
                assert isinstance(routed.base, QuantizedLinear)
                rows = torch.randn(7, routed.in_features)
                added = adapter.lora.scale * (rows @ down.T @ up.T)
                assert gap(routed(rows), routed.base(rows) + added) < 1e-4
            rows = pad_ids([[5, 6, 7], [8, 9]], 0)
            near = rounded.body(rows)[rows.real]
        exact = merge(plain, adapter).body(rows)[rows.real]
        assert F.cosine_similarity(near, exact).min() > 0.97


def test_a_plain_copy_has_the_weights_as_they_were(small_tokenizer: Tokenizer) -> None:
    """Explanations ask for gradients, and for the model itself."""
    plain, rounded = small_pair(small_tokenizer, 3)
    bank = AdapterBank(rounded)
    copies = [bank.plain(0)]
    adapter = varied(plain)[0]
    slot = bank.add(adapter)
    copies += [bank.plain(0), bank.plain(slot)]
    for copy, expected in zip(copies, (plain, plain, merge(plain, adapter)), strict=True):
        assert not any(isinstance(module, QuantizedLinear) for module in copy.modules())
        assert copy.state_dict().keys() == expected.state_dict().keys()
        for name, tensor in copy.state_dict().items():
            assert gap(tensor, expected.state_dict()[name]) < 1e-5
