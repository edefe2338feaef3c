"""The encoder against the reference implementation, against itself by its other path, and under padding."""

import math
from pathlib import Path

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from model.attention import MultiHeadAttention, scaled_dot_product_attention
from model.batch import Batch, length_sorted_batches, pad, pad_ids
from model.config import TransformerConfig
from model.explain.attention import AttentionError, raw_attention
from model.heads import TextModel
from model.positions import sinusoidal_table
from model.tokenizer import Tokenizer
from model.weights import load_model, save_model


@pytest.fixture(scope="module")
def loaded(minilm: Path) -> tuple[TextModel, Tokenizer]:
    return load_model(minilm)


@pytest.fixture(scope="module")
def batch(loaded: tuple[TextModel, Tokenizer], sentences: list[str]) -> Batch:
    return pad(loaded[1].encode(sentences, 512), pad_id=0)


def test_hidden_states_equal_transformers(loaded: tuple[TextModel, Tokenizer], batch: Batch, minilm: Path) -> None:
    reference = transformers.AutoModel.from_pretrained(str(minilm)).eval()
    with torch.inference_mode():
        output = reference(
            input_ids=batch.ids,
            attention_mask=batch.real.long(),
            token_type_ids=batch.segments,
            output_hidden_states=True,
        )
        ours = loaded[0].trace(batch).hidden
    assert len(ours) == len(output.hidden_states) == 7
    for mine, theirs in zip(ours, output.hidden_states, strict=True):
        assert (mine - theirs)[batch.real].abs().max() < 1e-4


def test_token_ids_equal_transformers(loaded: tuple[TextModel, Tokenizer], sentences: list[str], minilm: Path) -> None:
    reference = transformers.AutoTokenizer.from_pretrained(str(minilm))
    expected = reference(sentences, truncation=True, max_length=20)["input_ids"]
    assert [list(encoding.ids) for encoding in loaded[1].encode(sentences, 20)] == expected


def test_fused_path_equals_probability_path(loaded: tuple[TextModel, Tokenizer], batch: Batch) -> None:
    with torch.inference_mode():
        fused, traced = loaded[0].encoder(batch), loaded[0].trace(batch)
    assert (fused - traced.hidden[-1])[batch.real].abs().max() < 1e-5
    for weights in traced.probabilities:
        assert (weights.sum(-1) - 1).abs().max() < 1e-5
        assert weights[~batch.real[:, None, None, :].expand_as(weights)].max() == 0.0


def test_padding_never_changes_a_result(loaded: tuple[TextModel, Tokenizer], sentences: list[str]) -> None:
    encodings = loaded[1].encode(sentences[:16], 512)
    with torch.inference_mode():
        together = loaded[0].embed(pad(encodings, 0))
        alone = torch.cat([loaded[0].embed(pad([encoding], 0)) for encoding in encodings])
    assert (together - alone).abs().max() < 1e-5


@settings(max_examples=25, deadline=None)
@given(
    num_heads=st.sampled_from([1, 2, 4]),
    head_width=st.sampled_from([2, 8]),
    num_layers=st.integers(1, 3),
    positions=st.sampled_from(["learned", "sinusoidal"]),
    activation=st.sampled_from(["relu", "gelu"]),
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=5),
    seed=st.integers(0, 1000),
)
def test_paths_agree_and_padding_is_inert_on_any_config(
    num_heads: int, head_width: int, num_layers: int, positions: str, activation: str, lengths: list[int], seed: int
) -> None:
    torch.manual_seed(seed)
    config = TransformerConfig(
        vocab_size=50, width=num_heads * head_width, num_layers=num_layers, num_heads=num_heads,
        feed_forward_width=16, max_positions=16, positions=positions, activation=activation,  # type: ignore[arg-type]
    )  # fmt: skip
    encoder = TextModel(config).eval().encoder
    rows = [torch.randint(1, 50, (length,)).tolist() for length in lengths]
    padded = pad_ids(rows, pad_id=0)
    with torch.inference_mode():
        fused, traced = encoder(padded), encoder.trace(padded).hidden[-1]
        assert (fused - traced)[padded.real].abs().max() < 1e-5
        for index, row in enumerate(rows):
            assert (encoder(pad_ids([row], 0))[0] - fused[index, : len(row)]).abs().max() < 1e-5


def test_attention_is_the_formula_of_the_paper() -> None:
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 1, 1, 4, 8)
    mixed, weights = scaled_dot_product_attention(query, key, value)
    for row in range(4):
        scores = [float(query[0, 0, row] @ key[0, 0, column]) / math.sqrt(8) for column in range(4)]
        total = sum(math.exp(score) for score in scores)
        expected = [math.exp(score) / total for score in scores]
        assert weights[0, 0, row].tolist() == pytest.approx(expected, abs=1e-6)
        assert mixed[0, 0, row].tolist() == pytest.approx(
            [sum(expected[column] * float(value[0, 0, column, k]) for column in range(4)) for k in range(8)], abs=1e-6
        )


def test_multi_head_equals_torch_reference() -> None:
    torch.manual_seed(0)
    ours = MultiHeadAttention(width=16, num_heads=4, dropout=0.0).eval()
    reference = torch.nn.MultiheadAttention(16, 4, batch_first=True).eval()
    with torch.no_grad():
        reference.in_proj_weight.copy_(ours.qkv.weight)
        reference.in_proj_bias.copy_(ours.qkv.bias)
        reference.out_proj.weight.copy_(ours.output.weight)
        reference.out_proj.bias.copy_(ours.output.bias)
        hidden = torch.randn(2, 5, 16)
        assert torch.allclose(ours(hidden, None), reference(hidden, hidden, hidden)[0], atol=1e-6)


def test_sinusoidal_table_is_the_formula() -> None:
    table = sinusoidal_table(50, 16)
    for position in (0, 1, 7, 49):
        for pair in range(8):
            angle = position / 10000 ** (2 * pair / 16)
            assert float(table[position, 2 * pair]) == pytest.approx(math.sin(angle), abs=1e-5)
            assert float(table[position, 2 * pair + 1]) == pytest.approx(math.cos(angle), abs=1e-5)


def test_saved_model_loads_to_the_same_weights(loaded: tuple[TextModel, Tokenizer], tmp_path: Path) -> None:
    model, tokenizer = loaded
    labelled = TextModel(model.config.with_task("classification", ("no", "yes")))
    labelled.encoder.load_state_dict(model.encoder.state_dict())
    save_model(labelled, tokenizer, tmp_path)
    again, _ = load_model(tmp_path)
    assert again.config == labelled.config
    for name, tensor in labelled.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name


def test_non_finite_attention_is_an_error_not_a_picture(loaded: tuple[TextModel, Tokenizer]) -> None:
    torch.manual_seed(0)
    config = TransformerConfig(vocab_size=30522, width=8, num_layers=1, num_heads=2, feed_forward_width=8)
    broken = TextModel(config).eval()
    with torch.no_grad():
        broken.encoder.embeddings.token.weight.fill_(float("nan"))
    with pytest.raises(AttentionError, match="off 1"):
        raw_attention(broken, loaded[1].encode(["hello"], 16)[0])


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"width": 10, "num_heads": 3}, "width 10 is not a multiple of num_heads 3"),
        ({"num_layers": 0}, "num_layers is 0"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"pad_id": 99}, "pad_id 99 is outside"),
        ({"labels": ("one",)}, "at least two different labels"),
        ({"activation": "swish"}, "'swish'"),
    ],
)
def test_config_errors_name_the_value(fields: dict[str, object], words: str) -> None:
    base = {"vocab_size": 50, "width": 8, "num_layers": 1, "num_heads": 2}
    with pytest.raises(ValueError, match=words):
        TransformerConfig.from_dict({**base, **fields})


def test_offsets_point_at_the_text_also_in_chinese(loaded: tuple[TextModel, Tokenizer]) -> None:
    text = "The film 电影 was good 😀!"
    (encoding,) = loaded[1].encode([text], 64)
    for token, (start, end), special in zip(encoding.tokens, encoding.offsets, encoding.special, strict=True):
        if not special and token != "[UNK]":
            assert text[start:end].lower() == token.removeprefix("##")


def test_pairs_are_truncated_from_the_longer_text(loaded: tuple[TextModel, Tokenizer]) -> None:
    (encoding,) = loaded[1].encode([("short one", "a much longer second text with many words in it")], 10)
    assert len(encoding.ids) == 10
    assert encoding.truncated
    assert [encoding.segments.count(0), encoding.segments.count(1)] == [4, 6]
    assert encoding.tokens[1:3] == ("short", "one")


@given(
    lengths=st.lists(st.integers(1, 512), min_size=1, max_size=60),
    budget=st.integers(64, 4096),
    rows=st.integers(1, 32),
)
def test_length_sorted_batches_keep_budget_and_every_row(lengths: list[int], budget: int, rows: int) -> None:
    batches = length_sorted_batches(lengths, budget, rows)
    assert sorted(index for group in batches for index in group) == list(range(len(lengths)))
    for group in batches:
        assert len(group) <= rows
        assert len(group) == 1 or len(group) * max(lengths[index] for index in group) <= budget
