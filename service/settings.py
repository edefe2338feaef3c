"""Every setting of the service, once: environment variables that begin with VITRINE_."""

import os
import sys
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Read at start from the environment; a wrong value stops the start with its name."""

    model_config = SettingsConfigDict(
        env_prefix="VITRINE_", frozen=True, hide_input_in_errors=True
    )  # a URL may hold a password

    home: Path = Field(default=Path(".vitrine"), description="the one folder where all state lies")
    database: str = Field(
        default="",
        pattern=r"^(|sqlite:///.+|postgres(ql)?://.+)$",
        description="URL of the database of files, jobs and events; empty: SQLite in `home`",
    )
    artefacts: str = Field(
        default="",
        description="URL (s3://bucket/folder, ...) where hosts share files, models and checkpoints; empty: `home`",
    )
    default_model: str = Field(default="minilm-l6", description="the base model put in the store at set-up")
    allowed_hosts: str = Field(
        default="localhost,127.0.0.1,[::1]",
        description="host names, separated by commas, that a request's Host and Origin may name; * allows any",
    )
    api_workers: int = Field(default=1, ge=1, le=64, description="API processes; each loads its own models")
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="where models run")
    training_gpu: Literal["apart", "shared"] = Field(
        default="apart",
        description="whether a job may train on a GPU that serves; apart, it takes a free one or the CPU",
    )
    dtype: Literal["auto", "float32", "bfloat16", "int8"] = Field(
        default="auto", description="number format of served weights; auto takes bfloat16 where it is in hardware"
    )
    dtypes: str = Field(
        default="",
        pattern=r"^(|[^=,]+=(float32|bfloat16|int8)(,[^=,]+=(float32|bfloat16|int8))*)$",
        description="number formats of single models in the place of that one: name=int8,other=float32",
    )
    gpu_graphs: Literal["auto", "off"] = Field(
        default="auto",
        description="on a GPU, in bfloat16: whether forward passes are recorded and replayed as a whole (CUDA graphs)",
    )
    cpu_programs: Literal["auto", "off"] = Field(
        default="auto",
        description="on a CPU: whether forward passes are recorded and run as a whole, without Python (TorchScript)",
    )
    max_queue_tokens: int = Field(default=131_072, ge=1024, description="tokens waiting before a request gets 429")
    max_batch_tokens: int = Field(default=2_048, ge=128, description="tokens of one forward pass")
    max_inputs: int = Field(default=2_048, ge=1, description="texts in one request")
    max_body_bytes: int = Field(default=8 * 2**20, ge=1024, description="size of a JSON body")
    max_connections: int = Field(
        default=0, ge=0, description="connections of an API process; 0: as many as it may have open files, less 512"
    )
    stall_seconds: float = Field(
        default=30.0,
        ge=1,
        description="a client that is so long over a request's head, or takes nothing of an answer, is cut off, and "
        "one that sends less than 1 kB of a body a second",
    )
    max_file_bytes: int = Field(default=512 * 2**20, ge=1024, description="size of an uploaded file")
    max_attention_tokens: int = Field(
        default=512, ge=8, le=512, description="tokens of a text in /v1/attention, /v1/explain and /v1/trace"
    )
    max_attention_queue: int = Field(default=16, ge=1, description="requests to look inside a model waiting before 429")
    max_writing_queue: int = Field(default=256, ge=1, description="texts waiting to be written before 429")
    request_timeout_seconds: float = Field(
        default=60.0, gt=0, description="wait for a prediction, or for the next token of a text, before 504"
    )
    max_resident_models: int = Field(default=8, ge=1, description="models kept in memory; the least used leaves first")
    max_resident_bytes: int = Field(
        default=0, ge=0, description="size of the models kept in memory, by their files; 0 sets no limit"
    )
    max_queued_jobs: int = Field(default=1_000, ge=1, description="jobs waiting before a new one gets 429")
    run_worker: bool = Field(default=True, description="start and supervise a job worker process beside the service")
    lease_seconds: float = Field(
        default=15.0, gt=0.5, description="a job whose worker is silent this long is taken over"
    )
    grace_seconds: float = Field(
        default=25.0, ge=0, description="after SIGTERM: for requests to be answered and a job to keep its last step"
    )
    requests_per_minute: float = Field(
        default=0, ge=0, description="requests of one owner a minute before 429; 0 sets no limit"
    )
    max_owner_bytes: int = Field(default=0, ge=0, description="size of one owner's files together; 0 sets no limit")
    first_key_owner: str = Field(
        default="", description="without keys: whose first key to make at start, and to show once"
    )
    keep_runs_days: float = Field(
        default=30, ge=0, description="how long a job that has ended keeps its run: checkpoints, weights, evaluation"
    )
    webhook_private: bool = Field(
        default=False, description="whether webhooks may call private addresses, such as those of this network"
    )
    keep_checkpoints: int = Field(
        default=3, ge=0, le=100, description="models of a job's last evaluations that stay callable, beside its result"
    )
    executor: Literal["local", "ray"] = Field(
        default="local", description="where the worker trains jobs: in its own process, or on a Ray cluster"
    )
    ray_address: str = Field(default="http://127.0.0.1:8265", description="the Jobs API of the Ray cluster")
    ray_nodes: int = Field(default=1, ge=1, le=1024, description="nodes of a job, at most as many as are alive")
    ray_gpus: int = Field(default=0, ge=0, le=64, description="GPUs of each node that a job takes; 0 trains on CPUs")
    log_format: Literal["text", "json"] = Field(
        default="text", description="json: a line of JSON for each request and each record of the log"
    )
    traces: Literal["off", "otlp"] = Field(
        default="off", description="otlp: send traces of requests and jobs to where OTEL_EXPORTER_OTLP_ENDPOINT says"
    )
    demo_job: bool = Field(default=True, description="queue a demonstration job at the first start")
    training_threads: int = Field(default=0, ge=0, description="threads of a training job; 0 takes all cores")

    @model_validator(mode="after")
    def _hosts_share_both(self) -> Self:
        """Files without their rows, or rows without their files, are of no use to another host."""
        if self.artefacts and not self.database:
            raise ValueError(
                f"VITRINE_ARTEFACTS is {self.artefacts!r} without VITRINE_DATABASE; set the URL of a PostgreSQL that "
                "all hosts share, or leave both out"
            )
        if self.executor == "ray" and not self.artefacts:
            raise ValueError(
                "VITRINE_EXECUTOR is 'ray' without VITRINE_ARTEFACTS and VITRINE_DATABASE; the nodes of a cluster read "
                "a job's files there, set both"
            )
        return self

    @property
    def bentoml_home(self) -> Path:
        """BentoML's folder with the model store: its own variable when set, else inside `home`."""
        return Path(os.environ.get("BENTOML_HOME") or self.home.absolute() / "bentoml")

    @property
    def shared(self) -> Path:
        """What this host knows of the store of artefacts: see `artefacts.py` and `model_store.py`."""
        return self.bentoml_home / "shared"

    @property
    def bento_models(self) -> Path | None:
        """Of the bento whose image this process runs in: BentoML says where that lies."""
        bento = os.environ.get("BENTO_PATH")
        return Path(bento) / "models" if bento else None

    @property
    def database_url(self) -> str:
        return self.database or f"sqlite:///{self.home.absolute() / 'vitrine.sqlite'}"

    @property
    def dtype_by_model(self) -> dict[str, str]:
        pairs = (pair.rpartition("=") for pair in self.dtypes.split(",") if pair)
        return {name.strip(): dtype for name, _, dtype in pairs}

    @property
    def audit_log(self) -> Path:
        return self.home.absolute() / "audit.jsonl"

    @property
    def files(self) -> Path:
        return self.home.absolute() / "files"

    @property
    def runs(self) -> Path:
        return self.home.absolute() / "runs"

    @property
    def cache(self) -> Path:
        return self.home.absolute() / "cache"

    @property
    def allowed_host_names(self) -> frozenset[str]:
        return frozenset(name.strip().lower() for name in self.allowed_hosts.split(",") if name.strip())


def read_settings() -> Settings:
    """Those of the environment. Ends the process with a line for each wrong one, less its value: it may hold a
    password."""
    try:
        return Settings()
    except ValidationError as error:
        wrong = [
            ": ".join([*(f"VITRINE_{str(name).upper()}" for name in fault["loc"]), fault["msg"]])
            for fault in error.errors()
        ]
        sys.exit("\n".join(f"vitrine: {line}" for line in wrong))
