"""Schemas of `routes/jobs.py`: fine-tuning jobs, their checkpoints and events."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.schemas.base import ModelName, Request, Time, examples

METRICS: dict[str, tuple[str, ...]] = {  # of each task, as training has them; a test holds the two equal
    "classification": ("accuracy", "macro_f1", "loss"),
    "multi_label": ("micro_f1", "macro_f1", "accuracy", "loss"),
    "regression": ("r2", "correlation", "mean_absolute_error", "loss"),
    "tagging": ("macro_f1", "accuracy", "span_f1", "loss"),
}
Metric = Literal["accuracy", "macro_f1", "micro_f1", "span_f1", "r2", "correlation", "mean_absolute_error", "loss"]
Metadata = dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]]


class Hyperparameters(Request):
    n_epochs: Annotated[int, Field(ge=1, le=50)] | Literal["auto"] = "auto"
    batch_size: Annotated[int, Field(ge=1, le=256)] | Literal["auto"] = "auto"
    learning_rate_multiplier: Annotated[float, Field(gt=0, le=1000)] | Literal["auto"] = "auto"


class Supervised(Request):
    hyperparameters: Hyperparameters = Field(default_factory=Hyperparameters)


class Method(Request):
    model_config = ConfigDict(extra="allow")
    type: str
    supervised: Supervised | None = None


class CreateJobRequest(Request):
    model_config = examples(
        {
            "model": "minilm-l6",
            "training_file": "file-4f1c0a9b2d3e5f60718293a4",
            "suffix": "movies",
            "hyperparameters": {"n_epochs": 2},
        },
    )

    model: ModelName
    training_file: str
    validation_file: str | None = None
    suffix: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    method: Method | None = None
    hyperparameters: Hyperparameters | None = None
    metadata: Metadata | None = Field(default=None, max_length=16)
    priority: Annotated[int, Field(ge=-100, le=100)] = 0
    adapter: Literal["lora", "full", "auto"] = "auto"
    class_weights: Literal["auto", "none", "balanced"] | dict[str, Annotated[float, Field(gt=0, le=1000)]] | None = (
        Field(default=None, description="weight of each label in the loss; 'balanced' gives every class the same say")
    )
    training_method: Literal["auto", "fine_tune", "few_shot"] = Field(
        default="auto", description="few_shot: for up to 64 rows a label, from the base's own text vectors"
    )
    early_stopping: Annotated[int, Field(ge=1, le=100)] | None = Field(
        default=None, description="evaluations without a better held-out figure that end the run"
    )
    metric: Metric | None = Field(
        default=None,
        description="the held-out figure that tells which weights are kept; the task's usual one when absent",
    )
    evaluation_steps: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        default="auto", description="steps between two evaluations"
    )
    first_evaluation: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="the step from which on held-out rows are scored; the last step always is"
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] | Literal["auto"] = Field(
        default="auto", description="share of the values that is set to zero while training"
    )
    average_share: Annotated[float, Field(ge=0, le=1)] | Literal["auto"] = Field(
        default="auto", description="share of the steps over which the weights are averaged, to be scored and kept"
    )
    lora_rank: Annotated[int, Field(ge=1, le=256)] | None = Field(
        default=None, description="width of the adapters, with adapter 'lora'; 8 when absent"
    )
    max_length: Annotated[int, Field(ge=4, le=100_000)] | Literal["auto"] = Field(
        default="auto", description="tokens a row; longer rows are cut"
    )
    task: Literal["classification", "multi_label", "regression", "tagging"] | None = Field(
        default=None, description="what to learn; told by the columns of the training file when absent"
    )


class JobError(BaseModel):
    code: str
    message: str
    param: str | None


class JobObject(BaseModel):
    id: str
    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    created_at: Time
    finished_at: Time | None
    estimated_finish: Time | None
    model: str
    fine_tuned_model: str | None
    user_provided_suffix: str | None
    organization_id: str = "vitrine"
    status: Literal["validating_files", "queued", "running", "paused", "succeeded", "failed", "cancelled"]
    error: JobError | None
    hyperparameters: dict[str, Any]
    method: dict[str, Any]
    reasons: dict[str, str]  # for each value that was "auto"
    seed: int
    training_file: str
    validation_file: str | None
    result_files: list[str] = []
    trained_tokens: int | None
    integrations: list[Any] | None = None
    metadata: dict[str, str]
    task: str | None
    priority: int
    queue_position: int | None
    progress: dict[str, Any] | None
    metrics: dict[str, Any] | None


class JobList(BaseModel):
    object: Literal["list"] = "list"
    data: list[JobObject]
    has_more: bool


class CheckpointObject(BaseModel):
    id: str
    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    created_at: Time
    fine_tuning_job_id: str
    fine_tuned_model_checkpoint: str
    step_number: int
    metrics: dict[str, float | None]


class CheckpointList(BaseModel):
    object: Literal["list"] = "list"
    data: list[CheckpointObject]
    has_more: bool
    first_id: str | None
    last_id: str | None


class EventObject(BaseModel):
    id: str
    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    created_at: Time
    level: Literal["info", "warn", "error"]
    message: str
    type: Literal["message", "metrics"]
    data: dict[str, Any]


class EventList(BaseModel):
    object: Literal["list"] = "list"
    data: list[EventObject]
    has_more: bool
