"""What a model can learn: classes, numbers, tags, hidden tokens, the next token, another text. One class each; used by
`trainer.py`.

Shapes: B batch, T tokens, C classes, M chosen positions, V vocabulary.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Generic

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.batch import Batch, length_sorted_batches, pad, pad_ids
from model.heads import TextModel
from training.collate import epoch_batches
from training.corpus import PackedRows
from training.dynamics import Dynamics
from training.evaluate import (
    EVALUATION_BATCH_TOKENS,
    Evaluation,
    LanguageScores,
    evaluate,
    evaluation_lanes,
    predict,
    predict_tokens,
    score_language,
)
from training.gradients import BatchLoss
from training.labelled import NOT_LEARNED, Rows, TagTargets, Target
from training.parallel import ALONE, World
from training.scores import (
    MultiLabelScores,
    RegressionScores,
    TaggingScores,
    score_label_sets,
    score_numbers,
    score_tags,
)

MAX_LOGIT_BYTES = 2**26  # over the vocabulary, of the held-out rows that are computed side by side


class _Plain:
    """An objective that gathers nothing while it trains."""

    model: TextModel

    @property
    def _device(self) -> torch.device:
        """Where the model is now: it may be moved after the objective is made."""
        return next(self.model.parameters()).device

    def tensors(self, world: World = ALONE) -> dict[str, Tensor]:
        return {}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        pass

    @contextmanager
    def served(self, temperature: float) -> Iterator[None]:
        yield


@contextmanager
def kept(linear: nn.Linear) -> Iterator[None]:
    """Whatever is done to its weights within, afterwards it has those of before."""
    before = {name: parameter.detach().clone() for name, parameter in linear.named_parameters()}
    try:
        yield
    finally:
        with torch.no_grad():
            for name, parameter in linear.named_parameters():
                parameter.copy_(before[name])


def padding_of(steps: Iterable[Sequence[int]], lengths: Sequence[int]) -> float:
    """Share of padding among the tokens that these batches compute."""
    real = computed = 0
    for rows in steps:
        own = [lengths[row] for row in rows]
        real += sum(own)
        computed += len(own) * max(own)
    return 1.0 - real / computed


class _OverTexts(_Plain, Generic[Target]):
    """What the tasks of labelled texts share: steps over rows, padded batches."""

    def __init__(
        self, model: TextModel, train: Rows[Target], validation: Rows[Target], batch_size: int, seed: int
    ) -> None:
        self.model = model
        self.train = train
        self.validation = validation
        self.batch_size = batch_size
        self.num_train, self.num_validation = len(train.targets), len(validation.targets)
        self._seed = seed
        self._lengths = [len(encoding.ids) for encoding in train.encodings]
        self.padding_share = padding_of(self.steps(0), self._lengths)

    def steps(self, epoch: int) -> list[list[int]]:
        return epoch_batches(self._lengths, self.batch_size, self._seed, epoch)

    def longest(self, count: int) -> list[int]:
        return sorted(range(self.num_train), key=lambda row: -self._lengths[row])[:count]

    def length(self, row: int) -> int:
        return self._lengths[row]

    def loss(self, rows: Sequence[int], step: int) -> BatchLoss:
        batch = pad([self.train.encodings[row] for row in rows], self.model.config.pad_id).to(self._device)
        total, weight = self._loss(batch, [self.train.targets[row] for row in rows], rows, step)
        return BatchLoss(total, weight, sum(self._lengths[row] for row in rows))

    def _loss(self, batch: Batch, targets: Sequence[Target], rows: Sequence[int], step: int) -> tuple[Tensor, float]:
        """The sum of the rows' losses, and what to divide it by."""
        raise NotImplementedError

    @property
    def head(self) -> nn.Linear:
        """What gives the logits."""
        assert self.model.classifier is not None
        return self.model.classifier.linear

    @contextmanager
    def served(self, temperature: float) -> Iterator[None]:
        """Within, logits are divided by the temperature."""
        with kept(self.head):
            with torch.no_grad():
                for parameter in self.head.parameters():
                    parameter.div_(temperature)
            yield


class Classify(_OverTexts[int]):
    """One class a text or pair of texts: cross-entropy over the classifier's logits, each class with its weight.

    The probability of each given label is kept, epoch by epoch: it tells which rows are hard, and which are
    mislabelled.
    """

    def __init__(
        self,
        model: TextModel,
        train: Rows[int],
        validation: Rows[int],
        batch_size: int,
        seed: int,
        num_epochs: int = 1,
        weights: Tensor | None = None,
    ) -> None:
        super().__init__(model, train, validation, batch_size, seed)
        self.dynamics = Dynamics(num_epochs, self.num_train)
        self.weights = weights  # [C], of each class in the loss; None: all the same
        self._steps_per_epoch = len(self.steps(0))

    def _loss(self, batch: Batch, targets: Sequence[int], rows: Sequence[int], step: int) -> tuple[Tensor, float]:
        logits = self.model.classify(batch)  # [B, C]
        wanted = torch.tensor(targets, device=self._device)
        with torch.no_grad():
            likely = torch.softmax(logits, dim=-1)
            of_wanted = likely.gather(1, wanted[:, None])[:, 0]
            self.dynamics.record(step // self._steps_per_epoch, rows, of_wanted, likely.argmax(dim=-1) == wanted)
        if self.weights is None:
            return F.cross_entropy(logits, wanted, reduction="sum"), len(targets)
        weights = self.weights.to(logits)
        total = F.cross_entropy(logits, wanted, weights, reduction="sum")
        return total, float(self.weights[list(targets)].double().sum())

    def evaluate(self, world: World = ALONE) -> Evaluation:
        return evaluate(self.model, self.validation.encodings, self.validation.targets, world)

    def tensors(self, world: World = ALONE) -> dict[str, Tensor]:
        self.dynamics.gather(world)
        return self.dynamics.tensors()

    def restore(self, tensors: dict[str, Tensor]) -> None:
        self.dynamics.restore(tensors)


def balanced_weights(targets: Sequence[int], num_classes: int) -> Tensor:
    """Weights [C] that give every class the same say, with a mean of 1 over the rows (King and Zeng 2001); 0 for a
    class without a row."""
    counts = torch.bincount(torch.tensor(targets), minlength=num_classes).double()
    present = counts > 0
    weights = torch.where(present, len(targets) / (present.sum() * counts.clamp_min(1)), 0.0)
    return weights.float()


class ChooseLabels(_OverTexts[tuple[float, ...]]):
    """Any number of labels a text: binary cross-entropy, each label a question of its own."""

    def _loss(
        self, batch: Batch, targets: Sequence[tuple[float, ...]], rows: Sequence[int], step: int
    ) -> tuple[Tensor, float]:
        wanted = torch.tensor(targets, device=self._device)  # [B, C]
        logits = self.model.classify(batch)
        return F.binary_cross_entropy_with_logits(logits, wanted.to(logits.dtype), reduction="sum"), wanted.numel()

    def evaluate(self, world: World = ALONE) -> MultiLabelScores:
        logits = predict(self.model, self.validation.encodings, world)
        return score_label_sets(logits, self.validation.targets, self.model.config.labels)


class Regress(_OverTexts[float]):
    """A number a text: squared error of the score, standardised by the training rows.

    The head learns (score - centre) / unit, so that one learning rate suits every scale; `served` folds both into it,
    so that the served number is in the data's own scale. A head without a bias can't be centred.
    """

    def __init__(
        self, model: TextModel, train: Rows[float], validation: Rows[float], batch_size: int, seed: int
    ) -> None:
        super().__init__(model, train, validation, batch_size, seed)
        scores = torch.tensor(train.targets, dtype=torch.float64)
        self.centre = float(scores.mean()) if model.config.classifier_bias else 0.0
        self.unit = float((scores - self.centre).square().mean().sqrt()) or 1.0

    def _loss(self, batch: Batch, targets: Sequence[float], rows: Sequence[int], step: int) -> tuple[Tensor, float]:
        outputs = self.model.classify(batch)[:, 0]  # [B]
        wanted = [(target - self.centre) / self.unit for target in targets]
        return F.mse_loss(outputs, torch.tensor(wanted).to(outputs), reduction="sum"), len(wanted)

    def evaluate(self, world: World = ALONE) -> RegressionScores:
        standardised = predict(self.model, self.validation.encodings, world)[:, 0].double()
        outputs = standardised * self.unit + self.centre
        return score_numbers(outputs.tolist(), self.validation.targets, self.unit)

    @contextmanager
    def served(self, temperature: float) -> Iterator[None]:
        """Within, scores are in the data's own scale; a score has no temperature."""
        with kept(self.head):
            with torch.no_grad():
                self.head.weight.mul_(self.unit)
                if self.head.bias is not None:
                    self.head.bias.mul_(self.unit).add_(self.centre)
            yield


class TagWords(_OverTexts[TagTargets]):
    """A tag for each word: cross-entropy over the tokens that /v1/tag reads, see `labelled.align_tags`."""

    def _loss(
        self, batch: Batch, targets: Sequence[TagTargets], rows: Sequence[int], step: int
    ) -> tuple[Tensor, float]:
        wanted = torch.full(batch.ids.shape, NOT_LEARNED)  # [B, T]
        for row, target in enumerate(targets):
            wanted[row, : len(target.tags)] = torch.tensor(target.tags)
        logits = self.model.tag(batch).transpose(1, 2)  # [B, C, T]
        total = F.cross_entropy(logits, wanted.to(self._device), ignore_index=NOT_LEARNED, reduction="sum")
        return total, int((wanted != NOT_LEARNED).sum())

    def evaluate(self, world: World = ALONE) -> TaggingScores:
        rows, logits, unread = [], [], 0
        predicted = predict_tokens(self.model, self.validation.encodings, world)
        for target, tokens in zip(self.validation.targets, predicted, strict=True):
            read = [word for word, place in enumerate(target.places) if place >= 0]
            unread += len(target.words) - len(read)
            rows.append([target.words[word] for word in read])
            logits.append(tokens[[target.places[word] for word in read]])
        if not any(rows):
            raise ValueError("no word of the validation rows has a token of this base; choose another base")
        return score_tags(torch.cat(logits), rows, unread, self.model.config.labels)


def evaluation_tokens(vocab_size: int) -> int:
    """How many tokens of held-out rows get logits over the vocabulary at once, in all lanes."""
    return max(1, min(EVALUATION_BATCH_TOKENS, MAX_LOGIT_BYTES // (4 * vocab_size)))


class _OverPackedRows(_Plain):
    """What masked and causal language models share: steps over rows of packed documents."""

    def __init__(self, model: TextModel, train: PackedRows, validation: PackedRows, batch_rows: int, seed: int) -> None:
        self.model = model
        self.train = train
        self.validation = validation
        self.num_train, self.num_validation = train.num_documents, validation.num_documents
        self.batch_size = batch_rows
        self._seed = seed

    def steps(self, epoch: int) -> list[list[int]]:
        order = list(range(len(self.train)))
        random.Random(f"{self._seed}:{epoch}").shuffle(order)
        return [order[start : start + self.batch_size] for start in range(0, len(order), self.batch_size)]

    @property
    def padding_share(self) -> float:
        return self.train.padding_share

    def longest(self, count: int) -> range:
        """All rows are of one length."""
        return range(min(count, len(self.train)))

    def length(self, row: int) -> int:
        return self.train.row_tokens

    def evaluate(self, world: World = ALONE) -> LanguageScores:
        tokens, row_tokens = evaluation_tokens(self.model.config.vocab_size), self.validation.row_tokens
        lanes = evaluation_lanes(self._device, world, tokens, row_tokens)
        rows = max(1, tokens // lanes // row_tokens)
        order = range(len(self.validation))
        batches = [list(order[start : start + rows]) for start in range(0, len(order), rows)]
        return score_language(batches, self._predict_held_out, lanes, world)

    def _predict_held_out(self, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Logits [M, V] and targets [M] of some held-out rows."""
        raise NotImplementedError


def _summed_loss(logits: Tensor, targets: Tensor, tokens: int, smoothing: float = 0.0) -> BatchLoss:
    """Cross-entropy of logits [M, V] and targets [M]."""
    logits = logits if logits.dtype == torch.float64 else logits.float()
    total = F.cross_entropy(logits, targets, label_smoothing=smoothing, reduction="sum")
    return BatchLoss(total, len(targets), tokens)


class MaskedLanguageModel(_OverPackedRows):
    """Names hidden tokens from what stands around them (Devlin et al. 2019, section 3.1, task 1).

    Of the chosen tokens 80% become the mask, 10% a random token, 10% stay; the loss counts the chosen ones alone.
    """

    def __init__(
        self,
        model: TextModel,
        train: PackedRows,
        validation: PackedRows,
        batch_rows: int,
        seed: int,
        mask_share: float,
        mask_id: int,
        special_ids: Sequence[int],
    ) -> None:
        super().__init__(model, train, validation, batch_rows, seed)
        self._special_ids = torch.tensor(special_ids)  # never hidden
        self._mask_id = mask_id
        self._mask_share = mask_share

    def loss(self, rows: Sequence[int], step: int) -> BatchLoss:
        batch = self.train.batch(rows)
        logits, targets = self._predict(batch, [f"{self._seed}:{step}:{row}" for row in rows])
        return _summed_loss(logits, targets, int(batch.real.sum()))

    def _predict_held_out(self, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        return self._predict(self.validation.batch(rows), [f"validation:{row}" for row in rows])

    def _predict(self, batch: Batch, seeds: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Hides tokens of the batch and predicts them -> logits [M, V], targets [M]. A row's own seed decides on its
        tokens, so that the same are hidden whatever rows come with it."""
        ids = batch.ids
        draws = torch.stack([torch.rand(3, ids.size(1), generator=_generator(seed)) for seed in seeds])  # [B, 3, T]
        wanted, fate, stranger = draws.unbind(dim=1)  # [B, T] each
        candidates = batch.real & ~torch.isin(ids, self._special_ids)
        chosen = candidates & (wanted < self._mask_share)
        bare = candidates.any(dim=1) & ~chosen.any(dim=1)  # [B] very little text: hide the first
        chosen[bare, candidates[bare].int().argmax(dim=1)] = True
        strangers = (stranger * self.model.config.vocab_size).long()
        hidden_ids = torch.where(chosen & (fate < 0.8), self._mask_id, ids)
        hidden_ids = torch.where(chosen & (fate >= 0.9), strangers, hidden_ids)
        targets = batch.ids[chosen].to(self._device)  # [M]
        states = self.model.body(replace(batch, ids=hidden_ids).to(self._device))  # [B, T, D]
        return self.model.vocabulary_logits(states[chosen.to(self._device)]), targets


def _generator(seed: str) -> torch.Generator:
    return torch.Generator().manual_seed(random.Random(seed).getrandbits(63))


class CausalLanguageModel(_OverPackedRows):
    """Names the next token from those before it (Radford et al. 2018). Each document starts from its first token."""

    def loss(self, rows: Sequence[int], step: int) -> BatchLoss:
        batch = self.train.batch(rows)
        logits, targets = self._predict(batch)
        return _summed_loss(logits, targets, int(batch.real.sum()))

    def _predict_held_out(self, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        return self._predict(self.validation.batch(rows))

    def _predict(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits [M, V] and targets [M] of every token that has one before it in its document."""
        follows = (batch.documents[:, 1:] == batch.documents[:, :-1]) & batch.real[:, 1:]  # [B, T - 1]
        targets = batch.ids[:, 1:][follows].to(self._device)  # [M]
        states = self.model.body(batch.to(self._device))[:, :-1]  # [B, T - 1, D]
        return self.model.vocabulary_logits(states[follows.to(self._device)]), targets


@dataclass(frozen=True)
class TextPairs:
    """Source and target token ids, pair by pair; targets carry neither start nor end."""

    sources: Sequence[Sequence[int]]
    targets: Sequence[Sequence[int]]


class SequenceToSequence(_Plain):
    """Writes the target from the source, token by token, each given the true ones before it (teacher forcing)."""

    def __init__(
        self, model: TextModel, train: TextPairs, validation: TextPairs, batch_size: int, seed: int, smoothing: float
    ) -> None:
        self.model = model
        self.train = train
        self.validation = validation
        self.num_train, self.num_validation = len(train.sources), len(validation.sources)
        self.batch_size = batch_size
        self._seed = seed
        self._smoothing = smoothing  # label smoothing, section 5.4 of the paper
        pairs = zip(train.sources, train.targets, strict=True)
        self._lengths = [len(source) + len(target) for source, target in pairs]
        self.padding_share = padding_of(self.steps(0), self._lengths)

    def steps(self, epoch: int) -> list[list[int]]:
        return epoch_batches(self._lengths, self.batch_size, self._seed, epoch)

    def longest(self, count: int) -> list[int]:
        return sorted(range(self.num_train), key=lambda row: -self._lengths[row])[:count]

    def length(self, row: int) -> int:
        return self._lengths[row]

    def loss(self, rows: Sequence[int], step: int) -> BatchLoss:
        logits, targets = self._predict(self.train, rows)
        return _summed_loss(logits, targets, sum(self._lengths[row] for row in rows), self._smoothing)

    def evaluate(self, world: World = ALONE) -> LanguageScores:
        tokens = evaluation_tokens(self.model.config.vocab_size)
        lengths = [len(target) for target in self.validation.targets]
        lanes = evaluation_lanes(self._device, world, tokens, max(lengths, default=0))
        batches = length_sorted_batches(lengths, tokens // lanes, max_rows=128)
        return score_language(batches, partial(self._predict, self.validation), lanes, world)

    def _predict(self, pairs: TextPairs, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Logits [M, V] and targets [M] of every real target position, the end included."""
        config = self.model.config
        assert config.bos_id is not None
        assert config.eos_id is not None
        source = pad_ids([pairs.sources[row] for row in rows], config.pad_id).to(self._device)
        written = pad_ids([[config.bos_id, *pairs.targets[row]] for row in rows], config.pad_id).to(self._device)
        wanted = pad_ids([[*pairs.targets[row], config.eos_id] for row in rows], config.pad_id).to(self._device)
        states = self.model.transformer(source, written)  # [B, T, D]
        return self.model.vocabulary_logits(states[wanted.real]), wanted.ids[wanted.real]
