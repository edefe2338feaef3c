"""A data report as one HTML file. Called by the files route and the command line."""

from html import escape
from typing import Any

from service.report.data.charts import Report, charts_of
from service.report.data.words import facts_of, headline, subtitle, verdict
from service.report.document import Page, document, facts, figure, table

SHOWN_IDS = 40


def report_page(report: Report) -> Page:
    parts = [facts(facts_of(report)), _messages(report), *map(figure, charts_of(report))]
    if report.get("tokens"):
        parts += [_splits(report), _vocabulary(report), _copies(report), _samples(report)]
    return document(headline(report), subtitle(report), verdict(report), parts)


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
    note = '<p class="hint">Token figures are of rows drawn at random; the file is large.</p>' if sampled else ""
    return f"<h2>Splits</h2>{table(header, rows)}{note}"


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
        f"<details><summary>Examples</summary>{table(['kind', 'text', 'label', 'lines'], groups, 9)}</details>"
        if groups
        else ""
    )
    return (
        '<h2>Copies and leaks</h2><p class="hint">A row that stands twice weighs twice; one that stands in training '
        f"and validation makes scores look better than they are.</p>{table(['', 'rows'], rows)}{shown}"
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
