"""Between a job as the API has it and a recipe as training has it: what the user settled, what was chosen and why, and
what the tuned model is called. Used by `worker.py`.
"""

import re
from dataclasses import asdict
from typing import Any

from service.tables import Job
from training.choose import Chosen
from training.finetune import Data, metric_of

RECIPE_FIELDS = {  # of the API's hyperparameters
    "training_method": "method",
    "n_epochs": "num_epochs",
    "batch_size": "batch_size",
    "max_length": "max_length",
    "adapter": "adapter",
    "class_weights": "class_weights",
    "early_stopping": "patience",
    "metric": "metric",
    "evaluation_steps": "evaluation_steps",
    "first_evaluation": "first_evaluation",
    "dropout": "dropout",
    "average_share": "average_share",
    "lora_rank": "lora_rank",
}


def wishes_of(job: Job) -> tuple[dict[str, Any], float]:
    """What the user settled of the recipe, and the multiplier of the learning rate that is chosen. What an earlier
    attempt at this job chose has a reason, and is open again."""
    asked, chosen_before = job.hyperparameters, job.hyperparameters.get("reasons", {})
    given = {name: asked[name] for name in asked if name not in chosen_before and asked[name] not in (None, "auto")}
    wanted: dict[str, Any] = {"seed": job.seed}
    wanted |= {field: given[name] for name, field in RECIPE_FIELDS.items() if name in given}
    if isinstance(weights := wanted.get("class_weights"), dict):
        wanted["class_weights"] = tuple(weights.items())
    return wanted, float(given.get("learning_rate_multiplier", 1.0))


def hyperparameters_of(chosen: Chosen, multiplier: float, data: Data) -> dict[str, Any]:
    """The settled values under their names of the API, and why each was chosen that the user left open."""
    recipe = asdict(chosen.recipe)
    names = {field: name for name, field in RECIPE_FIELDS.items()}
    settled = {name: recipe[field] for name, field in RECIPE_FIELDS.items()}
    if isinstance(recipe["class_weights"], tuple):
        settled["class_weights"] = dict(recipe["class_weights"])
    if recipe["adapter"] != "lora":
        settled["lora_rank"] = None
    reasons = {names.get(choice.name, choice.name): choice.reason for choice in chosen.choices}
    settled["metric"] = metric_of(recipe["metric"], data)
    if recipe["metric"] is None:
        reasons["metric"] = f"what {data.task} is judged by, unless another is named"
    rate = {"learning_rate_multiplier": multiplier, "learning_rate": recipe["learning_rate"]}
    return settled | rate | {"reasons": reasons}


def name_model(job: Job) -> tuple[str, str]:
    """The tuned model's id and BentoML tag, both a pure function of the job, so that a rerun names it the same."""
    suffix = re.sub(r"[^a-z0-9]+", "-", (job.suffix or "tuned").lower()).strip("-") or "tuned"
    short = job.id.removeprefix("ftjob-")[:8]
    return f"ft:{job.model.split(':')[0]}:vitrine:{suffix}:{short}", f"ft-{suffix}:{short}"
