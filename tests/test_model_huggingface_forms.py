"""The many forms of checkpoints: shards, half precision, old names, missing prefixes, unnamed classes."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from model.batch import pad
from model.config import Task
from model.folders import load_config
from model.tokenizer import Tokenizer
from model.weights import load_model
from tests.reference import (
    LABELS,
    PAIRS,
    Case,
    assert_equal_tensors,
    bert,
    change_config,
    change_tensors,
    our_output,
    reference_model,
    save_reference,
    tensors_of,
    their_output,
    tiny_tokenizer,
)


def test_shards_are_read(tmp_path: Path) -> None:
    whole, parts = bert(tmp_path / "whole"), bert(tmp_path / "parts", max_shard_size="8KB")
    assert len(list(parts.glob("model-*.safetensors"))) > 1
    assert_equal_tensors(tensors_of(load_model(whole)[0]), tensors_of(load_model(parts)[0]))
    next(parts.glob("model-*.safetensors")).unlink()
    with pytest.raises(ValueError, match=r"names the shard 'model-0.*fetch the folder again"):
        load_config(parts)


def test_an_index_can_not_name_files_outside_its_folder(tmp_path: Path) -> None:
    folder = bert(tmp_path / "model")
    (folder / "model.safetensors").rename(tmp_path / "other.safetensors")
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../other.safetensors"}}')
    with pytest.raises(ValueError, match="is not there"):
        load_config(folder)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_becomes_float32(tmp_path: Path, dtype: torch.dtype) -> None:
    reference = reference_model(Case("bert", "ForMaskedLM", "masked_lm")).to(dtype)
    model, _ = load_model(save_reference(reference, "bert", tmp_path / "half"))
    weight = reference.bert.embeddings.word_embeddings.weight
    assert model.encoder.embeddings.token.weight.dtype == torch.float32
    assert torch.equal(model.encoder.embeddings.token.weight, weight.float())


def test_names_of_old_checkpoints_are_read(tmp_path: Path) -> None:
    """google-bert/bert-base-uncased: gamma and beta, the tied copy, the other head of pre-training, the pooler."""
    case = Case("bert", "ForPreTraining", "masked_lm")
    folder = save_reference(reference_model(case), "bert", tmp_path / "old")
    new, _ = load_model(folder)

    def age(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        tensors |= {
            "cls.predictions.decoder.weight": tensors["bert.embeddings.word_embeddings.weight"],
            "cls.predictions.decoder.bias": tensors["cls.predictions.bias"],
            "bert.embeddings.position_ids": torch.arange(64)[None],
        }
        gamma = lambda name: name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")  # noqa: E731  # fmt: skip
        return {gamma(name): tensor for name, tensor in tensors.items()}

    change_tensors(folder, age)
    old, _ = load_model(folder)
    assert old.config == new.config
    assert old.config.pooler == "tanh"
    assert old.config.tied_embeddings
    assert_equal_tensors(tensors_of(new), tensors_of(old))


@pytest.mark.parametrize(
    ("layout", "ending", "copy", "embedding"),
    [
        ("bert", "ForMaskedLM", "cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"),
        ("roberta", "ForMaskedLM", "lm_head.decoder.weight", "roberta.embeddings.word_embeddings.weight"),
        ("distilbert", "ForMaskedLM", "vocab_projector.weight", "distilbert.embeddings.word_embeddings.weight"),
        ("gpt2", "LMHeadModel", "lm_head.weight", "transformer.wte.weight"),
    ],
)
def test_a_copy_that_differs_is_not_taken_for_tied(
    layout: str, ending: str, copy: str, embedding: str, tmp_path: Path
) -> None:
    case = Case(layout, ending, "masked_lm")
    folder = save_reference(reference_model(case), layout, tmp_path / "model")
    change_tensors(folder, lambda tensors: tensors | {copy: tensors[embedding]})
    assert load_config(folder).tied_embeddings
    change_tensors(folder, lambda tensors: tensors | {copy: tensors[embedding] + 1})
    model, _ = load_model(folder)
    assert not model.config.tied_embeddings
    assert model.language_model is not None
    assert model.language_model.output is not None
    assert torch.equal(model.language_model.output.weight, model.stack.embeddings.token.weight + 1)


def test_gpt2_without_prefix_and_with_its_mask_buffers_is_read(tmp_path: Path) -> None:
    """openai-community/gpt2."""
    folder = save_reference(reference_model(Case("gpt2", "LMHeadModel", "causal_lm")), "gpt2", tmp_path / "model")
    before, _ = load_model(folder)
    buffers = {"h.0.attn.bias": torch.ones(1, 1, 64, 64).bool(), "h.1.attn.masked_bias": torch.tensor(-1e4)}
    change_tensors(folder, lambda old: {name.removeprefix("transformer."): old[name] for name in old} | buffers)
    assert_equal_tensors(tensors_of(before), tensors_of(load_model(folder)[0]))


def test_a_roberta_classifier_with_the_unused_pooler_of_its_body_is_read(tmp_path: Path) -> None:
    """FacebookAI/roberta-large-mnli."""
    case = Case("roberta", "ForSequenceClassification", "classification", LABELS)
    folder = save_reference(reference_model(case), "roberta", tmp_path / "model")
    before, _ = load_model(folder)
    pooler = {"roberta.pooler.dense.weight": torch.ones(16, 16), "roberta.pooler.dense.bias": torch.ones(16)}
    change_tensors(folder, lambda tensors: tensors | pooler)
    assert_equal_tensors(tensors_of(before), tensors_of(load_model(folder)[0]))


def test_a_model_with_one_segment_reads_pairs_from_a_tokenizer_with_two(tmp_path: Path) -> None:
    reference = reference_model(Case("roberta", "Model", "embeddings"))
    folder = save_reference(reference, "roberta", tmp_path / "model")
    model, _ = load_model(folder)
    batch = pad(Tokenizer(tiny_tokenizer("bert")).encode(PAIRS, 64), model.config.pad_id)
    assert batch.segments.max() == 1
    tokens = {"input_ids": batch.ids, "attention_mask": batch.real.long()}
    positions = (batch.positions + model.config.position_offset).contiguous()
    theirs = their_output(reference, tokens | {"position_ids": positions})  # [UNK] has the id that RoBERTa pads with
    assert (our_output(model, batch) - theirs).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("layout", "ending", "task"),
    [
        ("bert", "Model", "embeddings"),
        ("roberta", "ForMaskedLM", "masked_lm"),
        ("gpt2", "ForSequenceClassification", "classification"),
    ],
)
def test_the_task_comes_from_the_tensors_when_no_class_is_named(
    layout: str, ending: str, task: Task, tmp_path: Path
) -> None:
    folder = save_reference(reference_model(Case(layout, ending, task)), layout, tmp_path / "model")
    change_config(folder, architectures=None)
    assert load_config(folder).task == task
