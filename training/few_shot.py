"""Few labelled rows, some 8 to 64 a class: the base's own text vectors do most of the work. Called by `finetune.py`.

A head of random weights spoils what the base knows before it has learned anything. So the head is first fitted on the
base's frozen vectors, then all is tuned from there (LP-FT: Kumar et al. 2022) in many small steps (Mosbach et al.
2021), and at the end the head is fitted again on the tuned vectors, as SetFit does (Tunstall et al. 2022). A label's
name counts as further rows of its class (after Luo et al. 2021). Time and memory grow with the rows, not with their
pairs.

Shapes: N rows, D width, C classes.
"""

import random
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from model.config import TransformerConfig
from model.heads import TextModel
from model.lora import sha256_of_body
from model.tokenizer import Encoding, Tokenizer
from training.blas import one_core
from training.config import Recipe
from training.evaluate import Evaluation, text_vectors
from training.labelled import Rows
from training.objectives import Classify, kept
from training.optim import usual_learning_rate
from training.parallel import ALONE, World

NAME_ROWS = 2.0  # rows of its class that a label's name counts as
INVERSE_PENALTY = 3.0  # scikit-learn's C, over vectors of unit length; 1 to 10 were within a point of each other
BATCH_SIZE = 16
WANTED_STEPS = 40  # of a run; more when the rows are many
MIN_EPOCHS = 3
FEW_SHOT_RATE = 1e-4  # of a base of the usual width, with which this method was tuned
EPOCH_STEPS = 10  # at least: an epoch goes through a handful of rows several times, as each ends with a checkpoint


def few_shot_config(base: TransformerConfig, labels: tuple[str, ...]) -> TransformerConfig:
    """The base under a linear head over the mean of its token vectors, the vectors that /v1/embeddings gives."""
    return base.with_task("classification", labels, pooling="mean", pooler="none")


def few_shot_fields(
    num_rows: int, width: int, batch_size: int = BATCH_SIZE, num_epochs: int | None = None
) -> dict[str, Any]:
    """What a recipe needs for this method, of a base of width D, in batches of this size; how many epochs follows from
    it, where it is open. The last weights are kept, judged once: so few rows hold out too few to choose by."""
    steps = few_shot_steps(num_rows, batch_size)
    num_epochs = num_epochs or max(MIN_EPOCHS, -(-WANTED_STEPS // steps))
    return {
        "pooling": "mean",
        "pooler": "none",
        "batch_size": batch_size,
        "num_epochs": num_epochs,
        "evaluation_steps": num_epochs * steps,
        "learning_rate": usual_learning_rate(width, FEW_SHOT_RATE),
        "layer_decay": 1.0,
    }


def passes_an_epoch(num_rows: int, batch_size: int) -> int:
    """How often an epoch goes through the rows."""
    return -(-EPOCH_STEPS // -(-num_rows // batch_size))


def few_shot_steps(num_rows: int, batch_size: int) -> int:
    """Of one epoch."""
    return passes_an_epoch(num_rows, batch_size) * -(-num_rows // batch_size)


def label_names(labels: Sequence[str]) -> list[str]:
    """The labels as words, to be read like texts; none when they say nothing, such as "0" and "1", or "LABEL_0" and
    "LABEL_1"."""
    names = [" ".join(re.split(r"[\s_\-]+", label)).strip() for label in labels]
    letters = {"".join(filter(str.isalpha, name)).lower() for name in names}
    return names if len(letters) == len(names) and "" not in letters else []


@dataclass(frozen=True)
class Head:
    """A linear head over text vectors."""

    weight: Tensor  # [C, D]
    bias: Tensor  # [C]


def fit_head(vectors: Tensor, targets: Sequence[int], shares: Sequence[float], num_classes: int) -> Head:
    """Logistic regression, by scikit-learn, on text vectors [N, D]; each row has a share in the loss, each class a row.

    Fitted on vectors of unit length: long texts have short means, and their lengths say little of their class. The head
    reads vectors as they come, so its weights are divided by their mean length.
    """
    fitted = LogisticRegression(C=INVERSE_PENALTY, max_iter=1_000)
    with one_core():
        fitted.fit(F.normalize(vectors, dim=-1).numpy(), np.array(targets), sample_weight=np.array(shares))
    weight = torch.from_numpy(fitted.coef_).float() / vectors.norm(dim=-1).mean()
    bias = torch.from_numpy(fitted.intercept_).float()
    if num_classes == 2:  # one row that tells the second class from the first
        weight, bias = torch.cat([-weight, weight]) / 2, torch.cat([-bias, bias]) / 2
    return Head(weight, bias)


class FewShot(Classify):
    """Cross-entropy, from a head that was fitted on the base's vectors. The one that is served, and judged, is fitted
    again on the tuned vectors."""

    def __init__(
        self,
        model: TextModel,
        train: Rows[int],
        validation: Rows[int],
        names: Sequence[Encoding],
        batch_size: int,
        seed: int,
        num_epochs: int,
        weights: Tensor | None = None,
    ) -> None:
        """`names` are the encoded `label_names`, one a label or none at all."""
        super().__init__(model, train, validation, batch_size, seed, num_epochs, weights)
        labels = model.config.labels
        if model.pooler is not None or model.classifier is None:
            raise ValueError(
                f"pooler is {model.config.pooler!r}; few-shot fits a bare linear head, use few_shot_config"
            )
        if missing := sorted(set(range(len(labels))) - set(train.targets)):
            shown = [labels[number] for number in missing[:5]]
            raise ValueError(f"labels {shown} have 0 training rows; few-shot needs at least 1 a label, add some")
        assert len(names) in (0, len(labels))
        self._encodings = [*train.encodings, *names]
        self._targets = [*train.targets, *range(len(names))]
        self._shares = [1.0] * len(train.targets) + [NAME_ROWS] * len(names)
        if weights is not None:
            of_rows = weights[self._targets].tolist()
            self._shares = [share * weight for share, weight in zip(self._shares, of_rows, strict=True)]
        self._fitted: tuple[str, Head] | None = None  # and the weights to whose vectors it was fitted
        self._fit_head()

    def steps(self, epoch: int) -> list[list[int]]:
        """Batches of any length: sorted by length, so few rows would fall into the same batches again and again."""
        passes = passes_an_epoch(self.num_train, self.batch_size)
        batches: list[list[int]] = []
        for number in range(epoch * passes, (epoch + 1) * passes):
            order = list(range(self.num_train))
            random.Random(f"{self._seed}:{number}").shuffle(order)
            batches += [order[start : start + self.batch_size] for start in range(0, len(order), self.batch_size)]
        return batches

    def evaluate(self, world: World = ALONE) -> Evaluation:
        with self.served(1.0):
            return super().evaluate(world)

    def _fit_head(self) -> None:
        """Over all rows, once for the same weights: those of an evaluation are the ones that are left, or published."""
        weights = sha256_of_body(self.model)
        if self._fitted is None or self._fitted[0] != weights:
            vectors = text_vectors(self.model, self._encodings)
            self._fitted = weights, fit_head(vectors, self._targets, self._shares, self.model.config.num_outputs)
        _, fitted = self._fitted
        with torch.no_grad():
            self.head.weight.copy_(fitted.weight)
            self.head.bias.copy_(fitted.bias)

    @contextmanager
    def served(self, temperature: float) -> Iterator[None]:
        with kept(self.head):
            self._fit_head()
            with super().served(temperature):
                yield


def few_shot_objective(
    model: TextModel,
    tokenizer: Tokenizer,
    train: Rows[int],
    validation: Rows[int],
    recipe: Recipe,
    weights: Tensor | None,
) -> FewShot:
    """What `Trainer` runs; `weights` [C] are those of the classes in the loss, if any."""
    names = label_names(model.config.labels)
    encoded = tokenizer.encode(names, recipe.max_length) if names else []
    return FewShot(model, train, validation, encoded, recipe.batch_size, recipe.seed, recipe.num_epochs, weights)
