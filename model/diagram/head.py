"""Reads the head: from hidden states to the answer of the model's task. Used by `walk.py`.

Shape letters as in `blocks.py`.
"""

from torch import nn

from model.diagram.blocks import Block, Dim
from model.diagram.builder import Builder, Rows
from model.diagram.measure import activation_name, features, linear_flops
from model.heads import LanguageModelHead, TextModel

POOLINGS = {"mean": "Mean of the tokens", "first": "First token", "last": "Last token"}
ANSWERS = {
    "classification": "Class scores", "multi_label": "Label scores", "regression": "Score", "tagging": "Tag scores",
    "masked_lm": "Token scores", "causal_lm": "Next-token scores", "seq2seq": "Next-token scores",
    "embeddings": "Text vector",
}  # fmt: skip


def read_head(build: Builder, model: TextModel, top: Block) -> Rows:
    """Rows on top of the stack; weights the task leaves unused stand at the side, idle."""
    rows: Rows = []
    classifier = None if model.classifier is None else model.classifier.linear
    if model.language_model is not None:
        below = _language_model(build, rows, top, model.language_model)
    elif classifier is not None and model.config.task == "tagging":
        below = build.above(rows, top, _classifier(build, classifier, model, top))
    else:
        below = build.above(rows, top, Block(POOLINGS[model.config.pooling], "pool", top.output, _text(build)))
        if classifier is not None:
            if model.pooler is not None:
                below = build.above(rows, below, _pooler(build, model.pooler))
            below = build.above(rows, below, _classifier(build, classifier, model, below))
        else:
            pooled = below
            below = build.above(rows, pooled, Block("Scale to unit length", "pool", pooled.output, pooled.output))
            if model.pooler is not None:
                build.beside(rows, -1, pooled, _pooler(build, model.pooler, idle=True))
    build.above(rows, below, Block(ANSWERS[model.config.task], "output", below.output, below.output))
    return rows


def _text(build: Builder) -> tuple[Dim, ...]:
    return Dim("B"), build.width


def _language_model(build: Builder, rows: Rows, top: Block, head: LanguageModelHead) -> Block:
    below = top
    if head.dense is not None:
        detail = f"dense, {activation_name(head)}" + ("" if head.norm is None else ", LayerNorm")
        parameters = build.counter.take(head.dense, head.norm)
        transform = Block("Transform", "linear", top.output, top.output, detail, parameters, linear_flops(head.dense))
        below = build.above(rows, top, transform)
    width, vocabulary = build.width.size or 0, build.vocabulary.size or 0
    tied = head.output is None
    flops = 2 * width * vocabulary if head.output is None else linear_flops(head.output)
    detail = ("tied to the token embedding" if tied else "matrix of its own") + ("" if head.bias is None else " + bias")
    scores = (*top.output[:-1], build.vocabulary)
    parameters = build.counter.take(head.output, head.bias)
    return build.above(rows, below, Block("Linear", "linear", top.output, scores, detail, parameters, flops))


def _pooler(build: Builder, pooler: nn.Module, idle: bool = False) -> Block:
    detail = f"dense, {activation_name(pooler)}"
    text = _text(build)
    return Block(
        "Pooler", "linear", text, text, f"{detail}; unused here" if idle else detail, build.counter.take(pooler),
        0 if idle else linear_flops(pooler), per_text=True, idle=idle,
    )  # fmt: skip


def _classifier(build: Builder, linear: nn.Module, model: TextModel, below: Block) -> Block:
    outputs = build.dim("C", features(linear)[1])
    return Block(
        "Classifier", "linear", below.output, (*below.output[:-1], outputs), ", ".join(model.config.labels),
        build.counter.take(linear), linear_flops(linear), per_text=model.config.task != "tagging",
    )  # fmt: skip
