"""The charts of an evaluation, drawn on a canvas of either kind. Called by `page.py` and `picture.py`."""

import math
from collections.abc import Sequence
from typing import Any

from service.report.canvas import Canvas, Role, shorten, text_width
from service.report.chart import WIDTH, Chart, compact, legend
from service.report.evaluation.plots import against_truth, calibration, curves, round_ends, training_map
from service.report.evaluation.words import Report, amount, span
from service.report.words import count_of

SHOWN_LABELS = 24
MATRIX_LABELS = 12  # in the confusion matrix, those with most mistakes
SHOWN_GROUPS = 12  # of one kind of slice, the largest
FEW_ROWS = 10  # of a group, below which its interval says nothing and does not stretch the axis
SIZE = 13


def charts_of(report: Report) -> list[Chart]:
    """The charts that this report has numbers for, in reading order."""
    charts = [_beside_baselines(report)]
    if report.get("confusion"):
        charts.append(_confusion(report))
    if labels := report.get("spans") or report.get("per_label"):
        charts.append(_labels(report, labels))
    if report.get("points"):
        charts.append(against_truth(report))
    if report.get("calibration"):
        charts.append(calibration(report))
    charts += [_slice(report, part, explained=index > 0) for index, part in enumerate(report["slices"])]
    if report["history"]:
        charts.append(curves(report))
    if report.get("dynamics") and report["dynamics"]["points"]:
        charts.append(training_map(report))
    return charts


def _beside_baselines(report: Report) -> Chart:
    rows: list[tuple[str, dict[str, Any], Role]] = [("the model", report["headline"], "bar")]
    rows += [(item["name"], item["headline"], "faint") for item in report["baselines"]]
    title = report["metric"]["title"]
    top = 1.0 if report["metric"]["higher_is_better"] else _largest([own for _, own, _ in rows])
    left = 140.0
    room = WIDTH - left - 190
    step = 32

    def draw(canvas: Canvas) -> None:
        for index, (name, own, role) in enumerate(rows):
            y = index * step + 4
            value = own["value"] or 0.0
            canvas.text(left - 10, y + 10, name, size=SIZE, anchor="end")
            canvas.box(left, y, value / top * room, 20, role, f"{name}: {amount(report, own['value'])}")
            if own["interval"]:
                _whisker(canvas, own["interval"], left, room / top, y + 10)
            end = max([value, *(own["interval"] or [])])
            text = amount(report, own["value"])
            canvas.text(left + end / top * room + 10, y + 10, text, size=SIZE)
            beside = left + end / top * room + 24 + text_width(text, SIZE)
            canvas.text(beside, y + 10, f"({span(report, own['interval'])})", "faint", 12)

    better = "longer" if report["metric"]["higher_is_better"] else "shorter"
    hint = (
        f"The {title} of the model and of simple ones on the same {count_of(report['rows'], 'row')}; {better} is "
        "better. The line at a bar's end is the 95% interval, by resampling the rows."
    )
    return Chart("baselines", "Beside simple models", hint, len(rows) * step + 4, draw)


def _largest(ratios: Sequence[dict[str, Any]]) -> float:
    return (
        max([own["value"] or 0.0 for own in ratios] + [own["interval"][1] for own in ratios if own["interval"]]) or 1.0
    )


def _whisker(canvas: Canvas, interval: Sequence[float], left: float, scale: float, y: float) -> None:
    low, high = (left + end * scale for end in interval)
    canvas.line([(low, y), (high, y)], "ink", 1.6)
    for x in (low, high):
        canvas.line([(x, y - 4), (x, y + 4)], "ink", 1.6)


def _confusion(report: Report) -> Chart:
    names, counts = report["confusion"]["labels"], report["confusion"]["counts"]
    wrong = [
        sum(counts[index]) + sum(row[index] for row in counts) - 2 * counts[index][index] for index in range(len(names))
    ]
    shown = sorted(sorted(range(len(names)), key=lambda index: -wrong[index])[:MATRIX_LABELS])
    left = 24 + min(170.0, max(text_width(shorten(names[index], 160, SIZE), SIZE) for index in shown))
    cell = min(96.0, (WIDTH - left - 10) / len(shown))
    tall = min(cell, 52.0)
    top = 44.0

    def draw(canvas: Canvas) -> None:
        canvas.text(left + cell * len(shown) / 2, 8, "predicted", "faint", 12, "middle")
        canvas.text(0, 28, "true", "faint", 12)
        for column, label in enumerate(shown):
            canvas.text(left + (column + 0.5) * cell, 28, shorten(names[label], cell - 6, 12), size=12, anchor="middle")
        for row, true in enumerate(shown):
            y = top + row * tall
            canvas.text(left - 10, y + tall / 2, shorten(names[true], left - 24, SIZE), size=SIZE, anchor="end")
            total = max(1, sum(counts[true]))
            for column, predicted in enumerate(shown):
                count = counts[true][predicted]
                share = count / total
                x = left + column * cell
                role: Role = "bar" if true == predicted else "second"
                title = f"{count_of(count, 'row')} of {names[true]} predicted as {names[predicted]} ({share:.1%})"
                canvas.box(x + 1, y + 1, cell - 2, tall - 2, "panel", title)
                if count:
                    canvas.box(x + 1, y + 1, cell - 2, tall - 2, role, title, 0.12 + 0.88 * share)
                strong: Role = "paper" if share > 0.55 and true == predicted else "ink"
                if count or cell > 40:
                    text = compact(count) if cell < 70 else f"{compact(count)} · {share:.0%}"
                    canvas.text(x + cell / 2, y + tall / 2, text, strong, 12, "middle")

    some = f"Of {len(names)} labels the {len(shown)} with most mistakes. " if len(shown) < len(names) else ""
    hint = (
        f"{some}A row is what was true, a column what the model said; blue is right, orange is wrong, stronger is more."
    )
    return Chart("confusion", "What is taken for what", hint, round(top + tall * len(shown) + 4), draw)


def _labels(report: Report, labels: Sequence[dict[str, Any]]) -> Chart:
    """Precision and recall of each label, the commonest first."""
    rows = sorted(labels, key=lambda row: -row["support"])[:SHOWN_LABELS]
    rest = len(labels) - len(rows)
    step, top = 34, 26
    left = min(220.0, max(text_width(shorten(row["label"], 205, SIZE), SIZE) for row in rows) + 14)
    room = WIDTH - left - 190
    noun = "span" if report.get("spans") else "word" if report["task"] == "tagging" else "row"

    def draw(canvas: Canvas) -> None:
        legend(canvas, left, 8, [("bar", "precision"), ("second", "recall")])
        for share in (0.0, 0.5, 1.0):
            canvas.line([(left + share * room, top - 4), (left + share * room, top + len(rows) * step - 6)], "line")
        for index, row in enumerate(rows):
            y = top + index * step
            canvas.text(left - 8, y + 13, shorten(row["label"], left - 12, SIZE), size=SIZE, anchor="end")
            title = f"{row['label']}: precision {row['precision']:.1%}, recall {row['recall']:.1%}"
            canvas.box(left, y + 1, row["precision"] * room, 11, "bar", title)
            canvas.box(left, y + 14, row["recall"] * room, 11, "second", title)
            canvas.text(left + room + 10, y + 13, f"F1 {row['f1']:.1%}", size=SIZE)
            canvas.text(left + room + 84, y + 13, count_of(row["support"], noun), "faint", 12)
        if rest > 0:
            canvas.text(left, top + len(rows) * step + 8, f"and {rest} rarer ones", "faint", 12)

    hint = (
        "Precision: how many of those it named are right. Recall: how many of those there are it found. "
        "F1 is low when either is."
    )
    title = "Each kind of span" if report.get("spans") else "Each label"
    return Chart("labels", title, hint, top + len(rows) * step + (22 if rest > 0 else 2), draw)


SLICES = {
    "length": ("By length", "Tokens of a row, special ones included."),
    "cut": ("By what was read", "Of a row longer than the model reads the end is cut."),
    "script": ("By script", "The script of most letters of a row."),
    "label": ("By true answer", "What is right for these rows."),
}


def _slice(report: Report, part: dict[str, Any], explained: bool) -> Chart:
    """The metric on each group of rows, as a dot with its interval, and the whole as a line."""
    rows = _largest_groups(part["groups"])
    whole = report["headline"]["value"]
    enough = [row for row in rows if row["rows"] >= FEW_ROWS] or rows
    ends = [end for row in enough for end in (row["interval"] or [row["value"]]) if end is not None]
    low, high = _axis([*ends, *([whole] if whole is not None else [])], report["metric"]["higher_is_better"])
    left = min(220.0, max(text_width(shorten(row["name"], 205, SIZE), SIZE) for row in rows) + 14)
    room = WIDTH - left - 190
    step, top = 28, 22
    bottom = top + len(rows) * step

    def place(value: float) -> float:
        return left + min(1.0, max(0.0, (value - low) / (high - low))) * room

    def draw(canvas: Canvas) -> None:
        for share in (0.0, 0.5, 1.0):
            x = left + share * room
            canvas.line([(x, top - 6), (x, bottom)], "line")
            value = low + share * (high - low)
            text = f"{value:.0%}" if report["metric"]["higher_is_better"] else f"{value:.3g}"
            canvas.text(x, 6, text, "faint", 12, "middle")
        if whole is not None:
            canvas.line([(place(whole), top - 6), (place(whole), bottom)], "faint", 1.4, dashed=True)
        for index, row in enumerate(rows):
            y = top + index * step + 12
            canvas.text(left - 8, y, shorten(row["name"], left - 12, SIZE), size=SIZE, anchor="end")
            canvas.text(WIDTH - 96, y, count_of(row["rows"], "row"), "faint", 12)
            if row["value"] is None:
                canvas.text(left + 8, y, "nothing to count", "faint", 12)
                continue
            role: Role = "bar" if row["rows"] >= FEW_ROWS else "faint"
            if row["interval"]:
                canvas.line([(place(end), y) for end in row["interval"]], role, 2.4)
            canvas.dot(place(row["value"]), y, 5, role, f"{row['name']}: {amount(report, row['value'])}")
            canvas.text(WIDTH - 172, y, amount(report, row["value"]), size=SIZE)

    rest = len(part["groups"]) - len(rows)
    title, hint = SLICES[part["by"]]
    if part["by"] == "label" and report["task"] in ("multi_label", "tagging"):
        hint = "Rows with this among what is right; one may stand in several groups."
    hint += f" The {len(rows)} largest of {len(part['groups'])} groups." if rest > 0 else ""
    if not explained:
        hint += (
            f" The dot is the {report['metric']['title']} of these rows, the dashed line that of all; a bar is the 95% "
            f"interval, long where rows are few, grey where there are fewer than {FEW_ROWS}."
        )
    return Chart(f"slice-{part['by']}", title, hint, bottom + 4, draw)


def _largest_groups(groups: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    largest = sorted(groups, key=lambda group: -group["rows"])[:SHOWN_GROUPS]
    return [group for group in groups if group in largest]


def _axis(values: Sequence[float], is_share: bool) -> tuple[float, float]:
    """Round ends around these values; a share stays within 0 and 1, an error begins at 0."""
    if not values:
        return 0.0, 1.0
    if not is_share:
        return 0.0, round_ends(0.0, max(values))[1]
    low, high = math.floor(min(values) * 10) / 10, math.ceil(max(values) * 10) / 10
    return (low, high) if high > low else (max(0.0, low - 0.1), min(1.0, low + 0.1))
