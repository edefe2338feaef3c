"""A comparison of attributions as a Markdown table and as a picture. Called by the command line and a benchmark."""

from collections.abc import Iterator
from typing import Any

from service.report.canvas import Canvas, Role
from service.report.chart import WIDTH, Chart
from service.report.sheet import draw_sheet

STEP = 32  # height of a bar's row
LEFT = 170.0
ROOM = WIDTH - LEFT - 190
HINT = (
    "How far the probability of the answer falls when the highest-scoring tokens are taken away; longer is better. The "
    "line at a bar's end is the 95% interval, by resampling the texts; the dashed one is what random rankings reach."
)


def table(report: dict[str, Any]) -> str:
    """Markdown: a method a line, the most comprehensive first."""
    normalised = report["beam_width"] > 0
    header = ["method", "comprehensiveness", "above random", "sufficiency", "above random"]
    header += ["comprehensiveness, normalised", "sufficiency, normalised"] if normalised else []
    header += ["near random", "seconds a text"]
    lines = [header, ["---"] * len(header), *(list(_cells(row, normalised)) for row in report["methods"])]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cells(row: dict[str, Any], normalised: bool) -> Iterator[str]:
    yield row["name"].replace("_", " ")
    for measure in ("comprehensiveness", "sufficiency"):
        yield _figure(row[measure])
        yield _figure(row[f"{measure}_above_random"], signed=True)
    if normalised:
        yield _figure(row["comprehensiveness_normalised"])
        yield _figure(row["sufficiency_normalised"])
    yield f"{row['near_random']:.0%}"
    yield f"{row['seconds']:.3f}"


def _figure(mean: dict[str, Any] | None, signed: bool = False) -> str:
    if mean is None:
        return "none"
    form = "{:+.3f}" if signed else "{:.3f}"
    value, ends = form.format(mean["value"]), mean["interval"]
    return value if ends is None else f"{value} ({form.format(ends[0])} to {form.format(ends[1])})"


def note(report: dict[str, Any]) -> str:
    """What the table's figures mean."""
    text = (
        f"Means over {report['rows']} texts, 95% intervals by resampling them. Comprehensiveness: the probability of "
        "the answer less that without the 1, 5, 10, 20 and 50% of the tokens that score highest (mean of the five): "
        "the more, the better. Sufficiency: less that with those alone: the less, the better. Above random: less the "
        f"mean of {report['num_random']} random rankings of the same text. Near random: texts whose comprehensiveness "
        "lies within two standard deviations of a random ranking's."
    )
    if report["beam_width"]:
        text += " Normalised: 0 and 1 are the least and the greatest figure that a search over rankings found."
    return text


def picture(report: dict[str, Any]) -> bytes:
    """PNG: a bar a method."""
    subtitle = f"{report['model']} · {report['rows']} texts of {report['data']}"
    best = report["methods"][0]["comprehensiveness"]["value"]
    facts = [
        ("best", f"{best:.3f}", "mean comprehensiveness"),
        ("random rankings", f"{_chance(report):.3f}", "the same"),
        ("texts", str(report["rows"]), "that were explained"),
    ]
    return draw_sheet("Faithfulness of attributions", subtitle, facts, [_bars(report)], ())


def _chance(report: dict[str, Any]) -> float:
    """Comprehensiveness of random rankings, the same whichever method stands beside them."""
    row = report["methods"][0]
    return float(row["comprehensiveness"]["value"] - row["comprehensiveness_above_random"]["value"])


def _bars(report: dict[str, Any]) -> Chart:
    rows = report["methods"]
    means = [row["comprehensiveness"] for row in rows]
    chance = _chance(report)
    ends = [end for mean in means for end in [mean["value"], *(mean["interval"] or ())]]
    low, high = min(0.0, chance, *ends), max(0.0, chance, *ends)
    scale = ROOM / ((high - low) or 1.0)

    def draw(canvas: Canvas) -> None:
        zero, across = (LEFT + (place - low) * scale for place in (0.0, chance))
        for index, (row, mean) in enumerate(zip(rows, means, strict=True)):
            y, value = index * STEP + 4.0, mean["value"]
            role: Role = "faint" if row["name"] == "random" else "bar"
            left, right = sorted((zero, zero + value * scale))
            canvas.text(LEFT - 10, y + 10, row["name"].replace("_", " "), anchor="end")
            canvas.box(left, y, right - left, 20, role, f"{row['name']}: {value:.3f}")
            if mean["interval"]:
                from_, to = (zero + end * scale for end in mean["interval"])
                canvas.line([(from_, y + 10), (to, y + 10)], "ink", 1.6)
                right = max(right, to)
            canvas.text(max(right, across) + 10, y + 10, _figure(mean))
        canvas.line([(across, 0.0), (across, len(rows) * STEP)], "second", 1.6, dashed=True)

    return Chart("comprehensiveness", "Comprehensiveness", HINT, len(rows) * STEP + 4, draw)
