"""Linears packed for bfloat16 products: the numbers of those that are not, whoever asks; adapters and plain copies."""

import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from model.batch import unpad
from model.capability import has_packed_bfloat16
from model.config import TransformerConfig
from model.lora import AdapterBank, RoutedLinear, Span
from model.packed import PackedLinear
from model.tokenizer import train_wordpiece
from service.formats import convert
from tests.small import configs, few, gap, random_model, small_config
from tests.test_model_lora import varied
from tests.test_service_cores import encodings

PACKED = has_packed_bfloat16(torch.device("cpu"))  # elsewhere what is packed is tried in float32


@few
@given(
    inputs=st.sampled_from([1, 8, 33, 384]), outputs=st.sampled_from([1, 65, 384]), rows=st.integers(1, 70),
    seed=st.integers(0, 1000),
)  # fmt: skip
def test_it_is_the_linear(inputs: int, outputs: int, rows: int, seed: int) -> None:
    """In bfloat16 to the bit."""
    torch.manual_seed(seed)
    dtype = torch.bfloat16 if PACKED else torch.float32
    linear = nn.Linear(inputs, outputs).to(dtype)
    packed = PackedLinear(linear)
    for shape in ((2, rows, inputs), (rows, inputs), (1, inputs)):
        read = torch.randn(shape).to(dtype)
        with torch.no_grad():
            exact = linear(read)
            assert packed(read).dtype == dtype
            assert gap(packed(read), exact) <= (0.0 if PACKED else 1e-5 * float(exact.abs().max()))


@few
@given(config=configs("encoder", "decoder", "encoder_decoder"), seed=st.integers(0, 99))
def test_a_model_in_bfloat16_has_the_answers_it_had_before(config: TransformerConfig, seed: int) -> None:
    tokenizer = train_wordpiece(["red green blue cat dog"] * 5, 40)
    served, before = random_model(config, seed), random_model(config, seed)
    convert(served, tokenizer, "bfloat16")
    before.stack.to(torch.bfloat16)
    assert any(isinstance(module, PackedLinear) for module in served.modules()) == PACKED
    assert served.state_dict().keys() == before.state_dict().keys()
    if config.architecture != "encoder_decoder":
        documents = unpad(encodings([5, 2, 9]))
        with torch.inference_mode():
            assert torch.equal(served.body.forward_unpadded(documents), before.body.forward_unpadded(documents))


def test_adapters_and_plain_copies_over_packed_linears() -> None:
    tokenizer = train_wordpiece(["red green blue cat dog"] * 5, 40)
    config = small_config("encoder", vocab_size=tokenizer.vocab_size, width=32, feed_forward_width=64)
    plain, served = random_model(config, 3), random_model(config, 3)
    convert(served, tokenizer, "bfloat16")
    bank, adapter = AdapterBank(served), varied(plain)[0]
    slot = bank.add(adapter)
    with torch.inference_mode(), bank.route([Span(slot)]):
        for name, (down, up) in adapter.factors.items():
            routed = served.get_submodule(name)
            assert isinstance(routed, RoutedLinear)
            assert isinstance(routed.base, PackedLinear) == PACKED
            rows = torch.randn(7, routed.in_features).bfloat16()
            near = F.linear(rows, routed.base.weight, routed.base.bias).float()
            added = adapter.lora.scale * (rows.float() @ down.T @ up.T)
            assert gap(routed(rows).float(), near + added) < 0.02 * float((near + added).abs().max())
    copy = bank.plain(0)
    assert not any(isinstance(module, PackedLinear) for module in copy.modules())
    for name, tensor in copy.state_dict().items():
        assert gap(tensor, plain.state_dict()[name].bfloat16().float()) <= 0.01 * float(tensor.abs().max())
