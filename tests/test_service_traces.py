"""Traces of requests through the whole application, as a real collector on loopback gets them."""

import contextlib
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from model.tokenizer import train_byte_bpe
from model.weights import save_model
from service import app
from service.engine import cores
from service.engine.spans import Part, in_trace
from service.logs import JsonLines
from service.metrics import Metrics
from service.model_store import ModelStore
from service.settings import Settings
from service.traces import EXPORTER, Traces
from tests.collector import Collector, Told, collecting
from tests.conftest import ROOT, wait_for
from tests.house import House, made_house
from tests.zoo import TEXTS, make_zoo

ARRIVAL_SECONDS = 60  # a span is sent within a fifth of a second, on a machine that has time
NEST_SECONDS = 2e-3  # a float of seconds since 1970 has parts of a microsecond; clocks are read one after the other
CALLERS_TRACE, CALLERS_SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
BODY = {"model": "tiny", "input": ["red cat", "blue dog"]}
TOGETHER = 6
EXPORT_SECONDS = 8  # until an export to who hangs has failed


def traceparent(sampled: bool) -> dict[str, str]:
    return {"traceparent": f"00-{CALLERS_TRACE}-{CALLERS_SPAN}-{'01' if sampled else '00'}"}


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as one:
        yield one


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("traced")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        patch.setenv("OTEL_SERVICE_NAME", "under-test")
        patch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
        patch.setattr(app, "cores_on", lambda _: 1)  # so that requests meet behind one that is computed
        with made_house(folder, "cpu", traces="otlp") as made:
            save_model(make_zoo().models["writer"], train_byte_bpe(TEXTS, 300), folder / "writer")
            ModelStore(made.settings.bentoml_home).publish(folder / "writer", "writer", "writer:1", None, None)
            yield made


def post(house: House, path: str, body: dict[str, Any], headers: dict[str, str] | None = None) -> Any:
    answer = house.ask("POST", path, house.ann | (headers or {}), json=body)
    assert answer.status_code == 200, answer.text
    return answer


def root_of(collector: Collector, answer: Any) -> Told:
    request = answer.headers["x-request-id"]
    wait_for(lambda: bool(collector.roots(request)), ARRIVAL_SECONDS, lambda: [one.name for one in collector.spans])
    (root,) = collector.roots(request)
    return root


def check_nested(collector: Collector, parent: Told) -> None:
    for part in collector.below(parent):
        assert part.trace == parent.trace
        assert parent.began - NEST_SECONDS <= part.began <= part.ended <= parent.ended + NEST_SECONDS, part
        check_nested(collector, part)


def test_a_request_is_part_of_its_callers_trace_and_its_parts_nest_and_add_up(
    house: House, collector: Collector
) -> None:
    post(house, "/v1/embeddings", BODY)  # the model is loaded
    answer = post(house, "/v1/embeddings", BODY, traceparent(sampled=True))
    root = root_of(collector, answer)
    assert (root.trace, root.parent, root.name, root.kind) == (CALLERS_TRACE, CALLERS_SPAN, "POST /v1/embeddings", 2)
    assert root.known.items() >= {
        "http.request.method": "POST", "http.route": "/v1/embeddings", "http.response.status_code": 200,
        "url.scheme": "http", "network.protocol.version": "1.1", "vitrine.model": "tiny", "vitrine.owner": "ann",
    }.items()  # fmt: skip
    assert root.resource["service.name"] == "under-test"
    assert root.resource["deployment.environment.name"] == "test"
    assert root.resource["vitrine.role"] == "api"
    parts = {part.name: part for part in collector.below(root)}
    assert [name for name in parts if name != "model"] == ["tokenize", "queue", "batch"]
    (forward,) = collector.below(parts["batch"])
    assert forward.name == "forward"
    assert forward.known["vitrine.model"] == "tiny"
    assert forward.known["vitrine.dtype"] in ("float32", "bfloat16")
    assert forward.known["vitrine.rows"] == parts["batch"].known["vitrine.own_rows"] == 2
    assert forward.known["vitrine.tokens"] == answer.json()["usage"]["total_tokens"]
    assert parts["tokenize"].known == {"vitrine.texts": 2, "vitrine.tokens": forward.known["vitrine.tokens"]}
    check_nested(collector, root)
    assert parts["queue"].seconds == pytest.approx(float(answer.headers["x-queue-time"]) / 1000, abs=1e-4)
    assert parts["batch"].seconds == pytest.approx(float(answer.headers["x-inference-time"]) / 1000, abs=1e-4)
    assert parts["queue"].ended == pytest.approx(parts["batch"].began, abs=1e-5)
    assert sum(part.seconds for part in parts.values()) <= root.seconds + NEST_SECONDS


def test_requests_of_one_batch_are_linked_to_one_another(
    house: House, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _slowed(monkeypatch, 1.0)
    with ThreadPoolExecutor(1 + TOGETHER) as pool:
        alone = pool.submit(post, house, "/v1/embeddings", BODY)
        wait_for(lambda: bool(first), 30)  # it is being computed; the others meet behind it
        others = [pool.submit(post, house, "/v1/embeddings", BODY) for _ in range(TOGETHER)]
        answers = [alone.result(), *(other.result() for other in others)]
    batches: dict[str, list[Told]] = {}
    for answer in answers:
        (batch,) = [part for part in collector.below(root_of(collector, answer)) if part.name == "batch"]
        batches.setdefault(batch.known["vitrine.batch"], []).append(batch)
    assert max(map(len, batches.values())) > 2, "those that waited share batches"
    for parts in batches.values():
        assert {part.known["vitrine.requests"] for part in parts} == {len(parts)}
        assert {part.known["vitrine.rows"] for part in parts} == {2 * len(parts)}
        assert len({part.trace for part in parts}) == len(parts)
        leader = max(parts, key=lambda part: len(part.links))
        others_parts = [part for part in parts if part is not leader]
        assert set(leader.links) == {(part.trace, part.parent) for part in others_parts}
        assert all(part.links == ((leader.trace, leader.parent),) for part in others_parts)


def _slowed(monkeypatch: pytest.MonkeyPatch, seconds: float) -> list[float]:
    """The device takes so long for a forward pass -> when each began."""
    began: list[float] = []
    real = cores.run

    def run_slowly(*arguments: Any) -> list[Any]:
        began.append(time.monotonic())
        time.sleep(seconds)
        return real(*arguments)

    monkeypatch.setattr(cores, "run", run_slowly)
    return began


def test_a_batch_that_fails_shows_every_try(
    house: House, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = cores.run

    def run_singly(models: Any, operation: Any, encodings: Any) -> list[Any]:
        if len(encodings) > 1:
            raise RuntimeError("too many texts at once, of a text that nobody may read")
        return real(models, operation, encodings)

    monkeypatch.setattr(cores, "run", run_singly)
    root = root_of(collector, post(house, "/v1/embeddings", BODY))
    batches = [part for part in collector.below(root) if part.name == "batch"]
    tries = collector.below(batches[-1])
    assert [(one.known["vitrine.rows"], one.failed) for one in tries] == [(2, True), (1, False), (1, False)]
    assert tries[0].known["error.type"] == "RuntimeError"
    assert "nobody may read" not in repr(collector.spans)


def test_a_request_that_waits_in_vain_shows_its_wait(
    house: House, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, answered = threading.Event(), threading.Event()
    real = cores.run

    def run_held(*arguments: Any) -> list[Any]:
        begun.set()
        assert answered.wait(60)
        return real(*arguments)

    monkeypatch.setattr(cores, "run", run_held)
    with ThreadPoolExecutor(2) as pool:
        before = pool.submit(house.ask, "POST", "/v1/embeddings", house.ann, json=BODY)
        assert begun.wait(60)
        monkeypatch.setattr(house.app.state.parts.engine, "_timeout_seconds", 0.3)
        answer = house.ask("POST", "/v1/embeddings", house.ann, json=BODY)
        answered.set()
        before.result()
    assert answer.status_code == 504
    root = root_of(collector, answer)
    assert (root.failed, root.known["error.type"]) == (True, "504")
    queue = collector.below(root)[-1]
    assert (queue.name, queue.failed) == ("queue", True)
    assert queue.seconds >= 0.3


def test_each_lane_tells_of_itself(house: House, collector: Collector) -> None:
    seen = root_of(collector, post(house, "/v1/attention", {"model": "tiny", "input": "red cat"}))
    queue, look = collector.below(seen)[-2:]
    assert (queue.name, look.name) == ("queue", "look")
    assert look.known.items() >= {"vitrine.operation": "attention", "vitrine.tokens": 4}.items()
    check_nested(collector, seen)
    body = {"model": "writer", "prompt": ["Good", "value"], "max_tokens": 7, "temperature": 0, "stream": True}
    written = root_of(collector, post(house, "/v1/completions", body))
    queue, write = collector.below(written)[-2:]
    assert (queue.name, write.name) == ("queue", "write")
    assert write.known["vitrine.texts"] == 2
    assert 1 <= write.known["vitrine.steps"] <= 7
    assert write.known["vitrine.tokens"] >= write.known["vitrine.steps"]
    assert write.known["vitrine.unfinished"] == 0
    assert write.began < write.moments["first token"] <= write.ended
    check_nested(collector, written)


def test_a_fault_of_the_client_is_told_and_its_path_is_not(house: House, collector: Collector) -> None:
    answer = house.ask("GET", "/v1/models/secret-key?x=secret", house.ann)
    root = root_of(collector, answer)
    assert (root.name, root.known["http.response.status_code"]) == ("GET /v1/models/{model_id:model}", 404)
    assert not root.failed
    unknown = root_of(collector, house.ask("BREW", "/secret-key", house.ann))
    assert (unknown.name, unknown.known["http.request.method"]) == ("_OTHER", "_OTHER")
    refused = root_of(collector, house.ask("GET", "/v1/models", {"authorization": "Bearer vt-secret"}))
    assert refused.known["http.response.status_code"] == 401
    assert "secret" not in repr([root, unknown, refused, *collector.below(root)])


def test_what_is_not_sampled_and_what_is_asked_all_the_time_is_not_sent(
    house: House, collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.handler.setFormatter(JsonLines())
    with caplog.at_level(logging.INFO, "vitrine.requests"):
        quiet = post(house, "/v1/embeddings", BODY, traceparent(sampled=False))
    for path in ("/livez", "/readyz", "/metrics"):
        house.ask("GET", path, house.ann)
    told = root_of(collector, post(house, "/v1/embeddings", BODY))
    assert not collector.roots(quiet.headers["x-request-id"])
    assert not [span for span in collector.spans if span.known.get("http.route") in ("/livez", "/readyz", "/metrics")]
    (line,) = [json.loads(line) for line in caplog.text.splitlines() if quiet.headers["x-request-id"] in line]
    assert line["trace_id"] == CALLERS_TRACE, "the log still tells whose it is"
    assert line["span_id"] != told.id


@pytest.mark.parametrize("given", ["", "00-zz-zz-01", f"00-{'0' * 32}-{'0' * 16}-01", "ff" * 4000, "00-" + "a" * 60])
def test_a_callers_broken_traceparent_begins_a_new_trace(house: House, collector: Collector, given: str) -> None:
    headers = {"traceparent": given, "tracestate": ",=,;" * 50, "baggage": "%zz=;,=" * 50}
    assert root_of(collector, post(house, "/v1/embeddings", BODY, headers)).parent == ""


def test_by_default_nothing_of_it_is_loaded(tmp_path: Path) -> None:
    program = f"""
import sys
from bentoml import server_context
server_context.worker_index = 1  # as in a process that answers
import service.main
from fastapi.testclient import TestClient
with TestClient(service.main.gate, base_url="http://localhost") as client:
    headers = {{"traceparent": "00-{CALLERS_TRACE}-{CALLERS_SPAN}-01"}}
    assert client.get("/v1/models", headers=headers).status_code == 200
assert service.main.application.state.parts.traces is None
print([name for name in sys.modules if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))])
"""
    environment = os.environ | {"VITRINE_HOME": str(tmp_path), "VITRINE_RUN_WORKER": "false"}
    environment |= {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == ["[]"]


def test_what_can_not_work_is_told_at_start(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(traces="otlp")
    assert Traces.of(Settings(), "api") is None
    assert Traces.of(settings, "api") is not None
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    with pytest.raises(ValueError, match=r"OTEL_EXPORTER_OTLP_PROTOCOL is 'grpc'; traces are sent by 'http/protobuf'"):
        Traces.of(settings, "api")
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_PROTOCOL")
    for missing in ("opentelemetry.exporter.of_nobody", "nobody.exporter", "opentelemetry.exporter.of.nobody"):
        monkeypatch.setattr("service.traces.EXPORTER", missing)
        with pytest.raises(ValueError, match=r"pip install 'vitrine\[traces\]', or set VITRINE_TRACES=off"):
            Traces.of(settings, "api")


def test_a_sampler_that_takes_none_costs_no_span(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    for settings in ({"OTEL_TRACES_SAMPLER": "always_off"}, {"OTEL_SDK_DISABLED": "true"}):
        with pytest.MonkeyPatch.context() as patch:
            for name, value in settings.items():
                patch.setenv(name, value)
            traces = Traces.of(Settings(traces="otlp"), "api")
            assert traces is not None
            traces.start()
            ids = {"request": "req-1"}
            assert traces.request(traceparent(sampled=True), ids, {"http.request.method": "GET"}) is None
            assert ids.get("trace_id", CALLERS_TRACE) == CALLERS_TRACE
            traces.stop()


def test_a_collector_that_hangs_or_refuses_costs_spans_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for mood in ("hangs", "refuses"):
        with collecting() as bad:
            bad.mood = mood
            lost = _flooded(bad.url, monkeypatch)
        assert bad.exports > 0
        assert lost == 100
    assert _flooded("http://127.0.0.1:9", monkeypatch) == 100, "where nobody listens"
    theirs = [record for record in caplog.records if record.name == EXPORTER]
    assert len(theirs) <= 3, "one a minute; a filter for each start"
    assert len([record for record in caplog.records if "spans could not be sent, 0 were" in record.message]) == 3


def _flooded(url: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """A hundred requests, faster than they can be sent -> the spans that were lost, by the figures for Prometheus."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "16")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "8")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", str(EXPORT_SECONDS))
    monkeypatch.setattr("service.traces.FLUSH_SECONDS", 0.5)
    metrics = Metrics()
    traces = Traces.of(Settings(traces="otlp"), "api", metrics)
    assert traces is not None
    traces.start()
    began = time.monotonic()
    for number in range(100):
        trace = traces.request({}, {"request": f"req-{number}"}, {"http.request.method": "GET"})
        assert trace is not None
        trace.end("GET")
    assert time.monotonic() - began < EXPORT_SECONDS, "no request waits for an export that is sure to fail"
    traces.stop()
    wait_for(
        lambda: _outcomes(metrics)["failed"] + _outcomes(metrics)["dropped"] >= 100, 60, lambda: _outcomes(metrics)
    )
    assert _outcomes(metrics)["sent"] == 0
    return _outcomes(metrics)["failed"] + _outcomes(metrics)["dropped"]


def _outcomes(metrics: Metrics) -> dict[str, int]:
    samples = [sample for metric in metrics.registry.collect() for sample in metric.samples]
    return {one.labels["outcome"]: int(one.value) for one in samples if one.name == "vitrine_spans_total"}


def test_what_waits_is_sent_when_the_process_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    with collecting() as good:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", good.url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "600000")
        traces = Traces.of(Settings(traces="otlp"), "worker")
        assert traces is not None
        traces.start()
        for number in range(1000):
            trace = traces.request({}, {"request": f"req-{number}"}, {"http.request.method": "GET"})
            assert trace is not None
            trace.end("GET")
        monkeypatch.setattr("service.traces.FLUSH_SECONDS", 60)
        traces.stop()
        assert {span.known["vitrine.request"] for span in good.spans} == {f"req-{number}" for number in range(1000)}
        assert (traces.sent, traces.lost) == (1000, 0)
        assert traces.request({}, {"request": "late"}, {"http.request.method": "GET"}) is None
        traces.stop()


def test_a_job_is_a_trace_of_its_own_linked_to_the_request_that_made_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with collecting() as good:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", good.url)
        traces = Traces.of(Settings(traces="otlp"), "worker")
        assert traces is not None
        traces.start()
        for created_by in (traceparent(sampled=True)["traceparent"], None, "broken"):
            ids = {"job": "ftjob-1"}
            trace = traces.job(ids, created_by)
            assert trace is not None
            trace.tell(job="ftjob-1", status="failed")
            with in_trace(trace), contextlib.suppress(ValueError), Part("train", device="cpu") as known:
                known["step"] = 3
                raise ValueError("of a text that nobody may read")
            trace.end("job", "failed")
        monkeypatch.setattr("service.traces.FLUSH_SECONDS", 60)
        traces.stop()
        made, alone, _ = jobs = good.named("job")
        assert [job.links for job in jobs] == [((CALLERS_TRACE, CALLERS_SPAN),), (), ()]
        assert CALLERS_TRACE not in {job.trace for job in jobs}
        assert made.known == {"vitrine.job": "ftjob-1", "vitrine.status": "failed", "error.type": "failed"}
        assert (alone.parent, alone.failed, alone.resource["vitrine.role"]) == ("", True, "worker")
        (train,) = good.below(made)
        assert train.known == {"vitrine.device": "cpu", "vitrine.step": 3, "error.type": "ValueError"}
        assert "nobody may read" not in repr(good.spans)


def test_a_setting_of_the_queue_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "many")
    traces = Traces.of(Settings(traces="otlp"), "api")
    assert traces is not None
    with pytest.raises(ValueError, match="OTEL_BSP_MAX_QUEUE_SIZE is 'many'; it must be a whole number above 0"):
        traces.start()
