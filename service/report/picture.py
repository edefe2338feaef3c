"""A data report as one PNG: headline, charts, warnings. Called by the files route and the command line."""

import io
from collections.abc import Iterator

from PIL import Image

from service.report.canvas import LIGHT, SCALE, PixelCanvas, shorten, text_width
from service.report.charts import WIDTH, Report, charts_of
from service.report.words import facts_of, headline, subtitle

MARGIN = 40
SHOWN_MESSAGES = 6
LINE = 20  # height of a line of text


def report_png(report: Report) -> bytes:
    """At twice the resolution of the page; as tall as its charts."""
    charts, messages = charts_of(report), list(_messages(report))
    top = 148
    height = top + sum(chart.height + 84 + LINE * (_num_lines(chart.hint) - 1) for chart in charts)
    height += 40 + len(messages) * LINE + 30 if messages else 20
    image = Image.new("RGB", ((WIDTH + 2 * MARGIN) * SCALE, height * SCALE), LIGHT["paper"])
    page = PixelCanvas(image, MARGIN, 0)
    page.text(0, 40, shorten(headline(report), WIDTH, 24), size=24)
    page.text(0, 68, shorten(subtitle(report), WIDTH, 13), "faint", 13)
    for index, (name, value, _) in enumerate(facts_of(report)[:5]):
        page.text(index * WIDTH / 5, 98, value, size=18)
        page.text(index * WIDTH / 5, 120, name, "faint", 12)
    y = top
    for chart in charts:
        page.text(0, y + 12, chart.title, size=16)
        for line in wrap(chart.hint, WIDTH, 12):
            page.text(0, y + 34, line, "faint", 12)
            y += LINE
        chart.draw(PixelCanvas(image, MARGIN, y + 34))
        y += chart.height + 64
    if messages:
        page.text(0, y + 12, "Faults and warnings", size=16)
        for index, (role, line) in enumerate(messages):
            page.text(0, y + 40 + index * LINE, line, "alert" if role == "fault" else "ink", 12)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=4)
    return buffer.getvalue()


def _messages(report: Report) -> Iterator[tuple[str, str]]:
    """Lines of text: the first faults, then the first warnings, each wrapped."""
    for kind in ("fault", "warning"):
        for item in report[f"{kind}s"][:SHOWN_MESSAGES]:
            where = f"line {item['line']}: " if item["line"] else ""
            lines = wrap(f"{where}{item['message']}", WIDTH - 14, 12)
            yield kind, f"• {lines[0]}"
            yield from ((kind, f"   {line}") for line in lines[1:3])
        if (rest := report[f"num_{kind}s"] - SHOWN_MESSAGES) > 0:
            yield kind, f"   and {rest} more {kind}s"


def _num_lines(text: str) -> int:
    return len(wrap(text, WIDTH, 12))


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
