"""The card of a tuned model, in Markdown: what it was made from, how, how good it is, and where it should not be
trusted. Written by the worker into the model's folder; `/v1/models/{id}/card` shows it.
"""

from collections.abc import Mapping
from typing import Any

CARD_FILE = "README.md"
RECIPE = (  # of the manifest, what a reader wants to know
    "method", "num_epochs", "batch_size", "learning_rate", "warmup_share", "schedule", "layer_decay", "dropout",
    "average_share", "weight_decay", "max_length", "adapter", "class_weights", "seed",
)  # fmt: skip
FEW_ROWS = 500  # held out: below, a figure says little
SURE_GAP = 0.05  # expected calibration error from which on probabilities mislead


def model_card(
    model_id: str, base_model: str, manifest: Mapping[str, Any], evaluation: Mapping[str, Any], training_file: str
) -> str:
    """`manifest` is the run's, `evaluation` its report."""
    parts = [
        f"# {model_id}",
        f"A {_task(manifest['task'])} model, tuned from `{base_model}` with Vitrine.",
        "## Data",
        _data(manifest, evaluation, training_file),
        "## Training",
        _recipe(manifest),
        "## How good it is",
        _figures(evaluation),
        "## Limits",
        "\n".join(f"- {limit}" for limit in limits(manifest, evaluation)),
    ]
    return "\n\n".join(parts) + "\n"


def limits(manifest: Mapping[str, Any], evaluation: Mapping[str, Any]) -> list[str]:
    """What the figures do not say, from the figures."""
    found = [
        f"The figures are of {evaluation['rows']} rows like those it was tuned on; other texts may be read worse.",
        f"Of a text it reads the first {manifest['recipe']['max_length']} tokens.",
    ]
    if evaluation["rows"] < FEW_ROWS:
        found.append(f"{evaluation['rows']} held-out rows are few: see the interval before you compare two models.")
    calibration = evaluation.get("calibration") or {}
    if float(calibration.get("ece") or 0.0) > SURE_GAP:
        found.append(f"Its probabilities are off by {calibration['ece']:.3f} on average: do not read them as chances.")
    if temperature := calibration.get("temperature"):
        found.append(
            f"Its logits are divided by {temperature:.2f}, fitted on the held-out rows so that its probabilities fit "
            "them: on other texts they fit a little less well."
        )
    versus = evaluation.get("versus") or {}
    low = (versus.get("interval") or [None])[0]
    if low is not None and low <= 0.0:
        found.append(f"On these rows it is not clearly better than {versus.get('baseline', 'a simple baseline')}.")
    if suspects := int((evaluation.get("mislabelled") or {}).get("named", 0)):
        found.append(f"{suspects} training rows are likely mislabelled; the report names them.")
    found.append("It repeats what its training rows say, their mistakes and prejudices included.")
    return found


def _task(task: str) -> str:
    return {"multi_label": "multi-label classification"}.get(task, task)


def _data(manifest: Mapping[str, Any], evaluation: Mapping[str, Any], training_file: str) -> str:
    lines = [
        f"- Training rows: {evaluation['training_rows']} of {training_file}, SHA-256 `{manifest['train']}`",
        f"- Held-out rows: {evaluation['rows']} ({evaluation['data']}), SHA-256 `{manifest['validation']}`",
    ]
    if labels := manifest.get("labels"):
        shown = ", ".join(f"`{label}`" for label in labels[:50])
        lines.append(f"- Labels: {shown}{' and more' if len(labels) > 50 else ''}")
    return "\n".join(lines)


def _recipe(manifest: Mapping[str, Any]) -> str:
    recipe, surroundings = manifest["recipe"], manifest["surroundings"]
    rows = [f"| {name} | {recipe[name]} |" for name in RECIPE if recipe.get(name) is not None]
    rows += [f"| steps | {manifest['steps']} of {manifest['planned_steps']}, the best after {manifest['best_step']} |"]
    rows += [f"| number format | {surroundings['dtype']} on {surroundings['processor']} |"]
    rows += [f"| time | {manifest['seconds']:.0f} s |"]
    versions = ", ".join(f"{name} {version}" for name, version in manifest["versions"].items())
    rows += [f"| versions | {versions} |", f"| base weights, SHA-256 | `{manifest['base_sha256']}` |"]
    return "\n".join(["| what | value |", "|---|---|", *rows])


def _figures(evaluation: Mapping[str, Any]) -> str:
    metric, headline = evaluation["metric"], evaluation["headline"]
    rows = [f"| this model | {_with_interval(headline)} |"]
    rows += [f"| {one['name']} | {_with_interval(one['headline'])} |" for one in evaluation.get("baselines", [])]
    figures = [
        f"{name.replace('_', ' ')} {value:.4f}"
        for name, value in evaluation["figures"].items()
        if isinstance(value, int | float) and name != metric["key"]
    ]
    table = "\n".join([f"| model | {metric['title']} (95% interval) |", "|---|---|", *rows])
    return f"{table}\n\nFurther: {', '.join(figures)}." if figures else table


def _with_interval(headline: Mapping[str, Any]) -> str:
    interval = headline.get("interval")
    value = f"{headline['value']:.4f}"
    return f"{value} ({interval[0]:.4f} to {interval[1]:.4f})" if interval else value
