"""Attention by each method and by each kind of unit, against transformers and against the formulas written out."""

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from model.batch import pad
from model.explain.attention import attention_by, raw_attention, rollout
from model.explain.units import merged, removed_mass, renormalised, units_of
from model.heads import TextModel
from model.lora import AdapterBank, Span, merge
from model.tokenizer import Tokenizer
from model.weights import load_model
from tests.zoo import Zoo, make_zoo, random_adapter


@pytest.fixture(scope="module")
def loaded(minilm: Path) -> tuple[TextModel, Tokenizer]:
    return load_model(minilm)


@pytest.fixture(scope="module")
def zoo() -> Zoo:
    return make_zoo()


@pytest.mark.parametrize("text", ["The film was unbelievably good", ("我爱北京", "a pair"), "word " * 300])
def test_raw_attention_equals_transformers(
    loaded: tuple[TextModel, Tokenizer], minilm: Path, text: str | tuple[str, str]
) -> None:
    model, tokenizer = loaded
    (encoding,) = tokenizer.encode([text], 512)
    reference = transformers.AutoModel.from_pretrained(str(minilm), attn_implementation="eager").eval()
    batch = pad([encoding], 0)
    with torch.inference_mode():
        theirs = reference(input_ids=batch.ids, token_type_ids=batch.segments, output_attentions=True).attentions
    assert (raw_attention(model, encoding) - torch.cat(theirs)).abs().max() < 1e-4


def test_rollout_is_the_product_of_the_papers_matrices(loaded: tuple[TextModel, Tokenizer]) -> None:
    (encoding,) = loaded[1].encode(["a good film"], 16)
    raw = raw_attention(loaded[0], encoding)
    product = torch.eye(5)
    for layer, rolled in zip(raw, attention_by(loaded[0], encoding, "rollout"), strict=True):
        product = (0.5 * layer.mean(0) + 0.5 * torch.eye(5)) @ product
        assert rolled[0] == pytest.approx(product.numpy(), abs=1e-6)
    assert rollout(raw).sum(-1) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("name", ["base", "writer"])
def test_value_norms_are_those_of_what_each_head_adds(zoo: Zoo, name: str) -> None:
    model = zoo.models[name]
    tokenizer = zoo.bytes if name == "writer" else zoo.words
    (encoding,) = tokenizer.encode(["我爱北京 the film"], 64)
    answer = attention_by(model, encoding, "value_norm")
    trace = model.trace(pad([encoding], 0))
    width, heads = model.config.width, model.config.num_heads
    with torch.inference_mode():
        for number, layer in enumerate(model.body.layers):
            attention = layer.attention
            states = trace.hidden[number][0]
            states = layer.attention_norm(states) if layer.norm_first else states
            value = states @ attention.qkv.weight[2 * width :].T + attention.qkv.bias[2 * width :]
            for head in range(heads):
                own = slice(head * width // heads, (head + 1) * width // heads)
                moved = value[:, own] @ attention.output.weight[:, own].T  # [T, D]
                vectors = trace.probabilities[number][0, head][..., None] * moved  # [T, T, D]
                assert answer[number, head] == pytest.approx(vectors.norm(dim=-1).numpy(), rel=1e-3, abs=1e-4)


def test_value_norms_of_an_adapter_are_those_of_the_merged_model(zoo: Zoo) -> None:
    base, adapter = make_zoo().models["base"], random_adapter(zoo.models["base"], 2, ("a", "b"), seed=0)
    whole = merge(base, adapter)
    bank = AdapterBank(base)
    slot = bank.add(adapter)
    (encoding,) = zoo.words.encode(["我爱北京"], 64)
    with bank.route([Span(slot)]):
        routed = attention_by(base, encoding, "value_norm")
    assert routed == pytest.approx(attention_by(whole, encoding, "value_norm").numpy(), rel=1e-3, abs=1e-4)


def test_words_sum_columns_and_average_rows(loaded: tuple[TextModel, Tokenizer]) -> None:
    text = ("unbelievably 我爱", "unbelievably")
    (encoding,) = loaded[1].encode([text], 64)
    raw = raw_attention(loaded[0], encoding).numpy()
    units = units_of(encoding, text, "word", "keep")
    assert [(unit.text, unit.segment) for unit in units if not unit.special] == [
        ("unbelievably", 0), ("我", 0), ("爱", 0), ("unbelievably", 1),
    ]  # fmt: skip
    assert [text[unit.segment][unit.start : unit.end] for unit in units if not unit.special] == [
        unit.text for unit in units if not unit.special
    ]
    by_word = merged(raw, units)
    assert by_word.sum(-1) == pytest.approx(1.0, abs=1e-4)
    first, last = list(units[1].tokens), list(units[-2].tokens)
    assert len(first) > 1
    expected = raw[:, :, first][..., last].sum(-1).mean(-1)
    assert by_word[:, :, 1, -2] == pytest.approx(expected, abs=1e-6)


def test_a_token_is_spread_over_its_characters(loaded: tuple[TextModel, Tokenizer]) -> None:
    (encoding,) = loaded[1].encode(["good 我"], 64)
    raw = raw_attention(loaded[0], encoding).numpy()
    units = units_of(encoding, ("good 我",), "character", "keep")
    assert "".join(unit.text for unit in units if not unit.special) == "good我"
    spread = merged(raw, units)
    assert spread.sum(-1) == pytest.approx(1.0, abs=1e-4)
    for letter in range(1, 5):
        assert spread[:, :, 0, letter] == pytest.approx(raw[:, :, 0, 1] / 4, abs=1e-6)
        assert spread[:, :, letter, 0] == pytest.approx(raw[:, :, 1, 0], abs=1e-6)


def test_bytes_of_one_character_are_one_unit(zoo: Zoo) -> None:
    (encoding,) = zoo.bytes.encode(["龍 ok"], 64)
    units = units_of(encoding, ("龍 ok",), "character", "keep")
    assert [unit.text for unit in units] == ["龍", " ", "o", "k"]
    assert len(units[0].tokens) > 1
    weights = attention_by(zoo.models["writer"], encoding, "raw").numpy()
    assert merged(weights, units).sum(-1) == pytest.approx(1.0, abs=1e-4)


def test_special_tokens_leave_and_what_they_took_is_told(loaded: tuple[TextModel, Tokenizer]) -> None:
    (encoding,) = loaded[1].encode(["a good film"], 64)
    raw = raw_attention(loaded[0], encoding).numpy()
    units = units_of(encoding, ("a good film",), "token", "hide")
    assert [unit.text for unit in units] == ["a", "good", "film"]
    hidden = merged(raw, units)
    assert np.array_equal(hidden, raw[:, :, 1:-1, 1:-1])
    lost = removed_mass(raw, encoding.special)
    assert lost == pytest.approx(raw[:, :, 1:-1][..., [0, -1]].sum(-1).mean(-1), abs=1e-5)
    whole = merged(renormalised(raw, encoding.special), units)
    assert whole == pytest.approx(hidden / hidden.sum(-1, keepdims=True), abs=1e-5)
