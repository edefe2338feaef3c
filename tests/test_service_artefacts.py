"""Several hosts of one service: files, models and runs on a real S3 server and on a shared disk, rows in PostgreSQL."""

import io
import math
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer
from pydantic import ValidationError

import service.jobs.worker
from service.artefacts import KNOWN, MARK, Artefacts
from service.errors import ArtefactsUnavailable, NotFound
from service.files import FileStorage
from service.jobs.worker import Worker
from service.model_store import ModelStore
from service.settings import Settings
from tests.conftest import free_port
from tests.faults import Faults
from tests.s3 import bucket, s3
from tests.test_service_results import finish, publish_base, submit
from tests.test_service_worker import act_at_step, asks_after_each_step, run_next
from training.results import read_manifest

__all__ = ["asks_after_each_step", "bucket", "s3"]  # fixtures


@pytest.fixture(params=["s3", "disk"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "disk":
        return f"file://{tmp_path}/network-disk"
    found: str = request.getfixturevalue("bucket")
    return found


Hosts = Callable[[str], Settings]


@pytest.fixture
def host(url: str, tmp_path: Path, postgresql: Callable[[], str]) -> Hosts:
    """Hosts by name, each with a disk of its own -> their settings."""
    database = postgresql()
    return lambda name: Settings(home=tmp_path / name, artefacts=url, database=database, default_model="tiny", device="cpu")  # fmt: skip


# ---- the store itself


def write(folder: Path, **files: str) -> Path:
    for name, content in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return folder


def read(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8")
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_folder_is_there_whole_is_replaced_whole_and_leaves_nothing_behind(url: str, tmp_path: Path) -> None:
    store = Artefacts(url, tmp_path / "shared")
    assert store.folders("models") == []
    assert not store.get_folder("models/m@1", tmp_path / "m")
    store.put_folder(write(tmp_path / "first", a="1", deep__b="2", c="3"), "models/m@1")
    store.put_folder(write(tmp_path / "second", a="10", deep__d="4"), "models/m@1")
    store.put_folder(tmp_path / "first", "models/n@1", ["deep", "c", "missing"])
    assert store.folders("models") == ["m@1", "n@1"]
    write(tmp_path / "target", old="gone")
    assert store.get_folder("models/m@1", tmp_path / "target")
    assert read(tmp_path / "target") == {"a": "10", "deep/d": "4"}
    assert store.get_folder("models/n@1", tmp_path / "part")
    assert read(tmp_path / "part") == {"deep/b": "2", "c": "3"}
    for name in ("models/m@1", "models/n@1", "models/never"):
        store.delete_folder(name)
    assert store.folders("models") == []
    left = [path for path in store._fs.find(store._root) if path]
    assert [Path(path).name.startswith(MARK) for path in left] == [True], "no file of any version is left"


def test_who_reads_a_folder_that_is_being_replaced_gets_one_of_its_versions(url: str, tmp_path: Path) -> None:
    store = Artefacts(url, tmp_path / "shared")
    versions = [write(tmp_path / f"v{number}", **{f"f{n}": str(number) for n in range(4)}) for number in range(6)]
    store.put_folder(versions[0], "runs/r")
    writer = threading.Thread(target=lambda: [Artefacts(url).put_folder(version, "runs/r") for version in versions])
    writer.start()
    seen = set()
    writes = True
    while writes:
        writes = writer.is_alive()  # one look more when it is done
        assert store.get_folder("runs/r", tmp_path / "target")
        (number,) = set(read(tmp_path / "target").values())
        seen.add(number)
    writer.join()
    assert len(read(tmp_path / "target")) == 4
    assert "5" in seen, "the last one, at the latest when all is written"


def test_a_store_that_goes_away_amid_a_folder_leaves_nothing_half_and_the_old_in_place(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Artefacts(url, tmp_path / "shared")
    store.put_folder(write(tmp_path / "source", a="1", b="2"), "runs/r")
    target = write(tmp_path / "host" / "run", old="3")
    real = store.get

    def failing(name: str, file: Path) -> None:
        if name.endswith("/b"):
            raise ArtefactsUnavailable("away")
        real(name, file)

    monkeypatch.setattr(store, "get", failing)
    with pytest.raises(ArtefactsUnavailable):
        store.get_folder("runs/r", target)
    assert read(tmp_path / "host") == {"run/old": "3"}


def test_what_cannot_be_opened_is_told_with_the_setting(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"VITRINE_ARTEFACTS is 'nothing://x': .*vitrine\[s3\]"):
        Artefacts("nothing://x")
    with pytest.raises(ValidationError, match="without VITRINE_DATABASE; set the URL of a PostgreSQL"):
        Settings(home=tmp_path, artefacts="s3://bucket")


def test_a_store_that_does_not_answer_is_told_as_503(
    bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, faults: Faults
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(ArtefactsUnavailable, match=r"did not answer .* try again soon") as caught:
        FileStorage(tmp_path / "files", Artefacts(bucket, tmp_path / "shared")).write("file-1", io.BytesIO(b"x"))
    assert caught.value.retry_after_seconds
    assert not list((tmp_path / "files").iterdir()), "what is not shared is not there"
    faults.saw("a store of artefacts that does not answer, amid an upload", f"nothing kept: {caught.value}")


# ---- a store that is not there


@contextmanager
def away(url: str) -> Iterator[None]:
    """Within, a disk is not mounted, a bucket is emptied; nothing must be written there."""
    store = Artefacts(url)
    if url.startswith("file:"):
        place = Path(store._root)
        place.rename(place.with_name("unmounted"))
        place.mkdir()
        yield
        place.rmdir()  # it is empty
        place.with_name("unmounted").rename(place)
    else:
        kept = {path: store._fs.cat_file(path) for path in store._fs.find(store._root)}
        store._fs.rm(store._root, recursive=True)
        yield
        assert not store._fs.exists(store._root)
        store._fs.pipe(kept)


def marks(url: str) -> list[str]:
    store = Artefacts(url)
    return [path for path in store._fs.ls(store._root, detail=False) if Path(path).name.startswith(MARK)]


def ids(store: ModelStore) -> list[str]:
    """Of its models, once it has asked for those of others."""
    store._followed_at = -math.inf
    return [card.id for card in store.cards()]


def test_a_store_that_is_not_there_is_not_taken_for_one_from_which_all_was_deleted(
    url: str, host: Hosts, faults: Faults
) -> None:
    first, second = (ModelStore.of(host(name)) for name in ("first", "second"))
    publish_base(first)
    assert ids(second) == ["tiny"]
    FileStorage.of(host("first")).write("file-1", io.BytesIO(b"rows"))
    with away(url):
        for store in (first, second, ModelStore.of(host("second"))):  # the last one as after a start
            assert ids(store) == ["tiny"]
        files = FileStorage.of(host("second"))
        with pytest.raises(ArtefactsUnavailable, match=rf"store of artefacts {url} .* lacks the file {MARK}.*; mount") as caught:  # fmt: skip
            files.write("file-2", io.BytesIO(b"rows"))
        with pytest.raises(ArtefactsUnavailable, match=MARK):
            files.path("file-1")
        assert not list(files.folder.iterdir())
        with pytest.raises(ArtefactsUnavailable, match=MARK):
            second.delete("tiny")
        with pytest.raises(ArtefactsUnavailable, match=MARK):
            second.find("of-a-third-host")  # which may have published it
        kind = "a network disk that is not mounted" if url.startswith("file:") else "a bucket that was emptied"
        told = str(caught.value).replace(url, url.partition(":")[0] + "://...")
        faults.saw(f"several hosts: {kind}, amid an upload", f"no model is deleted, nothing is written there: {told}")
    assert ids(first) == ids(second) == ["tiny"]
    assert files.path("file-1").read_bytes() == b"rows"
    second.delete("tiny")
    assert ids(first) == []


def test_a_store_from_before_there_were_marks_gets_one_when_it_is_there(url: str, host: Hosts) -> None:
    first, second = host("first"), host("second")
    publish_base(ModelStore.of(first))
    assert ids(ModelStore.of(second)) == ["tiny"]
    store = Artefacts(url)
    for mark in marks(url):
        store._fs.rm_file(mark)
    for settings in (first, second):
        (settings.shared / KNOWN).unlink()
    with away(url):
        for settings in (first, second):
            assert ids(ModelStore.of(settings)) == ["tiny"]
            with pytest.raises(ArtefactsUnavailable, match="has no models, and this host shares some"):
                FileStorage.of(settings).write("file-1", io.BytesIO(b"rows"))
    assert ids(ModelStore.of(first)) == ids(ModelStore.of(second)) == ["tiny"]
    assert len(marks(url)) == 1, "that of the first who came"
    assert ids(ModelStore.of(host("third"))) == ["tiny"]


def test_what_lies_under_a_disk_that_is_not_mounted_is_another_store(url: str, host: Hosts) -> None:
    """A new host that was there before its disk marks the mount point; each sees only the one that it came to first."""
    early, late = host("early"), ModelStore.of(host("late"))
    ModelStore.of(early).cards()
    (false,) = marks(url)
    Artefacts(url)._fs.rm_file(false)
    publish_base(late)
    (true,) = marks(url)
    assert true != false
    with pytest.raises(ArtefactsUnavailable, match=f"lacks the file {Path(false).name}"):
        FileStorage.of(early).write("file-1", io.BytesIO(b"rows"))
    Artefacts(url)._fs.mv(true, false)
    Artefacts(url)._fs.rm(f"{Artefacts(url)._root}/models", recursive=True)
    assert ids(late) == ["tiny"]
    shutil.rmtree(host("late").shared)  # as the message says
    again = ModelStore.of(host("late"))
    assert ids(again) == ["tiny"]
    again.share_all()
    assert ids(ModelStore.of(early)) == ["tiny"]


def test_hosts_that_come_to_a_new_store_at_once_both_know_it(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both, mark = threading.Barrier(2), Artefacts._made_mark

    def together(store: Artefacts) -> str:
        both.wait(60)
        return mark(store)

    monkeypatch.setattr(Artefacts, "_made_mark", together)
    stores = [Artefacts(url, tmp_path / name) for name in ("first", "second")]
    threads = [threading.Thread(target=store.folders, args=("models",)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stores[0].put_folder(write(tmp_path / "source", a="1"), "models/m@1")
    assert [store.folders("models") for store in stores] == [["m@1"], ["m@1"]]


def test_a_bucket_that_does_not_exist_is_told_and_not_made(bucket: str, tmp_path: Path) -> None:
    store, name = Artefacts(bucket, tmp_path / "shared"), bucket.split("/")[2]
    assert store.folders("models") == []
    client = boto3.client("s3")
    client.delete_object(Bucket=name, Key=marks(bucket)[0].partition("/")[2])
    client.delete_bucket(Bucket=name)
    source = write(tmp_path / "source", a="1")
    for call in (
        lambda: store.folders("models"),
        lambda: store.get("files/file-1", tmp_path / "file-1"),
        lambda: store.get_folder("models/m@1", tmp_path / "m"),
        lambda: store.put(source / "a", "files/file-1"),
        lambda: store.put_folder(source, "models/m@1"),
        lambda: store.delete("files/file-1"),
    ):
        with pytest.raises(ArtefactsUnavailable, match=f"s3://{name}/vitrine is not there: it lacks"):
            call()
    with pytest.raises(ArtefactsUnavailable, match=f"there is no bucket '{name}'"):
        Artefacts(bucket, tmp_path / "new").folders("models")
    with pytest.raises(ArtefactsUnavailable, match="no host has used it"):
        Artefacts(bucket).folders("runs")
    assert name not in [found["Name"] for found in client.list_buckets()["Buckets"]]


# ---- files and models


def test_a_file_of_one_host_is_read_on_another_until_it_is_deleted(host: Hosts) -> None:
    first, second = (FileStorage.of(host(name)) for name in ("first", "second"))
    assert first.write("file-1", io.BytesIO(b"rows")) == 4
    assert second.path("file-1").read_bytes() == b"rows"
    second.delete("file-1")
    third = FileStorage.of(host("third"))
    with pytest.raises(FileNotFoundError):
        third.path("file-1")


def test_a_model_of_one_host_is_live_on_another_at_once_and_its_deletion_follows(host: Hosts) -> None:
    first, second = (ModelStore.of(host(name)) for name in ("first", "second"))
    assert second.cards() == []
    publish_base(first)
    card = second.find("tiny")
    assert (card.tag, card.config) == (first.find("tiny").tag, first.find("tiny").config)
    assert (card.folder / "model.safetensors").read_bytes() == (first.find("tiny").folder / "model.safetensors").read_bytes()  # fmt: skip
    second.delete("tiny")
    first._followed_at = 0.0
    assert first.cards() == []
    with pytest.raises(NotFound):
        ModelStore.of(host("third")).find("tiny")


def test_models_from_before_there_were_artefacts_are_given_to_all_at_set_up(host: Hosts) -> None:
    publish_base(ModelStore(host("first").bentoml_home))
    first, second = (ModelStore.of(host(name)) for name in ("first", "second"))
    assert [card.id for card in first.cards()] == ["tiny"], "what all do not have is not taken for deleted"
    assert second.cards() == []
    first.share_all()
    assert second.find("tiny")


# ---- runs


@pytest.fixture
def workers(host: Hosts) -> Iterator[Callable[[str], Worker]]:
    publish_base(ModelStore.of(host("first")))
    made: list[Worker] = []

    def make(name: str) -> Worker:
        made.append(Worker(host(name)))
        return made[-1]

    yield make
    for worker in made:
        worker.database.close()


def weights(worker: Worker, job_id: str) -> bytes:
    folder = worker.models.find(str(worker.store.job(job_id).fine_tuned_model)).folder
    return (folder / "model.safetensors").read_bytes()


def test_a_job_whose_host_is_gone_goes_on_on_another_to_the_same_weights(
    workers: Callable[[str], Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = workers("first"), workers("second")
    whole = submit(first)
    assert finish(first, whole).status == "succeeded"
    job_id = submit(first)
    steps = read_manifest(first.settings.runs / whole)["steps"]

    def die() -> None:
        raise SystemExit("as if the host were gone")

    at = steps // 2 + 2  # the first epoch's end is in a checkpoint
    with monkeypatch.context() as patch:
        made = act_at_step(patch, at, die)
        with pytest.raises(SystemExit):
            run_next(first)
        assert made == list(range(1, at))
    made = act_at_step(monkeypatch, -1, die)
    second.store.set_progress(job_id, first.name, lease_until=0.0)  # its time is over
    assert finish(second, job_id).status == "succeeded"
    assert made == list(range(steps // 2 + 1, steps + 1)), "from the checkpoint of the host that is gone"
    assert weights(second, job_id) == weights(first, job_id) == weights(first, whole)
    keys = [event.key for event in second.store.events_since(job_id, None, 1_000)[0]]
    assert len(keys) == len(set(keys))
    assert any(key.startswith("taken_over") or "taken" in key for key in keys), keys
    assert second.artefacts is not None
    assert second.artefacts.folders("runs") == [], "nobody needs its checkpoints any more"


def test_a_paused_job_goes_on_on_another_host_at_the_very_step(
    workers: Callable[[str], Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = workers("first"), workers("second")
    job_id = submit(first)
    made = act_at_step(monkeypatch, 4, lambda: first.store.pause_job(job_id))
    run_next(first)
    assert first.store.job(job_id).status == "paused"
    first.store.resume_job(job_id)
    assert finish(second, job_id).status == "succeeded"
    assert made == list(range(1, len(made) + 1)), "no step is made twice"


def test_a_job_waits_for_a_store_that_is_away(
    bucket: str, s3: ThreadedMotoServer, tmp_path: Path, postgresql: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.jobs.worker, "RETRY_SECONDS", 0.1)
    worker = Worker(Settings(home=tmp_path / "home", artefacts=bucket, database=postgresql(), default_model="tiny", device="cpu"))  # fmt: skip
    publish_base(worker.models)
    job_id = submit(worker)
    while worker.checks.check_once():
        pass
    lacks_the_model = Worker(worker.settings.model_copy(update={"home": tmp_path / "other"}))
    lacks_the_model.files.path(worker.store.job(job_id).training_file)
    s3.stop()
    try:
        for one in (lacks_the_model, worker):
            run_next(one)
            job = worker.store.job(job_id)
            assert (job.status, job.attempts) == ("queued", 0)
        told = worker.store.list_events(job_id, None, 1)[0][0].message
        assert told.startswith("the store of artefacts did not answer")
        assert "goes on from its last checkpoint" in told
    finally:
        s3.start()
    assert finish(worker, job_id).status == "succeeded"
    worker.database.close()
    lacks_the_model.database.close()
