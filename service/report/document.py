"""A report as one HTML file that needs nothing else: no script, no outside reference, charts as SVG within it.

Used by `data/page.py` and `evaluation/page.py`. All text of a file is escaped; the page's policy forbids the rest.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

from service.report.canvas import SvgCanvas
from service.report.chart import WIDTH, Chart
from service.report.style import STYLE, policy_of
from service.report.typeface import font_face

Fact = tuple[str, str, str]  # name, value, what it means


@dataclass(frozen=True)
class Page:
    """A page, and the Content-Security-Policy that it carries and a server should send with it."""

    html: str
    policy: str


def document(headline: str, subtitle: str, verdict: tuple[str, str], parts: Iterable[str]) -> Page:
    """The verdict is (good, warn or bad; a sentence); the parts are HTML, empty ones are left out."""
    top = [
        f"<h1>{escape(headline)}</h1>",
        f'<p class="meta">{escape(subtitle)}</p>',
        '<p class="verdict {}">{}</p>'.format(*map(escape, verdict)),
    ]
    main = "\n".join(part for part in [*top, *parts] if part)
    styles = [style for style in (STYLE, font_face(main)) if style]
    policy = policy_of(styles)
    html = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(headline)}</title>{''.join(f'<style>{style}</style>' for style in styles)}</head>\n"
        f"<body><main>\n{main}\n</main></body></html>\n"
    )
    return Page(html, policy)


def figure(chart: Chart) -> str:
    canvas = SvgCanvas(WIDTH, chart.height, chart.title)
    chart.draw(canvas)
    title = f'<h2>{escape(chart.title)}</h2><p class="hint">{escape(chart.hint)}</p>'
    return f"{title}<figure>{canvas.render()}</figure>"


def facts(cells: Iterable[Fact]) -> str:
    """The figures to look at first, as cards."""
    cards = (
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}<small>{escape(meaning)}</small></dd></div>"
        for name, value, meaning in cells
    )
    return f'<dl class="facts">{"".join(cards)}</dl>'


def table(header: Iterable[str], rows: Iterable[Iterable[str]], numbers_from: int = 1) -> str:
    """Cells are HTML already; columns from `numbers_from` on hold numbers."""

    def line(tag: str, cells: Iterable[str]) -> str:
        marks = (' class="number"' if index >= numbers_from else "" for index in range(99))
        return (
            "<tr>" + "".join(f"<{tag}{mark}>{cell}</{tag}>" for cell, mark in zip(cells, marks, strict=False)) + "</tr>"
        )

    return f"<table>{line('th', header)}{''.join(line('td', row) for row in rows)}</table>"
