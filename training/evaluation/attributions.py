"""What a comparison of attributions found, over all its texts, with intervals. Called by the command line and a
benchmark; drawn by the service's reports."""

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from model.explain.comparison import Judged
from model.explain.faithfulness import Erasure, Trial
from training.evaluation.ratio import interval, mean_of

MEASURES = ("comprehensiveness", "sufficiency")


def attribution_report(
    texts: Sequence[Mapping[str, Judged]], trial: Trial, model_name: str, data_name: str
) -> dict[str, Any]:
    """One entry a method, the most comprehensive first. Of each measure the AOPC, what it is above that of random
    rankings of the same text, and the AOPC between its bounds (null unless they were searched): means over texts with
    95% intervals by resampling them."""
    rows = [_row(name, [text[name] for text in texts]) for name in texts[0]]
    rows.sort(key=lambda row: -row["comprehensiveness"]["value"])
    return {
        "model": model_name,
        "data": data_name,
        "rows": len(texts),
        "num_random": trial.num_random,
        "beam_width": trial.beam_width,
        "methods": rows,
    }


def _row(name: str, judged: Sequence[Judged]) -> dict[str, Any]:
    verdicts = [each.faithfulness.verdict for each in judged]
    row: dict[str, Any] = {"name": name, "seconds": fmean(each.seconds for each in judged)}
    row["near_random"] = verdicts.count("near random") / len(verdicts)
    row["better_than_random"] = verdicts.count("better than random") / len(verdicts)
    for measure in MEASURES:
        erasures: list[Erasure] = [getattr(each.faithfulness, measure) for each in judged]
        row[measure] = _mean(erasures, lambda erasure: erasure.aopc)
        row[f"{measure}_above_random"] = _mean(erasures, lambda erasure: erasure.aopc - erasure.random.mean)
        row[f"{measure}_normalised"] = _mean(erasures, lambda erasure: erasure.normalised)
    return row


def _mean(erasures: Sequence[Erasure], read: Callable[[Erasure], float | None]) -> dict[str, Any] | None:
    """Over the texts that have the figure."""
    values = [value for erasure in erasures if (value := read(erasure)) is not None]
    return {"value": fmean(values), "interval": interval(mean_of(values))} if values else None
