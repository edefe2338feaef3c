"""Reads a live `TextModel` module by module -> `Diagram`. Sizes come from the modules, not from the config."""

from torch import nn

from model.diagram.blocks import Block, Column, Diagram, Section
from model.diagram.builder import Builder
from model.diagram.head import read_head
from model.diagram.stack import read_stack
from model.heads import TextModel
from model.layers import EncoderLayer
from model.transformer import Decoder, EncoderDecoder

TASKS = {
    "embeddings": "text embeddings", "classification": "text classification",
    "multi_label": "multi-label classification", "regression": "regression", "tagging": "token classification",
    "masked_lm": "masked language model", "causal_lm": "language model", "seq2seq": "sequence to sequence",
}  # fmt: skip


def walk(model: TextModel, name: str) -> Diagram:
    """Any `TextModel`, whatever wraps its linears. The blocks' parameters add up to those of the model exactly."""
    stack = model.stack
    build = Builder(stack.embeddings, is_pair=isinstance(stack, EncoderDecoder))
    columns = []
    if isinstance(stack, EncoderDecoder):
        sections, memory = read_stack(build, stack.encoder, stack.embeddings, "S", None)
        columns.append(Column("Encoder", tuple(sections)))
        sections, top = read_stack(build, stack.decoder, stack.embeddings, "T", memory)
        layers = [stack.encoder.layers, stack.decoder.layers]
        kind, last = "Encoder-decoder", "Decoder"
    else:
        sections, top = read_stack(build, stack, stack.embeddings, "T", None)
        layers = [stack.layers]
        kind = last = "Decoder" if isinstance(stack, Decoder) else "Encoder"
    rows = read_head(build, model, top)
    for unused in (model.pooler, model):  # of the pooler when nothing pools, and of modules this walk does not know
        if unused is not None and (count := build.counter.take(unused)):
            name_shown = "Other weights" if unused is model else "Pooler"
            build.beside(rows, 0, top, Block(name_shown, "other", (), (), "unused here", count, idle=True))
    columns.append(Column(last, (*sections, Section("Head", tuple(rows)))))
    depth = " + ".join(str(len(group)) for group in layers)
    summary = f"{kind} · {depth} layers · {_norm_kind(layers)} · {TASKS[model.config.task]}"
    total = sum(parameter.numel() for parameter in model.parameters())
    diagram = Diagram(name, summary, tuple(columns), tuple(build.edges), build.letters(), total, build.context)
    shown = sum(part.repeat * block.parameters for part in diagram.sections for row in part.rows for block in row)
    assert shown == total, f"the blocks hold {shown} parameters, the model {total}"
    return diagram


def _norm_kind(layers: list[nn.ModuleList]) -> str:
    found = {layer.norm_first for group in layers for layer in group if isinstance(layer, EncoderLayer)}
    return "pre-LN and post-LN" if len(found) == 2 else "pre-LN" if True in found else "post-LN"
