"""Random kills, on a seeded schedule: of the service and of workers, with signal 9, amid uploads, creates, training,
checkpoints and the publishing of models. Afterwards everything that was acknowledged must be there, every job must have
ended once, and all models must be those of a run that nobody disturbed. `make chaos` makes 200 kills; a test makes fewer.

    python -m tests.chaos --kills 200 --seed 1
"""

import argparse
import contextlib
import hashlib
import io
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import torch
from tqdm import tqdm

from model.config import TransformerConfig
from model.heads import TextModel
from model.tokenizer import train_wordpiece
from model.weights import save_model
from service.database import Database
from service.files import FileStorage
from service.ids import new_id
from service.jobs.store import JobStore
from service.jobs.worker import Worker
from service.model_store import ModelStore
from service.settings import Settings
from service.tables import Job
from tests.conftest import ROOT, Service

PHASES = ("upload", "create", "train", "checkpoint", "register")
WORKERS = 2
BASE = "tiny"
WORDS = ["red", "green", "blue", "cat", "dog", "bird", "runs", "sleeps"]
ROWS, BATCH_SIZE, EPOCHS, SEED = 900, 8, 4, 3
MOMENT_SECONDS = 300.0  # to wait for the moment of a kill, on a machine that may be busy
WATCH_SECONDS = 1.0  # for such a moment, before jobs are listed anew
END_SECONDS = 900.0
BOTH_SHARE = 0.15  # of the kills that take the service and a worker together
MOST_REGISTER_KILLS = 2  # of one job: a job whose workers die again and again without a step counts as broken


@dataclass
class Acknowledged:
    """What the service has said it has."""

    files: dict[str, str] = field(default_factory=dict)  # id -> SHA-256 of its bytes
    jobs: set[str] = field(default_factory=set)
    events: dict[str, set[str]] = field(default_factory=dict)  # of each job


class Chaos:
    """One service, two workers, and who kills them."""

    def __init__(self, home: Path, seed: int) -> None:
        self.chance = random.Random(seed)
        self.kills: Counter[tuple[str, str]] = Counter()  # phase, what was killed
        self.known = Acknowledged()
        self.registered: Counter[str] = Counter()
        self.home = home
        prepare_base(home)
        settings = {"VITRINE_RUN_WORKER": "false", "VITRINE_LEASE_SECONDS": "1.5", "VITRINE_DEFAULT_MODEL": BASE}
        settings |= {"VITRINE_KEEP_CHECKPOINTS": "1", "OMP_NUM_THREADS": "1", "VITRINE_TRAINING_THREADS": "1"}
        self.service = Service(home, **settings)
        self.settings = Settings(home=home, default_model=BASE)
        self.store = JobStore(Database(self.settings.database_url))
        self.workers = [self._new_worker() for _ in range(WORKERS)]
        self.service.start(set_up=False)

    # ---- what is disturbed

    def upload(self) -> str | None:
        """Rows sent in small pieces -> the file's id, when the service has said so."""
        body, digest = rows(len(self.known.files))

        def slowly() -> Iterator[bytes]:
            for start in range(0, len(body), 4096):
                yield body[start : start + 4096]
                time.sleep(0.01)

        try:
            answer = httpx.post(
                f"{self.service.url}/v1/files", content=slowly(), headers={"content-type": "multipart/form-data; boundary=x"}, timeout=60
            )  # fmt: skip
            answer.raise_for_status()
        except httpx.HTTPError:
            return None
        file_id = str(answer.json()["id"])
        self.known.files[file_id] = digest
        return file_id

    def create(self, file_id: str) -> None:
        body = {"model": BASE, "training_file": file_id, "seed": SEED}
        body |= {"hyperparameters": {"n_epochs": EPOCHS, "batch_size": BATCH_SIZE, "learning_rate_multiplier": 5.0}}
        with contextlib.suppress(httpx.HTTPError):
            answer = httpx.post(f"{self.service.url}/v1/fine_tuning/jobs", json=body, timeout=60)
            if answer.status_code == 200:
                self.known.jobs.add(answer.json()["id"])

    def note_events(self) -> None:
        """What the service shows of its jobs must be there for ever."""
        for job_id in list(self.known.jobs):
            with contextlib.suppress(httpx.HTTPError):
                url = f"{self.service.url}/v1/fine_tuning/jobs/{job_id}/events?limit=1000"
                seen = {event["id"] for event in httpx.get(url, timeout=30).raise_for_status().json()["data"]}
                self.known.events.setdefault(job_id, set()).update(seen)

    # ---- the kills

    def disturb(self, phase: str) -> None:
        """One kill amid this phase."""
        if phase == "upload":
            self._amid(self.upload, 0.5)
        elif phase == "create":
            file_id = self.upload() or next(iter(self.known.files))
            self._amid(lambda: self.create(file_id), 0.1)
        else:
            self._kill_worker_at(phase)

    def _amid(self, request: Callable[[], object], within: float) -> None:
        asking = threading.Thread(target=request)
        asking.start()
        time.sleep(self.chance.uniform(0, within))
        phase = "upload" if request == self.upload else "create"
        if self.chance.random() < BOTH_SHARE:
            self._kill(self.chance.choice(self.workers))
            self.kills[phase, "both"] += 1
        else:
            self.kills[phase, "service"] += 1
        self.service.kill()
        asking.join()
        self.service.start(set_up=False)
        self.note_events()

    def _kill_worker_at(self, phase: str) -> None:
        deadline = time.monotonic() + MOMENT_SECONDS
        while (job := self._at(phase)) is None or (worker := self._worker_of(job)) is None:
            self._keep_busy()
            if time.monotonic() > deadline:
                raise AssertionError(f"no job came to the phase {phase!r} within {MOMENT_SECONDS:g} s")
        if phase == "train":
            time.sleep(self.chance.uniform(0, 0.5))
        elif phase == "register":
            self.registered[job.id] += 1
            time.sleep(self.chance.uniform(0, 0.1))
        self._kill(worker)
        if self.chance.random() < BOTH_SHARE:
            self.service.kill()
            self.service.start(set_up=False)
            self.kills[phase, "both"] += 1
        else:
            self.kills[phase, "worker"] += 1

    def _worker_of(self, job: Job) -> "subprocess.Popen[bytes] | None":
        """None when it is dead, and the job not taken over yet."""
        pid = int(job.worker.split("-")[-2]) if job.worker else 0
        return next((worker for worker in self.workers if worker.pid == pid), None)

    def _at(self, phase: str) -> Job | None:
        """A running job at this very moment of its life. Some are over in milliseconds, so nothing else is asked for
        meanwhile."""
        running = [job for job in self.store.list_jobs(None, 50)[0] if job.status == "running" and self._worker_of(job)]
        deadline = time.monotonic() + WATCH_SECONDS
        while time.monotonic() < deadline:
            for job in running:
                if self._is_at(phase, job.id):
                    return job
            time.sleep(0.002)
        return None

    def _is_at(self, phase: str, job_id: str) -> bool:
        folder = self.settings.runs / job_id
        if phase == "checkpoint":
            return (folder / ".checkpoint.tmp").is_dir()
        if (folder / "manifest.json").is_file() != (phase == "register"):
            return False
        job = self.store.job(job_id)
        if job.status != "running":
            return False
        return (
            bool((job.progress or {}).get("step"))
            if phase == "train"
            else self.registered[job_id] < MOST_REGISTER_KILLS
        )

    def _keep_busy(self) -> None:
        """There is always a job to disturb."""
        open_jobs = [job for job in self.store.list_jobs(None, 50)[0] if job.finished_at is None]
        if len(open_jobs) < WORKERS + 1:
            file_id = self.upload()
            if file_id is not None:
                self.create(file_id)

    def _kill(self, worker: "subprocess.Popen[bytes]") -> None:
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        self.workers[self.workers.index(worker)] = self._new_worker()

    def _new_worker(self) -> "subprocess.Popen[bytes]":
        with open(self.home / "worker.log", "ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "service.jobs.process"], cwd=ROOT, env=self.service.environment,
                stdin=subprocess.PIPE, stdout=log, stderr=log,
            )  # fmt: skip

    # ---- the end

    def settle(self) -> None:
        """Waits until every job has ended."""
        deadline = time.monotonic() + END_SECONDS
        while any(job.finished_at is None for job in self._jobs()):
            assert time.monotonic() < deadline, [(job.id, job.status, job.progress) for job in self._jobs()]
            time.sleep(0.5)
        self.note_events()

    def _jobs(self) -> list[Job]:
        return [self.store.job(job_id) for job_id in self.known.jobs]

    def check(self, undisturbed: str) -> dict[str, int]:
        """Raises AssertionError for anything lost, doubled or different -> what was counted."""
        for file_id, digest in self.known.files.items():
            content = httpx.get(f"{self.service.url}/v1/files/{file_id}/content", timeout=60).raise_for_status().content
            assert hashlib.sha256(content).hexdigest() == digest, file_id
        events = 0
        for job in self._jobs():
            assert job.status == "succeeded", (job.id, job.error)
            found = self.store.events_since(job.id, None, 100_000)[0]
            assert self.known.events.get(job.id, set()) <= {event.id for event in found}, "an event is lost"
            keys = [event.key for event in found]
            assert len(set(keys)) == len(keys)
            assert sum(event.key in ("succeeded", "failed", "cancelled") for event in found) == 1, "one end"
            steps = [event.data["step"] for event in found if event.key.startswith("step:")]
            assert steps == sorted(set(steps))
            assert steps[-1] >= 50
            events += len(found)
            assert job.fine_tuned_model is not None
            folder = ModelStore(self.settings.bentoml_home).find(job.fine_tuned_model).folder
            assert weights_hash(folder) == undisturbed, f"{job.id} has other weights"
        return {"files": len(self.known.files), "jobs": len(self.known.jobs), "events": events}

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()
            worker.wait()
        self.service.stop()
        self.store._database.close()


def prepare_base(home: Path, dropout: float = 0.1) -> None:
    """A tiny base in the store, and nothing to fetch."""
    tokenizer = train_wordpiece([" ".join(WORDS)] * 5, 150)
    config = TransformerConfig(
        vocab_size=tokenizer.vocab_size, width=32, num_layers=2, num_heads=2, feed_forward_width=64, max_positions=32,
        num_segments=2, dropout=dropout, task="masked_lm",
    )  # fmt: skip
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        save_model(TextModel(config), tokenizer, Path(folder) / "base")
        ModelStore(Settings(home=home).bentoml_home).publish(Path(folder) / "base", BASE, "tiny:1", None, None)


def rows(number: int) -> tuple[bytes, str]:
    """The body of an upload, always of the same rows -> and the SHA-256 of the file."""
    chance = random.Random(0)
    lines = []
    for _ in range(ROWS):
        words = [chance.choice(WORDS) for _ in range(6)]
        lines.append(json.dumps({"text": " ".join(words), "label": "warm" if "red" in words else "cold"}))
    content = ("\n".join(lines) + "\n").encode()
    head = b'--x\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n'
    head += f'--x\r\ncontent-disposition: form-data; name="file"; filename="{number}.jsonl"\r\n\r\n'.encode()
    return head + content + b"\r\n--x--\r\n", hashlib.sha256(content).hexdigest()


def weights_hash(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def undisturbed_run(folder: Path) -> str:
    """The weights of the same job, made in peace by a worker of this process."""
    settings = Settings(home=folder, default_model=BASE, training_threads=1)
    prepare_base(folder)
    worker = Worker(settings)
    body, _ = rows(0)
    content = body[body.index(b'"0.jsonl"') :].split(b"\r\n\r\n", 1)[1].rsplit(b"\r\n--x--", 1)[0]
    file_id = new_id("file")
    size = FileStorage(settings.files).write(file_id, io.BytesIO(content))
    worker.store.add_file(file_id, "0.jsonl", size, "fine-tune")
    wanted = {"n_epochs": EPOCHS, "batch_size": BATCH_SIZE, "learning_rate_multiplier": 5.0}
    wanted |= {"task": None, "adapter": "auto", "class_weights": None, "early_stopping": None, "max_length": "auto", "training_method": "auto"}  # fmt: skip
    job = Job(id=new_id("ftjob"), model=BASE, training_file=file_id, seed=SEED, hyperparameters=wanted, meta={}, request_key=None)  # fmt: skip
    while worker.checks.check_once():
        pass
    job_id = worker.store.create_job(job, 10, None).id
    while worker.store.job(job_id).finished_at is None:
        worker.work_once()
    done = worker.store.job(job_id)
    assert done.status == "succeeded", done.error
    assert done.fine_tuned_model is not None
    found = weights_hash(worker.models.find(done.fine_tuned_model).folder)
    worker.database.close()
    return found


def run(kills: int, seed: int) -> str:
    """So many kills, evenly over the phases -> what was done and found, for the reader."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        undisturbed = undisturbed_run(Path(folder) / "peace")
        home = Path(folder) / "home"
        home.mkdir()
        schedule = [PHASES[number % len(PHASES)] for number in range(kills)]
        random.Random(seed).shuffle(schedule)
        chaos = Chaos(home, seed)
        try:
            for phase in tqdm(schedule, unit="kill", mininterval=5):
                chaos.disturb(phase)
            chaos.settle()
            counts = chaos.check(undisturbed)
        finally:
            chaos.close()
    lines = [f"{kills} kills, seed {seed}"]
    for phase in PHASES:
        own = {target: count for (name, target), count in sorted(chaos.kills.items()) if name == phase}
        lines.append(
            f"  {phase:10} {sum(own.values()):4}  " + ", ".join(f"{count} of {name}" for name, count in own.items())
        )
    lines.append("afterwards: " + ", ".join(f"{count:,} {what}" for what, count in counts.items()) + " acknowledged")
    lines.append("all there; each job ended once, with the weights of the undisturbed run")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    print(run(given.kills, given.seed))
