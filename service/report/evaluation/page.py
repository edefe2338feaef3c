"""An evaluation as one HTML file. Called by the job worker and the command line."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from service.report.document import Page, document, facts, figure, table
from service.report.evaluation.charts import charts_of
from service.report.evaluation.words import (
    FIGURE_NAMES,
    Report,
    amount,
    facts_of,
    figure_text,
    headline,
    subtitle,
    verdict,
)
from service.report.words import count_of

SHOWN_ROWS = 20  # before the rest is folded away


def evaluation_page(report: Report) -> Page:
    parts = [facts(facts_of(report)), *map(figure, charts_of(report)), _figures(report)]
    parts += [_confusions(report), _mistakes(report), _mislabelled(report), _hard_rows(report)]
    return document(headline(report), subtitle(report), verdict(report), parts)


def _figures(report: Report) -> str:
    """Every figure of the model, those of the baselines beside them."""
    columns = [report["figures"], *(item["figures"] for item in report["baselines"])]
    header = ["", "the model", *(escape(item["name"]) for item in report["baselines"])]
    rows = [
        [escape(FIGURE_NAMES[key]), *(figure_text(report, key, figures) for figures in columns)]
        for key in report["figures"]
    ]
    notes = [f"{item['name']}: {item['what']}." for item in report["baselines"]]
    if report.get("baselines_failed"):
        notes.append(f"A baseline could not be fitted: {report['baselines_failed']}")
    if unread := report.get("words", {}).get("unread"):
        notes.append(f"{count_of(unread, 'word')} beyond the model's length, or without a token, are not judged.")
    return f'<h2>All figures</h2><p class="hint">{escape(" ".join(notes))}</p>{table(header, rows)}'


def _confusions(report: Report) -> str:
    if report.get("confusion") or not report.get("confusions"):
        return ""
    rows = [[escape(item["true"]), escape(item["predicted"]), f"{item['count']:,}"] for item in report["confusions"]]
    return f"<h2>What is taken for what</h2>{table(['true', 'predicted', 'rows'], rows, 2)}"


def _mistakes(report: Report) -> str:
    found = report["mistakes"]
    numbers = not report["metric"]["higher_is_better"]
    title = "The largest errors" if numbers else "Wrong and sure of it"
    hint = (
        "Held-out rows that the model gets wrong"
        + ("" if numbers else ", the surest first")
        + ": what it has not learned, or a label that is wrong."
    )
    items = [
        _row(
            item,
            [
                ("true", item["true"]),
                ("predicted", item["predicted"]),
                ("error", amount(report, item["size"])) if numbers else ("sure", f"{item['size']:.0%}"),
            ],
        )
        for item in found["worst"]
    ]
    beyond = 0 if numbers else found["rows"] - len(items)
    return _list(title, hint, items, f"{beyond:,} further ones are not shown" if beyond else "")


def _mislabelled(report: Report) -> str:
    found = report.get("mislabelled")
    if not found:
        return ""
    items = [
        _row(
            item,
            [
                ("labelled", item["given"]),
                *([("rather", item["suggested"])] if item["suggested"] else []),
                *(
                    (name, f"{item[key]:.0%}")
                    for key, name in (("confidence", "the model believed it"), ("out_of_fold", "TF-IDF would"))
                    if item[key] is not None
                ),
            ],
        )
        for item in found["worst"]
    ]
    hint = (
        f"Training rows whose label the evidence speaks against, the most likely mistakes first; look before you "
        f"change one. Rule: {found['rule']}."
    )
    beyond = found["named"] - len(items)
    rest = f"{beyond:,} further ones are less likely, and more often hard than wrong" if beyond else ""
    return _list("Most likely mislabelled", hint, items, rest)


def _hard_rows(report: Report) -> str:
    found = report.get("dynamics")
    if not found:
        return ""
    kinds = (
        ("hardest", "Hardest to learn", "Training rows whose label the model believed least while it trained."),
        ("ambiguous", "Most ambiguous", "Training rows about which it changed its mind most; they teach the border."),
    )
    parts = []
    for key, title, hint in kinds:
        items = [
            _row(
                item,
                [
                    ("labelled", item["given"]),
                    ("believed", f"{item['confidence']:.0%}"),
                    ("deviation", f"{item['variability']:.2f}"),
                ],
            )
            for item in found[key]
        ]
        parts.append(_list(title, hint, items))
    return "".join(parts)


def _row(item: dict[str, Any], notes: Iterable[tuple[str, str]]) -> str:
    said = "".join(f"<span><i>{escape(name)}</i> {escape(value)}</span>" for name, value in notes)
    return f"<li>{escape(item['text'])}<p><span><i>line</i> {item['line']}</span>{said}</p></li>"


def _list(title: str, hint: str, items: Sequence[str], rest: str = "") -> str:
    """The first rows, the others folded away."""
    if not items:
        return ""
    first, others = items[:SHOWN_ROWS], items[SHOWN_ROWS:]
    rest = f'<p class="hint">{escape(rest)}</p>' if rest else ""
    folded = (
        f'<details><summary>{len(others)} more</summary><ul class="rows">{"".join(others)}</ul></details>'
        if others
        else ""
    )
    return f'<h2>{title}</h2><p class="hint">{escape(hint)}</p><ul class="rows">{"".join(first)}</ul>{folded}{rest}'
