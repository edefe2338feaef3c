"""Occlusion (Zeiler and Fergus 2014, for text Li, Monroe and Jurafsky 2016): what the target loses without a token.

Called by the serving engine's explanation lane. Shapes: T tokens, F tokens that are not special, W windows, S a
window's width.
"""

import torch

from model.explain.masking import MAX_TOKENS, MaskedText
from model.explain.target import Attribution, Target
from model.explain.text_input import check_target
from model.heads import TextModel
from model.tokenizer import Encoding


def occlusion(
    model: TextModel,
    encoding: Encoding,
    target: Target,
    replacement: int,
    window: int = 1,
    max_tokens: int = MAX_TOKENS,
) -> Attribution:
    """Signed scores: the target's value less its value with `replacement` (see `masking.replacement_id`) in the token's
    place. Special tokens stay and score 0. Claims no sum.

    With a `window`, so many neighbours among the tokens that are not special go together, and a token's score is the
    mean loss over all windows that hold it.
    """
    masked = MaskedText(model, encoding, replacement, max_tokens)
    check_target(model.config, target)
    free = masked.free
    if not 1 <= window <= len(free):
        raise ValueError(f"window is {window}; choose from 1 to {len(free)}, the tokens that are not special")
    members = free.unfold(0, window, 1)  # [W, S]
    masks = torch.zeros(1 + len(members), len(encoding.ids), dtype=torch.bool)  # the first takes nothing away
    masks[1:].scatter_(1, members, True)
    values = target.value(masked.logits(masks))
    losses = values[0] - values[1:]  # [W]
    held = masks[1:].to(losses)  # [W, T]
    scores = losses @ held / held.sum(dim=0).clamp_min(1.0)  # [T]
    return Attribution(scores, float(values[0]))
