"""A data report as one HTML file that needs nothing else: no script, no outside reference, charts as SVG within it.

Called by the files route and the command line. All text of the file is escaped; the page's policy forbids the rest.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from typing import Any

from service.report.canvas import SvgCanvas
from service.report.charts import WIDTH, Chart, Report, charts_of
from service.report.style import STYLE, policy_of
from service.report.typeface import font_face
from service.report.words import facts_of, headline, subtitle, verdict

SHOWN_IDS = 40


@dataclass(frozen=True)
class Page:
    """A page, and the Content-Security-Policy that it carries and a server should send with it."""

    html: str
    policy: str


def report_page(report: Report) -> Page:
    body = [
        f"<h1>{escape(headline(report))}</h1>",
        f'<p class="meta">{escape(subtitle(report))}</p>',
        '<p class="verdict {}">{}</p>'.format(*map(escape, verdict(report))),
        _facts(report),
        _messages(report),
        *map(_figure, charts_of(report)),
    ]
    if report.get("tokens"):
        body += [_splits(report), _vocabulary(report), _copies(report), _samples(report)]
    main = "\n".join(part for part in body if part)
    styles = [style for style in (STYLE, font_face(main)) if style]
    policy = policy_of(styles)
    html = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(headline(report))}</title>{''.join(f'<style>{style}</style>' for style in styles)}</head>\n"
        f"<body><main>\n{main}\n</main></body></html>\n"
    )
    return Page(html, policy)


def _figure(chart: Chart) -> str:
    canvas = SvgCanvas(WIDTH, chart.height, chart.title)
    chart.draw(canvas)
    title = f'<h2>{escape(chart.title)}</h2><p class="hint">{escape(chart.hint)}</p>'
    return f"{title}<figure>{canvas.render()}</figure>"


def _facts(report: Report) -> str:
    cells = (
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}<small>{escape(meaning)}</small></dd></div>"
        for name, value, meaning in facts_of(report)
    )
    return f'<dl class="facts">{"".join(cells)}</dl>'


def _messages(report: Report) -> str:
    """Faults, then warnings, each with its line."""
    parts = []
    for kind, title in (("fault", "Faults"), ("warning", "Warnings")):
        items = report[f"{kind}s"]
        if not items:
            continue
        rows = (
            f'<li class="{kind}">'
            + (f"<b>line {item['line']}</b>: " if item["line"] else "")
            + f"{escape(item['message'])}</li>"
            for item in items
        )
        rest = report[f"num_{kind}s"] - len(items)
        more = f'<p class="hint">and {rest} more</p>' if rest > 0 else ""
        parts.append(f"<h2>{title}</h2><ul class='messages'>{''.join(rows)}</ul>{more}")
    return "".join(parts)


def _table(header: Iterable[str], rows: Iterable[Iterable[str]], numbers_from: int = 1) -> str:
    """Cells are HTML already; columns from `numbers_from` on hold numbers."""

    def line(tag: str, cells: Iterable[str]) -> str:
        marks = (' class="number"' if index >= numbers_from else "" for index in range(99))
        return (
            "<tr>" + "".join(f"<{tag}{mark}>{cell}</{tag}>" for cell, mark in zip(cells, marks, strict=False)) + "</tr>"
        )

    return f"<table>{line('th', header)}{''.join(line('td', row) for row in rows)}</table>"


def _splits(report: Report) -> str:
    rows = []
    for part in report["splits"]:
        tokens = part["tokens"]
        name = "held out of it" if report["held_out"] and part["name"] == "validation" else part["name"]
        cells = [
            escape(name),
            f"{part['rows']:,}",
            f"{tokens['mean']:.1f}",
            f"{tokens['longest']:,}",
            f"{tokens['rows_cut']:,}",
        ]
        if "scores" in part:
            cells += [f"{part['scores'][key]:.4g}" for key in ("mean", "deviation", "smallest", "largest")]
        rows.append(cells)
    header = ["", "rows", "mean tokens", "longest", "rows cut"]
    header += ["mean score", "deviation", "smallest", "largest"] if "scores" in report["splits"][0] else []
    sampled = any(part["rows_measured"] < part["rows"] for part in report["splits"])
    note = '<p class="hint">Token figures are of evenly spaced rows; the file is large.</p>' if sampled else ""
    return f"<h2>Splits</h2>{_table(header, rows)}{note}"


def _vocabulary(report: Report) -> str:
    vocabulary = report["vocabulary"]
    text = (
        f"{vocabulary['used']:,} of the {vocabulary['size']:,} tokens of {escape(report['model'])} occur "
        f"({vocabulary['used_share']:.1%}); a character takes {vocabulary['tokens_per_character']:.2f} tokens. "
    )
    if not vocabulary["unknown_tokens"]:
        return f"<h2>Vocabulary</h2><p>{text}Every piece of the text is known.</p>"
    text += f"{vocabulary['unknown_tokens']:,} tokens ({vocabulary['unknown_rate']:.1%}) stand for text it can't write:"
    chips = (
        f'<span class="chip unknown">{escape(item["text"][:40]) or "␠"}<small>{item["count"]:,}</small></span>'
        for item in vocabulary["unknown"]
    )
    return f'<h2>Vocabulary</h2><p>{text}</p><div class="chips">{"".join(chips)}</div>'


def _copies(report: Report) -> str:
    copies, leaks = report["duplicates"], report["leakage"]
    rows = [
        ["the same text and label as an earlier row", f"{copies['exact']['rows']:,}"],
        ["the same text under different labels", f"{copies['contradictory']['rows']:,}"],
        [
            f"nearly the same text as an earlier row (similarity {copies['near']['similarity']:.0%} or more)",
            f"{copies['near']['rows']:,}",
        ],
    ]
    if leaks:
        name = "held-out" if report["held_out"] else "validation"
        rows.append([f"{name} rows whose text also stands in training", f"{leaks['exact']:,}"])
        rows.append([f"{name} rows that are nearly a training row", f"{leaks['near']:,}"])
    groups = [
        [
            escape(kind),
            escape(" ↔ ".join(dict.fromkeys(group["texts"]))),
            escape(" / ".join(dict.fromkeys(group["labels"]))),
            ", ".join(map(str, group["lines"][:8])),
        ]
        for kind in ("contradictory", "exact", "near")
        for group in copies[kind]["groups"][:4]
    ]
    shown = (
        f"<details><summary>Examples</summary>{_table(['kind', 'text', 'label', 'lines'], groups, 9)}</details>"
        if groups
        else ""
    )
    return (
        '<h2>Copies and leaks</h2><p class="hint">A row that stands twice weighs twice; one that stands in training '
        f"and validation makes scores look better than they are.</p>{_table(['', 'rows'], rows)}{shown}"
    )


def _samples(report: Report) -> str:
    return (
        '<h2>Some rows, step by step</h2><p class="hint">What happens to a text before the model sees it: the '
        "tokenizer normalises it, cuts it into tokens, and each token becomes a number. Red tokens are unknown, dashed "
        "ones are added by the tokenizer.</p>" + "".join(map(_sample, report["samples"]))
    )


def _sample(sample: dict[str, Any]) -> str:
    tagged = any(token["tag"] for token in sample["tokens"])
    chips = "".join(
        f'<span class="chip {token["kind"]}">'
        + (f"<b>{escape(token['tag'])}</b>" if tagged else "")
        + f"{escape(_piece(token))}<small>{token['id']}</small></span>"
        for token in sample["tokens"]
    )
    hidden = sample["num_tokens"] - len(sample["tokens"])
    more = f' <span class="hint">and {hidden} more</span>' if hidden > 0 else ""
    cut = f' <span class="hint">{sample["tokens_cut"]:,} tokens are cut off</span>' if sample["tokens_cut"] else ""
    ids = " ".join(str(token["id"]) for token in sample["tokens"][:SHOWN_IDS])
    dots = " …" if len(sample["tokens"]) > SHOWN_IDS or hidden > 0 else ""
    steps = [
        ("raw text", " <b>+</b> ".join(escape(part) for part in sample["raw"])),
        ("normalised", escape(sample["normalised"])),
        (f"{sample['num_tokens']} tokens", f'<div class="chips">{chips}</div>{more}{cut}'),
        ("token ids", f'<code class="ids">{ids}{dots}</code>'),
        ("to learn", f'<span class="label">{escape(sample["target"]) or "nothing"}</span>'),
    ]
    rows = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in steps)
    title = f"<h3>Line {sample['line']}: {escape(sample['why'])}</h3>"
    return f'<div class="sample">{title}<dl class="steps">{rows}</dl></div>'


def _piece(token: dict[str, Any]) -> str:
    """An unknown token by the characters it stands for; others as the vocabulary writes them."""
    return str(token["text"] or token["token"]) if token["kind"] == "unknown" else str(token["token"])
