"""What a model can learn: classes, hidden tokens, the next token, another text. One class each; used by `trainer.py`.

Shapes: B batch, T tokens, M chosen positions, V vocabulary.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from model.batch import Batch, length_sorted_batches, pad, pad_ids
from model.heads import TextModel
from model.tokenizer import Encoding
from training.collate import epoch_batches
from training.corpus import PackedRows
from training.evaluate import Evaluation, LanguageCounter, LanguageScores, evaluate

EVALUATION_BATCH_TOKENS = 4096


@dataclass(frozen=True)
class Rows:
    """Encoded rows and their classes, index by index."""

    encodings: Sequence[Encoding]
    targets: Sequence[int]


class Classify:
    """One class a text or pair of texts: cross-entropy over the classifier's logits."""

    def __init__(self, model: TextModel, train: Rows, validation: Rows, batch_size: int, seed: int) -> None:
        self.model = model
        self.train = train
        self.validation = validation
        self.num_train, self.num_validation = len(train.targets), len(validation.targets)
        self._batch_size = batch_size
        self._seed = seed
        self._lengths = [len(encoding.ids) for encoding in train.encodings]
        self._device = next(model.parameters()).device

    def steps(self, epoch: int) -> list[list[int]]:
        return epoch_batches(self._lengths, self._batch_size, self._seed, epoch)

    def loss(self, rows: Sequence[int], step: int) -> tuple[Tensor, int]:
        batch = pad([self.train.encodings[row] for row in rows], self.model.config.pad_id).to(self._device)
        targets = torch.tensor([self.train.targets[row] for row in rows], device=self._device)
        tokens = sum(self._lengths[row] for row in rows)
        return F.cross_entropy(self.model.classify(batch), targets), tokens

    def evaluate(self) -> Evaluation:
        return evaluate(self.model, self.validation.encodings, self.validation.targets)


class _OverPackedRows:
    """What masked and causal language models share: steps over rows of packed documents."""

    def __init__(self, model: TextModel, train: PackedRows, validation: PackedRows, batch_rows: int, seed: int) -> None:
        self.model = model
        self.train = train
        self.validation = validation
        self.num_train, self.num_validation = train.num_documents, validation.num_documents
        self._batch_rows = batch_rows
        self._seed = seed
        self._device = next(model.parameters()).device

    def steps(self, epoch: int) -> list[list[int]]:
        order = list(range(len(self.train)))
        random.Random(f"{self._seed}:{epoch}").shuffle(order)
        return [order[start : start + self._batch_rows] for start in range(0, len(order), self._batch_rows)]

    def _validation_batches(self) -> list[list[int]]:
        rows = max(1, EVALUATION_BATCH_TOKENS // self.validation.row_tokens)
        order = range(len(self.validation))
        return [list(order[start : start + rows]) for start in range(0, len(order), rows)]


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

    def loss(self, rows: Sequence[int], step: int) -> tuple[Tensor, int]:
        batch = self.train.batch(rows)
        logits, targets = self._predict(batch, f"{self._seed}:{step}")
        return F.cross_entropy(logits.float(), targets), int(batch.real.sum())

    def evaluate(self) -> LanguageScores:
        counter = LanguageCounter()
        for rows in self._validation_batches():
            logits, targets = self._predict(self.validation.batch(rows), f"validation:{rows[0]}")
            counter.add(logits, targets)
        return counter.scores()

    def _predict(self, batch: Batch, seed: str) -> tuple[Tensor, Tensor]:
        """Hides tokens of the batch and predicts them -> logits [M, V], targets [M]."""
        generator = torch.Generator().manual_seed(random.Random(seed).getrandbits(63))
        candidates = batch.real & ~torch.isin(batch.ids, self._special_ids)  # [B, T]
        chosen = candidates & (torch.rand(batch.ids.shape, generator=generator) < self._mask_share)
        if not bool(chosen.any()):
            chosen[0, 1] = True  # very little text: there is nothing else to learn from
        fate = torch.rand(batch.ids.shape, generator=generator)
        vocabulary = self.model.config.vocab_size
        strangers = torch.randint(vocabulary, batch.ids.shape, generator=generator)
        hidden_ids = torch.where(chosen & (fate < 0.8), self._mask_id, batch.ids)
        hidden_ids = torch.where(chosen & (fate >= 0.9), strangers, hidden_ids)
        targets = batch.ids[chosen].to(self._device)  # [M]
        states = self.model.body(replace(batch, ids=hidden_ids).to(self._device))  # [B, T, D]
        return self.model.vocabulary_logits(states[chosen.to(self._device)]), targets


class CausalLanguageModel(_OverPackedRows):
    """Names the next token from those before it (Radford et al. 2018). Each document starts from its first token."""

    def loss(self, rows: Sequence[int], step: int) -> tuple[Tensor, int]:
        batch = self.train.batch(rows)
        logits, targets = self._predict(batch)
        return F.cross_entropy(logits.float(), targets), int(batch.real.sum())

    def evaluate(self) -> LanguageScores:
        counter = LanguageCounter()
        for rows in self._validation_batches():
            counter.add(*self._predict(self.validation.batch(rows)))
        return counter.scores()

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


class SequenceToSequence:
    """Writes the target from the source, token by token, each given the true ones before it (teacher forcing)."""

    def __init__(
        self, model: TextModel, train: TextPairs, validation: TextPairs, batch_size: int, seed: int, smoothing: float
    ) -> None:
        self.model = model
        self.train = train
        self.validation = validation
        self.num_train, self.num_validation = len(train.sources), len(validation.sources)
        self._batch_size = batch_size
        self._seed = seed
        self._smoothing = smoothing  # label smoothing, section 5.4 of the paper
        self._device = next(model.parameters()).device
        pairs = zip(train.sources, train.targets, strict=True)
        self._lengths = [len(source) + len(target) for source, target in pairs]

    def steps(self, epoch: int) -> list[list[int]]:
        return epoch_batches(self._lengths, self._batch_size, self._seed, epoch)

    def loss(self, rows: Sequence[int], step: int) -> tuple[Tensor, int]:
        logits, targets = self._predict(self.train, rows)
        return F.cross_entropy(logits.float(), targets, label_smoothing=self._smoothing), sum(
            self._lengths[row] for row in rows
        )

    def evaluate(self) -> LanguageScores:
        counter = LanguageCounter()
        lengths = [len(target) for target in self.validation.targets]
        for rows in length_sorted_batches(lengths, EVALUATION_BATCH_TOKENS, max_rows=128):
            counter.add(*self._predict(self.validation, rows))
        return counter.scores()

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
