"""What Prometheus reads: request, engine and job figures, every series pre-set to zero. Written in one place each.

Works with one process or several: with PROMETHEUS_MULTIPROC_DIR set (BentoML sets it) the processes' files are
added up at each scrape. Jobs are read from the store at scrape time, so that any process gives the same answer.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from service.jobs.figures import JobFigures

OPERATIONS = ("classify", "embed", "tag", "fill_mask", "attention", "explain", "trace", "write")
LANES = ("fast", "look", "write", "bulk")
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)

SPAN_OUTCOMES = ("sent", "failed", "dropped")
STATUSES = ("200", "400", "404", "429", "500", "503", "504")  # that a rate must see from the first one on


class Metrics:
    """One instance a process; its registry is its own, so that an application can be built twice."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "vitrine_requests", "Requests answered", ["route", "method", "status"], registry=self.registry
        )
        self._request_seconds = Histogram(
            "vitrine_request_duration_seconds",
            "Time to the last byte",
            ["route"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._tokens = Counter("vitrine_tokens", "Real tokens computed", ["operation"], registry=self.registry)
        self._batch_rows = Histogram(
            "vitrine_batch_rows", "Texts in one forward pass", ["operation"], buckets=ROWS, registry=self.registry
        )
        self._forward_seconds = Histogram(
            "vitrine_forward_duration_seconds",
            "One forward pass, or one look inside a model",
            ["operation"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._queue_depth = Gauge(
            "vitrine_queue_depth", "Texts waiting", ["lane"], registry=self.registry, multiprocess_mode="livesum"
        )
        self._queue_fullness = Gauge(
            "vitrine_queue_fullness_ratio",
            "What waits, as a share of what the queue holds",
            ["lane"],
            registry=self.registry,
            multiprocess_mode="livemax",
        )
        self._queue_wait = Histogram(
            "vitrine_queue_wait_seconds",
            "Wait before the forward pass",
            ["operation"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._model_loads = Counter("vitrine_model_loads", "Models loaded", ["outcome"], registry=self.registry)
        self._spans = Counter(
            "vitrine_spans", "Spans of traces, by what became of them", ["outcome"], registry=self.registry
        )
        for operation in OPERATIONS:
            for metric in (
                self._tokens,
                self._batch_rows,
                self._forward_seconds,
                self._queue_wait,
            ):
                metric.labels(operation)
        for lane in LANES:
            self.queue(lane, 0, 0.0)
        for outcome in ("success", "failure"):
            self._model_loads.labels(outcome)
        for outcome in SPAN_OUTCOMES:
            self._spans.labels(outcome)

    def preset_route(self, route: str, method: str) -> None:
        """Called for each route at start: a series that never appeared can't be told from one that broke."""
        for status in STATUSES:
            self._requests.labels(route, method, status)
        self._request_seconds.labels(route)

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        self._requests.labels(route, method, str(status)).inc()
        self._request_seconds.labels(route).observe(seconds)

    def batch(self, operation: str, rows: int, tokens: int, seconds: float) -> None:
        self._batch_rows.labels(operation).observe(rows)
        self._tokens.labels(operation).inc(tokens)
        self._forward_seconds.labels(operation).observe(seconds)

    def queue(self, lane: str, texts: int, fullness: float) -> None:
        """`fullness` is the share of the bound that is taken: of tokens, or of texts where these are counted."""
        self._queue_depth.labels(lane).set(texts)
        self._queue_fullness.labels(lane).set(fullness)

    def queue_wait(self, operation: str, seconds: float) -> None:
        self._queue_wait.labels(operation).observe(seconds)

    def model_load(self, outcome: str) -> None:
        self._model_loads.labels(outcome).inc()

    def spans(self, outcome: str, count: int) -> None:
        self._spans.labels(outcome).inc(count)

    def render(self, job_figures: Callable[[], JobFigures], home: Path) -> bytes:
        """The text a scrape gets, all processes added up; `home` is the folder whose disk is watched."""
        moment = CollectorRegistry()
        moment.register(_JobCollector(job_figures))
        moment.register(_DiskCollector(home))
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            _forget_dead_processes(Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]))
            shared = CollectorRegistry()
            shared.register(_OrderedMultiProcess(CollectorRegistry()))
        else:
            shared = self.registry
        return bytes(generate_latest(shared) + generate_latest(moment))


def _forget_dead_processes(folder: Path) -> None:
    """A killed process waits for nothing: its gauges must not count on. Its counters stay."""
    for file in folder.glob("gauge_live*_*.db"):
        process = int(file.stem.rsplit("_", 1)[1])
        if not psutil.pid_exists(process):
            mark_process_dead(process, str(folder))


class _OrderedMultiProcess(MultiProcessCollector):  # type: ignore[misc]
    """Histogram samples in the order the format asks for: buckets, then count and sum of the same labels."""

    def collect(self) -> Iterator[Metric]:
        for metric in super().collect():
            if metric.type == "histogram":
                metric.samples.sort(key=_histogram_order)
            yield metric


def _histogram_order(sample: object) -> tuple[list[tuple[str, str]], int, float]:
    name, labels = sample.name, dict(sample.labels)  # type: ignore[attr-defined]
    bound = float(labels.pop("le", "inf"))
    kind = 0 if name.endswith("_bucket") else 1 if name.endswith("_count") else 2
    return sorted(labels.items()), kind, bound


class _JobCollector:
    def __init__(self, figures: Callable[[], JobFigures]) -> None:
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        figures = self._figures()
        jobs = GaugeMetricFamily("vitrine_jobs", "Fine-tuning jobs by state", labels=["state"])
        for state, count in figures.by_state.items():
            jobs.add_metric([state], count)
        yield jobs
        for name, what, value in (
            ("vitrine_training_loss", "Latest training loss of the running job", figures.training_loss),
            ("vitrine_training_tokens_per_second", "Training speed of the running job", figures.tokens_per_second),
            ("vitrine_job_silent_seconds", "Time since a job at work told of anything", figures.silent_seconds),
            ("vitrine_job_lease_overdue_seconds", "Time a job waits since its worker died", figures.overdue_seconds),
        ):
            yield GaugeMetricFamily(name, what, value=value)


class _DiskCollector:
    def __init__(self, home: Path) -> None:
        self._home = home

    def collect(self) -> Iterator[Metric]:
        disk = shutil.disk_usage(self._home)
        yield GaugeMetricFamily("vitrine_disk_free_bytes", "Room left where the state folder lies", value=disk.free)
        yield GaugeMetricFamily("vitrine_disk_size_bytes", "Size of that disk", value=disk.total)
