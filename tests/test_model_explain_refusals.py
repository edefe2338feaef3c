"""What cannot be explained is refused, with value, limit and remedy."""

import math
from collections.abc import Callable

import pytest
import torch

from model.explain.decomposition import decompose
from model.explain.faithfulness import Trial, faithfulness
from model.explain.gradient import gradient_input, gradient_weighted
from model.explain.integrated import integrated_gradients
from model.explain.occlusion import occlusion
from model.explain.target import Target
from model.heads import TextModel
from model.tokenizer import Encoding
from tests.explained import MASK, framed, smooth
from tests.small import random_model, small_config

METHODS: dict[str, Callable[[TextModel, Encoding, Target], object]] = {
    "gradient_weighted": gradient_weighted,
    "gradient_input": gradient_input,
    "decomposition": decompose,
    "integrated": lambda model, encoding, target: integrated_gradients(model, encoding, target, MASK),
    "occlusion": lambda model, encoding, target: occlusion(model, encoding, target, MASK),
    "faithfulness": lambda model, encoding, target: faithfulness(
        model, encoding, target, torch.zeros(len(encoding.ids)), MASK
    ),
}


@pytest.mark.parametrize("name", METHODS)
def test_what_cannot_be_explained_is_refused_with_value_limit_and_remedy(name: str) -> None:
    explain, model, encoding = METHODS[name], smooth(), framed([5, 6])
    with pytest.raises(ValueError, match="label 3 is not one of 3; choose from 0 to 2"):
        explain(model, encoding, Target(3))
    with pytest.raises(ValueError, match="label -1 is not one of 3"):
        explain(model, encoding, Target(0, against=-1))
    with pytest.raises(ValueError, match="label 1 against itself is always 0; choose another"):
        explain(model, encoding, Target(1, against=1))
    with pytest.raises(ValueError, match="label 1 is not one of 1"):
        explain(smooth(task="regression", labels=()), encoding, Target(0, against=1))
    with pytest.raises(ValueError, match=r"architecture is 'encoder_decoder'; .* encoder or decoder"):
        explain(random_model(small_config("encoder_decoder")), encoding, Target(0))
    with pytest.raises(ValueError, match="task is 'masked_lm'; choose a model for one of"):
        explain(random_model(small_config("encoder")), encoding, Target(0))
    with pytest.raises(ValueError, match="66 tokens; send 1 to 64, or set truncate=true"):
        explain(model, framed([5] * 64), Target(0))


def test_settings_out_of_range_are_refused() -> None:
    model, encoding, writer = smooth(), framed([5, 6]), random_model(small_config("decoder"))
    with pytest.raises(ValueError, match="steps is 0; it must be at least 1"):
        integrated_gradients(model, encoding, Target(0), MASK, steps=0)
    with pytest.raises(ValueError, match="max_tokens is 0; it must be at least 1"):
        integrated_gradients(model, encoding, Target(0), MASK, max_tokens=0)
    with pytest.raises(ValueError, match="replacement 40 is outside the vocabulary; choose from 0 to 39"):
        integrated_gradients(model, encoding, Target(0), 40)
    with pytest.raises(ValueError, match="replacement -1 is outside the vocabulary"):
        occlusion(model, encoding, Target(0), -1)
    for window in (0, 3):
        with pytest.raises(ValueError, match=f"window is {window}; choose from 1 to 2"):
            occlusion(model, encoding, Target(0), MASK, window)
    with pytest.raises(ValueError, match="all 2 tokens are special; send a text"):
        occlusion(model, framed([]), Target(0), MASK)
    with pytest.raises(ValueError, match=r"scores have shape \[3\]; give one finite number for each of 4"):
        faithfulness(model, encoding, Target(0), torch.zeros(3), MASK)
    with pytest.raises(ValueError, match="one finite number for each"):
        faithfulness(model, encoding, Target(0), torch.full((4,), math.nan), MASK)
    with pytest.raises(ValueError, match="num_random is 1; a deviation needs at least 2"):
        Trial(num_random=1)
    with pytest.raises(ValueError, match="beam_width is -1; choose 0"):
        Trial(beam_width=-1)
    with pytest.raises(ValueError, match="token 40 is not one of 40; choose from 0 to 39"):
        gradient_input(writer, encoding, Target(40))
    with pytest.raises(ValueError, match="token 40 is not one of 40; choose from 0 to 39"):
        decompose(writer, encoding, Target(40))
