"""Models come and go: pre-trained at the command line, tuned as adapters, exported; a running service follows."""

import os
import subprocess
import sys
import time
from pathlib import Path

import httpx
import openai
import pytest
import torch
import transformers
from openai.types.fine_tuning import FineTuningJob

from tests.conftest import ROOT, Rows, Service, write_jsonl
from training.catalogue import chinese_reviews

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def vitrine(service: Service, *arguments: str) -> str:
    command = [sys.executable, "-m", "service", *arguments]
    done = subprocess.run(command, env=service.environment, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


def tune(service: Service, file: Path, **options: object) -> tuple[FineTuningJob, list[str]]:
    """A job to its end, and the messages of its events."""
    client = openai.OpenAI(base_url=f"{service.url}/v1", api_key="none")
    uploaded = client.files.create(file=file.open("rb"), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(
        model="minilm-l6", training_file=uploaded.id, hyperparameters={"n_epochs": 1}, extra_body=options
    )
    deadline = time.monotonic() + 200
    while job.status not in ("succeeded", "failed", "cancelled"):
        assert time.monotonic() < deadline, job
        time.sleep(0.5)
        job = client.fine_tuning.jobs.retrieve(job.id)
    events = client.fine_tuning.jobs.list_events(job.id, limit=100).data
    return job, [f"{event.level}: {event.message}" for event in events]


def classify(service: Service, model: str, texts: list[str]) -> list[dict[str, float]]:
    answer = httpx.post(f"{service.url}/v1/classify", json={"model": model, "input": texts}, timeout=60).json()
    return [{score["label"]: score["score"] for score in item["scores"]} for item in answer["data"]]


def test_a_model_pretrained_on_own_text_answers_at_once(service: Service, movie_rows: Rows, tmp_path: Path) -> None:
    texts = [row["text"] for row in movie_rows[:400]]
    (tmp_path / "train.txt").write_text("\n".join(texts[:360]), encoding="utf-8")
    (tmp_path / "held-out.txt").write_text("\n".join(texts[360:]), encoding="utf-8")
    common = ["--data", str(tmp_path / "train.txt"), "--validation", str(tmp_path / "held-out.txt"), "--epochs", "1"]
    common += ["--row-tokens", "64", "--vocabulary", "800", "--preset", "tiny"]
    said = vitrine(service, "pretrain", *common, "--task", "causal_lm", "--publish", "own-writer")
    assert "perplexity" in said
    assert "in the model store as 'own-writer'" in said
    client = openai.OpenAI(base_url=f"{service.url}/v1", api_key="none")
    with pytest.raises(openai.BadRequestError, match="starts from an encoder's vectors; 'own-writer' is a decoder"):
        client.fine_tuning.jobs.create(
            model="own-writer", training_file="file-x", extra_body={"training_method": "few_shot"}
        )
    choice = client.completions.create(model="own-writer", prompt="the film", max_tokens=12, seed=1).choices[0]
    assert choice.text
    vitrine(service, "pretrain", *common, "--task", "masked_lm", "--publish", "own-encoder")
    body = {"model": "own-encoder", "input": "the [MASK] was good"}
    assert httpx.post(f"{service.url}/v1/fill-mask", json=body, timeout=60).json()["data"][0]["masks"][0]["candidates"]


def assert_same_scores(service: Service, model_id: str, texts: list[str], folder: Path) -> None:
    """Exports the model, and transformers gives the scores that the service gives."""
    vitrine(service, "models", "export", model_id, str(folder))
    model = transformers.AutoModelForSequenceClassification.from_pretrained(str(folder)).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder))
    with torch.inference_mode():
        rows = torch.softmax(model(**tokenizer(texts, padding=True, return_tensors="pt")).logits, dim=-1)
    for row, scores in zip(rows, classify(service, model_id, texts), strict=True):
        expected = {model.config.id2label[index]: float(value) for index, value in enumerate(row)}
        assert scores == pytest.approx(expected, abs=0.02)  # the service may run in bfloat16


def test_a_tuned_classifier_is_exported_and_transformers_gives_the_same(
    service: Service, movie_rows: Rows, sentences: list[str], tmp_path: Path
) -> None:
    job, _ = tune(
        service, write_jsonl(tmp_path / "rows.jsonl", movie_rows[:96]), suffix="export", training_method="fine_tune"
    )
    assert job.fine_tuned_model is not None
    assert_same_scores(service, job.fine_tuned_model, sentences[:16], tmp_path / "exported")


def test_a_lora_job_leaves_an_adapter_that_is_served_and_exported(
    service: Service, movie_rows: Rows, sentences: list[str], tmp_path: Path
) -> None:
    file = write_jsonl(tmp_path / "rows.jsonl", movie_rows[:96])
    job, messages = tune(service, file, suffix="small", adapter="lora")
    assert job.status == "succeeded", messages
    assert job.fine_tuned_model is not None
    card = httpx.get(f"{service.url}/v1/models/{job.fine_tuned_model}").json()
    assert card["adapter"] is True
    assert card["base_model"] == "minilm-l6"
    weights = service.home / "runs" / job.id / "model" / "adapter.safetensors"
    assert weights.stat().st_size < 5_000_000, "an adapter, not the whole model"
    assert_same_scores(service, job.fine_tuned_model, sentences[:16], tmp_path / "exported")
    refused = httpx.post(
        f"{service.url}/v1/fine_tuning/jobs", json={"model": job.fine_tuned_model, "training_file": job.training_file}
    )
    assert refused.status_code == 400
    assert "is an adapter over 'minilm-l6'" in refused.json()["error"]["message"]


def test_text_that_the_base_cannot_read_gets_a_warning(service: Service, cache: Path, tmp_path: Path) -> None:
    rows = [dict(row) for row in chinese_reviews(cache)["train"].select(range(64))]
    job, messages = tune(service, write_jsonl(tmp_path / "rows.jsonl", rows), training_method="fine_tune")
    assert job.status == "succeeded", messages
    warnings = [message for message in messages if message.startswith("warn")]
    assert any("of the tokens are unknown to base 'minilm-l6', more than 5%" in warning for warning in warnings), (
        warnings
    )
    assert any("vitrine pretrain chinese-encoder" in warning or "leaves" in warning for warning in warnings)


def test_bad_commands_say_what_to_do(tmp_path: Path) -> None:
    cases = [
        (["pretrain"], "name a model of this project, or give your own text"),
        (["pretrain", "--data", "x.txt"], "--validation is missing"),
        (["models", "export", "nobody", str(tmp_path / "x")], "does not exist"),
    ]
    for arguments, words in cases:
        environment = os.environ | {"VITRINE_HOME": str(tmp_path)}
        command = [sys.executable, "-m", "service", *arguments]
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=100)
        assert done.returncode != 0
        assert words in done.stderr, done.stderr
