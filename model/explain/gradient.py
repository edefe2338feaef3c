"""Attributions from one backward pass: gradient-weighted attention, and gradient times input.

Called by the serving engine's explanation lane. Shapes: H heads, T tokens, D width.
"""

import torch

from model.explain.target import Attribution, Target
from model.explain.text_input import TextInput, check_target, check_text, gradients_on, read_by_head
from model.heads import TextModel, pool
from model.tokenizer import Encoding
from model.transformer import Trace


def gradient_weighted(model: TextModel, encoding: Encoding, target: Target) -> Attribution:
    """Attention weighted by what it did for the target (Chefer, Gur and Wolf 2021, section 3): relevance R [T, T]
    begins as the identity, and each layer adds mean over heads of relu(gradient * attention), times R.

    Row t of R tells which tokens the final vector t rests on, so the scores are the rows pooled as the head pools
    vectors: the first token's row, the last one's, or under mean pooling the mean of all rows. The identity that R
    began with is taken off before: it says of each row its own token whatever the target is, and would rank the pooled
    token of a causal model first. Scores are at least 0: they tell what was used, not for or against; claims no sum.
    """
    check_text(model.config, encoding)
    check_target(model.config, target)
    with gradients_on():
        text, trace = TextInput.of(model, encoding), Trace()
        tokens = text.vectors(text.batch.ids).requires_grad_(True)
        value = target.value(text.logits(tokens, trace)[0])
        slopes = torch.autograd.grad(value, trace.probabilities)  # [1, H, T, T] each
    identity = torch.eye(len(encoding.ids), device=value.device)
    relevance = identity
    for slope, probabilities in zip(slopes, trace.probabilities, strict=True):
        weighted = (slope * probabilities.detach())[0].relu().mean(dim=0)  # [T, T]
        relevance = relevance + weighted @ relevance
    scores = pool((relevance - identity)[None], text.batch.real, read_by_head(model.config))[0]
    return Attribution(scores.float().cpu(), value.item())


def gradient_input(model: TextModel, encoding: Encoding, target: Target) -> Attribution:
    """Gradient times token embedding, summed over the width: above zero where a longer vector would raise the target.

    The first-order effect of shrinking a token's vector to zero (Shrikumar et al. 2016; for next tokens, Yin and Neubig
    2022). Claims no sum.
    """
    check_text(model.config, encoding)
    check_target(model.config, target)
    with gradients_on():
        text = TextInput.of(model, encoding)
        tokens = text.vectors(text.batch.ids).requires_grad_(True)
        value = target.value(text.logits(tokens))[0]
        (slope,) = torch.autograd.grad(value, tokens)
    scores = (slope * tokens.detach())[0].sum(dim=-1)  # [T]
    return Attribution(scores.float().cpu(), value.item())
