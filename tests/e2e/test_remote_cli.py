"""`vitrine files`, `jobs` and `models` against a real service elsewhere, as a user types them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, Rows, Service, write_jsonl

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def vitrine(service: Service, key: str | None, *words: str) -> "subprocess.CompletedProcess[str]":
    environment = service.environment | {"VITRINE_URL": service.url, "VITRINE_HOME": "/nonexistent"}
    if key is not None:
        environment["VITRINE_API_KEY"] = key
    command = [sys.executable, "-m", "service", *words]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500)


def test_a_model_is_tuned_promoted_and_deleted_from_the_command_line(
    closed_service: tuple[Service, dict[str, str]], movie_rows: Rows, tmp_path: Path
) -> None:
    service, keys = closed_service
    rows = write_jsonl(tmp_path / "rows.jsonl", movie_rows[:160])  # few-shot training takes longer

    def say(*words: str) -> str:
        done = vitrine(service, keys["bob"], *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    uploaded = say("files", "upload", str(rows))
    (file,) = re.findall(r"^(file-\w+)  processed  .* 160 rows for classification  rows.jsonl$", uploaded, re.MULTILINE)
    assert file in say("files", "list")
    told = say("jobs", "submit", "--train", file, "--epochs", "1", "--suffix", "by hand", "--metric", "macro_f1",
               "--dropout", "0.1", "--watch")  # fmt: skip
    lines = told.splitlines()
    assert any(line.startswith("Chosen: average_share 0.1") for line in lines)
    assert not any(line.startswith("Chosen: dropout") for line in lines), "it was not left open"
    (job,) = re.findall(r"^ftjob-\w+", told, re.MULTILINE)
    assert "Created fine-tuning job" in lines
    assert any("training loss" in line or "validation" in line for line in lines)
    (model,) = re.findall(r"^the model (ft:minilm-l6:vitrine:by-hand:\w+) is ready$", told, re.MULTILINE)
    assert f"{job}  succeeded  {model}" in say("jobs", "list")
    assert say("models", "promote", model, "by-hand", "--metric", "accuracy", "--at-least", "0.1") == (
        f"by-hand stands for {model}\n"
    )
    assert f"{model} = by-hand" in say("models", "remote-list")
    assert say("models", "card", "by-hand").startswith(f"# {model}")
    refused = vitrine(service, keys["bob"], "models", "delete", model)
    assert (refused.returncode, "the alias by-hand stands for" in refused.stderr) == (1, True)
    for options, why in (
        (["--lora-rank", "4"], "400: lora_rank is 4, but the adapter is 'auto'"),
        (["--metric", "r2"], "400: metric is 'r2'; for classification choose one of"),
        (["--adapter", "lora", "--method", "few_shot"], "400: training_method is 'few_shot', which tunes the whole"),
    ):
        refused = vitrine(service, keys["bob"], "jobs", "submit", "--train", file, *options)
        assert (refused.returncode, why in refused.stderr) == (1, True), refused.stderr
    waiting = say("jobs", "submit", "--train", str(rows), "--epochs", "50")
    (second,) = re.findall(r"^ftjob-\w+", waiting)
    for action, state in (("pause", "paused"), ("resume", "queued"), ("cancel", "cancelled")):
        assert f"{second}  {state}" in say("jobs", action, second)
    ended = vitrine(service, keys["bob"], "jobs", "watch", second)
    assert (ended.returncode, ended.stderr) == (1, "vitrine: the job was cancelled\n")
    assert say("files", "delete", file) == f"{file} is deleted\n"


@pytest.mark.parametrize(
    ("key", "words", "said"),
    [
        (None, ["jobs", "list"], r"401: this service needs an API key.*\(set VITRINE_API_KEY\)"),
        ("ann asks", ["files", "delete", "file-x"], "403: the API key lacks the scope 'train'"),
        ("bob", ["jobs", "watch", "ftjob-none"], "404: fine-tuning job 'ftjob-none' does not exist"),
        ("bob", ["jobs", "submit", "--train", "no-such.jsonl"], "'no-such.jsonl' is neither a file here nor the id"),
        ("bob", ["jobs", "list", "--url", "http://127.0.0.1:9"], "http://127.0.0.1:9 does not answer"),
        ("bob", ["models", "rollback", "nothing"], "404: alias 'nothing' does not exist"),
    ],
)
def test_what_goes_wrong_is_told_in_the_services_words(
    closed_service: tuple[Service, dict[str, str]], key: str | None, words: list[str], said: str
) -> None:
    service, keys = closed_service
    done = vitrine(service, keys[key] if key else None, *words)
    assert done.returncode == 1
    assert re.search(said, done.stderr), done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_that_can_not_be_read_is_told_with_its_faults(
    closed_service: tuple[Service, dict[str, str]], tmp_path: Path
) -> None:
    service, keys = closed_service
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"text": "a", "label": "x"}\nnonsense\n')
    done = vitrine(service, keys["bob"], "files", "upload", str(bad))
    assert done.returncode == 1
    assert "bad.jsonl can't be used" in done.stderr
    assert "line 2" in done.stderr


def test_what_talks_to_a_service_elsewhere_loads_no_torch() -> None:
    """Which takes seconds, for a command that is asked again and again."""
    for words in (["jobs", "list"], ["files", "list"], ["models", "remote-list"]):
        code = f"import sys, runpy; sys.argv = ['vitrine', *{words!r}, '--url', 'http://127.0.0.1:9']\n"
        code += "try: runpy.run_module('service', run_name='__main__')\n"
        code += "except SystemExit as end: print(end, 'torch' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert "does not answer" in done.stdout
        assert done.stdout.split()[-1] == "False"
