"""What of a Hugging Face folder can't be read, and what of a model can't be written, is refused by name."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from model.config import TransformerConfig
from model.folders import load_config
from model.heads import TextModel
from model.huggingface.configs import layout_of, our_name
from model.huggingface.folder import write_folder
from model.huggingface.layouts import BERT
from model.tokenizer import Tokenizer, train_byte_bpe
from model.weights import load_model, load_tensors
from tests.reference import (
    ENCODER,
    LABELS,
    Case,
    bert,
    change_config,
    change_tensors,
    reference_model,
    save_reference,
    tensors_of,
    tiny_tokenizer,
)


@pytest.mark.parametrize(
    ("layout", "fields", "words"),
    [
        ("bert", {"model_type": "t5"}, r"model_type is 't5'; only \['bert'"),
        ("bert", {"position_embedding_type": "relative_key"}, "position_embedding_type is 'relative_key'.*'absolute'"),
        ("bert", {"hidden_act": "silu"}, "activation 'silu' is not supported; use one of"),
        ("bert", {"is_decoder": True}, "is_decoder is True"),
        ("bert", {"hidden_size": "768"}, "hidden_size is '768'; it must be a number"),
        ("bert", {"num_hidden_layers": None}, "num_hidden_layers is None; it must be a number"),
        ("bert", {"architectures": ["BertForQuestionAnswering"]}, "'BertForQuestionAnswering' is not supported; use one of"),
        ("bert", {"architectures": ["BertModel"]}, r"tensor 'cls\..*has no place in BertModel"),
        ("bert", {"num_hidden_layers": 1}, "unexpected.*layers.1"),
        ("bert", {"num_hidden_layers": 3}, "missing.*layers.2"),
        ("bert", {"vocab_size": 299}, "size mismatch.*300"),
        ("bert", {"tie_word_embeddings": False}, "missing.*language_model.output.weight"),
        ("roberta", {"pad_token_id": None}, "pad_token_id is null"),
        ("roberta", {"hidden_act": "relu"}, "'relu'; RoBERTa's masked-language-model head has GELU built in"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx is True"),
        ("gpt2", {"scale_attn_weights": False}, "scale_attn_weights is False"),
        ("gpt2", {"add_cross_attention": True}, "add_cross_attention is True"),
        ("gpt2", {"n_inner": 65}, "size mismatch"),
        ("gpt2", {"eos_token_id": 50_256}, "eos_id 50256 is outside the vocabulary of 300"),
    ],
)  # fmt: skip
def test_what_can_not_be_computed_is_refused(layout: str, fields: dict[str, Any], words: str, tmp_path: Path) -> None:
    ending = "LMHeadModel" if layout == "gpt2" else "ForMaskedLM"
    folder = save_reference(reference_model(Case(layout, ending, "masked_lm")), layout, tmp_path / "model")
    change_config(folder, **fields)
    with pytest.raises(ValueError, match=words):
        load_model(folder)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"problem_type": "ranking"}, "problem_type is 'ranking'; use one of"),
        ({"problem_type": "regression"}, "'regression' with 3 outputs; only one"),
        ({"id2label": {"0": "no", "2": "yes", "3": "maybe"}}, r"id2label has the ids \[0, 2, 3\]; they must be 0 to 2"),
        ({"id2label": {"no": "yes"}}, "id2label is {'no': 'yes'}; it must name a label for each number"),
        ({"id2label": ["no", "yes"]}, "id2label is .*; it must name a label for each number"),
        ({"architectures": None}, "the tensors fit .*name one class in 'architectures'"),
    ],
)
def test_unclear_classes_are_refused(fields: dict[str, Any], words: str, tmp_path: Path) -> None:
    case = Case("bert", "ForSequenceClassification", "classification", LABELS)
    folder = save_reference(reference_model(case), "bert", tmp_path / "model")
    change_config(folder, **fields)
    with pytest.raises(ValueError, match=words):
        load_config(folder)


DAMAGED: list[tuple[str, str, bytes, str]] = [
    ("config.json", "cut off", b'{"model_type": ', r"config\.json is not JSON .*; fetch the folder again"),
    ("config.json", "in UTF-16", "{}".encode("utf-16"), r"config\.json is not JSON"),
    ("config.json", "a list", b"[]", r"config\.json is not a JSON object"),
    ("model.safetensors", "empty", b"", r"model\.safetensors is no whole safetensors file .*; copy or fetch it again"),
    ("model.safetensors", "a pointer to git's large files", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "is no whole safetensors"),
    ("model.safetensors", "a web page", b"<html>not found</html>", "is no whole safetensors file"),
    ("tokenizer.json", "a web page", b"<html>not found</html>", r"tokenizer\.json can't be read"),
    ("tokenizer.json", "of nothing", b"{}", r"tokenizer\.json can't be read"),
    ("modules.json", "cut off", b"[", r"modules\.json is not JSON"),
    ("modules.json", "of other things", b'[{"a": 1}]', r"modules\.json is no list of steps"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "what", "content", "words"), DAMAGED, ids=[f"{row[0]} {row[1]}" for row in DAMAGED])
def test_a_damaged_file_is_named(tmp_path: Path, name: str, what: str, content: bytes, words: str) -> None:
    folder = bert(tmp_path / "model")
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=words):
        load_model(folder)


def test_weights_that_were_cut_off_are_named_wherever_the_cut_is(tmp_path: Path) -> None:
    folder = bert(tmp_path / "model")
    whole = (folder / "model.safetensors").read_bytes()
    for length in (4, 100, len(whole) // 2, len(whole) - 1):
        (folder / "model.safetensors").write_bytes(whole[:length])
        with pytest.raises(ValueError, match="is no whole safetensors file"):
            load_model(folder)


@pytest.mark.parametrize("index", ["{}", '{"weight_map": ["a"]}', '{"weight_map": {"a": 1}}'])
def test_an_index_without_shards_is_refused(tmp_path: Path, index: str) -> None:
    folder = bert(tmp_path / "model")
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(index)
    with pytest.raises(ValueError, match=r"has no 'weight_map'|names the shard '1', which is not there"):
        load_config(folder)


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    folder = bert(tmp_path / "model")
    query = "bert.encoder.layer.1.attention.self.query.bias"
    key = query.replace("query", "key")
    whole = (folder / "model.safetensors").read_bytes()
    for words, change in {
        "lacks .*qkv:key.bias": lambda tensors: {name: tensors[name] for name in tensors if name != key},
        "int8; quantised": lambda tensors: tensors | {query: tensors[query].to(torch.int8)},
        "there twice": lambda tensors: tensors | {query.removeprefix("bert."): tensors[query]},
        "'strange.weight' has no place in BertForMaskedLM": lambda tensors: tensors | {"strange.weight": tensors[key]},
    }.items():
        change_tensors(folder, change)
        with pytest.raises(ValueError, match=words):
            load_model(folder)
        (folder / "model.safetensors").write_bytes(whole)


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    folder = bert(tmp_path / "model")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"has only pytorch_model.bin, a pickle.*save_pretrained"):
        load_model(folder)
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(ValueError, match=r"model.safetensors is missing"):
        load_model(folder)


def test_every_name_of_the_tables_is_found_and_nothing_else() -> None:
    assert our_name(BERT, "tagging", "bert.encoder.layer.7.output.dense.weight") == (
        "encoder.layers.7.feed_forward.contract.weight"
    )
    for name in ("bert.encoder.layer.7.output.dense.scale", "encoder.layer.7.output.weight", "decoder.layer.0.weight"):
        with pytest.raises(ValueError, match="has no place in BertForTokenClassification"):
            our_name(BERT, "tagging", name)


@pytest.mark.parametrize(
    ("changes", "layout", "words"),
    [
        ({"positions": "sinusoidal"}, None, "positions is 'sinusoidal'; the layout 'bert'.*only hold 'learned'"),
        ({"norm_first": True}, None, "norm_first is True"),
        ({"norm_embeddings": False}, None, "norm_embeddings is False"),
        ({"scale_embeddings": True}, None, "scale_embeddings is True"),
        ({"position_offset": 3}, None, "position_offset is 3; the layout 'roberta'.*only hold 1"),
        ({"num_segments": 0}, None, "norm_epsilon is 1e-05; the layout 'distilbert'.*only hold 1e-12"),
        ({"num_segments": 0}, "bert", "num_segments is 0; the layout 'bert' needs at least 1"),
        ({}, "distilbert", "num_segments is 2"),
        ({}, "gpt2", "architecture is 'encoder'"),
        ({}, "t5", "model_type is 't5'"),
        ({"pooler": "relu"}, None, "pooler is 'relu'.*only hold 'tanh'"),
        ({"task": "classification", "labels": ("a", "b")}, None, "pooling is 'mean'.*'classification'.*only hold 'first'"),
        ({"task": "regression", "pooling": "first"}, None, "pooler is 'none'.*only hold 'tanh'"),
        ({"task": "masked_lm", "activation": "relu", "position_offset": 1}, None, "GELU built in"),
        ({"architecture": "decoder"}, None, "num_segments is 2|norm_first is False"),
        ({"architecture": "encoder_decoder", "task": "seq2seq", "bos_id": 1, "eos_id": 2}, None, "no counterpart"),
    ],
)  # fmt: skip
def test_what_a_layout_can_not_hold_is_refused_by_field(
    changes: dict[str, Any], layout: str | None, words: str, tmp_path: Path
) -> None:
    model = TextModel(dataclasses.replace(ENCODER, **changes))
    with pytest.raises(ValueError, match=words):
        write_folder(model, Tokenizer(tiny_tokenizer("bert")), tmp_path / "model", layout)
    assert not list(tmp_path.iterdir())


def test_a_pooler_without_place_is_not_dropped(tmp_path: Path) -> None:
    config = dataclasses.replace(ENCODER, num_segments=0, norm_epsilon=1e-12, pooler="relu")
    with pytest.raises(ValueError, match=r"weight 'pooler.dense.weight' has no counterpart in DistilBertModel"):
        write_folder(TextModel(config), Tokenizer(tiny_tokenizer("bert")), tmp_path / "model")


def test_the_layout_follows_from_the_shape() -> None:
    distilled = dataclasses.replace(ENCODER, num_segments=0, norm_epsilon=1e-12)
    assert layout_of(ENCODER).name == "bert"
    assert layout_of(dataclasses.replace(ENCODER, position_offset=1)).name == "roberta"
    assert layout_of(distilled).name == "distilbert"
    assert layout_of(dataclasses.replace(ENCODER, architecture="decoder")).name == "gpt2"


def test_an_ordinary_token_is_never_declared_special(tmp_path: Path) -> None:
    """The padding id of a GPT-2 may be that of '!'; declared special, it would split "!!" in another way."""
    tokenizer = train_byte_bpe(["hello!! hello!!"] * 5, 270)
    mark = tokenizer.id_of("!")
    config = TransformerConfig(
        vocab_size=270, architecture="decoder", width=8, num_layers=1, num_heads=2, feed_forward_width=8,
        norm_first=True, pad_id=mark or 0, eos_id=0, task="causal_lm", pooling="last",
    )  # fmt: skip
    write_folder(TextModel(config), tokenizer, tmp_path / "model")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    assert theirs.eos_token == "<|endoftext|>"
    assert theirs("hello!! so!")["input_ids"] == list(tokenizer.encode(["hello!! so!"], 64)[0].ids)


def test_a_full_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="is there already; name a new folder"):
        write_folder(TextModel(ENCODER), Tokenizer(tiny_tokenizer("bert")), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_only_the_named_tensors_may_be_missing() -> None:
    base, tagger = TextModel(ENCODER), TextModel(ENCODER.with_task("tagging", ("a", "b")))
    load_tensors(tagger, tensors_of(base), may_miss=("classifier.",))
    with pytest.raises(ValueError, match=r"missing.*classifier.linear.weight"):
        load_tensors(tagger, tensors_of(base))
    with pytest.raises(ValueError, match=r"missing.*encoder.embeddings"):
        load_tensors(tagger, {}, may_miss=("classifier.",))
