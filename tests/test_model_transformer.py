"""The stacks by their own properties, and against the reference implementations: shapes, numbers, what sees what."""

import itertools
import math

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import model.cache
from model.attention import scaled_dot_product_attention
from model.batch import Batch, pack, pad, pad_ids, unpack, unpad
from model.cache import Cache
from model.config import PRESETS, TransformerConfig
from model.heads import TextModel, pool, pool_unpadded
from model.positions import sinusoidal_table
from model.transformer import Decoder, EncoderDecoder, Trace
from tests.small import VOCABULARY, configs, encodings, few, gap, random_model, small_config, texts

CLOSE = 1e-5
seeds = st.integers(0, 1000)


def states(body: TextModel, rows: list[list[int]], sources: list[list[int]]) -> list[Tensor]:
    """Last hidden states of each row, padded together; a decoder of two stacks writes `rows` from `sources`."""
    batch = pad_ids(rows, 0)
    hidden = (
        body.transformer(pad_ids(sources, 0), batch) if isinstance(body.stack, EncoderDecoder) else body.stack(batch)
    )
    return [hidden[index, : len(row)] for index, row in enumerate(rows)]


# ---- two paths, the same numbers


@pytest.mark.parametrize("positions", ["learned", "sinusoidal"])
@pytest.mark.parametrize("activation", ["relu", "gelu", "gelu_tanh"])
@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("architecture", ["encoder", "decoder"])
@pytest.mark.parametrize("packed", [False, True])
def test_fused_path_equals_probability_path(
    packed: bool, architecture: str, norm_first: bool, activation: str, positions: str
) -> None:
    config = small_config(architecture, norm_first=norm_first, activation=activation, positions=positions)
    body = random_model(config).body
    rows = encodings([[3, 4, 5, 6, 7, 8], [9, 10], [11, 12, 13], [14, 15, 16, 17]])
    batch = pack(rows, 0, 9)[0] if packed else pad(rows, 0)
    trace = Trace()
    assert gap(body(batch)[batch.real], body(batch, trace=trace)[batch.real]) < CLOSE
    assert len(trace.hidden) == config.num_layers + 1
    assert len(trace.probabilities) == config.num_layers
    same = batch.documents[:, :, None] == batch.documents[:, None, :]  # [B, T, T]
    may = same & torch.ones_like(same).tril() if architecture == "decoder" else same
    for probabilities in trace.probabilities:
        assert gap(probabilities.sum(-1), torch.ones(probabilities.shape[:-1])) < CLOSE
        seen = (probabilities > 0)[batch.real[:, None, :].expand(probabilities.shape[:-1])]
        assert torch.equal(
            seen, may[:, None].expand_as(probabilities)[batch.real[:, None, :].expand(probabilities.shape[:-1])]
        )


@few
@given(config=configs("encoder_decoder"), sources=texts(3, 3), targets=texts(3, 3), seed=seeds)
def test_fused_path_equals_probability_path_of_both_stacks(
    config: TransformerConfig, sources: list[list[int]], targets: list[list[int]], seed: int
) -> None:
    stack = random_model(config, seed).transformer
    source, target = pad_ids(sources, 0), pad_ids(targets, 0)
    trace = Trace()
    assert gap(stack(source, target)[target.real], stack(source, target, trace)[target.real]) < CLOSE
    assert gap(stack.encoder(source)[source.real], stack.encoder(source, trace=Trace())[source.real]) < CLOSE
    assert len(trace.cross_probabilities) == len(trace.probabilities) == config.num_layers
    for probabilities in trace.probabilities + trace.cross_probabilities:
        assert gap(probabilities.sum(-1), torch.ones(probabilities.shape[:-1])) < CLOSE
    for probabilities in trace.cross_probabilities:
        assert float(probabilities.masked_fill(source.real[:, None, None, :], 0.0).max()) == 0.0, "padding is asked"
    for probabilities in trace.probabilities:
        assert float(probabilities.triu(1).max()) == 0.0, "the future is asked"


@few
@given(
    sizes=st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 6), st.integers(1, 6), st.integers(1, 8)),
    seed=seeds,
)
def test_attention_is_the_formula_of_the_paper_in_numpy(sizes: tuple[int, int, int, int, int], seed: int) -> None:
    batch, heads, asking, asked, width = sizes
    random = np.random.default_rng(seed)
    query, key, value = (random.normal(size=(batch, heads, tokens, width)) for tokens in (asking, asked, asked))
    mask = random.random((batch, 1, asking, asked)) < 0.6
    mask[..., random.integers(asked)] = True
    exponentials = np.where(mask, np.exp(query @ key.swapaxes(-2, -1) / np.sqrt(width)), 0.0)
    expected = exponentials / exponentials.sum(-1, keepdims=True)
    mixed, probabilities = scaled_dot_product_attention(
        *(torch.tensor(part, dtype=torch.float32) for part in (query, key, value)), torch.tensor(mask)
    )
    assert np.abs(probabilities.numpy() - expected).max() < CLOSE
    assert np.abs(mixed.numpy() - expected @ value).max() < CLOSE


@pytest.mark.parametrize(
    ("width", "position", "column", "value"),
    [
        (4, 0, 0, 0.0), (4, 0, 1, 1.0), (4, 1, 0, 0.8414710), (4, 1, 1, 0.5403023), (4, 1, 2, 0.0099998),
        (4, 3, 3, 0.9995500), (512, 100, 256, 0.8414710), (512, 100, 257, 0.5403023), (512, 10, 128, 0.8414710),
    ],
)  # fmt: skip
def test_sinusoidal_positions_are_those_of_the_paper(width: int, position: int, column: int, value: float) -> None:
    # 10000^(256/512) = 100 and 10000^(128/512) = 10, so that the angle of these entries is 1
    assert float(sinusoidal_table(128, width)[position, column]) == pytest.approx(value, abs=1e-5)


# ---- what sees what


@few
@given(rows=texts(1, 8), spare=st.integers(0, 12))
def test_positions_and_documents_restart_in_a_packed_row(rows: list[list[int]], spare: int) -> None:
    batch, places = pack(encodings(rows), pad_id=7, row_tokens=max(map(len, rows)) + spare)
    assert len(places) == len(rows)
    seen = torch.zeros_like(batch.ids, dtype=torch.bool)
    for row, place in zip(rows, places, strict=True):
        where = (place.row, slice(place.start, place.end))
        assert batch.ids[where].tolist() == row
        assert batch.positions[where].tolist() == list(range(len(row)))
        assert len(set(batch.documents[where].tolist())) == 1
        assert not seen[where].any()
        seen[where] = True
    assert torch.equal(batch.real, seen)
    assert set(batch.ids[~seen].tolist()) <= {7}
    for row in range(len(batch.ids)):
        numbers = [int(batch.documents[place.row, place.start]) for place in places if place.row == row]
        assert numbers == list(range(1, len(numbers) + 1))
    assert batch.padding_share == pytest.approx(1 - sum(map(len, rows)) / batch.num_tokens)


def test_a_document_longer_than_a_row_is_refused() -> None:
    with pytest.raises(ValueError, match="5 tokens does not fit a row of 4; cut it"):
        pack(encodings([[1, 2], [1, 2, 3, 4, 5]]), 0, 4)


@few
@given(config=configs("encoder", "decoder"), rows=texts(1, 6), spare=st.integers(0, 12), seed=seeds)
def test_packed_equals_padded(config: TransformerConfig, rows: list[list[int]], spare: int, seed: int) -> None:
    model = random_model(config, seed)
    batch, places = pack(encodings(rows), 0, max(map(len, rows)) + spare)
    for packed, padded in zip(unpack(model.body(batch), places), states(model, rows, rows), strict=True):
        assert gap(packed, padded) < CLOSE


@few
@given(config=configs("encoder", "decoder"), rows=texts(1, 8), seed=seeds, data=st.data())
def test_unpadded_equals_padded(
    config: TransformerConfig, rows: list[list[int]], seed: int, data: st.DataObject
) -> None:
    """Whatever groups the documents are laid in; pooled, too, in the order they came."""
    model = random_model(config, seed)
    groups = data.draw(st.none() | st.lists(st.integers(0, 2), min_size=len(rows), max_size=len(rows)))
    documents = unpad(encodings(rows), groups)
    hidden = model.body.forward_unpadded(documents)
    assert len(hidden) == sum(map(len, rows)), "no padding"
    padded = states(model, rows, rows)
    starts = documents.starts.tolist()
    for place, index in enumerate(documents.order):
        assert gap(hidden[starts[place] : starts[place + 1]], padded[index]) < CLOSE
    batch = pad_ids(rows, 0)
    for kind in ("mean", "first", "last"):
        assert gap(pool_unpadded(hidden, documents, kind), pool(model.body(batch), batch.real, kind)) < CLOSE


@few
@given(config=configs("encoder"), rows=texts(1, 8), seed=seeds)
def test_first_tokens_unpadded_are_those_of_all_tokens(
    config: TransformerConfig, rows: list[list[int]], seed: int
) -> None:
    model, documents = random_model(config, seed), unpad(encodings(rows))
    first, whole = model.body.first_tokens_unpadded(documents), model.body.forward_unpadded(documents)
    assert gap(first, whole[documents.starts[:-1]]) < CLOSE
    cut = documents.first_tokens()
    assert cut.ids.tolist() == [rows[index][0] for index in documents.order]
    assert gap(pool_unpadded(first, cut, "first"), pool_unpadded(whole, documents, "first")) < CLOSE


@few
@given(config=configs("encoder", "decoder"), rows=texts(1, 4), seed=seeds)
def test_from_its_own_embeddings_the_answer_is_the_same(
    config: TransformerConfig, rows: list[list[int]], seed: int
) -> None:
    model = random_model(config.with_task("classification", ("no", "yes"), "mean"), seed)
    batch = pad_ids(rows, 0)
    embedded = model.body.embeddings(batch.ids, batch.positions, batch.segments)
    assert gap(model.classify_embedded(embedded, batch), model.classify(batch)) < CLOSE
    trace = Trace()
    traced = model.body.forward_embedded(embedded, batch, trace)
    assert gap(traced[batch.real], model.body(batch)[batch.real]) < CLOSE
    assert len(trace.hidden) == config.num_layers + 1
    assert len(trace.probabilities) == config.num_layers


def test_documents_of_a_group_lie_together_and_those_of_one_length_within_it() -> None:
    rows = [[1] * 3, [2] * 2, [3] * 3, [4] * 2, [5] * 3]
    documents = unpad(encodings(rows), [1, 1, 0, 0, 1])
    assert documents.order == (3, 2, 1, 0, 4)
    assert documents.ids.tolist() == [4, 4, 3, 3, 3, 2, 2, 1, 1, 1, 5, 5, 5]
    assert documents.starts.tolist() == [0, 2, 5, 7, 10, 13]
    assert documents.stretches.tolist() == [[1, 2], [1, 3], [1, 2], [2, 3]]
    assert documents.max_length == 3


@few
@given(
    config=configs("decoder", "encoder_decoder"), row=st.lists(st.integers(0, VOCABULARY - 1), min_size=2, max_size=12),
    cut=st.integers(1, 11), seed=seeds,
)  # fmt: skip
def test_a_causal_position_never_sees_the_future(
    config: TransformerConfig, row: list[int], cut: int, seed: int
) -> None:
    cut = min(cut, len(row) - 1)
    changed = row[:cut] + [(token + 1) % VOCABULARY for token in row[cut:]]
    model = random_model(config, seed)
    (before,), (after,) = states(model, [row], [[5, 6]]), states(model, [changed], [[5, 6]])
    assert gap(before[:cut], after[:cut]) < 1e-6
    assert gap(before[cut:], after[cut:]) > 1e-3, "the change is seen where it stands"


@few
@given(config=configs("encoder"), row=st.lists(st.integers(0, VOCABULARY - 1), min_size=2, max_size=12), seed=seeds)
def test_an_encoder_sees_what_comes_later(config: TransformerConfig, row: list[int], seed: int) -> None:
    changed = [*row[:-1], (row[-1] + 1) % VOCABULARY]
    model = random_model(config, seed)
    assert gap(states(model, [row], [])[0][0], states(model, [changed], [])[0][0]) > 1e-6


@few
@given(config=configs("encoder", "decoder"), rows=texts(2, 4), which=st.integers(0, 3), seed=seeds)
def test_a_document_never_sees_its_neighbour_in_a_packed_row(
    config: TransformerConfig, rows: list[list[int]], which: int, seed: int
) -> None:
    changed = which % len(rows)
    others = [
        [(token + 1) % VOCABULARY for token in row] if index == changed else row for index, row in enumerate(rows)
    ]
    body = random_model(config, seed).body
    (before, places), (after, _) = (pack(encodings(each), 0, sum(map(len, rows)) + 2) for each in (rows, others))
    assert len(before.ids) == 1, "one row holds them all"
    pairs = zip(unpack(body(before), places), unpack(body(after), places), strict=True)
    for index, (first, second) in enumerate(pairs):
        assert gap(first, second) > 1e-3 if index == changed else gap(first, second) < 1e-6


@few
@given(config=configs("encoder", "decoder", "encoder_decoder"), rows=texts(2, 5), sources=texts(5, 5), seed=seeds)
def test_padding_never_changes_a_row(
    config: TransformerConfig, rows: list[list[int]], sources: list[list[int]], seed: int
) -> None:
    model = random_model(config, seed)
    together = states(model, rows, sources[: len(rows)])
    for row, source, hidden in zip(rows, sources, together, strict=False):
        assert gap(states(model, [row], [source])[0], hidden) < CLOSE


# ---- the cache


class Fed:
    """Feeds token lists to a stack a chunk at a time, each row from its own step on, and keeps what comes out."""

    def __init__(self, model: TextModel, rows: list[list[int]], sources: list[list[int]]) -> None:
        stack = model.stack
        assert isinstance(stack, Decoder | EncoderDecoder)
        self.stack, self.rows, self.sources = stack, rows, sources
        self.fed = [0] * len(rows)
        self.out: list[list[Tensor]] = [[] for _ in rows]
        self.live: list[int] = []
        self.cache: Cache | None = None

    def _feed(self, live: list[int], sizes: list[int], cache: Cache, first: bool) -> None:
        chunks = [self.rows[row][self.fed[row] : self.fed[row] + size] for row, size in zip(live, sizes, strict=True)]
        batch = pad_ids(chunks, 0)
        if isinstance(self.stack, EncoderDecoder):
            memory, mask = self.stack.read(pad_ids([self.sources[row] for row in live], 0)) if first else (None, None)
            hidden = self.stack.write(batch, memory, mask, cache)
        else:
            hidden = self.stack(batch, cache)
        for index, (row, chunk) in enumerate(zip(live, chunks, strict=True)):
            self.out[row].append(hidden[index, : len(chunk)])
            self.fed[row] += len(chunk)

    def join(self, rows: list[int], sizes: list[int]) -> None:
        fresh = self.stack.new_cache(len(rows))
        self._feed(rows, sizes, fresh, first=True)
        self.cache = fresh if self.cache is None else Cache.join([self.cache, fresh])
        self.live += rows

    def step(self, sizes: list[int]) -> None:
        assert self.cache is not None
        self._feed(self.live, sizes, self.cache, first=False)

    def leave(self) -> None:
        """Rows that are all written go; the others keep their order."""
        kept = [index for index, row in enumerate(self.live) if self.fed[row] < len(self.rows[row])]
        self.live = [self.live[index] for index in kept]
        if self.cache is not None:
            self.cache.select(torch.tensor(kept, dtype=torch.int64))
            self.cache = self.cache if kept else None


@few
@given(
    config=configs("decoder", "encoder_decoder"), rows=texts(1, 5, 14), sources=texts(5, 5),
    starts=st.lists(st.integers(0, 3), min_size=5, max_size=5), random=st.randoms(use_true_random=False), seed=seeds,
)  # fmt: skip
def test_cached_decoding_equals_full_forward(
    config: TransformerConfig,
    rows: list[list[int]],
    sources: list[list[int]],
    starts: list[int],
    random: object,
    seed: int,
) -> None:
    """Chunks of any size, rows of different lengths, rows that come and go."""
    model_ = random_model(config, seed)
    whole = states(model_, rows, sources[: len(rows)])
    fed = Fed(model_, rows, sources)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model.cache, "GROWTH", 3)  # so that short rows outgrow their slots
        for step in itertools.count():
            if joining := [row for row in range(len(rows)) if starts[row] == step]:
                fed.join(joining, [random.randint(1, 4) for _ in joining])  # type: ignore[attr-defined]
            fed.leave()
            if fed.live:
                sizes = [random.randint(0, 3) for _ in fed.live]  # type: ignore[attr-defined]
                fed.step([1, *sizes[1:]] if not any(sizes) else sizes)
                fed.leave()
            if step >= max(starts) and not fed.live:
                break
    for out, expected in zip(fed.out, whole, strict=True):
        assert gap(torch.cat(out), expected) < CLOSE


@few
@given(config=configs("decoder", "encoder_decoder"), rows=texts(3, 3), seed=seeds)
def test_a_cached_row_may_be_taken_more_than_once(config: TransformerConfig, rows: list[list[int]], seed: int) -> None:
    """As beam search does: two texts go on from one."""
    model_ = random_model(config, seed)
    grown = [[*rows[row], token] for row, token in ((2, 5), (2, 6), (0, 7))]
    fed = Fed(model_, rows, rows)
    fed.join([0, 1, 2], [len(row) for row in rows])
    assert fed.cache is not None
    fed.cache.select(torch.tensor([2, 2, 0]))
    last = pad_ids([row[-1:] for row in grown], 0)
    hidden = (
        fed.stack.write(last, None, None, fed.cache)
        if isinstance(fed.stack, EncoderDecoder)
        else fed.stack(last, fed.cache)
    )
    for index, expected in enumerate(states(model_, grown, [rows[2], rows[2], rows[0]])):
        assert gap(hidden[index, 0], expected[-1]) < CLOSE


# ---- weights


@pytest.mark.parametrize("architecture", ["encoder", "decoder", "encoder_decoder"])
def test_tied_embeddings_are_one_tensor_and_untied_are_two(architecture: str) -> None:
    tied, untied = (random_model(small_config(architecture, tied_embeddings=each)) for each in (True, False))
    width, vocabulary = tied.config.width, tied.config.vocab_size
    shapes = [[p.shape for p in each.parameters()].count(torch.Size((vocabulary, width))) for each in (tied, untied)]
    assert shapes == [1, 2]
    assert tied.stack.embeddings.token.weight.data_ptr() != untied.stack.embeddings.token.weight.data_ptr()
    hidden = torch.randn(3, width, generator=torch.Generator().manual_seed(0))
    for each, moves in ((tied, True), (untied, False)):
        before = each.vocabulary_logits(hidden)
        each.stack.embeddings.token.weight[5] += 1.0
        moved = (each.vocabulary_logits(hidden) - before).abs().amax(dim=0) > 1e-6  # [V]
        assert moved.nonzero().flatten().tolist() == ([5] if moves else [])


def parameters(module: torch.nn.Module) -> int:
    """Trained numbers; a shared tensor counts once, Marian's fixed positions not at all."""
    return sum(tensor.numel() for name, tensor in module.named_parameters() if "embed_positions" not in name)


def paper_base() -> torch.nn.Module:
    """Marian's architecture is the paper's; these sizes are its "base" model's."""
    return transformers.MarianMTModel(
        transformers.MarianConfig(
            vocab_size=37_000, d_model=512, encoder_layers=6, decoder_layers=6, encoder_attention_heads=8,
            decoder_attention_heads=8, encoder_ffn_dim=2048, decoder_ffn_dim=2048, max_position_embeddings=512,
            scale_embedding=True, pad_token_id=0, decoder_start_token_id=1, eos_token_id=2,
        )
    )  # fmt: skip


def sentence_encoder() -> torch.nn.Module:
    return transformers.BertModel(
        transformers.BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
    )


REFERENCES = {
    "transformer-base": (paper_base, 63_082_496),
    "bert-base": (lambda: transformers.BertForMaskedLM(transformers.BertConfig()), 109_514_298),
    "minilm-l6": (sentence_encoder, 22_713_216),
    "gpt2-small": (lambda: transformers.GPT2LMHeadModel(transformers.GPT2Config()), 124_439_808),
}


@pytest.mark.parametrize("name", sorted(REFERENCES))
def test_a_preset_has_as_many_parameters_as_the_reference_implementation(name: str) -> None:
    make, known = REFERENCES[name]
    with torch.device("meta"):
        assert parameters(TextModel(PRESETS[name])) == parameters(make()) == known


def test_every_preset_but_the_tiny_one_has_a_reference() -> None:
    assert PRESETS.keys() - REFERENCES.keys() == {"tiny"}


# ---- the paper's architecture in another's hands


def from_marian(theirs: torch.nn.Module) -> dict[str, Tensor]:
    """Marian's parameters under our names; its fixed positions are left out."""
    given = {name.removeprefix("model."): parameter.detach() for name, parameter in theirs.named_parameters()}
    tensors = {"transformer.encoder.embeddings.token.weight": given["shared.weight"]}
    parts = {
        "attention.qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        "attention.output": ("self_attn.out_proj",),
        "attention_norm": ("self_attn_layer_norm",),
        "cross_attention.query": ("encoder_attn.q_proj",),
        "cross_attention.key_value": ("encoder_attn.k_proj", "encoder_attn.v_proj"),
        "cross_attention.output": ("encoder_attn.out_proj",),
        "cross_attention_norm": ("encoder_attn_layer_norm",),
        "feed_forward.expand": ("fc1",),
        "feed_forward.contract": ("fc2",),
        "feed_forward_norm": ("final_layer_norm",),
    }
    for stack, index, (mine, names), kind in itertools.product(
        ("encoder", "decoder"), range(2), parts.items(), ("weight", "bias")
    ):
        layer = f"{stack}.layers.{index}"
        if found := [given[key] for name in names if (key := f"{layer}.{name}.{kind}") in given]:
            tensors[f"transformer.{layer}.{mine}.{kind}"] = torch.cat(found)
    return tensors


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("scale", [False, True])
def test_the_encoder_decoder_equals_marian_on_the_same_weights(activation: str, scale: bool) -> None:
    torch.manual_seed(0)
    theirs = transformers.MarianMTModel(
        transformers.MarianConfig(
            vocab_size=VOCABULARY, d_model=16, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
            decoder_attention_heads=4, encoder_ffn_dim=24, decoder_ffn_dim=24, max_position_embeddings=64,
            scale_embedding=scale, activation_function=activation, pad_token_id=0, decoder_start_token_id=1,
            eos_token_id=2, bos_token_id=1, attn_implementation="eager",
        )
    ).eval()  # fmt: skip
    fixed = theirs.model.encoder.embed_positions.weight.detach().clone()
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "embed_positions" not in name:
                parameter.normal_(mean=float("norm.weight" in name), std=0.3)
    config = small_config(
        "encoder_decoder", num_heads=4, positions="sinusoidal", activation=activation, scale_embeddings=scale
    )
    ours = random_model(config)
    ours.load_state_dict(from_marian(theirs))
    table = ours.transformer.embeddings.position.get_buffer("table")
    assert gap(torch.cat([table[:, 0::2], table[:, 1::2]], dim=1), fixed) < CLOSE, "theirs: all sines, then all cosines"
    ours.transformer.embeddings.position.register_buffer("table", fixed)
    source = pad_ids([[5, 6, 7, 8, 2], [9, 2], [10, 11, 2]], 0)
    target = pad_ids([[1, 12, 13], [1, 14, 15, 16, 17], [1]], 0)
    expected = theirs(input_ids=source.ids, attention_mask=source.real.long(), decoder_input_ids=target.ids).logits
    logits = ours.vocabulary_logits(ours.transformer(source, target))
    assert gap(logits[target.real], expected.detach()[target.real]) < CLOSE


def test_a_batch_without_padding_has_no_mask() -> None:
    full: Batch = pad_ids([[1, 2], [3, 4]], 0)
    assert full.attention_mask() is None
    assert full.padding_share == 0.0
    assert math.isclose(pad_ids([[1, 2], [3]], 0).padding_share, 0.25)
