"""What the hardware does well. Asked by training and serving when a setting says 'auto'."""

import torch


def has_bfloat16(device: torch.device) -> bool:
    """Whether bf16 matrix products are in hardware; emulated ones are slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
