"""The API from outside: schemathesis walks every operation of the OpenAPI document, a client generated from it and
OpenAI's asynchronous client use it."""

import asyncio
import collections
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import async_client
from tests.conftest import ROOT, write_jsonl
from tests.prepared import ROWS, Prepared, prepared, start_long_batch

SEED = "20261127"
MAX_EXAMPLES = os.environ.get("VITRINE_CONTRACT_EXAMPLES", "")  # of an operation and phase; `make contract` sets it
SECONDS = 7_200 if MAX_EXAMPLES else 900
pytestmark = [pytest.mark.slow, pytest.mark.timeout(SECONDS + 600)]
GENERATOR = Path(sys.prefix) / "openapi-client"  # put there by `make test`


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prepared]:
    with prepared(tmp_path_factory.mktemp("contract")) as found:
        yield found


def test_a_generated_client_speaks_in_typed_models(standing: Prepared, tmp_path: Path) -> None:
    assert GENERATOR.is_dir(), "run `make test`, which puts the generator there"
    with standing.client() as client:
        (tmp_path / "openapi.json").write_bytes(client.get("/openapi.json").content)
    command = [
        sys.executable, "-m", "openapi_python_client", "generate", "--path", str(tmp_path / "openapi.json"),
        "--output-path", str(tmp_path / "vitrine_client"), "--meta", "none", "--fail-on-warning",
    ]  # fmt: skip
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # it formats what it writes with ruff
    made = run(command, os.environ | {"PYTHONPATH": str(GENERATOR), "PATH": path})
    assert "WARNING" not in made
    driver = [
        sys.executable,
        str(ROOT / "tests" / "generated_client.py"),
        standing.service.url,
        standing.key,
        "movies-1",
    ]
    assert "all as typed models" in run(driver, os.environ | {"PYTHONPATH": str(tmp_path)})


def test_the_async_client_of_openai_does_what_the_other_does(standing: Prepared, tmp_path: Path) -> None:
    asyncio.run(async_client.drive(standing, write_jsonl(tmp_path / "rows.jsonl", ROWS)))


def test_every_operation_keeps_what_the_document_says_and_succeeds(standing: Prepared, tmp_path: Path) -> None:
    document = with_examples(standing)
    (tmp_path / "openapi.json").write_text(json.dumps(document))
    run = run_schemathesis(standing, tmp_path)
    assert run.returncode == 0, run.stdout[-20_000:] + run.stderr[-3_000:]
    seen: dict[str, set[int]] = collections.defaultdict(set)
    for line in (tmp_path / "seen").read_text().splitlines():
        name, status = line.split()
        seen[name].add(int(status))
    known = {operation["operationId"] for operation in operations(document)}
    assert seen.keys() == known
    assert [name for name in known if not any(200 <= status < 300 for status in seen[name])] == []


def run(command: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout[-3_000:] + done.stderr[-3_000:]
    return done.stdout + done.stderr


def run_schemathesis(standing: Prepared, folder: Path) -> "subprocess.CompletedProcess[str]":
    command = [
        str(Path(sys.executable).parent / "st"), "--config-file", str(ROOT / "tests" / "schemathesis.toml"),
        "run", str(folder / "openapi.json"), "--url", standing.service.url, "--checks", "all", "--no-color", "-n", MAX_EXAMPLES or "3",
    ]  # fmt: skip
    if not MAX_EXAMPLES:
        command += ["--seed", SEED, "--no-shrink", "--generation-database", "none"]
    environment = os.environ | {
        "VITRINE_API_KEY": standing.key, "VITRINE_RECEIVER": standing.receiver, "VITRINE_SEEN": str(folder / "seen"),
        "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=SECONDS)


def operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [operation for methods in document["paths"].values() for operation in methods.values()]


def with_examples(standing: Prepared) -> dict[str, Any]:
    """The served document, its examples naming what stands there."""
    with standing.client() as client:
        document: dict[str, Any] = client.get("/openapi.json").json()
        ids = standing.ids | {"long batch": start_long_batch(client)}
    paths = {
        "get_file": "rows", "get_file_content": "rows", "get_file_report": "rows", "delete_file": "unused rows",
        "get_job": "done job", "list_job_events": "done job", "list_job_checkpoints": "done job",
        "cancel_job": "job to cancel", "pause_job": "job to pause", "resume_job": "paused job",
        "get_model": "tuned model", "get_model_diagram": "tuned model", "get_model_card": "tuned model",
        "get_batch": "batch", "cancel_batch": "long batch",
        "get_webhook_endpoint": "endpoint", "update_webhook_endpoint": "endpoint", "rotate_webhook_secret": "endpoint",
        "test_webhook_endpoint": "endpoint", "delete_webhook_endpoint": "unused endpoint",
    }  # fmt: skip
    names = {
        "delete_model": "old-model",
        "promote_model": "movies-1",
        "roll_back_alias": "moved",
        "delete_alias": "unused",
    }
    bodies: dict[str, dict[str, Any]] = {
        "create_job": {"training_file": ids["rows"]}, "create_batch": {"input_file_id": ids["batch file"]},
        "promote_model": {"alias": "promoted"}, "create_webhook_endpoint": {"url": standing.receiver}, "log_in": {"key": standing.key},
    }  # fmt: skip
    for operation in operations(document):
        name = operation["operationId"]
        example = ids[paths[name]] if name in paths else names.get(name)
        for parameter in operation.get("parameters", []):
            if parameter["in"] == "path" and example is not None:
                parameter["schema"]["examples"] = [example]
        if name in bodies:
            reference = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
            schema = document["components"]["schemas"][reference.rpartition("/")[2]]
            schema["examples"] = [one | bodies[name] for one in schema["examples"]]
    return document
