"""How good a classifier or language model is on held-out rows. Used by `objectives.py`; the metrics are scikit-learn's.

Scores of the other tasks are in `scores.py`.
"""

import functools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

from model.batch import Batch, length_sorted_batches, pad
from model.heads import TextModel
from model.tokenizer import Encoding
from training.lanes import Lanes, most_lanes
from training.parallel import ALONE, World
from training.temperature import fit_temperature

EVALUATION_BATCH_TOKENS = 4096  # at once, of all lanes
LANE_TOKENS = 1024  # of one pass on a CPU: what it computes stays near the cores


class Scores(Protocol):
    """What every evaluation has."""

    @property
    def loss(self) -> float:
        """Mean cross-entropy, nats."""

    def summary(self) -> str:
        """One line for a reader."""

    def figures(self) -> dict[str, float]:
        """The numbers that are followed over time, by name."""

    def to_dict(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Evaluation:
    """A classifier's scores over one set of rows."""

    num_examples: int
    loss: float  # mean cross-entropy, nats
    accuracy: float
    macro_f1: float
    majority_baseline: float  # accuracy of always naming the commonest label
    labels: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]  # rows: true label, columns: predicted label
    temperature: float  # by which the served head's logits are divided, see `temperature.py`

    def summary(self) -> str:
        return (
            f"accuracy {self.accuracy:.3f}, macro F1 {self.macro_f1:.3f}, loss {self.loss:.3f} "
            f"(majority baseline {self.majority_baseline:.3f})"
        )

    def figures(self) -> dict[str, float]:
        return {"loss": self.loss, "accuracy": self.accuracy, "macro_f1": self.macro_f1}

    def to_dict(self) -> dict[str, Any]:
        fields = asdict(self)
        labels, counts = list(fields.pop("labels")), [list(row) for row in fields.pop("confusion")]
        return {**fields, "confusion_matrix": {"labels": labels, "counts": counts}}


@dataclass(frozen=True)
class LanguageScores:
    """A language model's scores over predicted tokens: the next, or the hidden ones."""

    loss: float  # mean cross-entropy, nats a predicted token
    accuracy: float
    num_tokens: int  # predicted

    @property
    def perplexity(self) -> float:
        return math.exp(min(self.loss, 700.0))

    def summary(self) -> str:
        return f"loss {self.loss:.3f}, perplexity {self.perplexity:.2f}, tokens right {self.accuracy:.3f}"

    def figures(self) -> dict[str, float]:
        return {"loss": self.loss, "accuracy": self.accuracy, "perplexity": self.perplexity}

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "perplexity": self.perplexity}


def score_language(
    batches: Sequence[list[int]],
    predict: Callable[[list[int]], tuple[torch.Tensor, torch.Tensor]],
    lanes: int,
    world: World = ALONE,
) -> LanguageScores:
    """Over batches of held-out rows; `predict` gives logits [M, V] and targets [M] of one, and is called by so many
    threads side by side."""

    def count(turn: tuple[list[int], bool]) -> tuple[float, int, int]:
        rows, counts = turn
        logits, targets = predict(rows)
        nats = float(F.cross_entropy(logits.float(), targets, reduction="sum"))
        right = int((logits.argmax(dim=-1) == targets).sum())
        return (nats, right, len(targets)) if counts else (0.0, 0, 0)

    with Lanes(lanes) as side_by_side:
        counted = side_by_side.each(count, list(world.turns(batches)))
    sums = torch.tensor(counted, dtype=torch.float64).sum(dim=0)
    world.add_up([sums])
    nats, right, tokens = sums.tolist()
    return LanguageScores(nats / max(1.0, tokens), right / max(1.0, tokens), int(tokens))


def evaluate(
    model: TextModel, encodings: Sequence[Encoding], targets: Sequence[int], world: World = ALONE
) -> Evaluation:
    """Runs a classifier over all rows, in length-sorted batches. Leaves it in evaluation mode."""
    return score(predict(model, encodings, world), targets, model.config.labels)


def evaluation_lanes(device: torch.device, world: World, tokens: int, longest: int) -> int:
    """How many batches of held-out rows are computed side by side, of so many tokens in all, when a row has up to
    `longest`; sharded weights come together for one at a time."""
    return 1 if world.shards else max(1, min(most_lanes(device), tokens // max(1, longest)))


def evaluation_batch_tokens(device: torch.device, lanes: int) -> int:
    """Of one batch of held-out rows."""
    return min(EVALUATION_BATCH_TOKENS // lanes, LANE_TOKENS) if device.type == "cpu" else EVALUATION_BATCH_TOKENS


def predict(model: TextModel, encodings: Sequence[Encoding], world: World = ALONE) -> torch.Tensor:
    """The head's numbers for all rows, in length-sorted batches -> [N, C]; several processes share the work, and each
    has all numbers. Leaves the model in evaluation mode."""
    outputs = torch.zeros(len(encodings), model.config.num_outputs)

    def keep(rows: Sequence[int], logits: torch.Tensor) -> None:
        outputs[rows] = logits

    _compute(model, model.classify, encodings, keep, world)
    world.add_up([outputs])
    return outputs


def predict_tokens(model: TextModel, encodings: Sequence[Encoding], world: World = ALONE) -> list[torch.Tensor]:
    """A tagger's numbers for every token of each row -> [T, C] a row, shared likewise. Leaves the model in evaluation
    mode."""
    outputs = [torch.zeros(len(encoding.ids), model.config.num_outputs) for encoding in encodings]

    def keep(rows: Sequence[int], logits: torch.Tensor) -> None:
        for row, of_tokens in zip(rows, logits, strict=True):
            outputs[row].copy_(of_tokens[: len(encodings[row].ids)])

    _compute(model, model.tag, encodings, keep, world)
    world.add_up(outputs)
    return outputs


def text_vectors(model: TextModel, encodings: Sequence[Encoding]) -> torch.Tensor:
    """Text vectors [N, D] in float32, whatever the number format of training, so that the same weights always give the
    same vectors. Leaves the model in evaluation mode."""
    vectors = torch.empty(len(encodings), model.config.width)

    def keep(rows: Sequence[int], found: torch.Tensor) -> None:
        vectors[rows] = found

    with torch.autocast(next(model.parameters()).device.type, enabled=False):
        _compute(model, model.pooled, encodings, keep, ALONE)
    return vectors


def _compute(
    model: TextModel,
    function: Callable[[Batch], torch.Tensor],
    encodings: Sequence[Encoding],
    keep: Callable[[Sequence[int], torch.Tensor], None],
    world: World,
) -> None:
    """What the function gives for the rows of each of this process's batches that count, see `World.turns`, to be kept:
    in float32, on the CPU."""
    model.eval()
    device = next(model.parameters()).device
    lengths = [len(encoding.ids) for encoding in encodings]
    lanes = evaluation_lanes(device, world, EVALUATION_BATCH_TOKENS, max(lengths, default=0))
    batches = length_sorted_batches(lengths, evaluation_batch_tokens(device, lanes), max_rows=256)

    def take(turn: tuple[list[int], bool]) -> None:
        rows, counts = turn
        batch = pad([encodings[row] for row in rows], model.config.pad_id).to(device)
        found = function(batch).float().cpu()
        if counts:
            keep(rows, found)

    with torch.inference_mode(), Lanes(lanes) as side_by_side:
        side_by_side.each(take, list(world.turns(batches)))


def score(logits: torch.Tensor, targets: Sequence[int], labels: tuple[str, ...]) -> Evaluation:
    """logits [N, C] and the true classes -> scores."""
    predicted = logits.argmax(dim=-1).tolist()
    wanted = torch.tensor(targets)
    matrix = confusion_matrix(targets, predicted, labels=range(len(labels)))
    return Evaluation(
        num_examples=len(targets),
        loss=float(F.cross_entropy(logits, wanted)),
        accuracy=float(accuracy_score(targets, predicted)),
        macro_f1=float(f1_score(targets, predicted, average="macro", zero_division=0.0)),  # of classes there, or named
        majority_baseline=max(Counter(targets).values()) / len(targets),
        labels=labels,
        confusion=tuple(tuple(int(count) for count in row) for row in matrix),
        temperature=fit_temperature(logits, wanted, functools.partial(F.cross_entropy, reduction="sum")),
    )
