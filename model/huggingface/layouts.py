"""The Hugging Face layouts that can be read and written, as tables: BERT, RoBERTa, DistilBERT and GPT-2.

One rule a line. A name stands for a module, its `weight` and `bias` follow; a name that ends in one of them stands for
that tensor alone. {n} is the layer. `qkv:query` is the query's rows of our joined matrix. Read by `convert.py`.
"""

import re
from dataclasses import dataclass
from typing import Any

from model.config import Activation, Pooler, Pooling, Task

Names = dict[str, str]  # theirs -> ours

# Task -> the end of the class name in `architectures`. A sequence classifier's `problem_type` tells the three apart.
CLASS_OF: dict[Task, str] = {
    "embeddings": "Model",
    "classification": "ForSequenceClassification",
    "multi_label": "ForSequenceClassification",
    "regression": "ForSequenceClassification",
    "tagging": "ForTokenClassification",
    "masked_lm": "ForMaskedLM",
    "causal_lm": "LMHeadModel",
}
PROBLEM_TYPES: dict[Task, str] = {
    "classification": "single_label_classification",
    "multi_label": "multi_label_classification",
    "regression": "regression",
}
# Their name -> ours; the first of two that mean the same is written.
ACTIVATIONS: dict[str, Activation] = {
    "relu": "relu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}
OUTPUT, BIAS_COPY = "language_model.output.weight", "language_model.bias_copy"  # left out when tied


@dataclass(frozen=True)
class Layout:
    """One family of Hugging Face models: its config fields and its names."""

    name: str  # `model_type`
    stem: str  # class names begin with it
    prefix: str  # of the body's tensors, in every class but the bare model
    fields: dict[str, tuple[str, Any]]  # our config field -> theirs, and the value its absence means
    activation: str  # their field for it
    dropouts: tuple[str, ...]  # their further dropouts, all written with our one
    required: dict[str, Any]  # their fields that change the arithmetic, and the one value we compute; absent: that one
    fixed: dict[str, Any]  # our fields, and the one value this layout has
    classifier: tuple[Pooling, Pooler]  # what its sequence classifier reads
    body: Names
    heads: dict[str, Names]  # by the end of the class name
    ignored: re.Pattern[str]  # buffers, and heads of pre-training that we have no task for
    transposed: re.Pattern[str] = re.compile(r"(?!)")  # weights stored [in, out]


POST_NORM = {
    "architecture": "encoder",
    "positions": "learned",
    "norm_first": False,
    "norm_embeddings": True,
    "scale_embeddings": False,
}
BERT_FIELDS: dict[str, tuple[str, Any]] = {
    "vocab_size": ("vocab_size", 30_522),
    "width": ("hidden_size", 768),
    "num_layers": ("num_hidden_layers", 12),
    "num_heads": ("num_attention_heads", 12),
    "feed_forward_width": ("intermediate_size", 3072),
    "max_positions": ("max_position_embeddings", 512),
    "num_segments": ("type_vocab_size", 2),
    "norm_epsilon": ("layer_norm_eps", 1e-12),
    "dropout": ("hidden_dropout_prob", 0.1),
    "pad_id": ("pad_token_id", 0),
    "bos_id": ("bos_token_id", None),
    "eos_id": ("eos_token_id", None),
}
BERT_BODY = {
    "embeddings.word_embeddings": "encoder.embeddings.token",
    "embeddings.position_embeddings": "encoder.embeddings.position.embedding",
    "embeddings.token_type_embeddings": "encoder.embeddings.segment",
    "embeddings.LayerNorm": "encoder.embeddings.norm",
    "encoder.layer.{n}.attention.self.query": "encoder.layers.{n}.attention.qkv:query",
    "encoder.layer.{n}.attention.self.key": "encoder.layers.{n}.attention.qkv:key",
    "encoder.layer.{n}.attention.self.value": "encoder.layers.{n}.attention.qkv:value",
    "encoder.layer.{n}.attention.output.dense": "encoder.layers.{n}.attention.output",
    "encoder.layer.{n}.attention.output.LayerNorm": "encoder.layers.{n}.attention_norm",
    "encoder.layer.{n}.intermediate.dense": "encoder.layers.{n}.feed_forward.expand",
    "encoder.layer.{n}.output.dense": "encoder.layers.{n}.feed_forward.contract",
    "encoder.layer.{n}.output.LayerNorm": "encoder.layers.{n}.feed_forward_norm",
    "pooler.dense": "pooler.dense",
}

BERT = Layout(
    name="bert",
    stem="Bert",
    prefix="bert.",
    fields=BERT_FIELDS,
    activation="hidden_act",
    dropouts=("attention_probs_dropout_prob",),
    required={
        "position_embedding_type": "absolute",
        "is_decoder": False,
        "add_cross_attention": False,
        "pruned_heads": {},
    },
    fixed=POST_NORM | {"position_offset": 0},
    classifier=("first", "tanh"),
    body=BERT_BODY,
    heads={
        "Model": {},
        "ForSequenceClassification": {"classifier": "classifier.linear"},
        "ForTokenClassification": {"classifier": "classifier.linear"},
        "ForMaskedLM": {
            "cls.predictions.transform.dense": "language_model.dense",
            "cls.predictions.transform.LayerNorm": "language_model.norm",
            "cls.predictions.bias": "language_model.bias",
            "cls.predictions.decoder.weight": OUTPUT,
            "cls.predictions.decoder.bias": BIAS_COPY,
        },
    },
    ignored=re.compile(r"embeddings\.(position|token_type)_ids|cls\.seq_relationship\.(weight|bias)"),
)

ROBERTA = Layout(
    name="roberta",
    stem="Roberta",
    prefix="roberta.",
    fields=BERT_FIELDS
    | {
        "vocab_size": ("vocab_size", 50_265),
        "pad_id": ("pad_token_id", 1),
        "bos_id": ("bos_token_id", 0),
        "eos_id": ("eos_token_id", 2),
    },
    activation=BERT.activation,
    dropouts=BERT.dropouts,
    required=BERT.required,
    fixed=POST_NORM,  # and position_offset, which follows pad_id
    classifier=("first", "tanh"),
    body=BERT_BODY,
    heads={
        "Model": {},
        "ForSequenceClassification": {
            "classifier.dense": "pooler.dense",
            "classifier.out_proj": "classifier.linear",
        },
        "ForTokenClassification": {"classifier": "classifier.linear"},
        "ForMaskedLM": {
            "lm_head.dense": "language_model.dense",
            "lm_head.layer_norm": "language_model.norm",
            "lm_head.bias": "language_model.bias",
            "lm_head.decoder.weight": OUTPUT,
            "lm_head.decoder.bias": BIAS_COPY,
        },
    },
    ignored=re.compile(r"embeddings\.(position|token_type)_ids"),
)

DISTILBERT = Layout(
    name="distilbert",
    stem="DistilBert",
    prefix="distilbert.",
    fields={
        "vocab_size": ("vocab_size", 30_522),
        "width": ("dim", 768),
        "num_layers": ("n_layers", 6),
        "num_heads": ("n_heads", 12),
        "feed_forward_width": ("hidden_dim", 3072),
        "max_positions": ("max_position_embeddings", 512),
        "dropout": ("dropout", 0.1),
        "pad_id": ("pad_token_id", 0),
        "bos_id": ("bos_token_id", None),
        "eos_id": ("eos_token_id", None),
    },
    activation="activation",
    dropouts=("attention_dropout", "seq_classif_dropout", "qa_dropout"),
    required={},
    fixed=POST_NORM | {"position_offset": 0, "num_segments": 0, "norm_epsilon": 1e-12},
    classifier=("first", "relu"),
    body={
        "embeddings.word_embeddings": "encoder.embeddings.token",
        "embeddings.position_embeddings": "encoder.embeddings.position.embedding",
        "embeddings.LayerNorm": "encoder.embeddings.norm",
        "transformer.layer.{n}.attention.q_lin": "encoder.layers.{n}.attention.qkv:query",
        "transformer.layer.{n}.attention.k_lin": "encoder.layers.{n}.attention.qkv:key",
        "transformer.layer.{n}.attention.v_lin": "encoder.layers.{n}.attention.qkv:value",
        "transformer.layer.{n}.attention.out_lin": "encoder.layers.{n}.attention.output",
        "transformer.layer.{n}.sa_layer_norm": "encoder.layers.{n}.attention_norm",
        "transformer.layer.{n}.ffn.lin1": "encoder.layers.{n}.feed_forward.expand",
        "transformer.layer.{n}.ffn.lin2": "encoder.layers.{n}.feed_forward.contract",
        "transformer.layer.{n}.output_layer_norm": "encoder.layers.{n}.feed_forward_norm",
    },
    heads={
        "Model": {},
        "ForSequenceClassification": {
            "pre_classifier": "pooler.dense",
            "classifier": "classifier.linear",
        },
        "ForTokenClassification": {"classifier": "classifier.linear"},
        "ForMaskedLM": {
            "vocab_transform": "language_model.dense",
            "vocab_layer_norm": "language_model.norm",
            "vocab_projector.bias": "language_model.bias",
            "vocab_projector.weight": OUTPUT,
        },
    },
    ignored=re.compile(r"embeddings\.position_ids"),
)

GPT2 = Layout(
    name="gpt2",
    stem="GPT2",
    prefix="transformer.",
    fields={
        "vocab_size": ("vocab_size", 50_257),
        "width": ("n_embd", 768),
        "num_layers": ("n_layer", 12),
        "num_heads": ("n_head", 12),
        "feed_forward_width": ("n_inner", None),  # None is four times the width
        "max_positions": ("n_positions", 1024),
        "norm_epsilon": ("layer_norm_epsilon", 1e-5),
        "dropout": ("resid_pdrop", 0.1),
        "pad_id": ("pad_token_id", None),
        "bos_id": ("bos_token_id", 50_256),
        "eos_id": ("eos_token_id", 50_256),
    },
    activation="activation_function",
    dropouts=("embd_pdrop", "attn_pdrop", "classifier_dropout"),
    required={
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
        "add_cross_attention": False,
    },
    fixed={
        "architecture": "decoder",
        "positions": "learned",
        "norm_first": True,
        "norm_embeddings": False,
        "scale_embeddings": False,
        "num_segments": 0,
        "position_offset": 0,
    },
    classifier=("last", "none"),
    body={
        "wte": "decoder.embeddings.token",
        "wpe": "decoder.embeddings.position.embedding",
        "h.{n}.ln_1": "decoder.layers.{n}.attention_norm",
        "h.{n}.attn.c_attn": "decoder.layers.{n}.attention.qkv",
        "h.{n}.attn.c_proj": "decoder.layers.{n}.attention.output",
        "h.{n}.ln_2": "decoder.layers.{n}.feed_forward_norm",
        "h.{n}.mlp.c_fc": "decoder.layers.{n}.feed_forward.expand",
        "h.{n}.mlp.c_proj": "decoder.layers.{n}.feed_forward.contract",
        "ln_f": "decoder.norm",
    },
    heads={
        "Model": {},
        "ForSequenceClassification": {"score": "classifier.linear"},
        "ForTokenClassification": {"classifier": "classifier.linear"},
        "LMHeadModel": {"lm_head.weight": OUTPUT},
    },
    ignored=re.compile(r"h\.\d+\.attn\.(masked_)?bias"),
    transposed=re.compile(r".*\.c_(attn|proj|fc)\.weight"),  # Hugging Face's Conv1D
)

LAYOUTS = {layout.name: layout for layout in (BERT, ROBERTA, DISTILBERT, GPT2)}
