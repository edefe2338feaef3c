"""A model's pass over a batch as one launch: CUDA graphs. Used by `runner.py` where models run on a GPU.

A small model computes its hundred operations faster than Python can ask for them one by one. A graph asks once, but
its shapes and addresses are fixed; so each batch is copied into the next larger shape that was recorded. What lies
behind the batch there belongs to no document: no token attends to it, and nobody reads what becomes of it.

Shapes: N tokens, B documents, D width.
"""

import logging
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from model.attention import attends_by_starts
from model.batch import Unpadded
from model.heads import TextModel
from model.transformer import Encoder

MOST_TOKENS = 4_096  # of a graph: a larger pass keeps the GPU busy for longer than its launches take
FEWEST_TOKENS = 32
ATTENTION_BLOCK = 128  # queries that one block of FlashAttention takes: a shorter longest document saves none
MOST_GRAPHS = 64  # of a model; other shapes are computed operation by operation
SEEN_BEFORE = 1  # how often a shape must have come before it is worth recording
LARGEST_DIFFERENCE = 0.05  # of what a graph gives from what the operations give, as a part of the largest number

_recording = threading.Lock()  # torch records one at a time in a process
log = logging.getLogger("vitrine.engine")

Recorder = Callable[[Callable[[], Tensor]], tuple[Tensor, Callable[[], None]]]


class GpuRecorder:
    """CUDA's. The graphs that one has recorded share the memory of what lies between input and result, so they must be
    replayed one at a time."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._shared: tuple[Any, torch.cuda.Stream] | None = None  # pool and stream, once there is something to record

    def __call__(self, compute: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
        """-> where the result lies, and what computes it anew from what then lies in the tensors that `compute`
        reads."""
        with torch.cuda.device(self._device):  # of several, a thread's own is the first
            if self._shared is None:
                self._shared = (torch.cuda.graph_pool_handle(), torch.cuda.Stream())  # type: ignore[no-untyped-call]
            pool, aside = self._shared
            graph = torch.cuda.CUDAGraph()
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                compute()  # what libraries do at their first use can't be recorded
            # other threads compute beside
            with torch.cuda.graph(graph, pool=pool, stream=aside, capture_error_mode="thread_local"):
                result = compute()
        return result, graph.replay


@dataclass(frozen=True)
class Shape:
    """What a graph has room for."""

    tokens: int
    documents: int
    longest: int

    @classmethod
    def of(cls, documents: Unpadded) -> "Shape":
        """The smallest with room for these. Steps of a half and of a third keep few shapes, and few tokens in vain."""
        tokens = FEWEST_TOKENS
        while tokens < len(documents.ids):
            tokens += tokens // 2 if tokens.bit_count() == 1 else tokens // 3  # 32, 48, 64, 96, 128, ...
        longest = max(documents.max_length, ATTENTION_BLOCK)
        return cls(tokens, _power_of_two(len(documents.order)), _power_of_two(longest))


def _power_of_two(least: int) -> int:
    return 1 << (least - 1).bit_length()


class _Graph:
    """One recorded pass, with the tensors that it reads."""

    def __init__(self, body: Encoder, shape: Shape, like: Unpadded, record: Recorder) -> None:
        ids, segments, positions = like.ids.new_zeros(3, shape.tokens)
        starts = like.starts.new_zeros(shape.documents + 1)
        none = like.stretches[:0]
        self._own = Unpadded(ids, segments, positions, starts, order=(), stretches=none, max_length=shape.longest)
        self._fill(like)
        self._result, self._replay = record(lambda: body.forward_unpadded(self._own))
        self._result.zero_()  # a replay that computes nothing is to be noticed

    def _fill(self, documents: Unpadded) -> None:
        """Documents [N] at the front; the places for more documents hold none, from the last token to the last."""
        own, count = self._own, len(documents.ids)
        own.ids[:count] = documents.ids
        own.segments[:count] = documents.segments
        own.positions[:count] = documents.positions
        own.starts[: len(documents.starts)] = documents.starts
        own.starts[len(documents.starts) :] = count

    def read(self, documents: Unpadded) -> Tensor:
        self._fill(documents)
        self._replay()
        return self._result[: len(documents.ids)].clone()  # the next batch comes to lie in the same place


class Graphs:
    """The recorded passes of one body, made when a shape comes again.

    Recording is checked against the operations themselves; when it fails or differs, a line in the log says so and this
    body is computed operation by operation from then on.
    """

    def __init__(self, body: Encoder, record: Recorder) -> None:
        self._body = body
        self._record = record
        self._lock = threading.Lock()
        self._graphs: dict[Shape, _Graph] = {}
        self._seen: Counter[Shape] = Counter()
        self.failed = False  # then nothing is recorded any more

    @classmethod
    def of(cls, model: TextModel, device: torch.device) -> "Graphs | None":
        """None where a pass is no matter of tensors alone."""
        dtype = next(model.stack.parameters()).dtype
        if model.config.architecture == "encoder_decoder" or not attends_by_starts(device, dtype):
            return None
        return cls(model.body, GpuRecorder(device))

    def __len__(self) -> int:
        return len(self._graphs)

    @torch.inference_mode()
    def read(self, documents: Unpadded) -> Tensor:
        """`forward_unpadded` of the body: last hidden states [N, D], in memory of their own."""
        if self.failed or len(documents.ids) > MOST_TOKENS:
            return self._body.forward_unpadded(documents)
        shape = Shape.of(documents)
        with self._lock:
            graph = self._graphs.get(shape)
            if graph is not None:
                return graph.read(documents)
            self._seen[shape] += 1
            if self._seen[shape] <= SEEN_BEFORE or len(self._graphs) == MOST_GRAPHS:
                return self._body.forward_unpadded(documents)
            return self._first(shape, documents)

    def _first(self, shape: Shape, documents: Unpadded) -> Tensor:
        """The documents' result, and a graph for the next of their shape."""
        wanted = self._body.forward_unpadded(documents)
        try:
            with _recording:
                graph = _Graph(self._body, shape, documents, self._record)
            furthest = float((graph.read(documents) - wanted).abs().max() / wanted.abs().max())
        except RuntimeError as error:
            self._give_up(f"could not be recorded ({error})")
        else:
            if furthest <= LARGEST_DIFFERENCE:
                self._graphs[shape] = graph
            else:
                self._give_up(f"gives other numbers, by {furthest:.1%} of the largest")
        return wanted

    def _give_up(self, why: str) -> None:
        self.failed = True
        self._graphs.clear()
        log.warning("a CUDA graph of this model %s; its operations are asked for one by one", why)
