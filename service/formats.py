"""Number formats of served models: which one each model gets, and how it gets it. Used by `registry.py`."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from model.capability import has_bfloat16, has_int8, has_packed_bfloat16
from model.config import TransformerConfig
from model.heads import TextModel
from model.lora import TARGETS, replace_linears
from model.packed import PackedLinear
from model.quantized import quantize
from model.tokenizer import Tokenizer
from service.settings import Settings


@dataclass(frozen=True)
class Formats:
    """The choice by model: an adapter is served in its base's."""

    default: str  # float32, bfloat16 or int8
    by_base: Mapping[str, str] = field(default_factory=dict)  # a model's id -> its own

    @classmethod
    def of(cls, settings: Settings, device: torch.device) -> "Formats":
        """Raises ValueError for int8 where it has no fast products."""
        by_base = settings.dtype_by_model
        if "int8" in (settings.dtype, *by_base.values()) and not has_int8(device):
            raise ValueError(
                f"int8 needs a CPU with AVX2, and models run on {device} here; set VITRINE_DTYPE and VITRINE_DTYPES to "
                "float32 or bfloat16"
            )
        automatic = "bfloat16" if has_bfloat16(device) else "float32"
        return cls(automatic if settings.dtype == "auto" else settings.dtype, by_base)

    def of_model(self, base_id: str, config: TransformerConfig) -> str:
        """int8 is for encoders; what writes text stays in float32 there."""
        wanted = self.by_base.get(base_id, self.default)
        return "float32" if wanted == "int8" and config.architecture != "encoder" else wanted


def convert(model: TextModel, tokenizer: Tokenizer, dtype: str) -> None:
    """A float32 model into this format, in place. Heads stay as they are: they are small, and rounding shows there."""
    if dtype == "bfloat16":
        model.stack.to(torch.bfloat16)
        if has_packed_bfloat16(next(model.parameters()).device):
            replace_linears(model, TARGETS, PackedLinear)
    elif dtype == "int8":
        quantize(model, tokenizer)
