"""From hidden states to answers: mean-pooled embeddings and sequence classification. Used by training and serving.

Shapes: B batch, T tokens, D width, C classes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.batch import Batch
from model.config import TransformerConfig
from model.transformer import Encoder


def mean_pool(hidden: Tensor, real: Tensor) -> Tensor:
    """Mean over real tokens (Reimers and Gurevych 2019). hidden [B, T, D], real bool [B, T] -> float32 [B, D]."""
    weight = real[..., None].float()
    return (hidden.float() * weight).sum(dim=1) / weight.sum(dim=1).clamp_min(1.0)


class ClassificationHead(nn.Module):
    """Dropout, then one linear layer over the mean-pooled text vector -> logits."""

    def __init__(self, width: int, num_labels: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(width, num_labels)

    def forward(self, pooled: Tensor) -> Tensor:
        """pooled [B, D] -> logits [B, C]."""
        logits: Tensor = self.linear(self.dropout(pooled))
        return logits


class TextModel(nn.Module):
    """An encoder with the head its config asks for: always embeddings, and a classifier when it has labels."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.classifier = (
            ClassificationHead(config.width, len(config.labels), config.dropout) if config.labels else None
        )
        self.apply(_initialise)

    def pooled(self, batch: Batch) -> Tensor:
        """Text vectors [B, D] in float32, not normalised."""
        return mean_pool(self.encoder(batch), batch.real)

    def embed(self, batch: Batch) -> Tensor:
        """Text vectors of unit length [B, D], in float32: cosine similarity is their dot product."""
        return F.normalize(self.pooled(batch).float(), dim=-1)

    def classify(self, batch: Batch) -> Tensor:
        """Logits [B, C] in float32 from the mean-pooled text vector."""
        if self.classifier is None:
            raise ValueError("this model has no classification head; fine-tune it on labelled text first")
        logits: Tensor = self.classifier(self.pooled(batch))
        return logits.float()


def _initialise(module: nn.Module) -> None:
    """BERT's initialisation: normal with deviation 0.02, biases zero, the padding vector zero."""
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
        if module.padding_idx is not None:
            with torch.no_grad():
                module.weight[module.padding_idx].zero_()
