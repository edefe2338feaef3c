"""The log of a real service and its worker, as JSON: every line an object, no key and no text in any."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.chaos import BASE, prepare_base, rows
from tests.conftest import ROOT, Service, wait_for

TEXT = "a text that nobody else may read"


@pytest.mark.slow
def test_every_line_is_json_and_none_has_a_key_or_a_text(tmp_path: Path) -> None:
    home = tmp_path / "home"
    prepare_base(home)
    service = Service(home, VITRINE_DEFAULT_MODEL=BASE, VITRINE_LOG_FORMAT="json", OMP_NUM_THREADS="1")
    command = [sys.executable, "-m", "service", "keys", "create", "--owner", "ann"]
    made = subprocess.run(command, cwd=ROOT, env=service.environment, capture_output=True, text=True, check=True)
    key = made.stdout.split()[0]
    service.start(set_up=False)
    try:
        job, asked = _use(service, key)
    finally:
        service.stop()
    lines = _lines(service)
    (line,) = [line for line in lines if line.get("request") == asked]
    assert (line["route"], line["status"], line["owner"]) == ("/v1/embeddings", 200, "ann")
    assert line["inference_ms"] > 0
    assert [line["owner"] for line in lines if line.get("job") == job and "route" in line] == ["ann", "ann"]
    assert [line["status"] for line in lines if line.get("key") is None and "route" in line] == [404, 401, 401, 204]
    assert not [line for line in lines if line["level"] in ("error", "critical")]
    told = (home / "service.log").read_text() + (home / "audit.jsonl").read_text()
    assert key not in told
    assert key[:-3] not in told
    assert TEXT not in told


def _use(service: Service, key: str) -> tuple[str, str]:
    """-> a job's id, a request's id."""
    with httpx.Client(base_url=service.url, headers={"authorization": f"Bearer {key}"}, timeout=60) as client:
        answer = client.post("/v1/embeddings", json={"model": BASE, "input": TEXT})
        assert float(answer.headers["x-inference-time"]) > 0
        client.get("/v1/attention", params={"model": BASE, "input": f"{TEXT} {key}"})
        client.get(f"/v1/models/{key}")
        client.get(f"/{key}?api_key={key}")
        client.get("/v1/models", headers={"authorization": f"Bearer {key[:-3]}xyz"})
        client.post("/login", json={"key": f"{key[:-3]}xyz"})
        client.post("/login", json={"key": key})
        body, _ = rows(0)
        headers = {"content-type": "multipart/form-data; boundary=x"}
        file = client.post("/v1/files", content=body, headers=headers).json()["id"]
        job = client.post("/v1/fine_tuning/jobs", json={"model": BASE, "training_file": file}).json()["id"]
        wait_for(lambda: any(line.get("job") == job and "route" not in line for line in _lines(service)), 300)
        client.post(f"/v1/fine_tuning/jobs/{job}/cancel")
        return job, answer.headers["x-request-id"]


def _lines(service: Service) -> list[dict[str, Any]]:
    """But for what the command says before the service begins."""
    text = (service.home / "service.log").read_text()
    return [json.loads(line) for line in text.splitlines() if line and not line.startswith("  Vitrine: ")]
