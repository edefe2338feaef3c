"""A backup taken while a service runs, and restored elsewhere, is that service; a damaged, odd or hostile one is refused
and leaves nothing."""

import hashlib
import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import threading
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from service.app import create_app
from service.backup.restore import restore
from service.backup.write import back_up
from service.database import Database
from service.errors import InvalidRequest
from service.files import FileStorage
from service.jobs.store import JobStore
from service.settings import Settings
from service.tables import SCHEMA_VERSION
from tests.conftest import ROOT, wait_for
from tests.faults import Faults
from tests.house import House, house

__all__ = ["house"]  # a fixture
Members = dict[str, bytes]


@pytest.fixture(scope="module")
def backup(house: House, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the running house."""
    path = tmp_path_factory.mktemp("backup") / "house.tar"
    back_up(house.settings, path)
    return path


def elsewhere(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "elsewhere", default_model="tiny", run_worker=False, device="cpu")


def members_of(path: Path) -> Members:
    with tarfile.open(path) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]


def write_archive(path: Path, members: Members, change: Callable[[dict[str, Any]], None] = lambda _: None) -> Path:
    """With a manifest that fits, unless it is changed."""
    told = json.loads(members["manifest.json"])
    content = {name: data for name, data in members.items() if name != "manifest.json"}
    told["members"] = [
        {"name": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in content.items()
    ]
    change(told)
    with tarfile.open(path, "w") as archive:
        for name, data in (*content.items(), ("manifest.json", json.dumps(told).encode())):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def refused(settings: Settings, source: Path, match: str) -> str:
    """With this reason, and nothing is left of it -> what was said."""
    with pytest.raises(InvalidRequest, match=match) as met:
        restore(settings, source)
    assert not settings.home.exists() or not list(settings.home.iterdir())
    return str(met.value)


# ---- there and back


def timeless(answer: Any) -> Any:
    """Without what is counted from now."""
    if isinstance(answer, dict):
        return {name: timeless(value) for name, value in answer.items() if name != "estimated_finish"}
    return [timeless(value) for value in answer] if isinstance(answer, list) else answer


def test_everything_is_there_after_a_restore_and_answers(house: House, backup: Path, tmp_path: Path) -> None:
    settings = elsewhere(tmp_path)
    manifest = restore(settings, backup)
    assert manifest.schema == SCHEMA_VERSION
    assert manifest.vitrine == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    _, gate = create_app(settings)
    with TestClient(gate, base_url="http://localhost") as client:

        def both(path: str, body: dict[str, Any] | None = None, headers: dict[str, str] = house.ann) -> tuple[Any, Any]:
            method = "GET" if body is None else "POST"
            here, there = (one.request(method, path, headers=headers, json=body) for one in (house.client, client))
            assert here.status_code == there.status_code, there.text
            return here, there

        for path in (
            "/v1/files", f"/v1/files/{house.file}", f"/v1/fine_tuning/jobs/{house.job}", "/v1/fine_tuning/jobs",
            f"/v1/fine_tuning/jobs/{house.job}/events", f"/v1/fine_tuning/jobs/{house.job}/checkpoints", "/v1/aliases",
            "/v1/webhook_endpoints", "/v1/whoami",
        ):  # fmt: skip
            here, there = both(path)
            assert timeless(here.json()) == timeless(there.json()), path
        assert both(f"/v1/fine_tuning/jobs/{house.job}")[1].json()["status"] == "validating_files"
        here, there = both(f"/v1/files/{house.file}/content")
        assert here.content == there.content
        here, there = both("/v1/models")
        assert {model["id"] for model in here.json()["data"]} == {model["id"] for model in there.json()["data"]}
        body = {"input": ["red cat", "blue dog"]}
        here, there = both("/v1/classify", body | {"model": house.model})
        by_name = client.post("/v1/classify", headers=house.ann, json=body | {"model": "moods"})
        assert here.json()["data"] == there.json()["data"] == by_name.json()["data"]
        here, there = both("/v1/embeddings", {"model": "tiny", "input": "red"})
        assert here.json() == there.json()
        assert both(f"/v1/files/{house.file}", headers=house.bob)[1].status_code == 404
        assert both("/v1/models", headers={"authorization": "Bearer vt-nobody"})[1].status_code == 401


def test_a_backup_amid_uploads_and_deletions_has_the_bytes_of_each_row(house: House, tmp_path: Path) -> None:
    stop = threading.Event()

    def churn() -> None:
        database = Database(house.settings.database_url)
        store, files, own = JobStore(database).of("ann"), FileStorage(house.settings.files), []
        while not stop.is_set():
            number = f"file-churn{len(own)}"
            store.add_file(number, "churn.jsonl", files.write(number, io.BytesIO(os.urandom(2000))), "batch")
            own.append(number)
            if len(own) % 2 == 0:
                store.delete_file(own[-2])
                files.delete(own[-2])
        database.close()

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        wait_for(lambda: len(list(house.settings.files.glob("file-churn*"))) > 2, 30)
        for round_number in range(5):
            back_up(house.settings, tmp_path / f"{round_number}.tar")
    finally:
        stop.set()
        thread.join()
    settings = elsewhere(tmp_path)
    for round_number in range(5):
        restore(settings, tmp_path / f"{round_number}.tar")  # which compares rows and bytes
        store = JobStore(Database(settings.database_url))
        rows = store.list_files("batch", None, 10_000, descending=True)[0]
        assert len([row for row in rows if "churn" in row.id]) > 0
        store._database.close()
        shutil.rmtree(settings.home)
    assert not [path.name for path in house.settings.home.iterdir() if path.name.startswith(".backup")]


def test_a_job_that_ran_waits_again_after_a_restore(house: House, tmp_path: Path) -> None:
    database = Database(house.settings.database_url)
    store = JobStore(database)
    store.set_file_checked(house.file, [], [], ["x", "y"], 18, "classification")
    claimed = store.claim_job("w", 60)
    assert claimed is not None
    store.start_running(claimed.id, "w")
    back_up(house.settings, tmp_path / "running.tar")
    store.requeue(claimed.id, "w")
    database.close()
    settings = elsewhere(tmp_path)
    restore(settings, tmp_path / "running.tar")
    restored = Database(settings.database_url)
    job = JobStore(restored).job(claimed.id)
    assert (job.status, job.worker, job.attempts) == ("queued", None, claimed.attempts - 1)
    assert JobStore(restored).claim_job("v", 60) is not None
    restored.close()


def test_the_commands_say_what_they_did(house: House, tmp_path: Path) -> None:
    def vitrine(home: Path, *words: str) -> "subprocess.CompletedProcess[str]":
        environment = os.environ | {"VITRINE_HOME": str(home)}
        environment.pop("BENTOML_HOME", None)
        command = [sys.executable, "-m", "service", *words]
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    path = tmp_path / "house.tar"
    saved = vitrine(house.settings.home, "backup", str(path))
    assert saved.returncode == 0, saved.stderr
    assert "4 models" in saved.stdout
    assert path.stat().st_mode & 0o777 == 0o600
    again = vitrine(house.settings.home, "backup", str(path))
    assert again.returncode == 1
    assert "exists; choose another name" in again.stderr
    back = vitrine(tmp_path / "new", "restore", str(path))
    assert back.returncode == 0, back.stderr
    assert "start it by `vitrine serve`" in back.stdout
    full = vitrine(tmp_path / "new", "restore", str(path))
    assert full.returncode == 1
    assert "restore into an empty folder: set VITRINE_HOME to a new one" in full.stderr


def test_what_lies_elsewhere_is_refused_with_the_way_to_save_it(tmp_path: Path) -> None:
    many = Settings(home=tmp_path, database="postgresql://user:secret@host/name", artefacts="file:///shared")
    for act in (lambda: back_up(many, tmp_path / "x.tar"), lambda: restore(many, tmp_path / "x.tar")):
        with pytest.raises(
            InvalidRequest, match=r"as pg_dump, and after that the folder at VITRINE_ARTEFACTS"
        ) as found:
            act()
        assert "secret" not in str(found.value)
    with pytest.raises(InvalidRequest, match="there is no service's store at"):
        back_up(Settings(home=tmp_path / "nothing"), tmp_path / "x.tar")


# ---- archives that are not what they should be


@pytest.fixture(scope="module")
def members(backup: Path) -> Members:
    return members_of(backup)


def test_an_archive_made_anew_of_the_same_parts_is_taken(members: Members, tmp_path: Path) -> None:
    """So that the refusals below are for what they change."""
    restore(elsewhere(tmp_path), write_archive(tmp_path / "x.tar", members))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_cut_archive_is_refused(backup: Path, tmp_path: Path, faults: Faults, share: float) -> None:
    with tarfile.open(backup) as archive:
        last = archive.getmembers()[-1]
    end = last.offset_data + last.size  # what comes after is padding
    (tmp_path / "cut.tar").write_bytes(backup.read_bytes()[: int(end * share)])
    said = refused(elsewhere(tmp_path), tmp_path / "cut.tar", "is not whole|can't be read|is damaged")
    faults.saw(f"a backup cut to {share:.1%} of its bytes", said)


def test_one_changed_byte_of_any_member_is_refused(backup: Path, tmp_path: Path, faults: Faults) -> None:
    whole = backup.read_bytes()
    with tarfile.open(backup) as archive:
        places = {member.name: member.offset_data + member.size // 2 for member in archive if member.size}
    for place in places.values():
        changed = bytearray(whole)
        changed[place] ^= 0x01
        (tmp_path / "changed.tar").write_bytes(changed)
        said = refused(
            elsewhere(tmp_path), tmp_path / "changed.tar", "damaged|has not what its manifest says|can't be read"
        )
    assert len(places) > 10
    faults.saw("one bit of a backup changed, in each of its parts in turn", f"{len(places)} refused, the last: {said}")


@pytest.mark.parametrize(
    "name",
    [
        "../escaped", "/tmp/escaped", "files/../../escaped", "files/..", "files/.hidden", "files/a/b", "models/../x/y",
        "models/m/../../../escaped", "models/m", "models/m/1/\\..\\x", "models//1/x", "runs/job/x", "vitrine.sqlite",
        "worker.lock", "files/a\nb", "./store.sqlite",
    ],
)  # fmt: skip
def test_a_path_that_no_backup_has_is_refused(members: Members, tmp_path: Path, faults: Faults, name: str) -> None:
    said = refused(elsewhere(tmp_path), write_archive(tmp_path / "x.tar", members | {name: b"x"}), "has no place")
    faults.saw(f"a backup with a part named {name!r}", said)
    assert not (tmp_path / "escaped").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE])
def test_what_is_no_plain_file_is_refused(members: Members, tmp_path: Path, faults: Faults, kind: bytes) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as archive:
        odd = tarfile.TarInfo("files/file-odd")
        odd.type, odd.linkname = kind, "/etc/passwd"
        archive.addfile(odd)
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    said = refused(elsewhere(tmp_path), path, "is no plain file")
    faults.saw(f"a backup with a link, pipe, device or folder (kind {kind.decode()}) for a file", said)


def test_later_versions_are_refused_with_their_number(members: Members, tmp_path: Path) -> None:
    newer = write_archive(tmp_path / "s.tar", members, lambda told: told.update(schema=SCHEMA_VERSION + 1))
    refused(elsewhere(tmp_path), newer, f"the backup is of schema {SCHEMA_VERSION + 1}")
    other = write_archive(tmp_path / "f.tar", members, lambda told: told.update(format=9))
    refused(elsewhere(tmp_path), other, "is of format 9; this version of Vitrine reads up to 1")
    late = with_store(members, tmp_path, f"UPDATE schema_version SET version = {SCHEMA_VERSION + 1}")
    refused(elsewhere(tmp_path), late, f"the database is of schema {SCHEMA_VERSION + 1}")


def test_a_manifest_that_lies_is_refused(members: Members, tmp_path: Path) -> None:
    def forget(told: dict[str, Any]) -> None:
        del told["members"][0]

    def double(told: dict[str, Any]) -> None:
        told["members"].append(told["members"][0])

    for change in (forget, double):
        archive = write_archive(tmp_path / f"{change.__name__}.tar", members, change)
        refused(elsewhere(tmp_path), archive, "has not what its manifest says")
    for told in ({"members": 5}, {"format": None}, {"schema": "x"}):
        archive = write_archive(tmp_path / "x.tar", members, lambda old, told=told: old.update(told))  # type: ignore[misc]
        refused(elsewhere(tmp_path), archive, "the manifest of .* is damaged")


def with_store(members: Members, tmp_path: Path, *statements: str) -> Path:
    """The same archive with a store that was changed."""
    (tmp_path / "changed.sqlite").write_bytes(members["store.sqlite"])
    with sqlite3.connect(tmp_path / "changed.sqlite") as store:
        for statement in statements:
            store.execute(statement)
    store.close()
    changed = members | {"store.sqlite": (tmp_path / "changed.sqlite").read_bytes()}
    return write_archive(tmp_path / "changed.tar", changed)


def test_a_store_with_tricks_or_without_its_bytes_is_refused(
    house: House, members: Members, tmp_path: Path, faults: Faults
) -> None:
    for statement, reason in (
        ("UPDATE jobs SET id = '../../escaped'", "'../../escaped' among its jobs"),
        (f"UPDATE files SET bytes = bytes + 1 WHERE id = '{house.file}'", f"lacks the bytes of {house.file}"),
        ("CREATE TRIGGER t AFTER INSERT ON files BEGIN DELETE FROM jobs; END", "has a trigger"),
    ):
        faults.saw(
            f"a backup whose store was changed: {statement}",
            refused(elsewhere(tmp_path), with_store(members, tmp_path, statement), reason),
        )
    refused(
        elsewhere(tmp_path),
        write_archive(tmp_path / "x.tar", members | {"store.sqlite": b"no database" * 99}),
        "can't be read",
    )
    without = {name: data for name, data in members.items() if name != "store.sqlite"}
    refused(elsewhere(tmp_path), write_archive(tmp_path / "y.tar", without), "has no store")


def test_a_folder_with_state_is_left_alone(backup: Path, tmp_path: Path) -> None:
    settings = elsewhere(tmp_path)
    settings.home.mkdir()
    (settings.home / "precious").write_text("mine")
    with pytest.raises(InvalidRequest, match="has precious; restore into an empty folder"):
        restore(settings, backup)
    assert [path.name for path in settings.home.iterdir()] == ["precious"]


def test_a_store_of_an_earlier_form_is_restored_and_moved_forward(members: Members, tmp_path: Path) -> None:
    old = with_store(members, tmp_path, "DROP TABLE schema_version", "ALTER TABLE batches ADD COLUMN scopes JSON NOT NULL DEFAULT '[]'")  # fmt: skip
    settings = elsewhere(tmp_path)
    restore(settings, old)
    with sqlite3.connect(settings.home / "vitrine.sqlite") as store:
        assert store.execute("SELECT version FROM schema_version").fetchone() == (SCHEMA_VERSION,)
        assert "scopes" not in {row[1] for row in store.execute("PRAGMA table_info(batches)")}
    store.close()
