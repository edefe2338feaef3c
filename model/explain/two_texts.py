"""Attention of an encoder-decoder in one matrix: the rows of the text that is read, then those of the one written.

So the same units, pictures and formats do for it as for a model of one text. Called by the serving engine's lane for
looking. Shapes: L layers, H heads, S source tokens, W written tokens, the begin token included, T = S + W.
"""

from typing import Literal, TypeVar

import torch
from torch import Tensor

from model.batch import pad_ids
from model.explain.attention import check_rows
from model.heads import TextModel
from model.tokenizer import Encoding, Marks, Tokenizer
from model.transformer import EncoderDecoder, Trace

DecoderPart = Literal["cross", "self"]
Item = TypeVar("Item")


def begun(pair: Encoding, begin_id: int, tokenizer: Tokenizer) -> Encoding:
    """A pair of texts, with the token that a decoder begins with before the second."""
    marks, first = pair.marks, pair.texts.index(1)

    def make() -> Marks:
        return Marks(
            tokens=_inserted(marks.tokens, first, tokenizer.token_of(begin_id)),
            offsets=_inserted(marks.offsets, first, (0, 0)),
            texts=_inserted(marks.texts, first, 1),
            special=_inserted(marks.special, first, True),
            words=_inserted(marks.words, first, -1),
        )

    ids, segments = _inserted(pair.ids, first, begin_id), _inserted(pair.segments, first, 1)
    return Encoding(ids, segments, pair.full_length + 1, make)


def _inserted(values: tuple[Item, ...], place: int, own: Item) -> tuple[Item, ...]:
    return (*values[:place], own, *values[place:])


def two_text_attention(model: TextModel, encoding: Encoding, part: DecoderPart) -> Tensor:
    """encoding: as `begun` makes it -> probabilities float32 [L, H, T, T], rows sum to 1.

    A source token's row has what it pays to source tokens in the encoder; a written token's row what it pays in the
    decoder, by `part` to source tokens ("cross") or to what was written so far ("self").
    """
    stack = model.stack
    assert isinstance(stack, EncoderDecoder)
    device = stack.embeddings.token.weight.device
    first = encoding.texts.index(1)
    parts = (encoding.ids[:first], encoding.ids[first:])
    source, written = (pad_ids([ids], model.config.pad_id).to(device) for ids in parts)
    read, wrote = Trace(), Trace()
    with torch.inference_mode():
        memory = stack.encoder(source, trace=read)
        stack.write(written, memory, source.real[:, None, None, :], trace=wrote)
    total = len(encoding.ids)
    own = wrote.cross_probabilities if part == "cross" else wrote.probabilities
    joined = torch.zeros(len(own), model.config.num_heads, total, total)
    joined[:, :, :first, :first] = torch.stack([layer[0] for layer in read.probabilities]).float().cpu()
    columns = slice(None, first) if part == "cross" else slice(first, None)
    joined[:, :, first:, columns] = torch.stack([layer[0] for layer in own]).float().cpu()
    check_rows(joined)
    return joined
