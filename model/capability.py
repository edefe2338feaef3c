"""What the hardware does well. Asked by training and serving when a setting says 'auto'."""

import torch


def has_bfloat16(device: torch.device) -> bool:
    """Whether bf16 matrix products are in hardware; emulated ones are slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def has_packed_bfloat16(device: torch.device) -> bool:
    """Whether `model/packed.py` has its products here."""
    return device.type == "cpu" and _has_onednn() and has_bfloat16(device)


def attends_in_float32(device: torch.device) -> bool:
    """Whether torch's attention takes less time for bfloat16 once it is float32: on CPUs without AMX."""
    return device.type == "cpu" and not torch.cpu._is_amx_tile_supported()


def attends_by_products(device: torch.device) -> bool:
    """Whether two batched products and a softmax take less time than torch's attention, for texts of 17 to 47 tokens: a
    fifth less at 27 with AVX-512 (as much where their number is a multiple of 16), more with AVX2."""
    return device.type == "cpu" and torch.cpu._is_avx512_supported()


def has_int8(device: torch.device) -> bool:
    """Whether `model/quantized.py` has fast products of whole numbers here."""
    return device.type == "cpu" and _has_onednn() and torch.cpu._is_avx2_supported()


def _has_onednn() -> bool:
    return bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


def activation_levels() -> int:
    """Steps from the lowest int8 activation of a token to its highest: without VNNI a CPU adds pairs of products in
    16 bits, which only 7 bits times 8 never overflow. One of the 128 or 256 levels is left for what rounding adds."""
    return 254 if torch.cpu._is_vnni_supported() or torch.cpu._is_amx_tile_supported() else 126
