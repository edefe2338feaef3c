"""From hidden states to answers: text vectors, classes, tags, tokens. Used by training and serving.

Shapes: B batch, T tokens, N tokens of unpadded documents, D width, C classes, V vocabulary, M chosen positions.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from model.batch import Batch, Unpadded
from model.config import TransformerConfig
from model.dropout import Dropout
from model.layers import ACTIVATIONS
from model.transformer import Decoder, Encoder, EncoderDecoder, Trace

Stack = Encoder | Decoder | EncoderDecoder


def widened(values: Tensor) -> Tensor:
    """float32 at least: bfloat16 and float16 become it, float64 stays."""
    return values.float() if values.element_size() < 4 else values


def mean_pool(hidden: Tensor, real: Tensor) -> Tensor:
    """Mean over real tokens (Reimers and Gurevych 2019). hidden [B, T, D], real bool [B, T] -> float32 [B, D]."""
    hidden = widened(hidden)
    weight = real[..., None].to(hidden)
    return (hidden * weight).sum(dim=1) / weight.sum(dim=1).clamp_min(1.0)


def pool(hidden: Tensor, real: Tensor, kind: str) -> Tensor:
    """One vector a text -> float32 [B, D]: the mean of its tokens, its first ([CLS] of BERT) or its last (GPT-2)."""
    if kind == "mean":
        return mean_pool(hidden, real)
    if kind == "first":
        return widened(hidden[:, 0])
    last = real.sum(dim=1) - 1  # [B]
    return widened(hidden[torch.arange(len(hidden), device=hidden.device), last])


def pool_unpadded(hidden: Tensor, documents: Unpadded, kind: str) -> Tensor:
    """The same of documents without padding: hidden [N, D] -> float32 [B, D], in the order the encodings came."""
    starts = documents.starts.long()
    if kind == "mean":
        vectors = torch.segment_reduce(widened(hidden), "mean", lengths=starts.diff(), axis=0)
    else:
        vectors = widened(hidden[starts[:-1]] if kind == "first" else hidden[starts[1:] - 1])
    ordered = torch.empty_like(vectors)
    ordered[list(documents.order)] = vectors
    return ordered


class Pooler(nn.Module):
    """A dense layer over the text vector, which Hugging Face's classifiers have: tanh in BERT, ReLU in DistilBERT."""

    def __init__(self, width: int, activation: str) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.activation = torch.tanh if activation == "tanh" else F.relu

    def forward(self, vector: Tensor) -> Tensor:
        """[B, D] -> [B, D]."""
        return self.activation(self.dense(vector))


class ClassificationHead(nn.Module):
    """Dropout, then one linear layer -> logits: over text vectors, or over every token vector for tagging."""

    def __init__(self, width: int, num_outputs: int, dropout: float, bias: bool = True) -> None:
        super().__init__()
        self.dropout = Dropout(dropout)
        self.linear = nn.Linear(width, num_outputs, bias=bias)

    def forward(self, vectors: Tensor) -> Tensor:
        """vectors [..., D] -> logits [..., C]."""
        logits: Tensor = self.linear(self.dropout(vectors))
        return logits


class LanguageModelHead(nn.Module):
    """Scores for every token of the vocabulary: the token embedding used backwards (Press and Wolf 2017).

    A masked language model first transforms the hidden state (dense, activation, LayerNorm) and adds a bias, as BERT
    does; a causal one does neither, as GPT-2.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        masked = config.task == "masked_lm"
        self.dense = nn.Linear(config.width, config.width) if masked else None
        self.norm = nn.LayerNorm(config.width, eps=config.norm_epsilon) if masked else None
        self.bias = nn.Parameter(torch.zeros(config.vocab_size)) if masked else None
        self.output = None if config.tied_embeddings else nn.Linear(config.width, config.vocab_size, bias=False)
        self.activation = ACTIVATIONS[config.activation]

    def forward(self, hidden: Tensor, embedding: Tensor) -> Tensor:
        """hidden [..., D] and the token embedding [V, D] -> logits [..., V] in float32 (bf16 under autocast)."""
        if self.dense is not None and self.norm is not None:
            hidden = self.norm(self.activation(self.dense(hidden.to(self.dense.weight.dtype))))
        matrix = embedding if self.output is None else self.output.weight
        logits = F.linear(hidden.to(matrix.dtype), matrix)
        return logits if self.bias is None else widened(logits) + self.bias


class TextModel(nn.Module):
    """A stack with the head its config asks for. Every encoder and decoder also gives embeddings."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        if config.architecture == "encoder":
            self.encoder = Encoder(config)
        elif config.architecture == "decoder":
            self.decoder = Decoder(config)
        else:
            self.transformer = EncoderDecoder(config)
        self.pooler = None if config.pooler == "none" else Pooler(config.width, config.pooler)
        self.classifier = (
            ClassificationHead(config.width, config.num_outputs, config.dropout, config.classifier_bias)
            if config.num_outputs
            else None
        )
        speaks = config.task in ("masked_lm", "causal_lm", "seq2seq")
        self.language_model = LanguageModelHead(config) if speaks else None
        self.apply(_initialise)
        if config.architecture == "encoder_decoder" and config.scale_embeddings:
            nn.init.normal_(self.stack.embeddings.token.weight, std=config.width**-0.5)  # unit variance once scaled

    @property
    def stack(self) -> Stack:
        """The Transformer under the head."""
        if self.config.architecture == "encoder":
            return self.encoder
        return self.decoder if self.config.architecture == "decoder" else self.transformer

    @property
    def body(self) -> Encoder:
        """The same, of a model that reads one text: not an encoder-decoder."""
        stack = self.stack
        if isinstance(stack, EncoderDecoder):
            raise ValueError("an encoder-decoder has no single stack; it writes text, see /v1/completions")
        return stack

    def pooled(self, batch: Batch) -> Tensor:
        """Text vectors [B, D] in float32, not normalised."""
        if self.config.pooling == "first" and self.config.architecture == "encoder" and not batch.packed:
            return widened(self.body.first_token(batch))
        return pool(self.body(batch), batch.real, self.config.pooling)

    def embed(self, batch: Batch) -> Tensor:
        """Text vectors of unit length [B, D], in float32: cosine similarity is their dot product."""
        return F.normalize(self.pooled(batch), dim=-1)

    def classify(self, batch: Batch) -> Tensor:
        """Logits [B, C] in float32 from the text vector; one number a text for regression."""
        return self.classify_pooled(self.pooled(batch))

    def classify_embedded(self, embedded: Tensor, batch: Batch, trace: Trace | None = None) -> Tensor:
        """The same from vectors [B, T, D] in the place of the batch's embeddings, by `Encoder.forward_embedded`."""
        hidden = self.body.forward_embedded(embedded, batch, trace)
        return self.classify_pooled(pool(hidden, batch.real, self.config.pooling))

    def classify_pooled(self, vectors: Tensor) -> Tensor:
        """The head alone: text vectors [B, D] -> logits [B, C] in float32."""
        if self.classifier is None or self.config.task == "tagging":
            raise ValueError("this model has no classification head; fine-tune it on labelled text first")
        vectors = vectors if self.pooler is None else self.pooler(vectors)
        return widened(self.classifier(vectors))

    def tag(self, batch: Batch) -> Tensor:
        """Logits [B, T, C] in float32, one row a token."""
        return self.tag_hidden(self.body(batch))

    def tag_hidden(self, hidden: Tensor) -> Tensor:
        """The head alone: token vectors [B, T, D] -> logits [B, T, C] in float32."""
        if self.classifier is None or self.config.task != "tagging":
            raise ValueError("this model has no tagging head; fine-tune it on rows of tokens and tags first")
        return widened(self.classifier(hidden.to(self.classifier.linear.weight.dtype)))

    def vocabulary_logits(self, hidden: Tensor) -> Tensor:
        """hidden [M, D] of chosen positions -> logits [M, V]: what token stands there, or comes next."""
        if self.language_model is None:
            raise ValueError("this model has no language-model head; use a masked or causal language model")
        logits: Tensor = self.language_model(hidden, self.stack.embeddings.token.weight)
        return logits

    def trace(self, batch: Batch) -> Trace:
        """Everything the probability path sees of one batch."""
        return self.body.trace(batch)


def _initialise(module: nn.Module) -> None:
    """BERT's and GPT-2's initialisation: normal with deviation 0.02, biases zero."""
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)


def empty_model(config: TransformerConfig, device: str = "cpu") -> TextModel:
    """A model for weights that are yet to be loaded: memory as it was, or on the meta device shapes alone."""
    with torch.device(device), _Unset():
        return TextModel(config)


class _Unset(TorchFunctionMode):
    """Within, modules draw no weights. On the meta device that would load torch's compiler, for seconds and 70 MiB."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        if getattr(func, "__module__", None) == "torch.nn.init":
            return given["tensor"] if "tensor" in given else args[0]
        return func(*args, **given)
