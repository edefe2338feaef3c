"""The charts of a data report, drawn on a canvas of either kind. Called by `page.py` and `picture.py`."""

from typing import Any

from service.report.canvas import Canvas, Role, shorten, text_width
from service.report.chart import WIDTH, Chart, compact, histogram, legend

SHOWN_LABELS = 24
Report = dict[str, Any]


def charts_of(report: Report) -> list[Chart]:
    """The charts that this report has numbers for, in reading order."""
    charts = [_flow(report)]
    if report.get("labels"):
        charts.append(_labels(report))
    if report.get("scores"):
        charts.append(_scores(report))
    if report.get("tokens"):
        charts += [_lengths(report), _batch(report)]
    return charts


def _flow(report: Report) -> Chart:
    stages = report["flow"]
    step = WIDTH / len(stages)
    box = step - 34

    def draw(canvas: Canvas) -> None:
        for index, stage in enumerate(stages):
            x, middle = index * step, index * step + box / 2
            canvas.box(x, 4, box, 66, "panel")
            canvas.box(x, 4, 3, 66, "bar")
            canvas.text(middle, 28, compact(stage["count"]), size=19, anchor="middle")
            canvas.text(middle, 52, stage["stage"], "faint", 12, "middle")
            if index + 1 < len(stages):
                canvas.line([(x + box + 7, 37), (x + step - 9, 37)], "faint", 1.4)
                canvas.line([(x + step - 14, 32), (x + step - 8, 37), (x + step - 14, 42)], "faint", 1.4)
            if stage["lost"]:
                role: Role = "faint" if stage["why"] == "held out" else "alert"
                canvas.text(middle, 86, f"{compact(stage['lost'])} {stage['why']}", role, 12, "middle")
            elif stage["stage"] == "batches":
                canvas.text(middle, 86, stage["why"], "faint", 12, "middle")

    return Chart("flow", "From rows to batches", "Each box is what is left; red is what is lost on the way.", 98, draw)


def _labels(report: Report) -> Chart:
    rows = report["labels"][:SHOWN_LABELS]
    rest = len(report["labels"]) - len(rows)
    largest = max(row["count"] for row in rows)
    total = sum(row["count"] for row in report["labels"])
    both = len(report["splits"]) == 2
    size, step, top = 13, 24, 26 if both else 4
    left = min(220.0, max(text_width(shorten(row["label"], 210, size), size) for row in rows) + 14)
    room = WIDTH - left - 150
    noun = "words" if report["task"] == "tagging" else "rows"

    def draw(canvas: Canvas) -> None:
        if both:
            other = "held out" if report["held_out"] else "validation"
            legend(canvas, left, 8, [("bar", "training"), ("second", other)])
        for index, row in enumerate(rows):
            y = top + index * step
            canvas.text(left - 8, y + 9, shorten(row["label"], left - 12, size), size=size, anchor="end")
            width = max(1.5, row.get("training", 0) / largest * room) if row.get("training", 0) else 0.0
            second = row.get("validation", 0) / largest * room
            title = f"{row['label']}: {row['count']:,} {noun}"
            canvas.box(left, y, width, 18, "bar", title)
            canvas.box(left + width + 1, y, second, 18, "second", title)
            canvas.text(
                left + width + second + 9, y + 9, f"{row['count']:,}  ·  {row['count'] / total:.1%}", "faint", 12
            )
        if rest > 0:
            canvas.text(left, top + len(rows) * step + 8, f"and {rest} rarer ones", "faint", 12)

    hint = f"How many {noun} have each label. A label with few {noun} is learned badly."
    return Chart("labels", "Label balance", hint, top + len(rows) * step + (22 if rest > 0 else 2), draw)


def _scores(report: Report) -> Chart:
    edges, counts = report["scores"]["edges"], report["scores"]["counts"]
    base, left, room = 170, 56, WIDTH - 70

    def draw(canvas: Canvas) -> None:
        histogram(canvas, counts, left, base, room)
        for share in (0, 0.25, 0.5, 0.75, 1):
            value = edges[0] + share * (edges[-1] - edges[0])
            canvas.text(left + share * room, base + 14, f"{value:.3g}", "faint", 12, "middle")
        canvas.text(left + room / 2, base + 34, "score", "faint", 12, "middle")

    return Chart("scores", "Scores", "How often each range of the score occurs.", base + 46, draw)


def _lengths(report: Report) -> Chart:
    tokens = report["tokens"]
    edges, counts = tokens["histogram"]["edges"], tokens["histogram"]["counts"]
    base, left, room = 196, 56, WIDTH - 76
    step = room / len(counts)
    overflow = len(edges) > 2 and edges[-1] - edges[-2] > edges[1] - edges[0]

    def place(length: float) -> float:
        return float(left + min(length / (edges[1] - edges[0]), len(counts)) * step)

    def draw(canvas: Canvas) -> None:
        cut = tokens["cut_at"]
        histogram(canvas, counts, left, base, room)
        every = max(1, -(-len(counts) // 8))
        for index in range(0, len(counts) + (not overflow), every):
            canvas.text(left + index * step, base + 14, f"{edges[index]}", "faint", 12, "middle")
        if overflow:
            canvas.text(left + room, base + 14, f"{edges[-2]}+", "faint", 12, "end")
        canvas.text(left + room / 2, base + 34, "tokens in a row", "faint", 12, "middle")
        inside = place(cut) < left + room - 4
        x = place(cut) if inside else left + room + 6
        canvas.line([(x, 4), (x, base)], "alert", 1.6, dashed=True)
        lost = f"{tokens['rows_cut']:,} rows, {tokens['tokens_cut'] / max(1, tokens['total']):.1%} of the text"
        words = f"cut at {cut}: {lost if tokens['rows_cut'] else 'no row is longer'}"
        late = x > left + room * 0.55
        role: Role = "alert" if tokens["rows_cut"] else "good"
        canvas.text(x - 7 if late else x + 7, 9, words, role, 12, "end" if late else "start")

    hint = (
        f"Half of the rows have at most {tokens['median']:.0f} tokens, 95% at most {tokens['p95']:.0f}; "
        f"the longest has {tokens['longest']:,}. What is right of the line is not read."
    )
    return Chart("lengths", "Length of the rows", hint, base + 46, draw)


def _batch(report: Report) -> Chart:
    sample = report["batches"]["sample"]
    lengths, longest = sample["lengths"], sample["tokens"]
    left, step = 56, 15
    cell = (WIDTH - 76) / longest

    def draw(canvas: Canvas) -> None:
        for row, length in enumerate(lengths):
            y = row * step
            canvas.text(left - 8, y + 6, f"{length}", "faint", 11, "end")
            canvas.box(left, y, longest * cell, 11, "pad", "padding")
            canvas.box(left, y, length * cell, 11, "bar", f"{length} tokens")
        hidden = sample["rows"] - len(lengths)
        if hidden > 0:
            canvas.text(left, len(lengths) * step + 8, f"{hidden} more rows between them", "faint", 12)

    padding = report["batches"]["padding_share"]
    hint = (
        f"Rows of like length share a batch; the grey rest is padding that costs time and teaches nothing "
        f"({sample['padding_share']:.1%} here, {padding:.1%} over an epoch). A batch is a table of "
        f"{sample['rows']} × {longest} token ids."
    )
    return Chart("batch", "One batch of training", hint, len(lengths) * step + 20, draw)
