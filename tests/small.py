"""Small random models for property tests: shapes drawn by hypothesis, weights large enough that every part shows."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from hypothesis import settings
from hypothesis import strategies as st

from model.config import TransformerConfig
from model.heads import TextModel
from model.tokenizer import Encoding, train_wordpiece
from model.weights import save_model

VOCABULARY = 40
TASKS = {"encoder": "masked_lm", "decoder": "causal_lm", "encoder_decoder": "seq2seq"}
few = settings(max_examples=20, deadline=None, derandomize=True)  # of a property, on models of some thousand weights


def small_config(architecture: str, **fields: Any) -> TransformerConfig:
    usual: dict[str, Any] = {
        "vocab_size": VOCABULARY, "width": 16, "num_layers": 2, "num_heads": 2, "feed_forward_width": 24,
        "max_positions": 64, "bos_id": 1, "eos_id": 2, "task": TASKS[architecture],
    }  # fmt: skip
    return TransformerConfig(architecture=architecture, **(usual | fields))  # type: ignore[arg-type]


@st.composite
def configs(draw: st.DrawFn, *architectures: str) -> TransformerConfig:
    num_heads = draw(st.sampled_from([1, 2, 4]))
    choices: dict[str, list[Any]] = {
        "feed_forward_width": [8, 24], "position_offset": [0, 2], "num_segments": [0, 2], "norm_first": [False, True],
        "positions": ["learned", "sinusoidal"], "activation": ["relu", "gelu", "gelu_tanh"],
        "norm_embeddings": [False, True], "scale_embeddings": [False, True], "tied_embeddings": [False, True],
    }  # fmt: skip
    fields = {name: draw(st.sampled_from(values)) for name, values in choices.items()}
    fields |= {"num_heads": num_heads, "width": num_heads * draw(st.sampled_from([4, 8]))}
    architecture = draw(st.sampled_from(architectures))
    return small_config(architecture, num_layers=draw(st.integers(1, 3)), **fields)


def random_model(config: TransformerConfig, seed: int = 0) -> TextModel:
    """In evaluation mode; biases and LayerNorms are random too, so that one left out is noticed."""
    generator = torch.Generator().manual_seed(seed)
    model = TextModel(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            mean = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            parameter.copy_(mean + 0.3 * torch.randn(parameter.shape, generator=generator))
    return model.requires_grad_(False)


def texts(min_size: int = 1, max_size: int = 5, longest: int = 10) -> st.SearchStrategy[list[list[int]]]:
    """Rows of token ids. The padding token's id may stand in a text like any other."""
    return st.lists(
        st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=longest), min_size=min_size, max_size=max_size
    )


def encodings(rows: list[list[int]]) -> list[Encoding]:
    return [Encoding.of_ids(row) for row in rows]


def gap(first: torch.Tensor, second: torch.Tensor) -> float:
    """The largest difference between two tensors of one shape."""
    assert first.shape == second.shape
    return float((first - second).detach().abs().max()) if first.numel() else 0.0


def save_small_encoder(folder: Path, words: Sequence[str], least_vocabulary: int = 0) -> Path:
    """A random encoder of some thousand weights, with dropout and a tokenizer that knows these words, to be tuned. Its
    token embedding may have more rows than the tokenizer has tokens."""
    tokenizer = train_wordpiece([" ".join(words)] * 5, 200)
    config = small_config(
        "encoder", vocab_size=max(tokenizer.vocab_size, least_vocabulary), width=32, feed_forward_width=64, num_segments=2,
        norm_embeddings=True, dropout=0.1, bos_id=None, eos_id=None,
    )  # fmt: skip
    torch.manual_seed(0)
    save_model(TextModel(config), tokenizer, folder)
    return folder
