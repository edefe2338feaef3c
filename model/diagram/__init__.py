"""A picture of a Transformer, drawn from the module itself: blocks, shapes, parameters, work per token.

`walk` turns a model into one `Diagram`; `to_svg` and `to_mermaid` draw it. Used by `service/routes/models.py` and
`service/diagram_cli.py`.
"""

from typing import Literal

from model.config import TransformerConfig
from model.diagram.blocks import Diagram
from model.diagram.mermaid import to_mermaid
from model.diagram.svg import to_svg
from model.diagram.walk import walk
from model.heads import TextModel, empty_model

Format = Literal["svg", "mermaid"]
__all__ = ["Diagram", "Format", "draw", "draw_config", "to_mermaid", "to_svg", "walk"]


def draw(model: TextModel, name: str, form: Format = "svg") -> str:
    """The model as SVG or Mermaid text, under the given name; the same bytes for the same model."""
    diagram = walk(model, name)
    return to_svg(diagram) if form == "svg" else to_mermaid(diagram)


def draw_config(config: TransformerConfig, name: str, form: Format = "svg") -> str:
    """The same for a model that is not in memory: its modules are made without weights, in milliseconds."""
    return draw(empty_model(config, "meta"), name, form)
