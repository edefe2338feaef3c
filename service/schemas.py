"""Requests and responses of the HTTP API, in OpenAI's shapes where they exist. Used by the routes only."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictInt, StrictStr

from model.explain.attention import AttentionMethod
from model.explain.units import Merge, Special


def _one_or_many(value: Any) -> Any:
    """Turns the many messages of a failed union into one that says what is wanted."""
    wanted = "send a string, a list of strings, or a list of [first, second] pairs"
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise ValueError(f"a value of type {type(value).__name__}; {wanted}")
    for index, item in enumerate(value):
        pair = isinstance(item, list) and len(item) == 2 and all(isinstance(part, str) for part in item)
        if not isinstance(item, str) and not pair:
            raise ValueError(f"item {index} is of type {type(item).__name__}; {wanted}")
    return value


def _one_or_many_or_ids(value: Any) -> Any:
    """The same for embeddings, where a text may come as token ids."""
    if isinstance(value, list) and value:
        rows = value if all(isinstance(item, list) for item in value) else [value]
        if all(row and all(type(item) is int for item in row) for row in rows):
            return value
    if isinstance(value, list) and any(isinstance(item, list) for item in value):
        raise ValueError("nested lists hold token ids, whole numbers, one list a text; none may be empty")
    return _one_or_many(value)


Pair = Annotated[tuple[StrictStr, StrictStr], Field(strict=False)]  # JSON has lists where we have tuples
Texts = Annotated[StrictStr | list[StrictStr | Pair], BeforeValidator(_one_or_many)]
TextsOrIds = Annotated[
    StrictStr | list[StrictStr] | list[StrictInt] | list[list[StrictInt]], BeforeValidator(_one_or_many_or_ids)
]


class Request(BaseModel):
    """A request body. Unknown fields are refused, so that a misspelt option is seen."""

    model_config = ConfigDict(extra="forbid", strict=True)


NUMBERS = "'all', a list of numbers, or numbers and ranges such as '0-3,5'"
METHODS = (
    "raw: attention probabilities; rollout: how much of each input token is in each token after a layer, all heads "
    "together (Abnar and Zuidema 2020); value_norm: the length of the vector each weight carries (Kobayashi et al. "
    "2020), whose rows do not sum to 1"
)
SPECIALS = (
    "of tokens such as [CLS]: keep; hide: their rows and columns left out; renormalise: left out, and each row divided "
    "by what is left of it"
)
MERGES = (
    "what a row and a column stand for: token; word: as the tokenizer splits text, columns summed, rows averaged; "
    "character: a token's column spread evenly over its characters, its row repeated"
)


class TextRequest(Request):
    model: str
    input: Texts
    truncate: bool = False


WINDOWS = (
    "read texts that are longer than the model in overlapping windows and make one answer of theirs, instead of "
    "refusing them; usage counts what was read, overlaps included"
)


class LongTextRequest(TextRequest):
    windows: bool = Field(default=False, description=WINDOWS)


class ClassifyRequest(LongTextRequest):
    top_k: int | None = Field(default=None, ge=1)


class EmbeddingsRequest(LongTextRequest):
    input: TextsOrIds  # type: ignore[assignment] # wider than the other routes'
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(default=None, ge=1)
    user: str | None = None


class TokenizeRequest(TextRequest):
    pass


class TagRequest(LongTextRequest):
    aggregation: Literal["auto", "token", "word", "span"] = "auto"


class FillMaskRequest(TextRequest):
    top_k: int = Field(default=5, ge=1, le=100)


def _prompts(value: Any) -> Any:
    """Turns the many messages of a failed union into one that says what is wanted."""
    ids = isinstance(value, list) and value and all(type(item) is int for item in value)
    rows = isinstance(value, list) and value and all(isinstance(item, list) for item in value)
    texts = isinstance(value, list) and value and all(isinstance(item, str) for item in value)
    if rows and all(row and all(type(item) is int for item in row) for row in value):
        return value
    if isinstance(value, str) or ids or texts:
        return value
    raise ValueError("send a string, a list of strings, a list of token ids, or a list of lists of them; none empty")


class StreamOptions(Request):
    include_usage: bool = False


class CompletionRequest(Request):
    model: str
    prompt: Annotated[StrictStr | list[StrictStr] | list[StrictInt] | list[list[StrictInt]], BeforeValidator(_prompts)]
    max_tokens: int = Field(default=16, ge=1)
    temperature: Annotated[float, Field(ge=0, le=2, strict=False)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1, strict=False)] = 1.0
    top_k: int = Field(default=0, ge=0, description="only the k likeliest tokens; 0 takes all")
    n: int = Field(default=1, ge=1, le=32)
    best_of: int | None = Field(default=None, ge=1, le=1, description="only 1; use num_beams for a wider search")
    num_beams: int = Field(default=1, ge=1, le=16, description="width of a beam search; 1 samples")
    stop: StrictStr | list[StrictStr] | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    echo: bool = False
    user: str | None = None


class AttentionOptions(Request):
    """What a link can say too."""

    model: str
    layers: list[int] | StrictStr = Field(default="all", description=NUMBERS)
    heads: list[int] | StrictStr = Field(default="all", description=NUMBERS)
    method: AttentionMethod = Field(default="raw", description=METHODS)
    special: Special = Field(default="keep", description=SPECIALS)
    merge: Merge = Field(default="token", description=MERGES)
    truncate: bool = False


class AttentionRequest(AttentionOptions):
    input: Texts = Field(
        description="a text, a pair as a list of two strings, or a list of texts and pairs; pictures show one"
    )
    batch: bool = Field(default=False, description="a list of two strings is two texts, not one pair")


class Usage(BaseModel):
    prompt_tokens: int
    total_tokens: int


class Score(BaseModel):
    label: str
    score: float


class Classification(BaseModel):
    object: Literal["classification"] = "classification"
    index: int
    label: str
    score: float
    scores: list[Score]
    truncated: bool
    windows: int = Field(default=1, description="in how many parts the text was read")


class Regression(BaseModel):
    """What /v1/classify gives for a model that was trained on numbers."""

    object: Literal["regression"] = "regression"
    index: int
    score: float
    truncated: bool
    windows: int = Field(default=1, description="in how many parts the text was read")


class ClassifyResponse(BaseModel):
    object: Literal["list"] = "list"
    model: str
    data: list[Classification] | list[Regression]
    usage: Usage


class Tag(BaseModel):
    label: str
    score: float
    start: int
    end: int
    text: str
    segment: int = Field(default=0, description="0 for the first text of a pair, 1 for the second")


class Tagged(BaseModel):
    index: int
    tags: list[Tag]
    truncated: bool
    windows: int = Field(default=1, description="in how many parts the text was read")


class TagResponse(BaseModel):
    object: Literal["list"] = "list"
    model: str
    data: list[Tagged]
    usage: Usage


class Candidate(BaseModel):
    token: str
    id: int
    score: float


class Mask(BaseModel):
    start: int
    end: int
    candidates: list[Candidate]


class FilledMasks(BaseModel):
    index: int
    masks: list[Mask]
    truncated: bool


class FillMaskResponse(BaseModel):
    object: Literal["list"] = "list"
    model: str
    data: list[FilledMasks]
    usage: Usage


class CompletionUsage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Logprobs(BaseModel):
    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class Completion(BaseModel):
    index: int
    text: str
    logprobs: Logprobs | None
    finish_reason: Literal["stop", "length"] | None


class CompletionResponse(BaseModel):
    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[Completion]
    usage: CompletionUsage | None


class Embedding(BaseModel):
    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str
    truncated: bool
    windows: int = Field(default=1, description="in how many parts the text was read")


class EmbeddingsResponse(BaseModel):
    object: Literal["list"] = "list"
    model: str
    data: list[Embedding]
    usage: Usage


class Tokens(BaseModel):
    index: int
    ids: list[int]
    tokens: list[str]
    offsets: list[tuple[int, int]]
    special: list[bool]
    truncated: bool


class TokenizeResponse(BaseModel):
    object: Literal["list"] = "list"
    model: str
    data: list[Tokens]
    usage: Usage


class AttentionUnit(BaseModel):
    """A row and a column of the matrices."""

    text: str
    start: int = Field(description="in characters of its text; 0 and 0 for a special token")
    end: int
    segment: int = Field(description="which text of a pair: 0 or 1")
    special: bool
    tokens: list[int] = Field(description="the tokens it is made of, by their places; characters may share one")


class AttentionHeader(BaseModel):
    """What the numbers are: JSON has it beside them, the binary form before them."""

    object: Literal["attention"] = "attention"
    index: int = Field(default=0, description="of the text among those of the request")
    model: str
    method: AttentionMethod
    special_tokens: Special
    merge: Merge
    rows_sum_to_one: bool = Field(description="false where special tokens are hidden, and of method value_norm")
    tokens: list[str]
    ids: list[int]
    offsets: list[tuple[int, int]]
    special: list[bool]
    units: list[AttentionUnit] = Field(description="what the rows and columns stand for")
    layers: list[int]
    heads: list[int | Literal["all"]] = Field(description='["all"] where the method makes one of them')
    shape: tuple[int, int, int, int] = Field(description="layers, heads, units that look, units looked at")
    removed_mass: list[list[float]] = Field(
        description="by layer and head: the share of a row that lay on special tokens and was left out, mean over rows"
    )
    truncated: bool


class AttentionResponse(AttentionHeader):
    weights: list[list[list[list[float]]]] = Field(description="rounded to 4 digits")


class AttentionList(BaseModel):
    """The answer to a list of texts."""

    object: Literal["list"] = "list"
    model: str
    data: list[AttentionResponse]
    usage: Usage


class ModelObject(BaseModel):
    id: str
    aliases: list[str] = Field(description="names of the caller's that stand for it now")
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    task: str
    architecture: str
    routes: list[str]
    adapter: bool
    labels: list[str] | None
    num_layers: int
    num_heads: int
    width: int
    max_length: int
    base_model: str | None
    dtype: str
    resident: bool
    bento_tag: str
    metrics: dict[str, Any] | None


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[ModelObject]


class Deleted(BaseModel):
    id: str
    object: str
    deleted: bool = True


class FileObject(BaseModel):
    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    filename: str
    purpose: str
    status: Literal["uploaded", "processed", "error"]
    status_details: str | None
    warnings: list[str] | None
    expires_at: int | None = None
    num_rows: int | None
    labels: list[str] | None
    task: str | None


class FileList(BaseModel):
    object: Literal["list"] = "list"
    data: list[FileObject]
    has_more: bool
    first_id: str | None
    last_id: str | None


Metadata = dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]]


class Hyperparameters(Request):
    n_epochs: Annotated[int, Field(ge=1, le=50)] | Literal["auto"] = "auto"
    batch_size: Annotated[int, Field(ge=1, le=256)] | Literal["auto"] = "auto"
    learning_rate_multiplier: Annotated[float, Field(gt=0, le=1000, strict=False)] | Literal["auto"] = "auto"


class Supervised(Request):
    hyperparameters: Hyperparameters = Field(default_factory=Hyperparameters)


class Method(Request):
    model_config = ConfigDict(extra="allow")
    type: str
    supervised: Supervised | None = None


class CreateJobRequest(Request):
    model: str
    training_file: str
    validation_file: str | None = None
    suffix: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    method: Method | None = None
    hyperparameters: Hyperparameters | None = None
    metadata: Metadata | None = Field(default=None, max_length=16)
    priority: Annotated[int, Field(ge=-100, le=100)] = 0
    adapter: Literal["lora", "full", "auto"] = "auto"
    class_weights: (
        Literal["auto", "none", "balanced"] | dict[str, Annotated[float, Field(gt=0, le=1000, strict=False)]] | None
    ) = Field(default=None, description="weight of each label in the loss; 'balanced' gives every class the same say")
    training_method: Literal["auto", "fine_tune", "few_shot"] = Field(
        default="auto", description="few_shot: for up to 64 rows a label, from the base's own text vectors"
    )
    early_stopping: Annotated[int, Field(ge=1, le=100)] | None = Field(
        default=None, description="evaluations without a better held-out figure that end the run"
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
    created_at: int
    finished_at: int | None
    estimated_finish: int | None
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
    created_at: int
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
    created_at: int
    level: Literal["info", "warn", "error"]
    message: str
    type: Literal["message", "metrics"]
    data: dict[str, Any]


class EventList(BaseModel):
    object: Literal["list"] = "list"
    data: list[EventObject]
    has_more: bool


WebhookEventType = Literal[
    "fine_tuning.job.succeeded", "fine_tuning.job.failed", "fine_tuning.job.cancelled", "batch.completed",
    "batch.failed", "batch.expired", "batch.cancelled",
]  # fmt: skip
WebhookName = Annotated[str, Field(min_length=1, max_length=100)]
WebhookUrl = Annotated[str, Field(min_length=1, max_length=2_000)]
WebhookEventTypes = Annotated[list[WebhookEventType], Field(min_length=1, max_length=10)]


class OutputExpiresAfter(Request):
    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=3_600, le=2_592_000)]


class CreateBatchRequest(Request):
    input_file_id: str
    endpoint: Literal["/v1/classify", "/v1/embeddings", "/v1/tag", "/v1/fill-mask"]
    completion_window: Literal["24h"]
    metadata: Metadata | None = Field(default=None, max_length=16)
    output_expires_after: OutputExpiresAfter | None = None


class BatchErrorItem(BaseModel):
    code: str
    line: int | None
    message: str
    param: str | None = None


class BatchErrors(BaseModel):
    object: Literal["list"] = "list"
    data: list[BatchErrorItem]


class BatchCounts(BaseModel):
    total: int
    completed: int
    failed: int


class BatchObject(BaseModel):
    id: str
    object: Literal["batch"] = "batch"
    endpoint: str
    errors: BatchErrors | None
    input_file_id: str
    completion_window: Literal["24h"] = "24h"
    status: Literal[
        "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
    ]
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: BatchCounts
    metadata: dict[str, str] | None
    tokens: int = Field(description="read so far")


class BatchList(BaseModel):
    object: Literal["list"] = "list"
    data: list[BatchObject]
    has_more: bool
    first_id: str | None
    last_id: str | None


class CreateWebhookRequest(Request):
    name: WebhookName
    url: WebhookUrl
    event_types: WebhookEventTypes


class UpdateWebhookRequest(Request):
    name: WebhookName | None = None
    url: WebhookUrl | None = None
    event_types: WebhookEventTypes | None = None


class RotateSecretRequest(Request):
    keep_old_secret_active_for_24_hours: bool = False


class TestWebhookRequest(Request):
    event_type: WebhookEventType


class WebhookObject(BaseModel):
    id: str
    object: Literal["webhook_endpoint"] = "webhook_endpoint"
    created_at: int
    updated_at: int
    name: str
    url: str
    event_types: list[str]
    signing_secret_hint: str


class WebhookObjectWithSecret(WebhookObject):
    signing_secret: str


class WebhookList(BaseModel):
    object: Literal["list"] = "list"
    data: list[WebhookObject]
    has_more: bool
    first_id: str | None
    last_id: str | None


class WebhookTestResult(BaseModel):
    object: Literal["webhook_endpoint.test"] = "webhook_endpoint.test"
    event_type: str
    status_code: int
    success: Literal[True] = True
    webhook_endpoint_id: str


class PromoteRequest(Request):
    alias: Annotated[str, Field(min_length=1, max_length=63)]
    metric: str | None = Field(default=None, description="a held-out figure of the model, for the gate")
    at_least: Annotated[float, Field(strict=False)] | None = Field(default=None, description="refuse a figure below")
    beats_current: bool = Field(default=False, description="refuse a figure not above that of the model now promoted")


class AliasObject(BaseModel):
    object: Literal["alias"] = "alias"
    id: str
    model: str
    changed_at: int
    previous: str | None = Field(description="the model that a roll-back would go to")


class AliasList(BaseModel):
    object: Literal["list"] = "list"
    data: list[AliasObject]


class LoginRequest(Request):
    key: Annotated[str, Field(min_length=1, max_length=200)]


class WhoAmI(BaseModel):
    object: Literal["caller"] = "caller"
    owner: str
    scopes: list[str]
    key_id: str | None


class ErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """Every answer that is not a success."""

    error: ErrorDetail
