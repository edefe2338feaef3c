"""The joint matrix of an encoder-decoder: its blocks are the three attentions of the paper, and its rows sum to 1."""

import numpy as np
import pytest
import torch

from model.batch import pad_ids
from model.explain.two_texts import begun, two_text_attention
from model.explain.units import merged, units_of
from model.heads import TextModel
from model.tokenizer import Encoding, Tokenizer, train_byte_bpe
from model.transformer import Trace
from tests.zoo import TEXTS, make_zoo

PAIR = ("我爱北京天安门", "我 爱 北京")


@pytest.fixture(scope="module")
def segmenter() -> TextModel:
    return make_zoo().models["segmenter"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_byte_bpe(TEXTS, 300, encoder_decoder=True)


def read(tokenizer: Tokenizer, begin_id: int) -> tuple[Encoding, int]:
    (pair,) = tokenizer.encode([PAIR], 64)
    return begun(pair, begin_id, tokenizer), pair.texts.index(1)


def test_the_written_text_begins_with_its_own_token(segmenter: TextModel, tokenizer: Tokenizer) -> None:
    encoding, first = read(tokenizer, segmenter.config.bos_id or 0)
    assert encoding.tokens[first] == "<s>"
    assert encoding.special[first]
    assert encoding.texts == (0,) * first + (1,) * (len(encoding.ids) - first)
    assert tokenizer.decode(encoding.ids[:first]) == PAIR[0]
    assert tokenizer.decode(encoding.ids[first + 1 :]) == PAIR[1]
    words = units_of(encoding, PAIR, "character", "hide")
    assert "".join(unit.text for unit in words if unit.segment == 0) == PAIR[0]


@pytest.mark.parametrize("part", ["cross", "self"])
def test_blocks_are_the_three_attentions(segmenter: TextModel, tokenizer: Tokenizer, part: str) -> None:
    encoding, first = read(tokenizer, segmenter.config.bos_id or 0)
    joint = two_text_attention(segmenter, encoding, part).numpy()  # type: ignore[arg-type]
    source, written = (pad_ids([ids], 0) for ids in (encoding.ids[:first], encoding.ids[first:]))
    wrote = Trace()
    with torch.inference_mode():
        segmenter.transformer(source, written, wrote)
        inside = segmenter.transformer.encoder.trace(source)
    assert joint.shape == (2, 2, len(encoding.ids), len(encoding.ids))
    assert joint.sum(-1) == pytest.approx(1.0, abs=1e-4)
    for layer in range(2):
        assert joint[layer, :, :first, :first] == pytest.approx(inside.probabilities[layer][0].numpy(), abs=1e-6)
        cross, own = wrote.cross_probabilities[layer][0].numpy(), wrote.probabilities[layer][0].numpy()
        assert joint[layer, :, first:, :first] == pytest.approx(cross if part == "cross" else 0 * cross, abs=1e-6)
        assert joint[layer, :, first:, first:] == pytest.approx(own if part == "self" else 0 * own, abs=1e-6)
    assert not joint[:, :, :first, first:].any()
    if part == "self":
        assert not np.triu(joint[0, 0, first:, first:], 1).any(), "what comes later is not seen"
    assert merged(joint, units_of(encoding, PAIR, "word", "keep")).sum(-1) == pytest.approx(1.0, abs=1e-4)
