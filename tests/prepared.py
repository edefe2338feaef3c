"""A running service that has one of everything: models of every kind, files, a job that has run, one that waits, one that
is paused, batches, aliases, a webhook endpoint, keys. Small random models, so that it stands in seconds. For the tests
that walk the whole API: `e2e/test_openapi.py`."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx

from model.config import TransformerConfig
from model.tokenizer import Tokenizer, train_byte_bpe, train_wordpiece
from model.weights import save_model
from service.database import Database, sqlite_url
from service.keys import KeyStore
from service.model_card import CARD_FILE
from service.model_store import ModelStore
from tests.conftest import ROOT, Rows, Service, wait_for
from tests.zoo import LABELS, SMALL, shaped

GOOD = ["A wonderful, moving film.", "A good film", "It is worth seeing", "我爱北京天安门", "非常好"]
BAD = ["Two hours that I want back.", "A bad film", "Not worth seeing", "酒店房间很小", "服务态度差！"]
ROWS: Rows = [
    {"text": f"{text} {number}", "label": label}
    for number in range(8)
    for label, texts in (("positive", GOOD), ("negative", BAD))
    for text in texts
]
LONG_BATCH = (2_000, 400)  # requests, texts in each: more than are answered before the batch is cancelled
JOB_SECONDS = 240


@dataclass
class Prepared:
    """What stands there, by its name in the tests."""

    service: Service
    key: str
    other_key: str  # of an owner who has nothing
    receiver: str  # an address that takes webhooks
    ids: dict[str, str] = field(default_factory=dict)

    def client(self) -> httpx.Client:
        headers = {"authorization": f"Bearer {self.key}"}
        return httpx.Client(base_url=self.service.url, headers=headers, timeout=60)


@contextmanager
def prepared(folder: Path) -> Iterator[Prepared]:
    home = folder / "home"
    home.mkdir()
    _publish(ModelStore(home / "bentoml"), folder)
    keys = KeyStore(Database(sqlite_url(home / "vitrine.sqlite")))
    key, other_key = (keys.create(owner)[1] for owner in ("ann", "bob"))
    service = Service(
        home, VITRINE_RUN_WORKER="false", VITRINE_DTYPE="float32", VITRINE_TRAINING_THREADS="1",
        VITRINE_WEBHOOK_PRIVATE="true", VITRINE_MAX_FILE_BYTES=str(32 * 2**20),
    )  # fmt: skip
    with _receiver() as receiver:
        try:
            service.start(set_up=False)
            found = Prepared(service, key, other_key, receiver)
            with found.client() as client:
                _fill(client, found)
            yield found
        finally:
            service.stop()


def _publish(store: ModelStore, folder: Path) -> None:
    """Under the names that the examples of the OpenAPI document have."""
    texts = [row["text"] for row in ROWS]
    words, letters = train_wordpiece(texts, 400), train_byte_bpe(texts, 400)
    encoder = TransformerConfig(vocab_size=words.vocab_size, num_segments=2, norm_embeddings=True, **SMALL)  # type: ignore[arg-type]
    decoder = TransformerConfig(
        vocab_size=letters.vocab_size, architecture="decoder", norm_first=True, bos_id=0, eos_id=0, task="causal_lm", **SMALL,  # type: ignore[arg-type]
    )  # fmt: skip
    classifier = encoder.with_task("classification", ("negative", "positive"))
    models: dict[str, tuple[TransformerConfig, Tokenizer, str | None]] = {
        "minilm-l6": (encoder, words, None),
        "chinese-encoder": (encoder.with_task("masked_lm"), words, None),
        "chinese-writer": (decoder, letters, None),
        "places": (encoder.with_task("tagging", LABELS["tagger"]), words, None),
        "movie-sentiment": (classifier, words, None),  # as if it were a base, so that no test can delete it
        "movies-1": (classifier, words, "minilm-l6"),
        "movies-2": (classifier, words, "minilm-l6"),
        "old-model": (classifier, words, "minilm-l6"),
    }
    for seed, (name, (config, tokenizer, base)) in enumerate(models.items()):
        save_model(shaped(seed, config), tokenizer, folder / name)
        (folder / name / CARD_FILE).write_text(f"# {name}\n")
        tuned = {"metrics": {"accuracy": 0.9}, "owner": "ann"} if base else {"metrics": None}
        store.publish(folder / name, name, f"{name}:1", base, **tuned)  # type: ignore[arg-type]


def _fill(client: httpx.Client, found: Prepared) -> None:
    ids, home = found.ids, found.service.home
    rows = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
    for name in ("rows", "unused rows"):
        ids[name] = _sent(client, "/v1/files", files={"file": ("rows.jsonl", rows)}, data={"purpose": "fine-tune"})
    job: dict[str, Any] = {"model": "minilm-l6", "training_file": ids["rows"], "hyperparameters": {"n_epochs": 1}}
    ids["done job"] = _sent(client, "/v1/fine_tuning/jobs", json=job | {"training_method": "fine_tune"})
    client.get(f"/v1/files/{ids['rows']}/report")  # from here on the worker makes it
    with subprocess.Popen(
        [sys.executable, "-m", "service", "worker"], env=found.service.environment, cwd=ROOT,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=(home / "worker.log").open("wb"),
    ) as worker:  # fmt: skip
        wait_for(lambda: _job(client, ids["done job"])["status"] in ("succeeded", "failed"), JOB_SECONDS)
        wait_for(lambda: client.get(f"/v1/files/{ids['rows']}/report").status_code == 200, JOB_SECONDS)
        worker.terminate()
    done = _job(client, ids["done job"])
    assert done["status"] == "succeeded", done["error"]
    ids["tuned model"] = done["fine_tuned_model"]
    for name in ("job to cancel", "job to pause", "paused job"):
        ids[name] = _sent(client, "/v1/fine_tuning/jobs", json=job)
    client.post(f"/v1/fine_tuning/jobs/{ids['paused job']}/pause").raise_for_status()
    for alias in ("named", "moved", "unused"):
        for model in ("movies-1", "movies-2"):
            client.post(f"/v1/models/{model}/promote", json={"alias": alias}).raise_for_status()
    ids["batch file"], ids["batch"] = _batch(client, 2, 1)
    for name in ("endpoint", "unused endpoint"):
        body = {"name": name, "url": found.receiver, "event_types": ["fine_tuning.job.succeeded"]}
        ids[name] = _sent(client, "/v1/webhook_endpoints", json=body)


def start_long_batch(client: httpx.Client) -> str:
    return _batch(client, *LONG_BATCH)[1]


def _batch(client: httpx.Client, count: int, texts: int) -> tuple[str, str]:
    """-> the file of its requests, and the batch."""
    line = {"method": "POST", "url": "/v1/classify", "body": {"model": "movies-1", "input": ["A good film"] * texts}}
    lines = "".join(json.dumps({"custom_id": f"r{number}"} | line) + "\n" for number in range(count))
    file = _sent(client, "/v1/files", files={"file": ("requests.jsonl", lines)}, data={"purpose": "batch"})
    body = {"input_file_id": file, "endpoint": "/v1/classify", "completion_window": "24h"}
    return file, _sent(client, "/v1/batches", json=body)


def _sent(client: httpx.Client, path: str, **parts: Any) -> str:
    answer = client.post(path, **parts)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def _job(client: httpx.Client, job_id: str) -> Any:
    return client.get(f"/v1/fine_tuning/jobs/{job_id}").json()


@contextmanager
def _receiver() -> Iterator[str]:
    """Takes every POST with 204."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()
