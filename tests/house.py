"""A service in this process, without a worker, over real HTTP semantics; Ann has a file, a job, models, Bob nothing."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from fastapi import FastAPI
from fastapi.testclient import TestClient

from model.config import TransformerConfig
from model.heads import TextModel
from model.tokenizer import train_wordpiece
from model.weights import save_model
from service.aliases import AliasStore
from service.app import create_app
from service.database import Database
from service.jobs.store import JobStore
from service.keys import KeyStore
from service.model_store import ModelStore
from service.settings import Settings
from tests.conftest import wait_for

WORDS = ["red", "green", "blue", "cat", "dog"]


@dataclass
class House:
    """One such service."""

    app: FastAPI
    client: TestClient
    settings: Settings
    ann: dict[str, str]  # headers
    bob: dict[str, str]
    reader: dict[str, str]  # Ann's key that may only ask
    reader_id: str
    file: str
    job: str
    model: str
    webhook: str
    batch: str

    def ask(self, method: str, path: str, headers: dict[str, str], **options: Any) -> Any:
        return self.client.request(method, path, headers=headers, **options)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with made_house(tmp_path_factory.mktemp("house"), "cpu") as made:
        yield made


@contextmanager
def made_house(folder: Path, device: Literal["cpu", "cuda"], **fields: Any) -> Iterator[House]:
    settings = Settings(home=folder / "home", default_model="tiny", run_worker=False, device=device, **fields)
    tokenizer = train_wordpiece([" ".join(WORDS)] * 5, 100)
    config = TransformerConfig(
        vocab_size=tokenizer.vocab_size, width=16, num_layers=1, num_heads=2, feed_forward_width=24, max_positions=32,
        num_segments=2, dropout=0.0,
    )  # fmt: skip
    torch.manual_seed(0)
    models = ModelStore(settings.bentoml_home)
    save_model(TextModel(config.with_task("masked_lm", ())), tokenizer, folder / "base")
    models.publish(folder / "base", "tiny", "tiny:1", None, None)
    save_model(TextModel(config.with_task("classification", ("x", "y"))), tokenizer, folder / "tuned")
    for number, accuracy in ((1, 0.8), (2, 0.9), (3, 0.7)):
        figures = {"accuracy": accuracy, "loss": 1 - accuracy}
        models.publish(folder / "tuned", f"ft:tiny:vitrine:mood:{number}", f"ft-mood:{number}", "tiny", figures, "ann")
    store = KeyStore(Database(settings.database_url))
    (_, ann), (_, bob), (reader_row, reader) = store.create("ann"), store.create("bob"), store.create("ann", ["infer"])
    store._database.close()
    headers = [{"authorization": f"Bearer {key}"} for key in (ann, bob, reader)]
    app, gate = create_app(settings)
    with TestClient(gate, base_url="http://localhost") as client:
        rows = b"".join(
            b'{"text": "red %d", "label": "x"}\n{"text": "cat %d", "label": "y"}\n' % (n, n) for n in range(9)
        )
        upload = {"file": ("rows.jsonl", io.BytesIO(rows)), "purpose": (None, "fine-tune")}
        file = client.post("/v1/files", headers=headers[0], files=upload).json()["id"]
        body = {"model": "tiny", "training_file": file}
        job = client.post("/v1/fine_tuning/jobs", headers=headers[0], json=body).json()["id"]
        jobs = JobStore(Database(settings.database_url))
        jobs.add_checkpoint(job, 5, "ft:tiny:vitrine:mood:1:ckpt-step-5", {"step": 5})
        jobs._database.close()
        aliases = AliasStore(Database(settings.database_url))
        aliases.promote("ann", "moods", "ft:tiny:vitrine:mood:1")
        aliases._database.close()
        hook = {"name": "mine", "url": "https://example.com/hook", "event_types": ["fine_tuning.job.succeeded"]}
        requests = (
            b'{"custom_id": "1", "method": "POST", "url": "/v1/classify", "body": {"model": "tiny", "input": "x"}}\n'
        )
        upload = {"file": ("requests.jsonl", io.BytesIO(requests)), "purpose": (None, "batch")}
        body = {"input_file_id": client.post("/v1/files", headers=headers[0], files=upload).json()["id"]}
        body |= {"endpoint": "/v1/classify", "completion_window": "24h"}
        batch = client.post("/v1/batches", headers=headers[0], json=body).json()["id"]
        asked = lambda: client.get(f"/v1/batches/{batch}", headers=headers[0]).json()  # noqa: E731
        wait_for(lambda: asked()["status"] == "completed", 60, asked)  # else its file comes amid a test
        webhook = client.post("/v1/webhook_endpoints", headers=headers[0], json=hook).json()["id"]
        yield House(app, client, settings, *headers, reader_row.id, file, job, "ft:tiny:vitrine:mood:1", webhook, batch)
