"""A model's pass on a CPU as one program that runs without Python: TorchScript. Used by `runner.py`.

Each operation that Python asks for takes Python's lock back when it ends, some hundred times a pass, and waits for it
while the event loop or another core has it. A program asks for all of them itself. It is traced once for every
architecture, with the weights among its inputs, so that models of one kind share it and none stays for it in memory;
what depends on the batch's lengths is a loop in it (`model/script.py`).
"""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any, Literal, cast

import torch
from torch import Tensor
from torch.jit._fuser import optimized_execution  # which torch.jit does not name as its own, for mypy

from model.batch import Unpadded, unpad
from model.config import TransformerConfig
from model.heads import TextModel
from model.tokenizer import Encoding
from model.transformer import Encoder

TRACED_LENGTHS, CHECKED_LENGTHS = (2, 3, 3), (1, 4, 4, 5)  # of documents
OF_HEADS = ("task", "labels", "pooling", "pooler")  # fields of a config that a body does not know
LARGEST_DIFFERENCE = 1e-3  # of what a program gives from what the operations give, as a part of the largest number
Traced = Callable[..., Tensor]
Pass = Literal["forward_unpadded", "first_tokens_unpadded"]  # of an Encoder

_tracing = threading.Lock()
_traced: dict[tuple[object, Pass], Traced] = {}  # by architecture, for good
log = logging.getLogger("vitrine.engine")


class Program:
    """The passes of one body. They are held against the operations themselves when they are made; where one fails or
    differs, a line in the log says so and this body's operations are asked for one by one."""

    def __init__(self, body: Encoder, architecture: object, passes: Sequence[Pass]) -> None:
        self._body = body
        self._weights = tuple(_weights(body).values())
        self._traced: dict[Pass, Traced] = {}
        try:
            for name in passes:
                with _tracing, torch.no_grad():
                    if (architecture, name) not in _traced:
                        _traced[architecture, name] = _trace(body, name)
                    self._traced[name] = _traced[architecture, name]
                if not (furthest := self._difference(name)) <= LARGEST_DIFFERENCE:
                    self._give_up(f"gives other numbers, by {furthest:.1%} of the largest")
                    return
        except Exception as error:  # what only makes it faster keeps no model from being served
            self._give_up(f"could not be made ({error})")

    @classmethod
    def of(cls, model: TextModel, device: torch.device) -> "Program | None":
        """None where Python is not what a pass waits for, or has none like it."""
        if device.type != "cpu" or model.config.architecture == "encoder_decoder":
            return None
        weights = _weights(model.body)
        kinds = tuple((name, tuple(tensor.shape), tensor.dtype) for name, tensor in weights.items())
        built = tuple(value for name, value in asdict(model.config).items() if name not in OF_HEADS)
        return cls(model.body, (built, kinds), passes_of(model.config))

    @property
    def failed(self) -> bool:
        return not self._traced

    def __len__(self) -> int:
        return len(self._traced)  # each for all shapes

    @torch.inference_mode()
    def read(self, documents: Unpadded, name: Pass = "forward_unpadded") -> Tensor:
        """What the body's method of that name gives."""
        if name not in self._traced:
            return _method(self._body, name)(documents)
        with optimized_execution(False):  # else each new shape is looked into, for little
            return self._traced[name](*_inputs(documents), self._weights)

    def _difference(self, name: Pass) -> float:
        """Of what is traced from the operations, as a part of their largest number."""
        documents = _documents(self._body, CHECKED_LENGTHS)
        with torch.inference_mode():
            wanted, given = _method(self._body, name)(documents), self.read(documents, name)
        return float((given - wanted).abs().max() / wanted.abs().max())

    def _give_up(self, why: str) -> None:
        self._traced = {}
        log.warning("the program of this model %s; its operations are asked for one by one", why)


def passes_of(config: TransformerConfig) -> tuple[Pass, ...]:
    """Those that a model of an encoder or a decoder is asked for: where the first token stands for its text, what the
    last layer gives for the others is read by tags and masks alone."""
    first = config.architecture == "encoder" and config.pooling == "first"
    return ("forward_unpadded", "first_tokens_unpadded") if first else ("forward_unpadded",)


def _method(body: Encoder, name: Pass) -> Callable[[Unpadded], Tensor]:
    method: Callable[[Unpadded], Tensor] = getattr(body, name)
    return method


def _weights(body: Encoder) -> dict[str, Tensor]:
    """All tensors that are the model's own: parameters and buffers."""
    return {**dict(body.named_parameters()), **dict(body.named_buffers())}


def _trace(body: Encoder, name: Pass) -> Traced:
    """-> what computes this pass from the documents' tensors and the weights. Nobody else may use the body
    meanwhile."""
    documents, weights = _documents(body, TRACED_LENGTHS), _weights(body)
    names, held = tuple(weights), [body]

    def compute(
        ids: Tensor, segments: Tensor, positions: Tensor, starts: Tensor, stretches: Tensor, given: Sequence[Tensor]
    ) -> Tensor:
        own = replace(documents, ids=ids, segments=segments, positions=positions, starts=starts, stretches=stretches)
        with _in_place(held[0], dict(zip(names, given, strict=True))):
            return _method(held[0], name)(own)

    inputs = (*_inputs(documents), tuple(weights.values()))
    traced: Traced = torch.jit.trace(compute, inputs, check_trace=False)  # type: ignore[no-untyped-call]
    held.clear()  # what was traced keeps the function for good
    return traced


@contextmanager
def _in_place(body: Encoder, given: Mapping[str, Tensor]) -> Iterator[None]:
    """Within, the body computes with these, by name, in the place of its own (which `functional_call` does, but not
    while a pass is traced)."""
    places: dict[str, tuple[dict[str, Any], str]] = {}
    for name in given:
        owner, _, leaf = name.rpartition(".")
        module = body.get_submodule(owner)
        places[name] = (
            cast(dict[str, Any], module._parameters if leaf in module._parameters else module._buffers),
            leaf,
        )
    own = {name: table[leaf] for name, (table, leaf) in places.items()}
    try:
        for name, (table, leaf) in places.items():
            table[leaf] = given[name]
        yield
    finally:
        for name, (table, leaf) in places.items():
            table[leaf] = own[name]


def _inputs(documents: Unpadded) -> tuple[Tensor, ...]:
    """What a pass on a CPU reads of them."""
    return documents.ids, documents.segments, documents.positions, documents.starts, documents.stretches


def _documents(body: Encoder, lengths: Sequence[int]) -> Unpadded:
    """Of tokens as they come in the vocabulary, as long as the model can read."""
    config = body.config
    cut = [min(length, config.max_positions) for length in lengths]
    return unpad([Encoding.of_ids([number % config.vocab_size for number in range(length)]) for length in cut])
