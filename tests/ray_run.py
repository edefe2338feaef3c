"""A Ray cluster of two nodes on this machine, in a network of its own so that nothing else reaches it, and a worker that
trains on it. Prints what was seen as one line of JSON. Run by `test_ray.py`:

    unshare --net --pid --fork --kill-child --mount-proc python -m tests.ray_run FOLDER DATABASE
"""

import contextlib
import fcntl
import hashlib
import io
import json
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray.cluster_utils import Cluster
from safetensors.torch import load_file
from torch import Tensor

from service.database import Database
from service.files import FileStorage
from service.ids import new_id
from service.jobs.executors import OnRay
from service.jobs.lease import Lease
from service.jobs.store import JobStore
from service.model_store import ModelStore
from service.settings import Settings
from service.tables import Job
from tests.chaos import BASE, prepare_base
from tests.conftest import ROOT, free_port, wait_for

EPOCHS, BATCH_SIZE, ROWS = 4, 8, 400
WORDS = ["red", "green", "blue", "cat", "dog", "bird", "runs", "sleeps"]


def main() -> None:
    folder, database = Path(sys.argv[1]), sys.argv[2]
    raise_loopback()
    port = free_port()
    shared = {
        "VITRINE_HOME": str(folder / "home"), "VITRINE_DATABASE": database, "VITRINE_ARTEFACTS": f"file://{folder}/shared",
        "VITRINE_EXECUTOR": "ray", "VITRINE_RAY_ADDRESS": f"http://127.0.0.1:{port}", "VITRINE_RAY_NODES": "2",
        "VITRINE_DEFAULT_MODEL": BASE, "VITRINE_KEEP_CHECKPOINTS": "1", "VITRINE_LEASE_SECONDS": "5",
        "VITRINE_TRAINING_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }  # fmt: skip
    os.environ |= shared
    small = {"num_cpus": 1, "object_store_memory": 10**8}
    cluster = Cluster(initialize_head=True, head_node_args={**small, "include_dashboard": True, "dashboard_port": port})
    second = cluster.add_node(**small)
    print("the cluster stands", file=sys.stderr, flush=True)
    settings = Settings()
    prepare_base(settings.home, dropout=0.0)  # whose random bits depend on the number of processes
    ModelStore.of(settings).share_all()
    store = JobStore(Database(settings.database_url))
    facts: dict[str, Any] = {"nothing_done": nothing_done(settings, store)}
    worker = subprocess.Popen([sys.executable, "-m", "service.jobs.process"], cwd=ROOT, stdin=subprocess.PIPE)
    try:
        calm = submit(settings, store)
        wait_for(lambda: store.job(calm).status in ("succeeded", "failed"), 400, told(store, calm))
        disturbed = submit(settings, store)
        wait_for(lambda: step_of(store, disturbed) >= ROWS // BATCH_SIZE, 400, told(store, disturbed))
        cluster.remove_node(second, allow_graceful=False)
        print("the second node is dead", file=sys.stderr, flush=True)
        wait_for(lambda: store.job(disturbed).status in ("succeeded", "failed"), 400, told(store, disturbed))
    finally:
        worker.kill()
        worker.wait()
    facts["jobs"] = [facts_of(settings, store, job_id) for job_id in (calm, disturbed)]
    first, then = (load_file(one["weights"]) for one in facts["jobs"])
    base = load_file(ModelStore.of(settings).find(BASE).folder / "model.safetensors")
    trained = [name for name in first if name in base and first[name].is_floating_point()]
    facts["difference"] = distance(first, then, trained) / distance(first, base, trained)
    if os.getpid() != 1:  # else the processes of the cluster end with this one's namespace
        cluster.shutdown()
    print(json.dumps(facts), flush=True)
    os._exit(0)


def raise_loopback() -> None:
    """In a new network the loopback is down."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket, contextlib.suppress(PermissionError):
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh", b"lo", 0x1))  # SIOCSIFFLAGS, IFF_UP


def submit(settings: Settings, store: JobStore) -> str:
    lines = [
        {"text": f"{WORDS[n % 3]} {WORDS[3 + n % 5]} {WORDS[n % 7]}", "label": "warm" if n % 3 == 0 else "cold"}
        for n in range(ROWS)
    ]
    content = "".join(json.dumps(line) + "\n" for line in lines).encode()
    file_id = new_id("file")
    store.add_file(file_id, "rows.jsonl", FileStorage.of(settings).write(file_id, io.BytesIO(content)), "fine-tune")
    store.set_file_checked(file_id, [], [], ["cold", "warm"], ROWS, "classification")
    fields = {"n_epochs": EPOCHS, "batch_size": BATCH_SIZE, "training_method": "fine_tune"}
    fields |= {"learning_rate_multiplier": 2.0}  # for a base that was never pre-trained
    job = Job(id=new_id("ftjob"), model=BASE, training_file=file_id, seed=1, hyperparameters=fields, meta={}, request_key=None)  # fmt: skip
    return store.create_job(job, 100, None).id


def nothing_done(settings: Settings, store: JobStore) -> dict[str, Any]:
    """A job that Ray calls succeeded and whose processes did nothing."""
    job_id = submit(settings, store)
    job = store.claim_job("somebody", 60)
    assert job is not None
    ray = OnRay(settings, store, "somebody", threading.Event())
    ray.entrypoint = lambda _: "true"  # type: ignore[method-assign]
    ray.run(job, Lease(store, job_id, "somebody", 60, job.priority))
    found = store.job(job_id)
    store.cancel_job(job_id)
    return {"status": found.status, "messages": messages(store, job_id)}


def distance(one: dict[str, Tensor], other: dict[str, Tensor], names: list[str]) -> float:
    """Euclidean, of the weights of these names."""
    return float(sum((one[name] - other[name]).square().sum() for name in names)) ** 0.5


def step_of(store: JobStore, job_id: str) -> int:
    return int((store.job(job_id).progress or {}).get("step", 0))


def messages(store: JobStore, job_id: str) -> list[str]:
    return [event.message for event in store.events_since(job_id, None, 1_000)[0]]


def told(store: JobStore, job_id: str) -> Callable[[], object]:
    return lambda: (store.job(job_id).status, store.job(job_id).error, messages(store, job_id)[-8:])


def facts_of(settings: Settings, store: JobStore, job_id: str) -> dict[str, Any]:
    job = store.job(job_id)
    facts: dict[str, Any] = {"status": job.status, "attempts": job.attempts, "messages": messages(store, job_id)}
    facts["keys"] = [event.key for event in store.events_since(job_id, None, 1_000)[0]]
    if job.fine_tuned_model:
        weights = ModelStore.of(settings).find(job.fine_tuned_model).folder / "model.safetensors"
        facts |= {"weights": str(weights), "sha256": hashlib.sha256(weights.read_bytes()).hexdigest()}
    facts["accuracy"] = (job.metrics or {}).get("accuracy")
    return facts


if __name__ == "__main__":
    main()
