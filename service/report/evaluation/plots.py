"""The plots of an evaluation: calibration, predicted against true, learning curves, the map of the training rows.

Blue and orange are told apart by every kind of colour vision; where a third kind is needed it has another shape.
"""

import math
from collections.abc import Sequence

from service.report.canvas import Canvas, Role
from service.report.chart import WIDTH, Chart, compact, histogram, legend
from service.report.evaluation.words import Report
from service.report.words import count_of

PANEL = 322  # width of each of two plots side by side
SECOND = WIDTH - PANEL - 16  # where the second begins; its last label needs room
SIZE = 13


def calibration(report: Report) -> Chart:
    """A reliability diagram, and beside it how often each confidence occurs."""
    found = report["calibration"]
    bins, before = found["bins"], found.get("before")
    side, top, second = 260.0, 30.0, SECOND
    left = 44.0
    largest = max(item["count"] for item in bins)
    wide = PANEL - left
    said = "probability of a label" if report["task"] == "multi_label" else "the model's confidence"

    def frame(canvas: Canvas, x: float, ends: tuple[str, str, str], below: str) -> None:
        for share, text in zip((0.0, 0.5, 1.0), ends, strict=True):
            y = top + side * (1 - share)
            canvas.line([(x, y), (x + wide, y)], "faint" if share == 0 else "line")
            canvas.text(x - 8, y, text, "faint", 12, "end")
            canvas.text(x + share * wide, top + side + 14, f"{share:.0%}", "faint", 12, "middle")
        canvas.text(x + wide / 2, top + side + 34, below, "faint", 12, "middle")

    def draw(canvas: Canvas) -> None:
        frame(canvas, left, ("0%", "50%", "100%"), said)
        frame(canvas, second + left, ("0", compact(round(largest / 2)) if largest > 1 else "", compact(largest)), said)
        for item in bins:
            x, width = left + item["from"] * wide, (item["to"] - item["from"]) * wide
            shares = f"confidence {item['confidence']:.1%}, right {item['accuracy']:.1%}"
            title = f"{shares}, {count_of(item['count'], 'answer')}"
            low, high = sorted((item["accuracy"], item["confidence"]))
            canvas.box(x + 1, top + side * (1 - low), width - 2, low * side, "bar", title)
            claimed = high > item["accuracy"]
            role: Role = "second" if claimed else "bar"
            canvas.box(
                x + 1, top + side * (1 - high), width - 2, (high - low) * side, role, title, 0.8 if claimed else 0.4
            )
            tall = max(1.5, item["count"] / largest * side)
            canvas.box(second + x + 1, top + side - tall, width - 2, tall, "bar", title)
        canvas.line([(left, top + side), (left + wide, top)], "ink", 1.4, dashed=True)
        if before:
            points = [
                (left + item["confidence"] * wide, top + side * (1 - item["accuracy"])) for item in before["bins"]
            ]
            canvas.line(points, "alert", 2.0)
        gaps = f"mean gap (ECE) {found['ece']:.1%}, largest {found['mce']:.1%}"
        canvas.text(left, 8, f"how often it is right: {gaps}", size=12)
        canvas.text(second + left, 8, "how often it is that sure", size=12)

    each = "labels given a probability of 80%" if report["task"] == "multi_label" else "answers given at 80% confidence"
    hint = (
        f"Of the {each}, 80% should be right. Blue is what was right; orange is claimed beyond "
        f"that, pale blue is right beyond what was claimed. {compact(found['answers'])} answers."
    )
    if before:
        hint += (
            f" The red line is the model before its logits were divided by {found['temperature']:.2f}, which was "
            f"fitted on these rows; its mean gap was {before['ece']:.1%}."
        )
    return Chart("calibration", "Can its confidence be believed", hint, round(top + side + 46), draw)


def curves(report: Report) -> Chart:
    """Loss while training, and the metric on held-out rows."""
    key, title = report["metric"]["key"], report["metric"]["title"]
    panels: list[tuple[str, list[tuple[str, Role]]]] = [
        ("loss", [("train_loss", "bar"), ("valid_loss", "second")]),
        (f"{title} on held-out rows", [(f"valid_{key}", "second")]),
    ]
    if not _series(report, f"valid_{key}"):
        panels.pop()
    side, top, left = 200.0, 30.0, 52.0
    last = max(row["step"] for row in report["history"]) or 1

    def panel(canvas: Canvas, begin: float, name: str, lines: Sequence[tuple[str, Role]]) -> None:
        known = {line: _series(report, line) for line, _ in lines}
        values = [value for series in known.values() for _, value in series]
        low, high = round_ends(min(values), max(values))
        wide = PANEL - left
        canvas.text(begin + left, 8, name, size=SIZE)
        for share in (0.0, 0.5, 1.0):
            y = top + side * (1 - share)
            canvas.line([(begin + left, y), (begin + PANEL, y)], "line")
            canvas.text(begin + left - 8, y, f"{low + share * (high - low):.3g}", "faint", 12, "end")
            canvas.text(
                begin + left + share * wide, top + side + 14, compact(round(share * last)), "faint", 12, "middle"
            )
        canvas.text(begin + left + wide / 2, top + side + 34, "steps", "faint", 12, "middle")
        for line, role in lines:
            points = [
                (begin + left + step / last * wide, top + side * (1 - (value - low) / (high - low)))
                for step, value in known[line]
            ]
            if len(points) > 1:
                canvas.line(points, role, 2.0)
            if line.startswith("valid"):
                for (x, y), (step, value) in zip(points, known[line], strict=True):
                    canvas.dot(x, y, 4.5, role, f"step {step:g}: {value:.4g}")

    def draw(canvas: Canvas) -> None:
        for index, (name, lines) in enumerate(panels):
            panel(canvas, index * SECOND, name, [line for line in lines if _series(report, line[0])])
        legend(canvas, left + 130, 8, [("bar", "training"), ("second", "held out")])

    hint = "When held-out loss rises while training loss still falls, the model learns its rows by heart: train less."
    return Chart("curves", "While it trained", hint, round(top + side + 46), draw)


def _series(report: Report, key: str) -> list[tuple[float, float]]:
    return [(row["step"], row[key]) for row in report["history"] if key in row]


def round_ends(low: float, high: float) -> tuple[float, float]:
    """Ends of an axis at a round step of about a fifth of the range."""
    wide = high - low or abs(high) or 1.0
    step = 10.0 ** math.floor(math.log10(wide))
    step = step / 5 if wide / step < 2 else step / 2 if wide / step < 5 else step
    return math.floor(low / step) * step, math.ceil(high / step + 1e-9) * step or low + step


def training_map(report: Report) -> Chart:
    """Training rows by confidence and variability (Swayamdipta et al. 2020)."""
    found = report["dynamics"]
    side, top, left = 340.0, 34.0, 60.0
    wide = WIDTH - left - 20
    widest = max([0.1, *(point[0] for point in found["points"])])

    def draw(canvas: Canvas) -> None:
        kinds: list[tuple[Role, str]] = [
            ("bar", f"always right ({found['always_right']:,})"),
            ("second", f"sometimes ({found['rows'] - found['always_right'] - found['never_right']:,})"),
            ("alert", f"never right ({found['never_right']:,}), squares"),
        ]
        legend(canvas, left, 8, kinds)
        for share in (0.0, 0.5, 1.0):
            y = top + side * (1 - share)
            canvas.line([(left, y), (left + wide, y)], "line")
            canvas.text(left - 8, y, f"{share:.0%}", "faint", 12, "end")
            canvas.text(left + share * wide, top + side + 14, f"{share * widest:.2f}", "faint", 12, "middle")
        canvas.text(
            left + wide / 2, top + side + 34, "how much it changed between epochs (deviation)", "faint", 12, "middle"
        )
        for variability, confidence, correctness in found["points"]:
            x, y = left + variability / widest * wide, top + side * (1 - confidence)
            if correctness == 0:
                canvas.box(x - 2.5, y - 2.5, 5, 5, "alert", strength=0.6)
            else:
                canvas.dot(x, y, 2.6, "bar" if correctness == 1 else "second", strength=0.5)

    hint = (
        "Each point is a training row: upwards, how much the model believed its label while it trained; to the right, "
        "how much that changed. Top left is easy, the right side is ambiguous, bottom left is hard or mislabelled."
    )
    return Chart("map", "Map of the training rows", hint, round(top + side + 46), draw)


def against_truth(report: Report) -> Chart:
    """Predicted against true numbers, and the errors beside it."""
    points, errors = report["points"], report["errors"]
    values = [value for point in points for value in point]
    low, high = round_ends(min(values), max(values))
    side, top, left = 260.0, 10.0, 56.0
    wide = PANEL - left
    begin = float(SECOND)

    def draw(canvas: Canvas) -> None:
        for share in (0.0, 0.5, 1.0):
            text = f"{low + share * (high - low):.3g}"
            y = top + side * (1 - share)
            canvas.line([(left, y), (left + wide, y)], "line")
            canvas.text(left - 8, y, text, "faint", 12, "end")
            canvas.text(left + share * wide, top + side + 14, text, "faint", 12, "middle")
            edge = errors["edges"][0] + share * (errors["edges"][-1] - errors["edges"][0])
            canvas.text(begin + left + share * wide, top + side + 14, f"{edge:.3g}", "faint", 12, "middle")
        canvas.text(left + wide / 2, top + side + 34, "true → predicted ↑", "faint", 12, "middle")
        canvas.text(begin + left + wide / 2, top + side + 34, "error (predicted - true)", "faint", 12, "middle")
        for true, predicted in points:
            x, y = (left + (true - low) / (high - low) * wide, top + side * (1 - (predicted - low) / (high - low)))
            canvas.dot(x, y, 2.6, "bar", strength=0.5)
        canvas.line([(left, top + side), (left + wide, top)], "ink", 1.4, dashed=True)
        histogram(canvas, errors["counts"], begin + left, top + side, wide)

    hint = "Each point is a row: on the dashed line the two agree. Beside it, how large the errors are."
    return Chart("truth", "Predicted against true", hint, round(top + side + 46), draw)
