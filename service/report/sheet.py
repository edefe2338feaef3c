"""A report as one PNG: headline, the first figures, charts, remarks. Used by `data/picture.py` and
`evaluation/picture.py`."""

import io
from collections.abc import Sequence

from PIL import Image

from service.report.canvas import LIGHT, SCALE, PixelCanvas, Role, shorten, text_width
from service.report.chart import WIDTH, Chart
from service.report.document import Fact

MARGIN = 40
LINE = 20  # height of a line of text
TITLE_SIZE, TITLE_LINE = 16, 24  # of the remarks, and the height of a line of it
TOP = 148  # where the first chart begins
SHOWN_FACTS = 5


def draw_sheet(
    headline: str,
    subtitle: str,
    facts: Sequence[Fact],
    charts: Sequence[Chart],
    remarks: Sequence[tuple[Role, str]],
    remarks_title: str = "",
) -> bytes:
    """At twice the resolution of the page; as tall as its charts and remarks, whose title stands there even alone."""
    titles = wrap(remarks_title, WIDTH, TITLE_SIZE) if remarks_title else []
    height = TOP + sum(chart.height + 84 + LINE * (len(wrap(chart.hint, WIDTH, 12)) - 1) for chart in charts)
    height += len(titles) * TITLE_LINE + len(remarks) * LINE + 46 if titles or remarks else 20
    image = Image.new("RGB", ((WIDTH + 2 * MARGIN) * SCALE, height * SCALE), LIGHT["paper"])
    page = PixelCanvas(image, MARGIN, 0)
    page.text(0, 40, shorten(headline, WIDTH, 24), size=24)
    page.text(0, 68, shorten(subtitle, WIDTH, 13), "faint", 13)
    for index, (name, value, _) in enumerate(facts[:SHOWN_FACTS]):
        page.text(index * WIDTH / SHOWN_FACTS, 98, value, size=18)
        page.text(index * WIDTH / SHOWN_FACTS, 120, name, "faint", 12)
    y = TOP
    for chart in charts:
        page.text(0, y + 12, chart.title, size=16)
        for line in wrap(chart.hint, WIDTH, 12):
            page.text(0, y + 34, line, "faint", 12)
            y += LINE
        chart.draw(PixelCanvas(image, MARGIN, y + 34))
        y += chart.height + 64
    for line in titles:
        page.text(0, y + 12, line, size=TITLE_SIZE)
        y += TITLE_LINE
    for index, (role, line) in enumerate(remarks):
        page.text(0, y + 16 + index * LINE, line, role, 12)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=4)
    return buffer.getvalue()


def wrap(text: str, width: float, size: int) -> list[str]:
    """Lines of at most this width; broken at spaces, and within a word that alone is wider."""
    lines = [""]
    for word in text.split():
        joined = f"{lines[-1]} {word}".strip()
        if text_width(joined, size) <= width:
            lines[-1] = joined
            continue
        if lines[-1]:
            lines.append("")
        for character in word:
            if text_width(lines[-1] + character, size) > width:
                lines.append("")
            lines[-1] += character
    return lines
