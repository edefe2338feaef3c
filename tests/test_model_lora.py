"""Low-rank adapters: merged or not, alone or many in one batch, an adapter's answers are the same."""

import dataclasses
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from model.batch import pad_ids, unpad
from model.config import TransformerConfig
from model.folders import is_adapter_folder, load_adapter_config
from model.heads import TextModel, pool_unpadded
from model.lora import (
    TARGETS,
    Adapter,
    AdapterBank,
    LoraConfig,
    LoraLinear,
    RoutedLinear,
    Span,
    load_adapter,
    make_trainable,
    merge,
    save_adapter,
    spans_of,
    take_adapter,
)
from model.threads import threads
from model.tokenizer import Encoding
from model.transformer import EncoderDecoder
from tests.small import configs, few, gap, random_model, small_config

CLOSE = 1e-5
ROWS = [[5, 6, 7], [8, 9], [10, 11, 12, 13, 14], [15], [16, 17, 18, 19], [20, 21]]
loras = st.builds(
    LoraConfig,
    rank=st.integers(1, 6),
    alpha=st.sampled_from([1.0, 4.0, 16.0]),
    targets=st.lists(st.sampled_from(TARGETS), min_size=1, unique=True).map(tuple),
)


def tuned(base: TextModel, config: TransformerConfig, lora: LoraConfig, seed: int) -> TextModel:
    """What a LoRA run leaves: the base's stack with random factors, and a random head of its own."""
    model = random_model(config, seed)
    model.stack.load_state_dict(base.stack.state_dict())
    make_trainable(model, lora)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, LoraLinear):
                for factor in (module.down, module.up):
                    factor.copy_(0.2 * torch.randn(factor.shape, generator=generator))
    return model.requires_grad_(False)


def adapter_of(base: TextModel, labels: int, lora: LoraConfig, seed: int, **head: str) -> Adapter:
    config = dataclasses.replace(
        base.config, **{"task": "classification", "labels": tuple(f"class {n}" for n in range(labels)), **head}
    )  # type: ignore[arg-type]
    return take_adapter(tuned(base, config, lora, seed), lora)


def answer(model: TextModel, rows: list[list[int]] = ROWS) -> Tensor:
    """What the model's head gives for these rows; hidden states where it has none."""
    batch = pad_ids(rows, 0)
    if model.config.num_outputs:
        return model.tag(batch)[batch.real] if model.config.task == "tagging" else model.classify(batch)
    stack = model.stack
    hidden = stack(batch, batch) if isinstance(stack, EncoderDecoder) else stack(batch)
    return hidden[batch.real]


def from_bank(bank: AdapterBank, slots: list[int], rows: list[list[int]]) -> list[Tensor]:
    """Each row's answer from one batch that mixes adapters; hidden states of the bare base."""
    documents = unpad([Encoding.of_ids(row) for row in rows], slots)
    with bank.route(spans_of(slots, documents)):
        hidden = bank.base.body.forward_unpadded(documents)
    own = dict(zip(documents.order, hidden.split(documents.starts.diff().tolist()), strict=True))  # [T, D] by row
    answers = []
    for index, slot in enumerate(slots):
        head = bank.heads.get(slot)
        if head is None:
            answers.append(own[index])
        elif head.config.task == "tagging":
            answers.append(head(own[index]))
        else:
            vectors = pool_unpadded(hidden, documents, head.config.pooling)
            answers.append(head(vectors[index : index + 1]))
    return answers


# ---- one adapter


@few
@given(config=configs("encoder", "decoder", "encoder_decoder"), lora=loras, seed=st.integers(0, 1000))
def test_merged_equals_unmerged_and_leaves_the_base_as_it_is(
    config: TransformerConfig, lora: LoraConfig, seed: int
) -> None:
    base = random_model(config, seed)
    head = config if config.architecture == "encoder_decoder" else config.with_task("classification", ("no", "yes"))
    model = tuned(base, head, lora, seed + 1)
    before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    merged = merge(base, take_adapter(model, lora))
    assert not any(isinstance(module, LoraLinear) for module in merged.modules())
    assert gap(answer(merged), answer(model)) < CLOSE
    for name, tensor in base.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    for name, tensor in merged.stack.state_dict().items():
        own = name.split(".")[-2]
        adapted = ".layers." in f".{name}" and own in lora.targets and name.endswith("weight")
        assert torch.equal(tensor, base.stack.state_dict()[name]) != adapted, f"{name}: only the chosen linears change"


def test_the_product_is_scaled_by_alpha_over_rank() -> None:
    base = random_model(small_config("encoder", num_layers=1))
    adapter = adapter_of(base, 2, LoraConfig(rank=4, alpha=6.0, targets=("output",)), 0)
    name = "encoder.layers.0.attention.output"
    assert list(adapter.factors) == [name]
    down, up = adapter.factors[name]
    assert (down.shape, up.shape) == ((4, 16), (16, 4))
    added = merge(base, adapter).get_parameter(f"{name}.weight") - base.get_parameter(f"{name}.weight")
    assert gap(added, 1.5 * up @ down) < 1e-6


@few
@given(config=configs("encoder", "decoder", "encoder_decoder"), lora=loras, seed=st.integers(0, 1000))
def test_a_saved_adapter_loads_to_the_same_answers(config: TransformerConfig, lora: LoraConfig, seed: int) -> None:
    base = random_model(config, seed)
    if config.architecture != "encoder_decoder":
        config = config.with_task("classification", ("no", "也许", "yes"), "first", "relu")
    adapter = take_adapter(tuned(base, config, lora, seed), lora)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "adapter"
        assert not is_adapter_folder(folder)
        save_adapter(adapter, "the base", folder)
        assert is_adapter_folder(folder)
        assert load_adapter_config(folder) == ("the base", config)
        again = load_adapter(folder)
    assert (again.lora, again.config) == (adapter.lora, adapter.config)
    assert again.factors.keys() == adapter.factors.keys()
    assert again.head.keys() == adapter.head.keys()
    assert torch.equal(answer(merge(base, again)), answer(merge(base, adapter)))


@pytest.mark.parametrize("architecture", ["encoder", "decoder"])
def test_training_leaves_the_base_exactly_as_it_was_and_starts_from_its_answers(architecture: str) -> None:
    torch.manual_seed(0)  # the adapters start at random
    base = random_model(small_config(architecture, dropout=0.0))  # else six losses are noise
    config = base.config.with_task("classification", ("no", "maybe", "yes"), "mean", "tanh")
    model = random_model(config, 1)
    model.stack.load_state_dict(base.stack.state_dict())
    make_trainable(model, LoraConfig(rank=3))
    hidden = pad_ids(ROWS, 0)
    assert torch.equal(model.body(hidden), base.body(hidden)), "B is zero at the start"
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=0.02, weight_decay=0.1)
    losses = []
    for _ in range(6):
        loss = torch.nn.functional.cross_entropy(model.train().classify(hidden), torch.tensor([0, 1, 2, 0, 1, 2]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    for name, parameter in model.named_parameters():
        learns = name.endswith((".down", ".up")) or name.startswith(("classifier.", "pooler."))
        assert torch.equal(parameter, before[name]) != learns, name
        assert parameter.requires_grad == learns, name
    plain = {name.replace(".base.", "."): tensor for name, tensor in model.stack.state_dict().items()}
    for name, tensor in base.stack.state_dict().items():
        assert torch.equal(plain[name], tensor), name
    adapted = {name.rsplit(".", 2)[-2] for name in before if name.endswith(".down")}
    assert adapted == {"qkv", "output", "expand", "contract"}, "every linear of a layer"


@pytest.mark.parametrize(
    ("fields", "words"),
    [({"rank": 0}, "rank is 0; it must be at least 1"), ({"targets": ("qkv", "gate")}, r"targets \['gate'\] .* choose from")],
)  # fmt: skip
def test_lora_errors_name_value_and_remedy(fields: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        LoraConfig(**fields)  # type: ignore[arg-type]


# ---- many adapters


def varied(base: TextModel) -> list[Adapter]:
    """Distinct in rank, scale, targets, number of labels, pooling, pooler and task."""
    return [
        adapter_of(base, 2, LoraConfig(1, 2.0), 1),
        adapter_of(base, 4, LoraConfig(3, 16.0, ("qkv", "output")), 2, pooling="first", pooler="tanh"),
        adapter_of(base, 3, LoraConfig(5, 1.0), 3, pooling="last"),
        adapter_of(base, 5, LoraConfig(2, 8.0, ("expand", "contract")), 4, task="tagging"),
    ]


@few
@given(
    config=configs("encoder", "decoder"),
    order=st.permutations([0, 1, 2, 3]),
    which=st.lists(st.integers(0, 4), min_size=len(ROWS), max_size=len(ROWS)),
    seed=st.integers(0, 1000),
)
def test_a_batch_that_mixes_adapters_equals_each_row_by_itself(
    config: TransformerConfig, order: list[int], which: list[int], seed: int
) -> None:
    base = random_model(config, seed)
    alone = [base, *(merge(base, adapter) for adapter in varied(base))]
    bank = AdapterBank(random_model(config, seed))
    adapters = varied(base)
    slots = {0: 0} | {number + 1: bank.add(adapters[number]) for number in order}
    assert len(set(slots.values())) == 5
    for mix in (which, [0, 1, 2, 3, 4, 2], [3] * len(ROWS), [0] * len(ROWS)):
        answers = from_bank(bank, [slots[number] for number in mix], ROWS)
        for row, number, given_ in zip(ROWS, mix, answers, strict=True):
            assert gap(given_, answer(alone[number], [row]) if number else base.body(pad_ids([row], 0))[0]) < CLOSE
    hidden = [from_bank(bank, [slot], [ROWS[0]])[0] for slot in (slots[1], slots[2], slots[3])]
    assert len({tuple(each.shape) for each in hidden}) == 3, "each answers with its own labels"


def test_adapters_change_the_hidden_states_each_in_its_own_way() -> None:
    """Without this the mixed batch could be equal because nothing is added at all."""
    base = random_model(small_config("encoder"))
    bank = AdapterBank(base)
    slots = [0, *(bank.add(adapter) for adapter in varied(random_model(small_config("encoder"))))]
    batch = pad_ids(ROWS[:1], 0)
    hidden = []
    for slot in slots:
        with bank.route([Span(slot)]):
            hidden.append(base.body(batch))
    for first in range(len(slots)):
        for second in range(first):
            assert gap(hidden[first], hidden[second]) > 1e-2
    assert gap(base.body(batch), hidden[0]) < CLOSE, "outside a route the base is bare again"


@pytest.mark.parametrize("architecture", ["encoder", "decoder"])
def test_an_adapter_of_higher_rank_does_not_change_earlier_ones(architecture: str) -> None:
    base = random_model(small_config(architecture))
    first, *later = [adapter_of(base, 3, LoraConfig(rank, 4.0), seed) for seed, rank in enumerate([2, 7, 1, 12, 4])]
    bank = AdapterBank(random_model(small_config(architecture)))
    slot = bank.add(first)
    before = from_bank(bank, [slot, 0, slot], ROWS[:3])
    for adapter in later:
        bank.add(adapter)
        for old, new in zip(before, from_bank(bank, [slot, 0, slot], ROWS[:3]), strict=True):
            assert gap(old, new) < 1e-6


def test_a_removed_adapter_leaves_nothing_and_the_others_as_they_are() -> None:
    base = random_model(small_config("encoder"))
    kept, gone = adapter_of(base, 2, LoraConfig(2), 1), adapter_of(base, 3, LoraConfig(6), 2)
    new = adapter_of(base, 4, LoraConfig(3, 4.0, ("output",)), 3)  # of lower rank, and on fewer linears
    bank = AdapterBank(random_model(small_config("encoder")))
    first, second = bank.add(kept), bank.add(gone)
    held = adapter_bytes(bank)
    bank.remove(second)
    assert second not in bank.heads
    assert adapter_bytes(bank) < held
    third = bank.add(new)
    assert third not in (first, second), "a number once given means one adapter for ever"
    mixed = from_bank(bank, [third, first, 0, second], ROWS[:4])
    assert gap(mixed[0], answer(merge(base, new), ROWS[:1])) < CLOSE
    assert gap(mixed[1], answer(merge(base, kept), ROWS[1:2])) < CLOSE
    for row in (2, 3):
        assert gap(mixed[row], base.body(pad_ids(ROWS[row : row + 1], 0))[0]) < CLOSE


def test_small_products_take_one_thread_and_leave_as_many_as_before() -> None:
    base = random_model(small_config("encoder"))
    bank = AdapterBank(base)
    slot = bank.add(adapter_of(random_model(small_config("encoder")), 2, LoraConfig(2), 1))
    seen: list[int] = []
    linear = next(module for module in base.modules() if isinstance(module, RoutedLinear))
    linear.factors[slot] = Watched((lambda: seen.append(torch.get_num_threads())), *linear.factors[slot])  # type: ignore[assignment]
    with threads(3):
        from_bank(bank, [slot], ROWS[:1])
        assert seen == [1]
        assert torch.get_num_threads() == 3


class Watched(tuple):  # type: ignore[type-arg]
    """Two factors that tell when they are taken."""

    def __new__(cls, tell: Callable[[], None], *factors: Tensor) -> "Watched":
        made = super().__new__(cls, factors)
        made.tell = tell
        return made

    def __iter__(self) -> Iterator[Tensor]:
        self.tell()
        return super().__iter__()


@few
@given(config=configs("encoder", "decoder"), half=st.booleans(), seed=st.integers(0, 1000))
def test_a_slot_stands_for_a_plain_model_with_the_same_answers(
    config: TransformerConfig, half: bool, seed: int
) -> None:
    base = random_model(config, seed)
    bank = AdapterBank(random_model(config, seed))
    shared = {parameter.data_ptr() for parameter in bank.base.parameters()}
    assert {parameter.data_ptr() for parameter in bank.plain(0).parameters()} == shared, "no copy of what is plain"
    adapters = varied(base)
    slots = [bank.add(adapter) for adapter in adapters]
    for slot, adapter in zip(slots, adapters, strict=True):
        plain = bank.plain(slot)
        assert not any(isinstance(module, RoutedLinear) for module in plain.modules())
        assert gap(answer(plain), answer(merge(base, adapter))) < CLOSE
    assert gap(answer(bank.plain(0)), answer(base)) < CLOSE
    if half:
        bank = AdapterBank(random_model(config, seed).to(torch.bfloat16))
        plain = bank.plain(bank.add(adapters[0]))
        assert {parameter.dtype for parameter in plain.parameters()} == {torch.float32}


def test_adapters_take_the_room_of_their_weights() -> None:
    base = random_model(small_config("encoder"))
    bank = AdapterBank(random_model(small_config("encoder")))
    adapters = [adapter_of(base, 2, LoraConfig(rank), rank) for rank in (1, 5, 2, 2, 3)]
    for adapter in adapters:
        bank.add(adapter)
    factors = [factor for adapter in adapters for pair in adapter.factors.values() for factor in pair]
    assert adapter_bytes(bank) == sum(factor.nbytes for factor in factors)


def adapter_bytes(bank: AdapterBank) -> int:
    """Of the memory that the factors hold, shared or not."""
    modules = [module for module in bank.base.modules() if isinstance(module, RoutedLinear)]
    held = [factor for module in modules for pair in module.factors.values() for factor in pair]
    storages = {factor.untyped_storage().data_ptr(): factor.untyped_storage().nbytes() for factor in held}
    return sum(storages.values())


def test_a_bank_without_adapters_is_the_base() -> None:
    bank = AdapterBank(random_model(small_config("encoder")))
    (hidden,) = from_bank(bank, [0], ROWS[:1])
    assert torch.equal(hidden, random_model(small_config("encoder")).body(pad_ids(ROWS[:1], 0))[0])


@pytest.mark.parametrize(
    ("architecture", "fields"),
    [("decoder", {}), ("encoder", {"num_layers": 3}), ("encoder", {"num_layers": 1}), ("encoder", {"width": 8}),
     ("encoder", {"feed_forward_width": 32}), ("encoder", {"num_heads": 4}), ("encoder", {"vocab_size": 50})],
)  # fmt: skip
def test_an_adapter_of_another_body_is_refused_and_nothing_is_lost(architecture: str, fields: dict[str, int]) -> None:
    base = random_model(small_config("encoder"))
    own = adapter_of(base, 3, LoraConfig(2), 1)
    stranger = adapter_of(random_model(small_config(architecture, **fields)), 2, LoraConfig(3), 2)
    bank = AdapterBank(random_model(small_config("encoder")))
    slot = bank.add(own)
    for _ in range(3):
        with pytest.raises(ValueError, match="trained on another"):
            bank.add(stranger)
    assert gap(from_bank(bank, [slot], ROWS[:1])[0], answer(merge(base, own), ROWS[:1])) < CLOSE
    assert adapter_bytes(bank) == sum(factor.nbytes for pair in own.factors.values() for factor in pair), (
        "the refused one has left nothing"
    )
