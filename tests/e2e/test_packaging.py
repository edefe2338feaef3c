"""What leaves the repository: the bento, the container recipe, the command line, the load test."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import httpx
import pytest
import yaml

from tests.conftest import ROOT, Rows, Service, new_home, wait_for, write_jsonl

pytestmark = pytest.mark.slow


def run(*command: str, **environment: str) -> str:
    done = subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout + done.stderr


def test_the_built_bento_serves_itself_not_the_source_tree(tmp_path: Path, cache: Path) -> None:
    home = new_home(tmp_path, cache)
    store = {"VITRINE_HOME": str(home), "BENTOML_HOME": str(home / "bentoml"), "VITRINE_DEMO_JOB": "false"}
    run(sys.executable, "-m", "bentoml", "build", **store)
    (bento,) = (home / "bentos" if (home / "bentos").is_dir() else home / "bentoml" / "bentos").glob(
        "vitrine/*/bento.yaml"
    )
    page = bento.parent / "src" / "service" / "ui" / "static" / "index.html"
    page.write_text(page.read_text() + "<!-- from the bento -->")
    service = Service(home)
    service.environment |= store
    service.command = [
        sys.executable,
        "-m",
        "bentoml",
        "serve",
        "vitrine:latest",
        "--host",
        "127.0.0.1",
        "--port",
        str(service.port),
    ]
    service.start()
    try:
        assert "<!-- from the bento -->" in httpx.get(service.url).text
        assert httpx.get(f"{service.url}/ui/app.js").status_code == 200
        answer = httpx.post(f"{service.url}/v1/embeddings", json={"model": "minilm-l6", "input": "hello"}, timeout=60)
        assert len(answer.json()["data"][0]["embedding"]) == 384
        wait_for(lambda: len(service.worker_pids()) == 1, 60)
    finally:
        service.stop()
    listed = run(sys.executable, "-m", "bentoml", "models", "list", **store)
    assert "minilm-l6" in listed


def test_bentofile_lists_the_dependencies_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = [re.split(r"[<>=]", dependency)[0] for dependency in project["dependencies"]]
    constraint, *packages = yaml.safe_load((ROOT / "bentofile.yaml").read_text())["python"]["packages"]
    assert constraint == "--constraint ../../src/constraints.txt", "as seen from the bento's env/python"
    assert packages == names


def test_every_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(name for extra in project["optional-dependencies"].values() for name in extra),
    ]
    pinned = {
        line.split("==")[0].lower().replace("_", "-") for line in (ROOT / "constraints.txt").read_text().splitlines()
    }
    for dependency in wanted:
        assert re.split(r"[<>=\[]", dependency)[0].lower().replace("_", "-") in pinned, dependency


def test_finetune_command_trains_with_a_bar_and_leaves_a_manifest(
    cache: Path, movie_rows: Rows, tmp_path: Path
) -> None:
    rows = write_jsonl(tmp_path / "rows.jsonl", movie_rows[:160])
    home = new_home(tmp_path, cache)
    command = [sys.executable, "-m", "service", "finetune", "--data", str(rows), "--base", "minilm-l6"]
    shown = run(
        *command, "--output", str(tmp_path / "tuned"), "--epochs", "1", "--batch-size", "32", VITRINE_HOME=str(home)
    )
    assert "step 5: accuracy" in shown
    assert "5/5" in shown, "the bar reaches its end"
    manifest = json.loads((tmp_path / "tuned" / "manifest.json").read_text())
    assert manifest["metrics"]["num_examples"] == 16
    assert {"recipe", "versions", "train", "base"} <= manifest.keys()


def test_finetune_command_reports_every_fault_without_a_traceback(cache: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"text": ""}\nnope\n')
    command = [sys.executable, "-m", "service", "finetune", "--data", str(bad), "--output", str(tmp_path / "out")]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"VITRINE_HOME": str(new_home(tmp_path, cache))},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "line 1: 'text' is empty" in done.stderr
    assert "line 2: not JSON" in done.stderr
    assert "Traceback" not in done.stderr
