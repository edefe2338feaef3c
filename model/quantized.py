"""Linears of a served encoder in int8, for CPUs: weights by output channel, activations by token.

Each token has a scale of its own, measured as it comes, so that no row depends on its neighbours in the batch. A few
input channels of a Transformer are far larger than all others and would take the levels of the rest (Dettmers et al.
2022, LLM.int8()); these stay in float32. Called by `service/formats.py`.
Shapes: N tokens, I inputs, O outputs, U uneven input channels.
"""

import random
from collections.abc import Sequence
from typing import List, Optional, Union  # noqa: UP035 (as TorchScript knows them)

import torch
from torch import Tensor, nn

from model.batch import unpad
from model.capability import activation_levels
from model.heads import TextModel
from model.script import as_script
from model.tokenizer import Encoding, Tokenizer

WEIGHT_LEVELS = 127
UNEVEN = (0, 1, 3, 7, 15)  # input channels of a linear: with a token's lowest value powers of two
COARSEST = 2.0  # times the step that the most of them leave
SMALLEST = 1e-30  # of a scale: rows of zeros have one too
SAMPLE_WORDS = (4, 8, 16, 32, 64) * 8


class QuantizedLinear(nn.Linear):
    """y = W x + b by int8 products. It keeps W in float32 too, for what takes a model apart (`AdapterBank.plain`)."""

    _packed: Tensor  # [O, I] int8
    _even: Tensor  # [I] 0 at uneven channels, else 1
    _uneven: Tensor  # [U] int64
    _exact_weight: Tensor  # [U + 1, O] of the uneven channels, then of a token's lowest value
    _scales: Tensor  # [O] of the weights
    _zeros: Tensor  # [O] int32

    def __init__(self, linear: nn.Linear, uneven: Tensor, levels: int) -> None:
        """uneven [U]: inputs that stay in float32; levels: steps from a token's lowest value to its highest."""
        super().__init__(linear.in_features, linear.out_features, linear.bias is not None, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self.levels = levels
        with torch.no_grad():
            even = torch.ones(linear.in_features).index_fill(0, uneven, 0.0)
            weight = linear.weight * even  # [O, I]
            scales = weight.abs().amax(dim=1).clamp_min(SMALLEST) / WEIGHT_LEVELS  # [O]
            whole = (weight / scales[:, None]).round().to(torch.int8)
            packed = torch.ops.onednn.qlinear_prepack(whole, None)  # in a layout of oneDNN's own
            self.register_buffer("_packed", packed, persistent=False)
            self.register_buffer("_even", even, persistent=False)
            self.register_buffer("_uneven", uneven, persistent=False)
            of_lowest = whole.sum(dim=1) * scales  # [O], since every even input has it
            exact = torch.cat([linear.weight[:, uneven].T, of_lowest[None]])
            self.register_buffer("_exact_weight", exact, persistent=False)
            self.register_buffer("_scales", scales, persistent=False)
            self.register_buffer("_zeros", torch.zeros(len(scales), dtype=torch.int32), persistent=False)

    @torch.no_grad()
    def forward(self, inputs: Tensor) -> Tensor:
        """inputs [..., I] -> [..., O], for inference."""
        assert not inputs.requires_grad, "rounding has no gradient; take a plain model"
        outputs = int8_linear(
            inputs.reshape(-1, self.in_features), self.levels, self._even, self._packed, self._scales, self._zeros,
            self._uneven, self._exact_weight, self.bias,
        )  # fmt: skip
        return outputs.view(*inputs.shape[:-1], self.out_features)


@as_script
def int8_linear(
    inputs: Tensor, levels: int, even: Tensor, packed: Tensor, scales: Tensor, zeros: Tensor, uneven: Tensor,
    exact_weight: Tensor, bias: Tensor,
) -> Tensor:  # fmt: skip
    """inputs [N, I] -> [N, O]."""
    some = uneven.size(0) > 0
    whole, lowest, step = token_levels(inputs * even if some else inputs, levels, some)
    none: List[Optional[Union[int, float, complex]]] = []  # noqa: UP006, UP045, UP007 (as TorchScript knows a Scalar)
    outputs: Tensor = torch.ops.onednn.qlinear_pointwise(
        whole, 1.0, 0, packed, scales, zeros, None, 1.0, 0, torch.float32, "none", none, ""
    )  # [N, O]; what follows is done in place, since pages of fresh memory cost more than the arithmetic
    torch.addcmul(bias, outputs, step, out=outputs)
    if some:
        outputs.addmm_(torch.cat([inputs.index_select(1, uneven), lowest], dim=1), exact_weight)
    else:
        outputs.addcmul_(lowest, exact_weight)
    return outputs


def token_levels(evened: Tensor, levels: int, in_place: bool) -> tuple[Tensor, Tensor, Tensor]:
    """[N, I], written over if so told -> levels [N, I] uint8, with the value of level 0 and the step between levels
    [N, 1] of each token. They reach from its lowest value to its highest: after GELU almost all of a token lies on one
    side of zero."""
    lowest = evened.amin([1], True)
    step = ((evened.amax([1], True) - lowest) / levels).clamp_min_(1e-30)  # SMALLEST: a script sees no globals
    # half a level lower and cut behind the point is the nearest level; a cut to uint8 takes seven times as long
    start = torch.sub(lowest, step, alpha=0.5)
    shifted = evened.sub_(start) if in_place else evened - start
    shifted.mul_(step.reciprocal())
    return shifted.to(torch.int8 if levels <= 127 else torch.int16).to(torch.uint8), lowest, step


def quantize(model: TextModel, tokenizer: Tokenizer) -> None:
    """Turns every linear of an encoder's layers into a QuantizedLinear, in place; embeddings, LayerNorms, attention and
    heads stay as they are."""
    assert model.config.architecture == "encoder"
    linears = {
        name: module for name, module in model.named_modules() if ".layers." in name and isinstance(module, nn.Linear)
    }
    levels = activation_levels()
    largest = _largest_inputs(model, linears, sample(tokenizer, model.config.max_positions))
    for name, linear in linears.items():
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, QuantizedLinear(linear, uneven_channels(largest[name]), levels))


def uneven_channels(largest: Tensor) -> Tensor:
    """The largest absolute value [I] of each input channel -> those [U] that stay in float32: the fewest with which a
    token's step is at most twice as wide as with the most."""
    most = min(UNEVEN[-1], len(largest) // 8)
    values, channels = largest.sort(descending=True)
    enough = (count for count in UNEVEN if count < most and values[count] <= COARSEST * values[most])
    return channels[: next(enough, most)]


def sample(tokenizer: Tokenizer, max_length: int) -> list[Encoding]:
    """Texts of random tokens, the same each time: which channels are uneven is the model's own, not the text's."""
    draw = random.Random(0)
    texts = [tokenizer.decode([draw.randrange(tokenizer.vocab_size) for _ in range(words)]) for words in SAMPLE_WORDS]
    return [encoding for encoding in tokenizer.encode(texts, max_length) if encoding.ids]


def _largest_inputs(
    model: TextModel, linears: dict[str, nn.Linear], encodings: Sequence[Encoding]
) -> dict[str, Tensor]:
    """The largest absolute value [I] in each input channel of each linear."""
    found: dict[str, Tensor] = {}
    hooks = []
    for name, linear in linears.items():

        def note(_: nn.Module, inputs: tuple[Tensor], name: str = name) -> None:
            found[name] = inputs[0].abs().amax(dim=0)

        hooks.append(linear.register_forward_pre_hook(note))
    try:
        with torch.no_grad():
            model.body.forward_unpadded(unpad(encodings))
    finally:
        for hook in hooks:
            hook.remove()
    return found
