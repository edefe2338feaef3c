"""Draws docs/diagrams/concepts/NAME.LANGUAGE.svg: `python -m docs.diagrams.source`, from the repository's root."""

from collections.abc import Callable
from pathlib import Path

from docs.diagrams.source import numbers, structure
from docs.diagrams.source.canvas import LANGUAGES, Canvas, Language

PICTURES: dict[str, Callable[[Language], Canvas]] = {
    "text-to-batch": numbers.text_to_batch,
    "attention": numbers.attention,
    "masks": numbers.masks,
    "positions": numbers.positions,
    "multi-head": structure.multi_head,
    "blocks": structure.blocks,
    "stacks": structure.stacks,
    "lora": structure.lora,
    "request": structure.request,
    "job": structure.job,
}
FOLDER = Path(__file__).parent.parent / "concepts"

if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, draw in PICTURES.items():
        for language in LANGUAGES:
            draw(language).write(FOLDER / f"{name}.{language}.svg")
