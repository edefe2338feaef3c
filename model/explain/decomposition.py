"""What each token put into the answer: every vector of the model as a sum over the text's tokens, up to the target.

After DecompX (Modarressi et al. 2023), which carries the vectors of GlobEnc (Modarressi et al. 2022) and ALTI (Ferrando
et al. 2022) through all layers and the head. Takes a plain model in float32, as `AdapterBank.plain` gives it.
Shapes: C rows, the real states and then one row a source token; T tokens, H heads, K head width, D width,
F feed-forward width.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.attention import MultiHeadAttention
from model.batch import pad
from model.explain.attention import rollout
from model.explain.target import Attribution, Target
from model.explain.text_input import check_target, check_text
from model.heads import TextModel, pool
from model.layers import EncoderLayer, FeedForward
from model.tokenizer import Encoding
from model.transformer import Trace

NEAR_ZERO = 1e-6  # an activation's input closer to 0 is taken for this, and its slope for the limit
SPARE_ROWS = 3  # room for slopes and shares, which take as much however many sources there are


def decompose(model: TextModel, encoding: Encoding, target: Target, max_bytes: int = 2**28) -> Attribution:
    """Signed scores that sum to the target's value; `rest` is what rounding left over.

    What is not linear is frozen as it was for the whole text: attention probabilities, the standard deviations of
    LayerNorms, and each activation as its slope from the origin, f(x) / x. Everything else is linear, so each token's
    embedding (position, segment and norm included) can be followed by itself.

    A bias is no token's own. At each place it is shared among the tokens by attention rollout (Abnar and Zuidema 2020):
    how much of each is mixed into that place so far. DecompX shares by |bias . contribution| over its sum, which needs
    all contributions [T, T, D] at once: 0.8 GB for 512 tokens of width 768. Rollout's shares are known beforehand, are
    at least 0, sum to 1 and respect causality; but a token whose vector is zero gets a share too.

    Sources are followed so many at a time that what is computed stays within `max_bytes`; the weights and the text's
    trace, mostly its probabilities, come on top. Costs about as much as T forward passes of the text.
    Raises ValueError with value, limit and remedy.
    """
    check_text(model.config, encoding)
    check_target(model.config, target)
    with torch.inference_mode():
        batch = pad([encoding], model.config.pad_id).to(model.stack.embeddings.token.weight.device)
        value = float(target.value(model.classify(batch)[0]))
        trace = model.trace(batch)
        shares = _shares(trace)
        tokens = torch.arange(len(encoding.ids), device=batch.ids.device)
        chunks = torch.split(tokens, sources_at_once(model, len(tokens), max_bytes))
        scores = torch.cat([target.value(_logits(model, trace, shares, sources)) for sources in chunks]).float().cpu()
    return Attribution(scores, value, value - float(scores.double().sum()))


def sources_at_once(model: TextModel, tokens: int, max_bytes: int) -> int:
    """How many source tokens of a text of so many tokens are followed together."""
    config = model.config
    numbers = config.feed_forward_width + 6 * config.width  # at most held for one row and token
    row_bytes = tokens * numbers * model.stack.embeddings.token.weight.element_size()
    sources = max_bytes // row_bytes - SPARE_ROWS - 1
    if sources < 1:
        raise ValueError(
            f"max_bytes is {max_bytes}; a text of {tokens} tokens needs {row_bytes * (SPARE_ROWS + 2)}: "
            "raise it, or shorten the text"
        )
    return min(sources, tokens)


def _shares(trace: Trace) -> list[Tensor]:
    """What of a bias goes to each token: L + 1 tensors [T, T], rows sum to 1; row: where the bias is added, column: the
    source. The first before any attention, then after each layer's."""
    means = torch.stack([weights[0].mean(dim=0, keepdim=True) for weights in trace.probabilities])  # [L, 1, T, T]
    like = trace.hidden[0]
    rolled = rollout(means.cpu())[:, 0].to(like)
    return [torch.eye(like.size(1), dtype=like.dtype, device=like.device), *rolled]


def _logits(model: TextModel, trace: Trace, shares: list[Tensor], sources: Tensor) -> Tensor:
    """What these source tokens, int64 [C - 1], put into the logits -> [C - 1, outputs].

    The first row of `states` is the sum over all sources, the real states, which bear the whole of each bias; what is
    frozen is read off it.
    """
    real = trace.hidden[0]  # [1, T, D]
    states = real.new_zeros(len(sources) + 1, *real.shape[1:])  # [C, T, D]
    states[0] = real[0]
    states[torch.arange(1, len(states), device=real.device), sources] = real[0, sources]
    parts = [torch.cat([torch.ones_like(share[:1]), share[:, sources].T]) for share in shares]  # [C, T] each
    for index, (layer, probabilities) in enumerate(zip(model.body.layers, trace.probabilities, strict=True)):
        assert isinstance(layer, EncoderLayer)
        states = _through_layer(layer, states, probabilities[0].to(states), parts[index], parts[index + 1])
    states, last = _normalise(model.body.norm, states, parts[-1]), parts[-1]
    seen = torch.ones_like(last, dtype=torch.bool)
    vectors = pool(states, seen, model.config.pooling)  # [C, D]
    pooled_part = pool(last[..., None], seen, model.config.pooling)[:, 0]  # [C]
    if model.pooler is not None:
        vectors = _affine(model.pooler.dense, vectors, pooled_part)
        vectors *= _slope(model.pooler.activation, vectors[0])
    assert model.classifier is not None
    return _affine(model.classifier.linear, vectors, pooled_part)[1:]


def _through_layer(layer: EncoderLayer, states: Tensor, probabilities: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """states [C, T, D], probabilities [H, T, T], each row's part of a bias before and after attention [C, T] ->
    [C, T, D]. Writes into `states`."""
    attention, feed_forward = layer.attention, layer.feed_forward
    if layer.norm_first:
        read = _normalise(layer.attention_norm, states, before)
        states += _attend(attention, read, probabilities, before, after)
        del read
        states += _feed_forward(feed_forward, _normalise(layer.feed_forward_norm, states, after), after)
        return states
    states += _attend(attention, states, probabilities, before, after)
    states = _normalise(layer.attention_norm, states, after)
    states += _feed_forward(feed_forward, states, after)
    return _normalise(layer.feed_forward_norm, states, after)


def _attend(
    attention: MultiHeadAttention, states: Tensor, probabilities: Tensor, before: Tensor, after: Tensor
) -> Tensor:
    """states [C, T, D] -> [C, T, D] by the real probabilities [H, T, T]."""
    rows, tokens, width = states.shape
    weight, bias = attention.qkv.weight[2 * width :], attention.qkv.bias[2 * width :]  # of the values
    value = F.linear(states, weight).addcmul_(before[..., None], bias)
    value = value.view(rows, tokens, attention.num_heads, -1).permute(2, 1, 0, 3).flatten(2)  # [H, T, C * K]
    mixed = (
        (probabilities @ value).view(-1, tokens, rows, width // attention.num_heads).permute(2, 1, 0, 3)
    )  # [C, T, H, K]
    del value
    return _affine(attention.output, mixed.flatten(2), after)


def _feed_forward(feed_forward: FeedForward, states: Tensor, part: Tensor) -> Tensor:
    """states [C, T, D] -> [C, T, D], through [C, T, F]."""
    expanded = _affine(feed_forward.expand, states, part)
    expanded *= _slope(feed_forward.activation, expanded[0])
    return _affine(feed_forward.contract, expanded, part)


def _affine(linear: nn.Linear, states: Tensor, part: Tensor) -> Tensor:
    """states [C, ..., inputs], each row's part of the bias [C, ...] -> [C, ..., outputs]."""
    product = F.linear(states, linear.weight)
    return product if linear.bias is None else product.addcmul_(part[..., None], linear.bias)


def _normalise(norm: nn.Module, states: Tensor, part: Tensor) -> Tensor:
    """LayerNorm with the standard deviation of the real states: states [C, T, D] -> [C, T, D]."""
    if not isinstance(norm, nn.LayerNorm):
        return states
    deviation = (states[0].var(dim=-1, keepdim=True, correction=0) + norm.eps).sqrt()  # [T, 1]
    centred = states - states.mean(dim=-1, keepdim=True)
    return centred.div_(deviation).mul_(norm.weight).addcmul_(part[..., None], norm.bias)


def _slope(activation: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
    """f(x) / x, by which f is linear for the parts of x; at 0 its limit from below."""
    inputs = torch.where(inputs > 0, inputs.clamp_min(NEAR_ZERO), inputs.clamp_max(-NEAR_ZERO))
    return activation(inputs).div_(inputs)
