"""One service on three hosts, each with a disk of its own: two that answer and one that trains, with PostgreSQL and S3
between them."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from service.model_store import ModelStore
from service.settings import Settings
from tests.chaos import BASE, prepare_base
from tests.conftest import ROOT, Service, wait_for, write_jsonl
from tests.s3 import bucket, s3
from tests.test_service_results import ROWS

__all__ = ["bucket", "s3"]  # fixtures


@pytest.mark.slow
@pytest.mark.timeout(600)  # the worker is the last whom a busy machine lets compute
def test_what_one_host_takes_another_trains_and_a_third_serves(
    bucket: str, postgresql: Callable[[], str], tmp_path: Path
) -> None:
    shared = {"VITRINE_ARTEFACTS": bucket, "VITRINE_DATABASE": postgresql(), "VITRINE_DEFAULT_MODEL": BASE}
    homes = {name: tmp_path / name for name in ("front", "back", "trainer")}
    homes["back"].mkdir()
    prepare_base(homes["front"])
    ModelStore.of(Settings(home=homes["front"], artefacts=bucket, database=shared["VITRINE_DATABASE"])).share_all()
    front, back = (Service(homes[name], VITRINE_RUN_WORKER="false", **shared) for name in ("front", "back"))
    environment = os.environ | shared | {"VITRINE_HOME": str(homes["trainer"])}
    worker = subprocess.Popen(
        [sys.executable, "-m", "service.jobs.process"], cwd=ROOT, env=environment, stdin=subprocess.PIPE
    )
    try:
        for service in (front, back):
            service.start(set_up=False)
        one, other = (openai.OpenAI(base_url=f"{service.url}/v1", api_key="-") for service in (front, back))
        with write_jsonl(tmp_path / "rows.jsonl", ROWS).open("rb") as rows:
            file = one.files.create(file=rows, purpose="fine-tune")
        assert other.files.content(file.id).content == (tmp_path / "rows.jsonl").read_bytes()
        method = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}}
        job = other.fine_tuning.jobs.create(model=BASE, training_file=file.id, method=method)  # type: ignore[arg-type]
        wait_for(lambda: one.fine_tuning.jobs.retrieve(job.id).status == "succeeded", 360, lambda: one.fine_tuning.jobs.list_events(job.id))  # fmt: skip
        done = one.fine_tuning.jobs.retrieve(job.id)
        assert done.fine_tuned_model is not None
        ask = {"model": done.fine_tuned_model, "input": ["red cat", "blue dog"]}
        here, there = (client.post("/classify", cast_to=dict[str, Any], body=ask) for client in (one, other))
        assert here["data"] == there["data"]
        for result in done.result_files:
            assert one.files.content(result).content == other.files.content(result).content
        other.models.delete(done.fine_tuned_model)
        wait_for(lambda: httpx.post(f"{front.url}/v1/classify", json=ask).status_code == 404, 60)
    finally:
        worker.kill()
        worker.wait()
        for service in (front, back):
            service.stop()
