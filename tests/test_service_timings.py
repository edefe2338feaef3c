"""Two headers tell where a request's time went, and a line of JSON what each request was, without what it said."""

import json
import logging
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

import service.app as app
import service.engine.cores as cores
from model.weights import save_model
from service.engine.runner import run
from service.logs import JsonLines, about, requests_log
from service.model_store import ModelStore
from service.settings import Settings
from tests.conftest import wait_for
from tests.house import House, made_house
from tests.zoo import Zoo

SLOW_SECONDS = 0.3
BODY = {"model": "tiny", "input": "red cat"}


class Kept(logging.Handler):
    """The lines of a log."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonLines())
        self.lines: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(json.loads(self.format(record)))


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """With one core, so that a request waits behind the one that is computed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app, "cores_on", lambda _: 1)
        with made_house(tmp_path_factory.mktemp("house"), "cpu") as made:
            yield made


@pytest.fixture
def kept() -> Iterator[Kept]:
    handler, log = Kept(), logging.getLogger("vitrine")
    log.addHandler(handler)
    requests_log.setLevel(logging.INFO)
    yield handler
    log.removeHandler(handler)
    requests_log.setLevel(logging.NOTSET)


def times(answer: Any) -> tuple[float, float]:
    return float(answer.headers["x-queue-time"]), float(answer.headers["x-inference-time"])


def test_the_forward_pass_is_inference_and_what_waits_behind_it_is_in_the_queue(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.ask("POST", "/v1/embeddings", house.ann, json=BODY)  # the model is loaded
    begun, behind = threading.Event(), threading.Event()

    def run_slowly(*arguments: Any) -> Any:
        begun.set()
        assert behind.wait(60)
        time.sleep(SLOW_SECONDS)
        return run(*arguments)

    def asked(headers: dict[str, str]) -> tuple[float, float, float]:
        began = time.monotonic()
        answer = house.ask("POST", "/v1/embeddings", headers, json=BODY)
        return (*times(answer), 1000 * (time.monotonic() - began))

    monkeypatch.setattr(cores, "run", run_slowly)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(asked, house.ann)
        assert begun.wait(60)
        second = pool.submit(asked, house.bob)
        wait_for(lambda: len(house.app.state.parts.engine._queue) > 0, 60)
        behind.set()
        queue, inference, whole = first.result()
        waited, computed, _ = second.result()
    assert inference >= 1000 * SLOW_SECONDS
    assert queue <= whole - inference + 0.2, "its own pass is no wait"
    assert waited >= 1000 * SLOW_SECONDS
    assert computed >= 1000 * SLOW_SECONDS


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", BODY),
        ("/v1/fill-mask", {"model": "tiny", "input": "red [MASK]"}),
        ("/v1/classify", {"model": "ft:tiny:vitrine:mood:1", "input": "red"}),
        ("/v1/attention", BODY),
        ("/v1/trace", BODY),
        ("/v1/explain", {"model": "ft:tiny:vitrine:mood:1", "input": "red cat"}),
        ("/v1/drift", {"models": ["tiny", "tiny"], "input": ["red", "cat", "dog"]}),
        ("/v1/attention/compare", {"left": BODY, "right": {"model": "tiny", "input": "red dog"}}),
    ],
)
def test_what_computes_tells_its_times(house: House, path: str, body: dict[str, Any]) -> None:
    began = time.monotonic()
    answer = house.ask("POST", path, house.ann, json=body)
    whole = 1000 * (time.monotonic() - began)
    assert answer.status_code == 200, answer.text
    queue, inference = times(answer)
    assert queue >= 0
    assert inference > 0
    assert queue + inference <= whole + 0.2


@pytest.mark.parametrize("stream", [False, True])
def test_what_is_written_tells_its_times_a_stream_until_its_first_token(
    house: House, zoo: Zoo, tmp_path: Path, stream: bool
) -> None:
    save_model(zoo.models["writer"], zoo.bytes, tmp_path / "writer")
    ModelStore.of(house.settings).publish(tmp_path / "writer", "writer", "writer:1", None, None)
    body = {"model": "writer", "prompt": "the film", "max_tokens": 8, "stream": stream}
    answer = house.ask("POST", "/v1/completions", house.ann, json=body)
    assert answer.status_code == 200, answer.text
    queue, inference = times(answer)
    assert queue >= 0
    assert inference > 0


def test_what_computes_nothing_tells_no_times(house: House) -> None:
    for answer in (
        house.ask("GET", "/v1/models", house.ann),
        house.ask("POST", "/v1/tokenize", house.ann, json=BODY),
        house.ask("POST", "/v1/embeddings", house.ann, json={"model": "nobody", "input": "red"}),
    ):
        assert "x-queue-time" not in answer.headers
        assert "x-inference-time" not in answer.headers


def test_a_request_is_one_line_with_its_id_owner_and_times(house: House, kept: Kept) -> None:
    answer = house.ask("POST", "/v1/embeddings", house.ann, json=BODY)
    (line,) = kept.lines
    assert line["request"] == answer.headers["x-request-id"]
    assert (line["route"], line["method"], line["status"], line["owner"]) == ("/v1/embeddings", "POST", 200, "ann")
    assert line["key"].startswith("key-")
    assert (line["queue_ms"], line["inference_ms"]) == times(answer)
    assert line["ms"] >= line["inference_ms"]
    assert line["level"] == "info"


def test_lines_about_a_job_name_it(house: House, kept: Kept) -> None:
    body = {"model": "tiny", "training_file": house.file, "suffix": "named"}
    made = house.ask("POST", "/v1/fine_tuning/jobs", house.ann, json=body).json()["id"]
    house.ask("POST", f"/v1/fine_tuning/jobs/{made}/cancel", house.ann)
    house.ask("GET", "/v1/fine_tuning/jobs/vt-a-key-in-the-wrong-place", house.ann)
    assert [line.get("job") for line in kept.lines] == [made, made, None]
    assert "wrong-place" not in json.dumps(kept.lines)
    with about(job="ftjob-1"):
        logging.getLogger("vitrine.worker").warning("slow")
    assert kept.lines[-1]["job"] == "ftjob-1"


def test_no_key_and_no_text_is_in_a_line(house: House, kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    key = house.ann["authorization"].removeprefix("Bearer ")
    strange = "vt-a-key-that-is-not-good"
    house.ask("POST", "/v1/embeddings", house.ann, json={"model": "tiny", "input": f"red {key}"})
    house.ask("GET", f"/v1/attention?model=tiny&input={key}", house.ann)
    house.ask("GET", f"/{key}", house.ann)
    house.ask("GET", "/v1/models", {"authorization": f"Bearer {strange}"})
    house.ask("POST", "/login", {}, json={"key": key})
    house.ask("POST", "/login", {}, json={"key": strange})
    monkeypatch.setattr(cores, "run", lambda *_: 1 / 0)
    body = {"model": "tiny", "input": f"red {key}"}
    failed = house.ask("POST", "/v1/embeddings", house.ann, json=body)
    assert (failed.status_code, failed.json()["error"]["code"]) == (500, "internal")
    assert [line["status"] for line in kept.lines if "status" in line].count(401) >= 1
    (trouble,) = [line for line in kept.lines if line["level"] == "error"]
    assert "ZeroDivisionError" in trouble["traceback"]
    assert trouble["request"] == failed.headers["x-request-id"]
    told = json.dumps(kept.lines) + house.settings.audit_log.read_text()
    for secret in (key, strange):
        assert secret not in told


@pytest.mark.parametrize(
    "fields",
    [
        {"database": "mysql://user:hidden-word@host/name"},
        {"database": "postgresql://user:hidden-word@host/name", "executor": "ray"},
        {"database": "postgresql://user:hidden-word@host/name", "api_workers": 0},
    ],
)
def test_a_wrong_setting_is_told_without_the_password_of_the_database(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as found:
        Settings(**fields)
    assert "hidden-word" not in str(found.value)
    assert re.search("database|VITRINE_EXECUTOR|api_workers", str(found.value))


def test_probes_and_parts_of_the_page_have_no_line(house: House, kept: Kept) -> None:
    for path in ("/livez", "/readyz", "/metrics", "/docs-assets/swagger-ui.css"):
        house.ask("GET", path, house.ann)
    assert not kept.lines
