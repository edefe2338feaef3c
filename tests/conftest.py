"""Shared by the suite: the real base model, real movie sentences, and one real service on loopback."""

import atexit
import contextlib
import functools
import gc
import itertools
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pgserver
import pytest
import torch
from hypothesis import HealthCheck, settings

from model.lora import merge, save_adapter
from model.tokenizer import train_byte_bpe
from model.weights import save_model
from service.database import sqlite_url
from service.model_store import ModelStore
from tests.faults import faults, pytest_sessionfinish, pytest_terminal_summary, pytest_testnodedown
from tests.zoo import TEXTS, Zoo, make_zoo, random_adapter
from training.catalogue import fetch_minilm, movie_sentiment
from training.catalogue.packages import FETCHING

__all__ = ["faults", "pytest_sessionfinish", "pytest_terminal_summary", "pytest_testnodedown"]

ROOT = Path(__file__).parents[1]
START_SECONDS = 240  # two API processes load torch and a model each, perhaps beside two that train
PATIENCE_SECONDS = 60.0  # of a request that names no other; httpx gives up after 5, less than a busy machine may pause
LONGEST = (  # files, the longest first
    "test_readme", "test_jobs", "test_training_parallel", "test_remote_cli", "test_contract", "test_models", "test_ray",
    "test_training_memory", "test_chaos", "test_docs", "test_openapi", "test_load", "test_hostile", "test_training_kills",
    "test_training", "test_packaging",
)  # fmt: skip
Rows = list[dict[str, str]]

settings.register_profile("suite", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")  # a pause of the machine is no finding, and a run can be repeated
for part in ("connect", "read", "write", "pool"):
    setattr(httpx._config.DEFAULT_TIMEOUT_CONFIG, part, PATIENCE_SECONDS)


def pytest_configure() -> None:
    """The processes of the suite share the cores: twice as many threads as cores would wait for each other. Python's
    collector does not go through the modules of the suite, neither while they are loaded nor during the tests."""
    gc.disable()
    atexit.register(gc.freeze)
    if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])))


@pytest.hookimpl(tryfirst=True)  # before `-m faults` chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take minutes begin first: at the end one process would wait for another that is amid one. Tests that
    tell what an attack or a fault led to are marked."""
    for item in items:
        if "faults" in getattr(item, "fixturenames", ()):
            item.add_marker("faults")
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(LONGEST)))


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def cache() -> Path:
    """Downloads outlive a run of the suite."""
    return Path(os.environ.get("VITRINE_HOME", ROOT / ".vitrine")).absolute() / "cache"


@pytest.fixture(scope="session")
def minilm(cache: Path) -> Path:
    return fetch_minilm(cache)


@pytest.fixture(scope="session")
def movie_rows(cache: Path) -> Rows:
    """The 8,454 training rows, in their fixed order."""
    return list(movie_sentiment(cache)["train"])


@pytest.fixture(scope="session")
def sentences(movie_rows: Rows) -> list[str]:
    """64 real sentences of mixed length."""
    return [row["text"] for row in random.Random(1).sample(movie_rows, 64)]


def write_jsonl(path: Path, rows: Rows) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Service:
    """A `vitrine serve` process with a home of its own; it can be killed and started again."""

    def __init__(self, home: Path, command: list[str] | None = None, **settings: str) -> None:
        self.home = home
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = os.environ | {"VITRINE_HOME": str(home), "VITRINE_DEMO_JOB": "false", **settings}
        self.environment.pop("BENTOML_HOME", None)
        self.command = command or [sys.executable, "-m", "service", "serve", "--port", str(self.port)]
        self.process: subprocess.Popen[bytes] | None = None

    def set_up(self) -> None:
        """`vitrine setup`, which `make serve` runs before each start."""
        setup = [sys.executable, "-m", "service", "setup"]
        subprocess.run(setup, env=self.environment, cwd=ROOT, check=True, capture_output=True, timeout=300)

    def start(self, set_up: bool = True) -> "Service":
        if set_up and not (self.home / "bentoml").is_dir():
            self.set_up()
        wait_for(self.port_is_free, 60)  # API processes of a killed one end in a moment, and would answer in its place
        with open(self.home / "service.log", "ab") as log:
            self.process = subprocess.Popen(
                self.command, env=self.environment, cwd=ROOT, stdout=log, stderr=log, start_new_session=True
            )
        try:
            wait_for(self.is_ready, START_SECONDS, lambda: (self.home / "service.log").read_text()[-3000:])
        except BaseException:
            self.kill()  # nobody else would end it
            raise
        return self

    def is_ready(self) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/readyz", timeout=2).status_code == 200
        return False

    def port_is_free(self) -> bool:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # closed connections do not count
            probe.bind(("127.0.0.1", self.port))
            return True
        return False

    def kill(self, which: int = signal.SIGKILL) -> None:
        """Ends the whole process group at once, as a power cut would."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, which)
        self.process.wait(timeout=150)
        self.process = None

    def stop(self) -> None:
        if self.process is not None:
            self.kill(signal.SIGTERM)

    def worker_pids(self) -> list[int]:
        """The job workers of this very service."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                command = (folder / "cmdline").read_bytes()
                environment = (folder / "environ").read_bytes()
                if b"service.jobs.process" in command and f"VITRINE_HOME={self.home}\0".encode() in environment:
                    found.append(int(folder.name))
        return found


def wait_for(condition: Callable[[], bool], seconds: float, describe: Callable[[], object] = lambda: "") -> None:
    """Polls until true; fails with the description when it is false after time has run out."""
    deadline = time.monotonic() + seconds
    late = False
    while not condition():
        assert not late, f"not within {seconds} s: {describe()}"
        time.sleep(0.2)
        late = time.monotonic() > deadline  # asked once more, however long the last look and the pause took


@functools.cache
def ready_home(cache: Path) -> Path:
    """A home as `vitrine setup` leaves it, with its downloads; made once in each process of the suite, to be copied."""
    fetch_minilm(cache)  # whichever test comes first
    home = Path(tempfile.mkdtemp(prefix="vitrine-home-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    beside = shutil.ignore_patterns(f"{FETCHING}*")  # other processes of the suite fetch what their tests read
    shutil.copytree(cache, home / "cache", ignore=beside)
    Service(home).set_up()
    return home


def new_home(folder: Path, cache: Path) -> Path:
    """A home that is set up."""
    return Path(shutil.copytree(ready_home(cache), folder / "home"))


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Callable[[], str]]:
    """A real PostgreSQL server on a socket of its own; makes new, empty databases -> their URLs."""
    folder = Path(tempfile.mkdtemp(prefix="vitrine-postgresql-"))
    folder.chmod(0o755)  # the server runs as another user when we are root
    server = pgserver.get_server(folder, cleanup_mode="delete")
    numbers = itertools.count()

    def make() -> str:
        name = f"vitrine_{next(numbers)}"
        server.psql(f"CREATE DATABASE {name};")
        return str(server.get_uri(database=name))

    yield make
    server.cleanup()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return sqlite_url(tmp_path / "store.sqlite")
    make: Callable[[], str] = request.getfixturevalue("postgresql")
    return make()


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory, cache: Path, minilm: Path) -> Iterator[Service]:
    """Two API workers, small limits where tests reach for them."""
    assert minilm.is_dir()
    home = new_home(tmp_path_factory.mktemp("service"), cache)
    limits = {
        "VITRINE_MAX_FILE_BYTES": str(4 * 2**20),
        "VITRINE_REQUEST_TIMEOUT_SECONDS": "300",
        "VITRINE_LEASE_SECONDS": "60",
    }
    running = Service(home, VITRINE_API_WORKERS="2", **limits).start()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def closed_service(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[tuple[Service, dict[str, str]]]:
    """A service with keys, made on the command line before its start -> the keys by owner; "... asks" may only ask."""
    home = new_home(tmp_path_factory.mktemp("contract"), cache)
    service = Service(home, VITRINE_REQUESTS_PER_MINUTE="600", VITRINE_MAX_FILE_BYTES=str(2**21))
    keys = {}
    wanted = {"ann": "infer,train", "bob": "infer,train", "ann asks": "infer", "bob asks": "infer", "hasty": "infer"}
    for name, scopes in wanted.items():
        owner = name.removesuffix(" asks")
        command = [sys.executable, "-m", "service", "keys", "create", "--owner", owner, "--scopes", scopes]
        done = subprocess.run(command, cwd=ROOT, env=service.environment, capture_output=True, text=True, check=True)
        (keys[name],) = re.findall(r"^vt-\S+$", done.stdout, re.MULTILINE)
    yield service.start(), keys
    service.stop()


@pytest.fixture(scope="session")
def zoo() -> Zoo:
    return make_zoo()


@pytest.fixture(scope="session")
def exact(zoo: Zoo, tmp_path_factory: pytest.TempPathFactory, cache: Path, minilm: Path) -> Iterator[Service]:
    """A service in float32 whose store has the zoo."""
    folder = tmp_path_factory.mktemp("heads")
    home = new_home(folder, cache)
    store = ModelStore(home / "bentoml")
    for name, model in zoo.models.items():
        tokenizer = zoo.bytes if name == "writer" else zoo.words
        if name == "segmenter":
            tokenizer = train_byte_bpe(TEXTS, 300, encoder_decoder=True)
        save_model(model, tokenizer, folder / name)
        store.publish(folder / name, name, f"{name}:1", None, None)
    for number, (rank, labels) in enumerate([(2, ("a", "b")), (5, ("x", "y", "z")), (3, ("left", "right"))]):
        adapter = random_adapter(zoo.models["base"], rank, labels, seed=number)
        save_adapter(adapter, "base", folder / f"adapter{number}")
        store.publish(folder / f"adapter{number}", f"adapter{number}", f"adapter{number}:1", "base", None)
        zoo.adapters[f"adapter{number}"] = merge(zoo.models["base"], adapter)
    running = Service(home, VITRINE_DTYPE="float32", VITRINE_RUN_WORKER="false", VITRINE_MAX_WRITING_QUEUE="20").start()
    yield running
    running.stop()
