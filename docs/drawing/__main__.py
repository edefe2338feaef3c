"""Draws docs/diagrams/concepts/NAME.LANGUAGE.svg: `python -m docs.drawing`, from the repository's root."""

from collections.abc import Callable
from pathlib import Path

from docs.drawing import numbers, structure
from docs.drawing.canvas import LANGUAGES, Canvas, Language

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
FOLDER = Path(__file__).parent.parent / "diagrams" / "concepts"

if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, draw in PICTURES.items():
        for language in LANGUAGES:
            (FOLDER / f"{name}.{language}.svg").write_text(draw(language).svg(), encoding="utf-8")
