"""Small models of transformers as the oracle: made, saved, changed on disk, compared with ours."""

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor

from model.batch import Batch
from model.config import Task, TransformerConfig
from model.heads import TextModel
from model.huggingface.layouts import LAYOUTS
from model.tokenizer import train_wordpiece

TEXTS = ["the film was good", "a much longer sentence about a rather dull and endless film", "no", "café, 电影!"]
PAIRS = [("was the film good", "yes"), ("no", "the sentence was longer than the film"), ("a", "b")]
SPECIAL = {"roberta": ["<s>", "<pad>", "</s>", "<unk>", "<mask>"], "gpt2": ["<|endoftext|>"]}
SMALL: dict[str, dict[str, Any]] = {
    "bert": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24, "max_position_embeddings": 64},
    "distilbert": {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24, "max_position_embeddings": 64},
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0},
}  # fmt: skip
SMALL["roberta"] = SMALL["bert"] | {"type_vocab_size": 1, "max_position_embeddings": 66}


@dataclass(frozen=True)
class Case:
    """One class of transformers with the fields that make it interesting."""

    layout: str
    ending: str
    task: Task
    fields: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        fields = ",".join(f"{name}={value}" for name, value in self.fields.items() if "label" not in name)
        return f"{LAYOUTS[self.layout].stem}{self.ending}-{self.task}{fields and '-'}{fields}"


LABELS = {"id2label": {0: "no", 1: "maybe", 2: "yes"}, "label2id": {"no": 0, "maybe": 1, "yes": 2}}
ENCODER = TransformerConfig(
    vocab_size=90, width=8, num_layers=1, num_heads=2, feed_forward_width=8, num_segments=2, norm_embeddings=True
)


def tiny_tokenizer(layout: str) -> tokenizers.Tokenizer:
    """As the layout's own: WordPiece for BERT, byte-level BPE for the others."""
    corpus = TEXTS + [text for pair in PAIRS for text in pair]
    if layout in ("bert", "distilbert"):
        return train_wordpiece(corpus, 90)._inner
    inner = tokenizers.Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=SPECIAL[layout], initial_alphabet=alphabet, show_progress=False)  # fmt: skip
    inner.train_from_iterator(corpus, trainer)
    if layout == "roberta":
        inner.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    else:
        inner.post_processor = processors.ByteLevel(trim_offsets=False)
    return inner


def reference_model(case: Case) -> Any:
    """A transformers model with random weights large enough that every part shows in the result."""
    torch.manual_seed(0)
    stem = LAYOUTS[case.layout].stem
    fields = SMALL[case.layout] | {"vocab_size": 300} | case.fields
    model = getattr(transformers, stem + case.ending)(getattr(transformers, f"{stem}Config")(**fields)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.2)
    return model


def save_reference(model: Any, layout: str, folder: Path, **arguments: Any) -> Path:
    model.save_pretrained(folder, **arguments)
    tiny_tokenizer(layout).save(str(folder / "tokenizer.json"))
    return folder


def our_output(model: TextModel, batch: Batch) -> Tensor:
    """What the matching class of transformers gives for the same batch; token outputs of real tokens only."""
    with torch.inference_mode():
        if model.config.task in ("classification", "multi_label", "regression"):
            return model.classify(batch)
        if model.config.task == "tagging":
            return model.tag(batch)[batch.real]
        hidden = model.body(batch)[batch.real]
        return hidden if model.config.task == "embeddings" else model.vocabulary_logits(hidden)


def their_output(model: Any, tokens: Any) -> Tensor:
    with torch.inference_mode():
        output = model(**tokens)
    logits = output.last_hidden_state if "logits" not in output else output.logits
    return logits if logits.dim() == 2 else logits[tokens["attention_mask"].bool()]


def tensors_of(model: TextModel) -> dict[str, Tensor]:
    return dict(model.state_dict())


def assert_equal_tensors(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert tensor.dtype == other[name].dtype
        assert torch.equal(tensor, other[name]), name


def bert(folder: Path, **arguments: Any) -> Path:
    return save_reference(reference_model(Case("bert", "ForMaskedLM", "masked_lm")), "bert", folder, **arguments)


def change_config(folder: Path, **fields: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def change_tensors(folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    path = folder / "model.safetensors"
    save_file({name: tensor.clone() for name, tensor in change(load_file(path)).items()}, path)
