"""Every attribution by its name, for what runs them side by side. Called by the command that compares them.

Shapes: T tokens, L layers, H heads.
"""

from collections.abc import Callable

import torch

from model.explain.attention import AttentionMethod, attention_by
from model.explain.decomposition import decompose
from model.explain.gradient import gradient_input, gradient_weighted
from model.explain.integrated import integrated_gradients
from model.explain.masking import MAX_TOKENS
from model.explain.occlusion import occlusion
from model.explain.target import Attribution, Target
from model.explain.text_input import read_by_head
from model.heads import TextModel, pool
from model.tokenizer import Encoding

Explain = Callable[[TextModel, Encoding, Target], Attribution]


def all_methods(replacement: int, seed: int = 0, max_tokens: int = MAX_TOKENS) -> dict[str, Explain]:
    """`replacement` stands for a token that is taken away, see `masking.replacement_id`; `seed` is of the method
    "random", which draws anew for each text: chance, judged like any other."""
    chance = torch.Generator().manual_seed(seed)
    return {
        "decomposition": decompose,
        "gradient_weighted": gradient_weighted,
        "gradient_x_input": gradient_input,
        "integrated_gradients": lambda model, encoding, target: integrated_gradients(
            model, encoding, target, replacement, max_tokens=max_tokens
        ),
        "occlusion": lambda model, encoding, target: occlusion(
            model, encoding, target, replacement, max_tokens=max_tokens
        ),
        "attention": lambda model, encoding, _: attention_paid(model, encoding, "raw"),
        "rollout": lambda model, encoding, _: attention_paid(model, encoding, "rollout"),
        "random": lambda _model, encoding, _: Attribution(torch.rand(len(encoding.ids), generator=chance), 0.0),
    }


def attention_paid(model: TextModel, encoding: Encoding, method: AttentionMethod) -> Attribution:
    """What the token that the head reads pays to each token, whatever the target is; under mean pooling the mean of
    what all pay. raw: the mean over all heads and layers; rollout: of the last layer."""
    weights = attention_by(model, encoding, method)  # [L, H, T, T]
    paid = weights[-1, 0] if method == "rollout" else weights.mean(dim=(0, 1))  # [T, T]
    real = torch.ones(1, len(paid), dtype=torch.bool)
    return Attribution(pool(paid[None], real, read_by_head(model.config))[0], 0.0)
