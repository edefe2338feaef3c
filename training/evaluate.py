"""How good a classifier is on held-out rows. Used by `trainer.py`; the metrics are scikit-learn's."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

from model.batch import length_sorted_batches, pad
from model.heads import TextModel
from model.tokenizer import Encoding

EVALUATION_BATCH_TOKENS = 4096


@dataclass(frozen=True)
class Evaluation:
    """Scores over one set of rows."""

    num_examples: int
    loss: float  # mean cross-entropy, nats
    accuracy: float
    macro_f1: float
    majority_baseline: float  # accuracy of always naming the commonest label
    labels: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]  # rows: true label, columns: predicted label

    def to_dict(self) -> dict[str, Any]:
        fields = asdict(self)
        labels, counts = list(fields.pop("labels")), [list(row) for row in fields.pop("confusion")]
        return {**fields, "confusion_matrix": {"labels": labels, "counts": counts}}


def evaluate(
    model: TextModel, encodings: Sequence[Encoding], targets: Sequence[int], autocast: torch.autocast | None = None
) -> Evaluation:
    """Runs the model over all rows, in length-sorted batches. Leaves it in evaluation mode."""
    model.eval()
    device = next(model.parameters()).device
    logits = torch.empty(len(encodings), len(model.config.labels))  # [N, C]
    lengths = [len(encoding.ids) for encoding in encodings]
    with torch.inference_mode():
        for indices in length_sorted_batches(lengths, EVALUATION_BATCH_TOKENS, max_rows=256):
            batch = pad([encodings[index] for index in indices], model.config.pad_id).to(device)
            if autocast is None:
                logits[indices] = model.classify(batch).cpu()
            else:
                with autocast:
                    logits[indices] = model.classify(batch).cpu()
    return score(logits, targets, model.config.labels)


def score(logits: torch.Tensor, targets: Sequence[int], labels: tuple[str, ...]) -> Evaluation:
    """logits [N, C] and the true classes -> scores."""
    predicted = logits.argmax(dim=-1).tolist()
    matrix = confusion_matrix(targets, predicted, labels=range(len(labels)))
    return Evaluation(
        num_examples=len(targets),
        loss=float(F.cross_entropy(logits, torch.tensor(targets))),
        accuracy=float(accuracy_score(targets, predicted)),
        macro_f1=float(f1_score(targets, predicted, average="macro", labels=range(len(labels)), zero_division=0.0)),
        majority_baseline=max(Counter(targets).values()) / len(targets),
        labels=labels,
        confusion=tuple(tuple(int(count) for count in row) for row in matrix),
    )
