"""Linears of a served model in bfloat16, for CPUs that have it: weights in oneDNN's own layout, made once.

torch lays them out anew at each call: nearly half of the time of a product with one token, a sixth with a sentence. The
numbers are the same to the bit. Called by `service/formats.py`.
"""

from typing import List, Optional, Union  # noqa: UP035 (as TorchScript knows them)

import torch
from torch import Tensor, nn

from model.script import as_script


class PackedLinear(nn.Linear):
    """y = W x + b of a bfloat16 linear. It keeps W as it was, too, for what takes a model apart
    (`AdapterBank.plain`)."""

    _packed: Tensor  # [O, I] bfloat16, opaque

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear.in_features, linear.out_features, linear.bias is not None, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), None)
        self.register_buffer("_packed", packed, persistent=False)

    @torch.no_grad()
    def forward(self, inputs: Tensor) -> Tensor:
        """inputs [..., I] -> [..., O], for inference."""
        assert not inputs.requires_grad, "a packed product has no gradient; take a plain model"
        outputs: Tensor = packed_linear(inputs, self._packed, self.bias)
        return outputs


@as_script
def packed_linear(inputs: Tensor, packed: Tensor, bias: Tensor) -> Tensor:
    """inputs [..., I] -> [..., O]."""
    none: List[Optional[Union[int, float, complex]]] = []  # noqa: UP006, UP045, UP007 (as TorchScript knows a Scalar)
    outputs: Tensor = torch.ops.mkldnn._linear_pointwise(inputs, packed, bias, "none", none, "")
    return outputs
