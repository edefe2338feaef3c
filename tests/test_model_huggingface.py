"""Hugging Face folders: ours equals transformers on the same weights, and what is written is what was read."""

import argparse
import dataclasses
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from tokenizers import decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor

from model.batch import Batch, pad
from model.config import TASKS_OF, Task, TransformerConfig
from model.heads import TextModel
from model.huggingface import LAYOUTS, layout_of, write_folder
from model.huggingface.convert import our_name
from model.huggingface.layouts import BERT
from model.lora import LoraConfig, make_trainable, save_adapter, take_adapter
from model.tokenizer import Tokenizer, train_byte_bpe, train_wordpiece
from model.weights import load_config, load_model, load_tensors, read_tensors, save_model
from service.models_cli import add_commands, name_of
from service.registry import ModelStore
from service.settings import Settings

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


@pytest.fixture
def folder(case: Case, tmp_path: Path) -> Path:
    return save_reference(reference_model(case), case.layout, tmp_path / "theirs")


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


# ---- forms of checkpoints


def bert(folder: Path, **arguments: Any) -> Path:
    return save_reference(reference_model(Case("bert", "ForMaskedLM", "masked_lm")), "bert", folder, **arguments)


def change_config(folder: Path, **fields: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def change_tensors(folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    path = folder / "model.safetensors"
    save_file({name: tensor.clone() for name, tensor in change(load_file(path)).items()}, path)


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


# ---- what can't be read or written


@pytest.mark.parametrize(
    ("layout", "fields", "words"),
    [
        ("bert", {"model_type": "t5"}, r"model_type is 't5'; only \['bert'"),
        ("bert", {"position_embedding_type": "relative_key"}, "position_embedding_type is 'relative_key'.*'absolute'"),
        ("bert", {"hidden_act": "silu"}, "activation 'silu' is not supported; use one of"),
        ("bert", {"is_decoder": True}, "is_decoder is True"),
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
        ({"architectures": None}, "the tensors fit .*name one class in 'architectures'"),
    ],
)
def test_unclear_classes_are_refused(fields: dict[str, Any], words: str, tmp_path: Path) -> None:
    case = Case("bert", "ForSequenceClassification", "classification", LABELS)
    folder = save_reference(reference_model(case), "bert", tmp_path / "model")
    change_config(folder, **fields)
    with pytest.raises(ValueError, match=words):
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


ENCODER = TransformerConfig(
    vocab_size=90, width=8, num_layers=1, num_heads=2, feed_forward_width=8, num_segments=2, norm_embeddings=True
)


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


# ---- the command line, over a real model store


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.delenv("BENTOML_HOME", raising=False)
    return Settings(home=tmp_path / "home")


def vitrine(home: Settings, *words: str) -> None:
    parser = argparse.ArgumentParser()
    add_commands(parser.add_subparsers(), home)
    arguments = parser.parse_args(words)
    arguments.run(arguments)


def test_models_go_in_and_come_out_the_same(home: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = Case("distilbert", "ForSequenceClassification", "classification", LABELS)
    folder = save_reference(reference_model(case), "distilbert", tmp_path / "My Model (v2)")
    vitrine(home, "models", "list")
    assert "no model yet" in capsys.readouterr().out
    for _ in range(2):  # idempotent
        vitrine(home, "models", "import", str(folder))
    tags = capsys.readouterr().out.split()
    assert tags[0] == tags[1]
    assert tags[0].startswith("my-model-v2:")
    vitrine(home, "models", "list")
    assert capsys.readouterr().out.split() == ["my-model-v2", "classification", "2", "x", "16", tags[0]]
    vitrine(home, "models", "export", "my-model-v2", str(tmp_path / "out"))
    before, after = (load_file(path / "model.safetensors") for path in (folder, tmp_path / "out"))
    assert_equal_tensors(before, after)


def test_a_second_model_needs_another_name(home: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = bert(tmp_path / "model")
    vitrine(home, "models", "import", str(folder))
    change_tensors(folder, lambda tensors: {name: tensor + 1 for name, tensor in tensors.items()})
    with pytest.raises(ValueError, match=r"'model' is in the store with other content.*another --name"):
        vitrine(home, "models", "import", str(folder))
    vitrine(home, "models", "import", str(folder), "--name", "model.v2")
    assert {card.id for card in ModelStore(home.bentoml_home).cards()} == {"model", "model.v2"}


def test_an_adapter_is_exported_merged_into_its_base(home: Settings, tmp_path: Path) -> None:
    theirs = save_reference(reference_model(Case("bert", "Model", "embeddings")), "bert", tmp_path / "base")
    vitrine(home, "models", "import", str(theirs))
    base, tokenizer = load_model(theirs)
    tuned = TextModel(base.config.with_task("classification", ("no", "yes"), "first", "tanh"))
    load_tensors(tuned, tensors_of(base), may_miss=("classifier.",))
    make_trainable(tuned, LoraConfig(rank=2))
    with torch.no_grad():
        for parameter in tuned.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.1)
    save_adapter(take_adapter(tuned, LoraConfig(rank=2)), "base", tmp_path / "adapter")
    shutil.copy(theirs / "tokenizer.json", tmp_path / "adapter")
    save_model(base, tokenizer, tmp_path / "adapter")  # the store asks every folder for a config
    ModelStore(home.bentoml_home).publish(tmp_path / "adapter", "tuned", "tuned:1", "base", None)
    vitrine(home, "models", "export", "tuned", str(tmp_path / "out"))
    reference = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    batch = pad(tokenizer.encode(TEXTS, 64), 0)
    tokens = {"input_ids": batch.ids, "attention_mask": batch.real.long(), "token_type_ids": batch.segments}
    assert (our_output(tuned.eval(), batch) - their_output(reference, tokens)).abs().max() < 1e-5


def test_the_command_line_says_what_to_do(home: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = bert(tmp_path / "model")
    with pytest.raises(ValueError, match="neither a folder nor an id on the Hugging Face hub"):
        vitrine(home, "models", "import", str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match=r"has no config.json"):
        vitrine(home, "models", "import", str(tmp_path))
    with pytest.raises(ValueError, match="name 'A B' can't be used; take at most 63"):
        vitrine(home, "models", "import", str(folder), "--name", "A B")
    with pytest.raises(ValueError, match="'nobody' does not exist"):
        vitrine(home, "models", "export", "nobody", str(tmp_path / "out"))
    train_wordpiece([f"word{number}" for number in range(2000)], 400).save(folder)
    with pytest.raises(ValueError, match=r"the tokenizer has \d+ tokens, the model 300"):
        vitrine(home, "models", "import", str(folder))
    assert ModelStore(home.bentoml_home).cards() == []


def test_an_unreachable_hub_is_an_error_with_a_remedy(home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(
        ValueError, match=r"'someone/model' is no folder here.*could not be fetched.*copy its folder here"
    ):
        vitrine(home, "models", "import", "someone/model", "--revision", "v1")


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("google-bert/BERT base", "bert-base"),
        ("sentence-transformers/all-MiniLM-L6-v2", "all-minilm-l6-v2"),
        ("models/--odd--/", "odd"),
        ("x/" + "a" * 80, "a" * 63),
    ],
)
def test_names_follow_bentoml(source: str, name: str) -> None:
    assert name_of(source) == name


def test_our_own_folder_is_imported_too(home: Settings, tmp_path: Path) -> None:
    model = TextModel(ENCODER)
    save_model(model, Tokenizer(tiny_tokenizer("bert")), tmp_path / "tuned")
    vitrine(home, "models", "import", str(tmp_path / "tuned"))
    (card,) = ModelStore(home.bentoml_home).cards()
    assert card.config == ENCODER
    assert_equal_tensors(tensors_of(model), read_tensors(card.folder / "model.safetensors"))
