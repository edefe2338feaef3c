"""Hugging Face folders: ours equals transformers on the same weights, and what is written is what was read."""

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer

from model.batch import pad
from model.config import TASKS_OF, Task, TransformerConfig
from model.folders import load_config
from model.heads import TextModel
from model.huggingface.folder import write_folder
from model.huggingface.layouts import LAYOUTS
from model.tokenizer import Tokenizer
from model.weights import load_model
from tests.reference import (
    LABELS,
    PAIRS,
    TEXTS,
    Case,
    assert_equal_tensors,
    bert,
    our_output,
    reference_model,
    save_reference,
    tensors_of,
    their_output,
    tiny_tokenizer,
)

MULTI = LABELS | {"problem_type": "multi_label_classification"}
CASES = [
    Case(layout, ending, task, fields)
    for layout in LAYOUTS
    for ending, task, fields in [
        ("Model", "embeddings", {}),
        ("ForSequenceClassification", "classification", LABELS),
        ("ForSequenceClassification", "multi_label", MULTI),
        ("ForSequenceClassification", "regression", {"num_labels": 1}),
        ("ForTokenClassification", "tagging", LABELS),
        ("LMHeadModel", "causal_lm", {}) if layout == "gpt2" else ("ForMaskedLM", "masked_lm", {}),
        ("LMHeadModel", "causal_lm", {"tie_word_embeddings": False})
        if layout == "gpt2"
        else ("ForMaskedLM", "masked_lm", {"tie_word_embeddings": False}),
    ]
] + [
    Case("bert", "ForMaskedLM", "masked_lm", {"hidden_act": "relu"}),
    Case("bert", "ForSequenceClassification", "classification", LABELS | {"hidden_act": "gelu_new", "type_vocab_size": 3}),
    Case("roberta", "Model", "embeddings", {"pad_token_id": 4}),
    Case("gpt2", "LMHeadModel", "causal_lm", {"n_inner": 40, "activation_function": "relu"}),
]  # fmt: skip
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@pytest.fixture
def folder(case: Case, tmp_path: Path) -> Path:
    return save_reference(reference_model(case), case.layout, tmp_path / "theirs")


# ---- the same numbers, the same bytes


@each_case
def test_imported_model_equals_transformers(case: Case, folder: Path) -> None:
    model, tokenizer = load_model(folder)
    assert model.config.task == case.task
    assert model.config.labels == (tuple(LABELS["id2label"].values()) if "id2label" in case.fields else ())
    assert load_config(folder) == model.config
    reference = getattr(transformers, LAYOUTS[case.layout].stem + case.ending).from_pretrained(folder).eval()
    for texts in (TEXTS, PAIRS):
        batch = pad(tokenizer.encode(texts, 64), model.config.pad_id)
        tokens = {"input_ids": batch.ids, "attention_mask": batch.real.long()}
        if model.config.num_segments > 1:
            tokens["token_type_ids"] = batch.segments
        assert (our_output(model, batch) - their_output(reference, tokens)).abs().max() < 1e-5


@each_case
def test_exported_folder_opens_in_transformers_with_the_same_answers(case: Case, folder: Path, tmp_path: Path) -> None:
    model, tokenizer = load_model(folder)
    write_folder(model, tokenizer, tmp_path / "ours")
    automatic: dict[Task, Any] = {
        "embeddings": transformers.AutoModel,
        "tagging": transformers.AutoModelForTokenClassification,
        "masked_lm": transformers.AutoModelForMaskedLM,
        "causal_lm": transformers.AutoModelForCausalLM,
    }
    chosen = automatic.get(case.task, transformers.AutoModelForSequenceClassification)
    theirs, info = chosen.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(info[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
    assert theirs.config.num_labels == max(1, model.config.num_outputs) or not model.config.num_outputs
    if model.config.labels:
        assert tuple(theirs.config.id2label.values()) == model.config.labels
    their_tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "ours")
    for texts in (TEXTS, PAIRS):
        for limit in (64, 9):
            encodings = tokenizer.encode(texts, limit)
            columns = list(zip(*texts, strict=True)) if isinstance(texts[0], tuple) else [texts]
            tokens = their_tokenizer(
                *map(list, columns), padding=True, truncation=True, max_length=limit, return_tensors="pt"
            )
            batch = pad(encodings, model.config.pad_id)
            assert torch.equal(tokens["input_ids"][batch.real], batch.ids[batch.real])
            assert torch.equal(tokens["attention_mask"].bool(), batch.real)
            assert (our_output(model, batch) - their_output(theirs.eval(), tokens)).abs().max() < 1e-5


@each_case
def test_import_then_export_gives_the_same_bytes_and_import_again_the_same_model(
    case: Case, folder: Path, tmp_path: Path
) -> None:
    model, tokenizer = load_model(folder)
    write_folder(model, tokenizer, tmp_path / "ours")
    before, after = (load_file(path / "model.safetensors") for path in (folder, tmp_path / "ours"))
    if case.fields.get("tie_word_embeddings") is False and case.layout in ("bert", "roberta"):
        head = "cls.predictions" if case.layout == "bert" else "lm_head"
        before[f"{head}.bias"] = before[f"{head}.decoder.bias"]  # transformers adds the second and never the first
    assert_equal_tensors(before, after)
    again, _ = load_model(tmp_path / "ours")
    assert again.config == model.config
    assert_equal_tensors(tensors_of(model), tensors_of(again))


@st.composite
def exportable(draw: st.DrawFn) -> TransformerConfig:
    """A random small config that one of the layouts can hold."""
    layout = LAYOUTS[draw(st.sampled_from(sorted(LAYOUTS)))]
    architecture = layout.fixed["architecture"]
    task: Task = draw(st.sampled_from(TASKS_OF[architecture]))
    pooling, pooler = layout.classifier
    heads = draw(st.sampled_from([1, 2, 4]))
    pad_id = draw(st.integers(0, 5))
    fields: dict[str, Any] = {
        "vocab_size": draw(st.integers(90, 120)),
        "width": heads * draw(st.sampled_from([2, 6])),
        "num_layers": draw(st.integers(1, 3)),
        "num_heads": heads,
        "feed_forward_width": draw(st.integers(1, 20)),
        "max_positions": draw(st.integers(1, 40)),
        "num_segments": draw(st.integers(1, 3)),
        "position_offset": pad_id + 1 if layout.name == "roberta" else 0,
        "activation": draw(st.sampled_from(["relu", "gelu", "gelu_tanh"])),
        "norm_epsilon": draw(st.sampled_from([1e-5, 1e-12])),
        "dropout": draw(st.sampled_from([0.0, 0.1, 0.25])),
        "tied_embeddings": draw(st.booleans()),
        "pad_id": pad_id,
        "bos_id": draw(st.none() | st.integers(0, 89)),
        "eos_id": draw(st.none() | st.integers(0, 89)),
        "task": task,
    } | layout.fixed  # fmt: skip
    if layout.name == "roberta" and task == "masked_lm":
        fields["activation"] = "gelu"
    if task in ("classification", "multi_label", "tagging"):
        labels = st.lists(st.text(min_size=1, max_size=5), min_size=2, max_size=5, unique=True)
        fields["labels"] = tuple(draw(labels))
    if task in ("classification", "multi_label", "regression"):
        fields["pooling"], fields["pooler"] = pooling, pooler
    elif task == "embeddings":
        fields["pooling"] = draw(st.sampled_from(["mean", "first", "last"]))
        fields["pooler"] = draw(st.sampled_from(["none", pooler])) if layout.name in ("bert", "roberta") else "none"
    else:  # no head of these tasks pools
        fields["pooling"] = "last" if layout.name == "gpt2" else "mean"
    return TransformerConfig(**fields)


@settings(max_examples=60, deadline=None)
@given(config=exportable(), seed=st.integers(0, 1000))
def test_export_then_import_is_the_identity(config: TransformerConfig, seed: int) -> None:
    torch.manual_seed(seed)
    model = TextModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    with tempfile.TemporaryDirectory() as temporary:
        write_folder(model, Tokenizer(tiny_tokenizer("bert")), Path(temporary) / "model")
        again, _ = load_model(Path(temporary) / "model")
    assert again.config == config
    assert_equal_tensors(tensors_of(model), tensors_of(again))


# ---- sentence-transformers


def test_minilm_exports_to_sentence_transformers(minilm: Path, sentences: list[str], tmp_path: Path) -> None:
    model, tokenizer = load_model(minilm)
    assert (model.config.task, model.config.pooling, model.config.pooler) == ("embeddings", "mean", "tanh")
    write_folder(model, tokenizer, tmp_path / "minilm")
    theirs = load_file(tmp_path / "minilm" / "model.safetensors")
    original = load_file(minilm / "model.safetensors")
    original.pop("embeddings.position_ids")  # a buffer
    assert_equal_tensors(original, theirs)
    reference = SentenceTransformer(str(tmp_path / "minilm"), device="cpu", local_files_only=True)
    with torch.inference_mode():
        ours = model.embed(pad(tokenizer.encode(sentences, 512), 0))
    assert (torch.tensor(reference.encode(sentences)) - ours).abs().max() < 1e-5
    again, _ = load_model(tmp_path / "minilm")
    assert again.config == model.config


@pytest.mark.parametrize("pooling", ["mean", "first", "last"])
@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_every_pooling_equals_sentence_transformers(layout: str, pooling: Any, tmp_path: Path) -> None:
    folder = save_reference(reference_model(Case(layout, "Model", "embeddings")), layout, tmp_path / "theirs")
    base, tokenizer = load_model(folder)
    model = TextModel(base.config.with_task("embeddings", pooling=pooling)).eval()
    model.load_state_dict(base.state_dict())
    write_folder(model, tokenizer, tmp_path / "ours")
    reference = SentenceTransformer(str(tmp_path / "ours"), device="cpu", local_files_only=True)
    with torch.inference_mode():
        ours = model.embed(pad(tokenizer.encode(TEXTS, 64), model.config.pad_id))
    assert (torch.tensor(reference.encode(TEXTS)) - ours).abs().max() < 1e-5
    assert load_config(tmp_path / "ours") == model.config
    reference.save(str(tmp_path / "saved"))  # in the newest form
    assert load_config(tmp_path / "saved").pooling == pooling


def test_a_sentence_encoder_we_can_not_follow_is_refused(tmp_path: Path) -> None:
    model, tokenizer = load_model(bert(tmp_path / "theirs"))
    embedding = TextModel(model.config.with_task("embeddings"))
    write_folder(embedding, tokenizer, tmp_path / "ours")
    pooling = tmp_path / "ours" / "1_Pooling" / "config.json"
    pooling.write_text(json.dumps({"pooling_mode_max_tokens": True, "pooling_mode_mean_tokens": True}))
    with pytest.raises(ValueError, match=r"pooling is \['max_tokens', 'mean_tokens'\]; use one of"):
        load_config(tmp_path / "ours")
    modules = tmp_path / "ours" / "modules.json"
    dense = {"idx": 3, "name": "3", "path": "3_Dense", "type": "sentence_transformers.models.Dense"}
    modules.write_text(json.dumps([*json.loads(modules.read_text()), dense]))
    with pytest.raises(ValueError, match=r"the steps \['Dense'\]; only Transformer"):
        load_config(tmp_path / "ours")
