"""What an evaluation says in words, for the page, the picture and the command line alike."""

from collections.abc import Sequence
from typing import Any

from service.report.document import Fact
from service.report.words import count_of, name_task

Report = dict[str, Any]
BADLY_CALIBRATED = 0.1  # expected calibration error from which on a probability misleads


def headline(report: Report) -> str:
    return f"How good is {report['model']}"


def subtitle(report: Report) -> str:
    trained = f", beside baselines fitted on {count_of(report['training_rows'], 'row')}" if report["baselines"] else ""
    return f"{name_task(report['task'])} · {count_of(report['rows'], 'row')} of {report['data']}{trained}"


def amount(report: Report, value: float | None, signed: bool = False) -> str:
    """The metric's value: a share as a percentage, an error in the unit of the data."""
    if value is None:
        return "–"
    sign = "+" if signed else ""
    return f"{value:{sign}.1%}" if report["metric"]["higher_is_better"] else f"{value:{sign}.4g}"


def span(report: Report, interval: Sequence[float] | None) -> str:
    """An interval's ends."""
    if interval is None:
        return "too few rows to tell"
    low, high = (amount(report, end).removesuffix("%") for end in interval)
    return (
        f"{low} to {amount(report, interval[1])}" if amount(report, interval[1]).endswith("%") else f"{low} to {high}"
    )


def gain(report: Report) -> int:
    """1 when the model is better than the best baseline, -1 when worse, 0 when 95% of the resamplings can't tell."""
    versus = report.get("versus")
    if not versus or versus["interval"] is None:
        return 0
    sign = 1 if report["metric"]["higher_is_better"] else -1
    low, high = sorted(sign * end for end in versus["interval"])
    return 1 if low > 0 else -1 if high < 0 else 0


def verdict(report: Report) -> tuple[str, str]:
    """(kind, sentence): whether the model is worth having."""
    title, value = report["metric"]["title"], amount(report, report["headline"]["value"])
    versus = report.get("versus")
    if report["headline"]["value"] is None:
        return "warn", f"{title} can't be told: these rows, and what the model says of them, have nothing to count."
    if not versus:
        return (
            "warn",
            f"{title} {value}, beside no baseline: give the training rows to see what a simple model reaches.",
        )
    apart = amount(report, versus["value"], signed=True).replace("%", " points")
    ends = span(report, versus["interval"]).replace("%", "")
    how = f"{apart} of {title}" if report["metric"]["higher_is_better"] else f"{title} {apart}"
    by = f"{how} against the baseline {versus['baseline']} (95% interval {ends})"
    kinds = {
        1: ("good", f"Better than the simple models: {by}."),
        0: ("warn", f"Not surely better than the simple models: {by}."),
        -1: ("bad", f"Worse than a simple model: {by}."),
    }
    return kinds[gain(report)]


def facts_of(report: Report) -> list[Fact]:
    """The figures to look at first."""
    figures, metric = report["figures"], report["metric"]
    shown = report["headline"]
    facts = [(metric["title"], amount(report, shown["value"]), f"95% interval {span(report, shown['interval'])}")]
    if versus := report.get("versus"):
        value = amount(report, versus["value"], signed=True).replace("%", " pt")
        facts.append((f"over {versus['baseline']}", value, "what the model adds to the best simple one"))
    others = [
        ("macro_f1", "macro F1", "each label counts the same, however rare"),
        ("r2", "R²", "share of the variance explained"),
        ("correlation", "correlation", "Pearson's, of predicted and true"),
    ]
    for key, name, meaning in others:
        if key in figures and key != metric["key"]:
            text = f"{figures[key]:.1%}" if key == "macro_f1" else f"{figures[key]:.3f}"
            facts.append((name, text, meaning))
    if calibration := report.get("calibration"):
        meaning = _calibration_words(calibration, report["task"])
        facts.append(("calibration error", f"{calibration['ece']:.1%}", meaning))
    facts.append(("wrong", f"{report['mistakes']['rows']:,}", f"of {count_of(report['rows'], 'held-out row')}"))
    if suspects := report.get("mislabelled"):
        of = f"of {count_of(suspects['rows'], 'training row')}: hard or wrong"
        facts.append(("doubtful labels", f"{suspects['named']:,}", of))
    return facts if metric["higher_is_better"] else [fact for fact in facts if fact[0] != "wrong"]


def _calibration_words(calibration: dict[str, Any], task: str) -> str:
    gap = calibration["mean_confidence"] - calibration["accuracy"]
    if calibration["ece"] < BADLY_CALIBRATED / 2:
        return "its probabilities can be believed"
    if task == "multi_label":
        return "mean gap of said and true share of labels"
    return "it is surer than it is right" if gap > 0 else "it is less sure than it is right"


FIGURE_NAMES = {
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "micro_f1": "micro F1",
    "macro_precision": "macro precision",
    "macro_recall": "macro recall",
    "weighted_f1": "weighted F1",
    "matthews_correlation": "Matthews correlation",
    "hamming_loss": "labels wrong (Hamming)",
    "mean_absolute_error": "mean absolute error",
    "median_absolute_error": "median absolute error",
    "root_mean_squared_error": "root mean squared error",
    "mean_error": "mean error (bias)",
    "r2": "R²",
    "correlation": "correlation (Pearson)",
    "rank_correlation": "rank correlation (Spearman)",
    "span_f1": "span F1",
    "span_precision": "span precision",
    "span_recall": "span recall",
    "span_macro_f1": "span macro F1",
    "log_loss": "log loss (nats)",
    "brier": "Brier score",
}


def figure_text(report: Report, key: str, figures: dict[str, float]) -> str:
    """One figure; empty for one that a baseline has not."""
    if key not in figures:
        return ""
    return f"{figures[key]:.3f}" if report["metric"]["higher_is_better"] else f"{figures[key]:.4g}"


def summary(report: Report) -> str:
    """Some lines for a terminal: every figure of the model, those of the baselines beside them."""
    columns = [("model", report["figures"]), *((item["name"], item["figures"]) for item in report["baselines"])]
    width = max(len(FIGURE_NAMES[name]) for name in report["figures"]) + 2
    lines = [f"{'':{width}}" + "".join(f"{name:>12}" for name, _ in columns)]
    for key in report["figures"]:
        cells = (f"{figure_text(report, key, figures):>12}" for _, figures in columns)
        lines.append(f"{FIGURE_NAMES[key]:{width}}" + "".join(cells).rstrip())
    if calibration := report.get("calibration"):
        lines.append(f"{'calibration error':{width}}{calibration['ece']:>12.3f}")
    return "\n".join([*lines, verdict(report)[1]])
