"""Low-rank adapters (LoRA, Hu et al. 2022): a frozen base, and a small product B A added to chosen linears.

One base may carry many adapters at once, and one batch may mix rows of different ones. Trained by
`training/finetune.py`, served by `service/registry.py`.
Shapes: B rows, T tokens, A adapters held, R rank, I inputs, O outputs.
"""

import hashlib
import json
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from model.config import TransformerConfig
from model.heads import ClassificationHead, Pooler, TextModel
from model.weights import read_tensors, write_tensors

ADAPTER_CONFIG_FILE = "adapter.json"
ADAPTER_WEIGHTS_FILE = "adapter.safetensors"
BODY_FIELDS = (  # that must be the base's own
    "architecture", "vocab_size", "width", "num_layers", "num_heads", "feed_forward_width", "positions", "activation",
    "norm_first",
)  # fmt: skip
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


class Routing:
    """Which adapter each row of the running batch goes through; shared by all linears of one model.

    None: the base alone. A number: that adapter for every row. A tensor [B]: one each; 0 is the base alone.
    """

    def __init__(self) -> None:
        self.slots: int | Tensor | None = None


class LoraLinear(nn.Module):
    """y = W x + b + scale B A x, for the adapter (or adapters) that the routing names.

    `down` [A, R, I] holds every A, `up` [A, O, R] every B. An `AdapterBank`, whose adapters differ in scale, multiplies
    it into `up` and leaves it at 1 here.
    """

    def __init__(self, base: nn.Linear, routing: Routing, slots: int, rank: int, scale: float = 1.0) -> None:
        super().__init__()
        self.base = base
        self.routing = routing
        self.scale = scale
        weight = base.weight
        self.down = nn.Parameter(weight.new_zeros(slots, rank, base.in_features))
        self.up = nn.Parameter(weight.new_zeros(slots, base.out_features, rank))

    @property
    def in_features(self) -> int:
        return self.base.in_features

    @property
    def out_features(self) -> int:
        return self.base.out_features

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs [B, T, I] -> [B, T, O]."""
        outputs: Tensor = self.base(inputs)
        slots = self.routing.slots
        if slots is None:
            return outputs
        if isinstance(slots, int):
            low = inputs @ self.down[slots].T  # [B, T, R]
            return outputs + self.scale * (low @ self.up[slots].T)
        low = inputs @ self.down[slots].transpose(1, 2)  # gathered [B, I, R] -> [B, T, R]
        return outputs + self.scale * (low @ self.up[slots].transpose(1, 2))


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
        if ".layers." in name and own in targets and isinstance(module, nn.Linear | LoraLinear):
            yield name, model.get_submodule(name.rsplit(".", 1)[0]), own


def attach(model: TextModel, targets: Sequence[str], slots: int, rank: int, scale: float = 1.0) -> Routing:
    """Puts a LoraLinear in the place of each chosen linear, in place -> the routing they share."""
    routing = Routing()
    for _, parent, own in list(_linears(model, targets)):
        setattr(parent, own, LoraLinear(getattr(parent, own), routing, slots, rank, scale))
    return routing


def make_trainable(model: TextModel, lora: LoraConfig) -> None:
    """Prepares a model for LoRA training, in place: the stack is frozen, adapters in slot 0 and the head are not.

    A starts random and B at zero, so that training starts from the base's own answers (section 4.1).
    """
    model.requires_grad_(False)
    routing = attach(model, lora.targets, slots=1, rank=lora.rank, scale=lora.scale)
    routing.slots = 0
    for module in model.modules():
        if isinstance(module, LoraLinear):
            nn.init.kaiming_uniform_(module.down[0], a=5**0.5)
            module.down.requires_grad_(True)
            module.up.requires_grad_(True)
    for head in (model.classifier, model.pooler):
        if head is not None:
            head.requires_grad_(True)


def take_adapter(model: TextModel, lora: LoraConfig) -> Adapter:
    """The adapter in slot 0 of a trained model, and its head, as copies on the CPU."""
    factors = {
        name: (module.down[0].detach().clone().cpu(), module.up[0].detach().clone().cpu())
        for name, module in model.named_modules()
        if isinstance(module, LoraLinear)
    }
    head = {
        name: tensor.detach().clone().cpu()
        for name, tensor in model.state_dict().items()
        if name.startswith(("classifier.", "pooler."))
    }
    return Adapter(lora, model.config, factors, head, sha256_of_body(model))


def sha256_of_body(model: TextModel) -> str:
    """Over the weights of the stack, with adapters attached or without: an adapter is worth nothing over others."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.stack.state_dict().items()):
        if not name.endswith((".down", ".up")):
            digest.update(name.replace(".base.", ".").encode() + tensor.float().cpu().numpy().tobytes())
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


def is_adapter_folder(folder: Path) -> bool:
    return (folder / ADAPTER_CONFIG_FILE).is_file()


def load_adapter_config(folder: Path) -> tuple[str, TransformerConfig]:
    """The base model's name and the tuned model's config."""
    fields = _fields(folder)
    return str(fields["base_model"]), TransformerConfig.from_dict(fields["config"])


def load_adapter(folder: Path) -> Adapter:
    fields = _fields(folder)
    lora = LoraConfig(**{**fields["lora"], "targets": tuple(fields["lora"]["targets"])})
    tensors = read_tensors(folder / ADAPTER_WEIGHTS_FILE)
    names = sorted({name.removesuffix(".down") for name in tensors if name.endswith(".down")})
    factors = {name: (tensors.pop(f"{name}.down"), tensors.pop(f"{name}.up")) for name in names}
    return Adapter(lora, TransformerConfig.from_dict(fields["config"]), factors, tensors, fields.get("body_sha256"))


def _fields(folder: Path) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads((folder / ADAPTER_CONFIG_FILE).read_text(encoding="utf-8"))
    return fields


class AdapterBank:
    """One base model and the adapters that share it. Slots are numbers; 0 is the base itself.

    Adapters may come and go while another thread runs batches: a batch holds the lock as long as it is routed.
    """

    def __init__(self, base: TextModel) -> None:
        self.base = base
        self.heads: dict[int, TextHead] = {}
        self._lock = threading.Lock()
        self._routing: Routing | None = None
        self._free: list[int] = []
        self._slots = 1
        self._rank = 0

    def add(self, adapter: Adapter) -> int:
        """Puts an adapter beside the others -> its slot. Raises ValueError when it was trained on another body."""
        for name in BODY_FIELDS:
            its, ours = getattr(adapter.config, name), getattr(self.base.config, name)
            if its != ours:
                raise ValueError(f"the adapter's base has {name} {its}, this one {ours}; was it trained on another?")
        head = TextHead(adapter.config, adapter.head).to(self.device)
        with self._lock, torch.no_grad():
            self._make_room(adapter.lora.rank)
            if missing := sorted(adapter.factors.keys() - self._modules().keys()):
                raise ValueError(
                    f"the adapter changes {missing[0]!r}, which the base lacks; was it trained on another?"
                )
            slot = self._free.pop()
            for name, module in self._modules().items():
                module.down[slot].zero_()
                module.up[slot].zero_()
                if name in adapter.factors:
                    down, up = adapter.factors[name]
                    module.down[slot, : adapter.lora.rank] = down
                    module.up[slot, :, : adapter.lora.rank] = up * adapter.lora.scale
        self.heads[slot] = head
        return slot

    def remove(self, slot: int) -> None:
        """Forgets an adapter that no batch will name any more; its slot is used again. Takes no lock: it may be called
        by the garbage collector, at any moment, in any thread."""
        self.heads.pop(slot, None)
        self._free.append(slot)

    @property
    def device(self) -> torch.device:
        return next(self.base.parameters()).device

    @contextmanager
    def route(self, slots: Sequence[int]) -> Iterator[None]:
        """Within, row i of a batch goes through the adapter in slots[i]."""
        with self._lock:
            if self._routing is None:
                yield
                return
            distinct = set(slots)
            only = next(iter(distinct))
            one_for_all = None if only == 0 else only
            self._routing.slots = one_for_all if len(distinct) == 1 else torch.tensor(slots, device=self.device)
            try:
                yield
            finally:
                self._routing.slots = None

    def _modules(self) -> dict[str, LoraLinear]:
        return {name: module for name, module in self.base.named_modules() if isinstance(module, LoraLinear)}

    def _make_room(self, rank: int) -> None:
        """Widens the stacks when an adapter of higher rank comes or all slots are taken; slots double."""
        if self._routing is None:
            self._slots, self._rank = 2, rank
            self._routing = attach(self.base, TARGETS, self._slots, rank)
            self._free.append(1)
            return
        slots = self._slots if self._free else 2 * self._slots
        wider = max(rank, self._rank)
        if (slots, wider) != (self._slots, self._rank):
            for module in self._modules().values():
                down = module.down.new_zeros(slots, wider, module.in_features)
                up = module.up.new_zeros(slots, module.out_features, wider)
                down[: self._slots, : self._rank] = module.down.detach()
                up[: self._slots, :, : self._rank] = module.up.detach()
                module.down, module.up = nn.Parameter(down), nn.Parameter(up)
            self._free[:0] = range(slots - 1, self._slots - 1, -1)  # in place: `remove` may append at any moment
            self._slots, self._rank = slots, wider


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
