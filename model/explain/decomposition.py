"""What each token put into the answer: the target as a sum over the text's tokens, through the whole model.

After DecompX (Modarressi et al. 2023), which carries the vectors of GlobEnc (Modarressi et al. 2022) and ALTI (Ferrando
et al. 2022) through all layers and the head. Takes a plain model in float32, as `AdapterBank.plain` gives it.
Shapes: T tokens, S = T source tokens, H heads, K head width, D width, F feed-forward width, C outputs.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.attention import MultiHeadAttention, scaled_dot_product_attention
from model.explain.attention import rollout
from model.explain.target import Attribution, Target
from model.explain.text_input import TextInput, answers_to, check_target, check_text, gradients_on
from model.heads import TextModel, pool
from model.layers import EncoderLayer, FeedForward, Record
from model.tokenizer import Encoding

NEAR_ZERO = 1e-6  # an activation's input closer to 0 is taken for this, and its slope for the limit


def decompose(model: TextModel, encoding: Encoding, target: Target) -> Attribution:
    """Signed scores that sum to the target's value; `rest` is what rounding left over. Of a causal language model the
    target is a token that may come next, or one against another.

    What is not linear is frozen as it was for the whole text: attention probabilities, the standard deviations of
    LayerNorms, and each activation as its slope from the origin, f(x) / x. What is left is linear in the tokens'
    embeddings (position, segment and norm included) and in the biases, so that one backward pass tells what each of
    them adds, without following every token forwards.

    A bias is no token's own. What it adds at a place is shared among the tokens by attention rollout (Abnar and Zuidema
    2020): how much of each is mixed into that place so far. The shares are at least 0, sum to 1 and respect causality;
    but a token whose vector is zero gets a share too. Raises ValueError with value, limit and remedy.
    """
    check_text(model.config, encoding)
    check_target(model.config, target)
    text = TextInput.of(model, encoding)
    with torch.inference_mode():
        value = float(target.value(answers_to(model, text.batch)[0]))
    with gradients_on():
        embedded = text.embedded(text.vectors(text.batch.ids)).detach().requires_grad_(True)  # [1, T, D]
        like = embedded.new_ones(embedded.shape[:2])  # [1, T]
        borne = [like.clone().requires_grad_(True) for _ in range(model.config.num_layers + 1)]
        record: Record = []
        total = target.value(_frozen(model, text, embedded, borne, record)[0])
        slope, *of_biases = torch.autograd.grad(total, [embedded, *borne])
    scores = (slope * embedded.detach())[0].sum(dim=-1)  # [T]
    for share, added in zip(_shares(record), of_biases, strict=True):
        scores += added[0] @ share.to(added)
    return Attribution(scores.float().cpu(), value, value - float(scores.double().sum()))


def _shares(record: Record) -> list[Tensor]:
    """What of a bias goes to each token: L + 1 tensors [T, S], rows sum to 1; row: where the bias is added, column: the
    source. The first before any attention, then after each layer's. record: L tensors [1, H, T, T]."""
    means = torch.stack([weights[0].mean(dim=0, keepdim=True).detach().cpu() for weights in record])  # [L, 1, T, T]
    return [torch.eye(means.size(-1)), *rollout(means)[:, 0]]


def _frozen(model: TextModel, text: TextInput, states: Tensor, borne: Sequence[Tensor], record: Record) -> Tensor:
    """The model with all frozen but what is linear: states [1, T, D] -> [1, C]. Puts its probabilities on record.

    borne [1, T] each: how many times a place bears the biases added there, 1 in truth; before any attention, then after
    each layer's. Slopes by them tell what those biases put into the answer.
    """
    mask = text.batch.attention_mask(model.body.causal)
    for index, layer in enumerate(model.body.layers):
        assert isinstance(layer, EncoderLayer)
        states = _through_layer(layer, states, mask, borne[index], borne[index + 1], record)
    last = borne[-1]
    states = _normalise(model.body.norm, states, last)
    if model.config.task == "causal_lm":
        return model.vocabulary_logits(states[:, -1])
    vectors = pool(states, text.batch.real, model.config.pooling)  # [1, D]
    pooled = pool(last[..., None], text.batch.real, model.config.pooling)[:, 0]  # [1]
    if model.pooler is not None:
        vectors = _activate(model.pooler.activation, _affine(model.pooler.dense, vectors, pooled))
    assert model.classifier is not None
    return _affine(model.classifier.linear, vectors, pooled)


def _through_layer(
    layer: EncoderLayer, states: Tensor, mask: Tensor | None, before: Tensor, after: Tensor, record: Record
) -> Tensor:
    """states [1, T, D] -> [1, T, D]; biases are borne [1, T] times before and after attention."""
    if layer.norm_first:
        read = _normalise(layer.attention_norm, states, before)
        states = states + _attend(layer.attention, read, mask, before, after, record)
        return states + _feed_forward(layer.feed_forward, _normalise(layer.feed_forward_norm, states, after), after)
    states = states + _attend(layer.attention, states, mask, before, after, record)
    states = _normalise(layer.attention_norm, states, after)
    states = states + _feed_forward(layer.feed_forward, states, after)
    return _normalise(layer.feed_forward_norm, states, after)


def _attend(
    attention: MultiHeadAttention, states: Tensor, mask: Tensor | None, before: Tensor, after: Tensor, record: Record
) -> Tensor:
    """states [1, T, D] -> [1, T, D], linear in the values alone."""
    batch, tokens, _ = states.shape
    qkv = _affine(attention.qkv, states, before).view(batch, tokens, 3, attention.num_heads, -1)  # [1, T, 3, H, K]
    query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # [1, H, T, K] each
    mixed, probabilities = scaled_dot_product_attention(query.detach(), key.detach(), value, mask)
    record.append(probabilities)
    return _affine(attention.output, mixed.transpose(1, 2).flatten(2), after)


def _feed_forward(feed_forward: FeedForward, states: Tensor, borne: Tensor) -> Tensor:
    """states [1, T, D] -> [1, T, D], through [1, T, F]."""
    expanded = _activate(feed_forward.activation, _affine(feed_forward.expand, states, borne))
    return _affine(feed_forward.contract, expanded, borne)


def _affine(linear: nn.Linear, states: Tensor, borne: Tensor) -> Tensor:
    """states [..., inputs], the bias borne [...] times -> [..., outputs]."""
    product = F.linear(states, linear.weight)
    return product if linear.bias is None else product + borne[..., None] * linear.bias


def _normalise(norm: nn.Module, states: Tensor, borne: Tensor) -> Tensor:
    """LayerNorm whose standard deviation is a constant: states [1, T, D] -> [1, T, D]."""
    if not isinstance(norm, nn.LayerNorm):
        return states
    deviation = (states.detach().var(dim=-1, keepdim=True, correction=0) + norm.eps).sqrt()  # [1, T, 1]
    centred = states - states.mean(dim=-1, keepdim=True)
    return centred * (norm.weight / deviation) + borne[..., None] * norm.bias


def _activate(activation: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
    """f(x) as x times the constant f(x) / x; at 0 the limit of that from below."""
    point = inputs.detach()
    point = torch.where(point > 0, point.clamp_min(NEAR_ZERO), point.clamp_max(-NEAR_ZERO))
    return inputs * (activation(point) / point)
