"""What a user asks of a job becomes a recipe, which stays the same when another worker takes the job up again."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import pytest

from service.errors import InvalidRequest
from service.jobs.store import refuse_unlike
from service.jobs.wishes import RECIPE_FIELDS, hyperparameters_of, wishes_of
from service.remote_cli import SUBMIT_OPTIONS
from service.schemas.jobs import METRICS, CreateJobRequest, Hyperparameters, Metric
from service.tables import Job
from tests.conftest import write_jsonl
from training.choose import choose_recipe
from training.cli import TUNING_OPTIONS
from training.config import Recipe
from training.finetune import METRICS as OF_TRAINING
from training.finetune import Data, load_data


def data_of(folder: Path, **columns: Any) -> Data:
    """Enough rows that they are not few, each with the columns' values in turn."""
    rows = [
        {"text": f"text number {index}"} | {name: values[index % len(values)] for name, values in columns.items()}
        for index in range(160)
    ]
    return load_data(write_jsonl(folder / "rows.jsonl", rows), None, Recipe())


def job_of(**asked: Any) -> Job:
    """As the API stores it: every field, "auto" or None where nothing is asked."""
    body = CreateJobRequest(model="m", training_file="file-1", **asked)
    own = body.model_dump(include={*RECIPE_FIELDS, "task"})
    return Job(id="ftjob-1", seed=3, hyperparameters=Hyperparameters().model_dump() | own)


@pytest.mark.parametrize(
    ("asked", "columns"),
    [
        ({}, {"label": ["a", "b"]}),
        ({"metric": "loss", "early_stopping": 3, "first_evaluation": 4}, {"label": ["a", "b"]}),
        ({"dropout": 0.0, "average_share": 0.5, "evaluation_steps": 7}, {"label": ["a", "b"]}),
        ({"adapter": "lora"}, {"label": ["a", "b"]}),
        ({"adapter": "lora", "lora_rank": 4, "dropout": 0.2}, {"label": ["a", "b"]}),
        ({"training_method": "few_shot"}, {"label": ["a", "b"]}),
        ({"class_weights": {"a": 2.0, "b": 1.0}, "max_length": 9}, {"label": ["a", "b"]}),
        ({"metric": "mean_absolute_error"}, {"score": [1.0, 2.5, 4.0]}),
        ({}, {"labels": [["a"], ["a", "b"]]}),
    ],
)
def test_a_job_taken_up_again_has_the_recipe_of_before(
    minilm: Path, tmp_path: Path, asked: dict[str, Any], columns: dict[str, Any]
) -> None:
    """The run's identity is its recipe: with another one its checkpoint would be refused."""
    data, job = data_of(tmp_path, **columns), job_of(**asked)
    wanted, multiplier = wishes_of(job)
    chosen = choose_recipe(wanted, data, minilm, multiplier)
    settled = job.hyperparameters | hyperparameters_of(chosen, multiplier, data) | {"task": data.task}
    job.hyperparameters = json.loads(json.dumps(settled))
    again, multiplier_again = wishes_of(job)
    assert choose_recipe(again, data, minilm, multiplier_again).recipe == chosen.recipe
    for name, value in asked.items():
        assert settled[name] == value
        assert name not in settled["reasons"]
    assert "auto" not in settled.values(), "what is shown of a running job is what it has"
    assert settled["metric"] in METRICS[data.task]


def test_all_that_the_command_line_tunes_can_be_asked_of_a_service() -> None:
    by_field = {field: name for name, field in RECIPE_FIELDS.items()}
    by_field["learning_rate"] = "learning_rate_multiplier"
    asked = {by_field[field] for field, _, _ in TUNING_OPTIONS.values()}
    known = {*CreateJobRequest.model_fields, *Hyperparameters.model_fields}
    assert asked <= known
    openai = {"n_epochs", "batch_size", "learning_rate_multiplier"}  # options of `jobs submit` beside the table
    assert {name for name, _, _ in SUBMIT_OPTIONS.values()} == asked - openai | {"task"}
    assert set(RECIPE_FIELDS.values()) <= {field.name for field in fields(Recipe)}


def test_the_figures_a_job_may_be_judged_by_are_those_of_training() -> None:
    assert METRICS == OF_TRAINING
    assert set(get_args(Metric)) == {name for own in METRICS.values() for name in own}


def test_what_the_task_does_not_have_is_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"metric is 'r2'; for classification choose one of \['accuracy'"):
        refuse_unlike({"metric": "r2"}, "classification")
    with pytest.raises(InvalidRequest, match="'few_shot', which learns one label a text, not 'regression'"):
        refuse_unlike({"training_method": "few_shot", "metric": None}, "regression")
    refuse_unlike({"metric": "macro_f1"}, "tagging")
    refuse_unlike({"metric": "accuracy", "training_method": "few_shot"}, "classification")
    refuse_unlike({"metric": "r2", "training_method": "few_shot"}, None)  # the file's rows are still being read
    refuse_unlike({"metric": "r2"}, "language_model")  # which a job refuses for another reason
