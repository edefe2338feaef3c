"""Low-rank adapters (LoRA, Hu et al. 2022): a frozen base, and a small product B A added to chosen linears.

One base may carry many adapters at once, and one batch may mix documents of different ones. Trained by
`training/finetune.py`, served by `service/registry.py`.
Shapes: N tokens, R rank, I inputs, O outputs.
"""

import hashlib
import itertools
import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from model.batch import Unpadded
from model.config import TransformerConfig
from model.folders import ADAPTER_CONFIG_FILE, adapter_fields, told_of_adapter
from model.heads import ClassificationHead, Pooler, TextModel, empty_model
from model.threads import threads
from model.weights import read_tensors, write_tensors

ADAPTER_WEIGHTS_FILE = "adapter.safetensors"
BODY_FIELDS = (  # that must be the base's own
    "architecture", "vocab_size", "width", "num_layers", "num_heads", "feed_forward_width", "positions", "activation",
    "norm_first",
)  # fmt: skip
HEADS = ("classifier.", "pooler.", "language_model.")
FEW_TOKENS = 256  # of an adapter, below which its product is not worth more than one thread
TARGETS = ("qkv", "query", "key_value", "output", "expand", "contract")  # every linear of a layer, by its own name


@dataclass(frozen=True)
class LoraConfig:
    """Which linears get an adapter, and of what rank. Raises ValueError with value, limit and remedy."""

    rank: int = 8
    alpha: float = 16.0  # the product is scaled by alpha / rank
    targets: tuple[str, ...] = TARGETS

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"rank is {self.rank}; it must be at least 1")
        if unknown := sorted(set(self.targets) - set(TARGETS)):
            raise ValueError(f"targets {unknown} are no linears of a layer; choose from {list(TARGETS)}")

    @property
    def scale(self) -> float:
        return self.alpha / self.rank


class AroundLinear(nn.Module):
    """Stands in the place of a linear and adds to what it gives; of the same shape."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.in_features = base.in_features
        self.out_features = base.out_features


class LoraLinear(AroundLinear):
    """y = W x + b + scale B A x, with A `down` [R, I] and B `up` [O, R]: one adapter, being trained."""

    def __init__(self, base: nn.Linear, rank: int, scale: float) -> None:
        super().__init__(base)
        self.scale = scale
        self.down = nn.Parameter(base.weight.new_zeros(rank, base.in_features))
        self.up = nn.Parameter(base.weight.new_zeros(base.out_features, rank))

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs [..., I] -> [..., O]."""
        outputs: Tensor = self.base(inputs)
        return outputs + self.scale * (inputs @ self.down.T @ self.up.T)


@dataclass(frozen=True)
class Span:
    """Tokens of a running batch that go through one adapter of a bank."""

    slot: int
    start: int = 0
    end: int | None = None  # None: to the last


class Routing(threading.local):
    """Which tokens of the batch that the calling thread runs go through which adapter; shared by all linears of one
    model. Those that no span names go through the base alone."""

    def __init__(self) -> None:
        self.spans: Sequence[Span] = ()


class RoutedLinear(AroundLinear):
    """A frozen linear and the factors of any number of adapters, each for the tokens that the routing sends there.

    Each adapter's factors are tensors of their own, of its own rank: a hundred take the room of their weights, and one
    may come or go beside the others.
    """

    def __init__(self, base: nn.Linear, routing: Routing) -> None:
        super().__init__(base)
        self.routing = routing
        self.factors: dict[int, tuple[Tensor, Tensor]] = {}  # slot -> A transposed [I, R], scale times B, [R, O]

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs [..., I] -> [..., O]; spans count the tokens of all leading dimensions together."""
        outputs: Tensor = self.base(inputs)
        flat_inputs, flat = inputs.reshape(-1, self.in_features), outputs.view(-1, self.out_features)
        small = len(self.routing.spans) * FEW_TOKENS > len(flat)
        with threads(1) if small else nullcontext():
            for span in self.routing.spans:
                if (factors := self.factors.get(span.slot)) is not None:
                    down, up = factors
                    flat[span.start : span.end].addmm_(flat_inputs[span.start : span.end] @ down, up)
        return outputs


@dataclass(frozen=True)
class Adapter:
    """What fine-tuning with LoRA leaves: low-rank factors by linear, and the head that was trained with them."""

    lora: LoraConfig
    config: TransformerConfig  # of the tuned model: base's body, its own head and labels
    factors: dict[str, tuple[Tensor, Tensor]]  # linear's name -> A [R, I], B [O, R], unscaled
    head: dict[str, Tensor]  # parameters of classifier and pooler by name
    body_sha256: str | None = None  # of the weights it was trained over, see `sha256_of_body`


def _linears(model: TextModel, targets: Sequence[str]) -> Iterator[tuple[str, nn.Module, str]]:
    """(full name, parent module, own name) of each linear of the stack that is to be adapted."""
    for name, module in model.named_modules():
        own = name.rsplit(".", 1)[-1]
        if ".layers." in name and own in targets and isinstance(module, nn.Linear):
            yield name, model.get_submodule(name.rsplit(".", 1)[0]), own


def replace_linears(model: TextModel, targets: Sequence[str], make: Callable[[nn.Linear], nn.Module]) -> None:
    """Puts what `make` makes of it in the place of each chosen linear, in place."""
    for _, parent, own in list(_linears(model, targets)):
        setattr(parent, own, make(getattr(parent, own)))


def make_trainable(model: TextModel, lora: LoraConfig) -> None:
    """Prepares a model for LoRA training, in place: the stack is frozen, adapters and the head are not.

    A starts random and B at zero, so that training starts from the base's own answers (section 4.1).
    """
    model.requires_grad_(False)
    replace_linears(model, lora.targets, lambda linear: LoraLinear(linear, lora.rank, lora.scale))
    for module in model.modules():
        if isinstance(module, LoraLinear):
            nn.init.kaiming_uniform_(module.down, a=5**0.5)
    for head in (model.classifier, model.pooler):
        if head is not None:
            head.requires_grad_(True)


def take_adapter(model: TextModel, lora: LoraConfig) -> Adapter:
    """The adapter of a trained model, and its head, as copies on the CPU."""
    factors = {
        name: (module.down.detach().clone().cpu(), module.up.detach().clone().cpu())
        for name, module in model.named_modules()
        if isinstance(module, LoraLinear)
    }
    head = {
        name: tensor.detach().clone().cpu() for name, tensor in model.state_dict().items() if name.startswith(HEADS)
    }
    return Adapter(lora, model.config, factors, head, sha256_of_body(model))


def sha256_of_body(model: TextModel) -> str:
    """Over the weights of the stack, with adapters attached or without: an adapter is worth nothing over others."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.stack.state_dict().items()):
        if not name.endswith((".down", ".up")):
            digest.update(name.replace(".base.", ".").encode())
            digest.update(tensor.float().cpu().reshape(-1).numpy())  # a copy would be memory that no estimate knows
    return digest.hexdigest()


def merge(base: TextModel, adapter: Adapter) -> TextModel:
    """A plain model with W + (alpha / rank) B A in the place of W, and the adapter's head; the base stays as it is."""
    merged = TextModel(adapter.config)
    tensors = {name: tensor.clone() for name, tensor in base.stack.state_dict().items()}
    merged.stack.load_state_dict(tensors)
    with torch.no_grad():
        for name, (down, up) in adapter.factors.items():
            linear = merged.get_submodule(name)
            assert isinstance(linear, nn.Linear)
            linear.weight += adapter.lora.scale * (up @ down)
    merged.load_state_dict(adapter.head, strict=False)
    return merged.eval()


def save_adapter(adapter: Adapter, base_model: str, folder: Path) -> None:
    """Writes the adapter's weights and head; the config comes last, so that a half-written folder is none."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = dict(adapter.head)
    for name, (down, up) in adapter.factors.items():
        tensors |= {f"{name}.down": down, f"{name}.up": up}
    write_tensors(folder / ADAPTER_WEIGHTS_FILE, tensors)
    fields: dict[str, Any] = {"base_model": base_model, "body_sha256": adapter.body_sha256}
    fields |= {"lora": asdict(adapter.lora), "config": adapter.config.to_dict()}
    temporary = folder / f".{ADAPTER_CONFIG_FILE}.tmp"
    temporary.write_text(json.dumps(fields, indent=1, ensure_ascii=False), encoding="utf-8")
    os.replace(temporary, folder / ADAPTER_CONFIG_FILE)


def load_adapter(folder: Path) -> Adapter:
    """Raises ValueError for a folder that holds no whole adapter."""
    fields = adapter_fields(folder)
    tensors = read_tensors(folder / ADAPTER_WEIGHTS_FILE)
    with told_of_adapter():
        lora = LoraConfig(**{**fields["lora"], "targets": tuple(fields["lora"]["targets"])})
        names = sorted({name.removesuffix(".down") for name in tensors if name.endswith(".down")})
        factors = {name: (tensors.pop(f"{name}.down"), tensors.pop(f"{name}.up")) for name in names}
        return Adapter(lora, TransformerConfig.from_dict(fields["config"]), factors, tensors, fields.get("body_sha256"))


class AdapterBank:
    """One base model and the adapters that share it. Slots are numbers, each given once; 0 is the base itself.

    Adapters may come and go while other threads run batches, which name those alone that are there to their end.
    """

    def __init__(self, base: TextModel) -> None:
        self.base = base
        self.heads: dict[int, TextHead] = {}
        self._lock = threading.Lock()  # of who adds, or takes the whole apart
        self._routing = Routing()
        self._routed: dict[str, RoutedLinear] = {}  # by the linear's name; none before the first adapter
        self._slots = itertools.count(1)

    def add(self, adapter: Adapter) -> int:
        """Puts an adapter beside the others -> its slot. Raises ValueError when it was trained on another body."""
        for name in BODY_FIELDS:
            its, ours = getattr(adapter.config, name), getattr(self.base.config, name)
            if its != ours:
                raise ValueError(f"the adapter's base has {name} {its}, this one {ours}; was it trained on another?")
        head = TextHead(adapter.config, adapter.head).to(self.device)
        with self._lock, torch.no_grad():
            if not self._routed:
                replace_linears(self.base, TARGETS, lambda linear: RoutedLinear(linear, self._routing))
                modules = self.base.named_modules()
                self._routed = {name: module for name, module in modules if isinstance(module, RoutedLinear)}
            if missing := sorted(adapter.factors.keys() - self._routed.keys()):
                raise ValueError(
                    f"the adapter changes {missing[0]!r}, which the base lacks; was it trained on another?"
                )
            slot = next(self._slots)
            for name, (down, up) in adapter.factors.items():
                routed = self._routed[name]
                weight, scale = routed.base.weight, adapter.lora.scale
                routed.factors[slot] = (down.T.to(weight).contiguous(), (scale * up).T.to(weight).contiguous())
        self.heads[slot] = head
        return slot

    def remove(self, slot: int) -> None:
        """Forgets an adapter that no batch will name any more. Takes no lock: the garbage collector may call it at any
        moment, in any thread."""
        self.heads.pop(slot, None)
        for routed in list(self._routed.values()):
            routed.factors.pop(slot, None)

    def plain(self, slot: int) -> TextModel:
        """The model that a slot stands for, in float32 and without adapters beside it: what explanations take apart.

        A model of its own, that no adapter added meanwhile changes; weights that are as they should be are shared, not
        copied.
        """
        model = empty_model(self.heads[slot].config if slot else self.base.config, "meta")
        with self._lock:
            own = {name.replace(".base.", "."): tensor for name, tensor in self.base.state_dict().items()}
            factors = {name: routed.factors.get(slot) for name, routed in self._routed.items()}
        own = {name: tensor.float() for name, tensor in own.items()}
        for name, pair in factors.items():
            if pair is not None:
                down, up = pair
                own[f"{name}.weight"] = own[f"{name}.weight"] + (down.float() @ up.float()).T
        if slot:
            own = {name: tensor for name, tensor in own.items() if not name.startswith(HEADS)}
            own |= {name: tensor.float() for name, tensor in self.heads[slot].state_dict().items()}
        model.load_state_dict(own, assign=True)
        made = dict(self.base.named_buffers())
        for name in [name for name, _ in model.named_buffers()]:  # what is made and not stored, the state lacks
            owner, _, leaf = name.rpartition(".")
            model.get_submodule(owner).register_buffer(leaf, made[name].float(), persistent=False)
        return model.eval().requires_grad_(False)

    @property
    def device(self) -> torch.device:
        return next(self.base.parameters()).device

    @contextmanager
    def route(self, spans: Sequence[Span]) -> Iterator[None]:
        """Within, tokens of the calling thread's batch go through the adapters that the spans name."""
        self._routing.spans = [span for span in spans if span.slot]
        try:
            yield
        finally:
            self._routing.spans = ()


def spans_of(slots: Sequence[int], documents: Unpadded) -> list[Span]:
    """Which tokens go through which adapter, when document i goes through slots[i] and those of one slot lie together:
    `unpad` with the slots as groups."""
    starts = documents.starts.tolist()
    spans: list[Span] = []
    for place, index in enumerate(documents.order):
        if spans and spans[-1].slot == slots[index]:
            spans[-1] = Span(spans[-1].slot, spans[-1].start, starts[place + 1])
        else:
            spans.append(Span(slots[index], starts[place], starts[place + 1]))
    return spans


class TextHead(nn.Module):
    """An adapter's own classifier: the pooler and linear layer that were trained with it, in float32."""

    def __init__(self, config: TransformerConfig, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        self.config = config
        self.pooler = Pooler(config.width, config.pooler) if config.pooler != "none" else None
        self.classifier = ClassificationHead(config.width, config.num_outputs, config.dropout, config.classifier_bias)
        self.load_state_dict(tensors)
        self.eval()

    def forward(self, vectors: Tensor) -> Tensor:
        """Text vectors [B, D] (or token vectors for tagging) -> logits [B, C]."""
        if self.pooler is not None and self.config.task != "tagging":
            vectors = self.pooler(vectors)
        logits: Tensor = self.classifier(vectors)
        return logits.float()
