"""The store of keys: known by hashes alone, with an end and with sessions, the first one made once."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.database import Database
from service.errors import Conflict, InvalidRequest, NotFound
from service.jobs.store import JobStore
from service.keys import KeyStore
from service.serve_cli import check_exposure
from service.settings import Settings
from service.setup_cli import queue_demo
from tests.test_service_jobs_store import Clock


@pytest.fixture
def keys(database_url: str) -> Iterator[KeyStore]:
    made = KeyStore(Database(database_url), Clock())
    yield made
    made._database.close()


def test_a_key_is_known_by_its_hash_alone(keys: KeyStore) -> None:
    assert not keys.exist()
    row, key = keys.create("ann", ["infer"])
    assert keys.exist()
    assert key.startswith("vt-")
    assert len(key) > 30
    assert key not in json.dumps([vars(one) for one in keys.all()], default=str)
    caller = keys.caller(key)
    assert caller is not None
    assert (caller.owner, caller.scopes, caller.key_id) == ("ann", {"infer"}, row.id)
    assert keys.caller(key[:-1]) is None
    assert keys.caller("") is None
    assert keys.caller(row.hash) is None, "who reads the database has no key"


@pytest.mark.parametrize("owner", ["", "ann"])
def test_the_demonstration_belongs_to_who_can_ask_for_it(
    owner: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    paths = [tmp_path / f"{name}.jsonl" for name in ("train", "validation", "test")]
    for path in paths:
        path.write_text('{"text": "good", "label": "positive"}\n')
    monkeypatch.setattr("training.catalogue.write_splits", lambda *_: paths)
    settings = Settings(home=tmp_path / "home", first_key_owner=owner)
    settings.home.mkdir()
    for _ in range(2):
        queue_demo(settings)
    store = JobStore(Database(settings.database_url))
    mine, _ = store.of(owner or "local").list_jobs(None, 10)
    every, _ = store.list_jobs(None, 10)
    assert [job.id for job in mine] == [job.id for job in every]
    assert len(mine) == 1, "once"
    assert store.of(owner or "local").file(mine[0].training_file).filename == "train.jsonl"
    store._database.close()


def test_a_key_ends_by_time_or_by_being_revoked_and_its_sessions_with_it(keys: KeyStore) -> None:
    clock = keys.clock
    assert isinstance(clock, Clock)
    _, short = keys.create("ann", lives_seconds=60)
    row, long = keys.create("ann")
    token = keys.begin_session(long)
    assert token is not None
    assert keys.session_caller(token) == keys.caller(long)
    clock.now += 61
    assert keys.caller(short) is None
    assert keys.begin_session(short) is None
    assert keys.session_caller(token) is not None
    keys.revoke(row.id)
    assert keys.caller(long) is None
    assert keys.session_caller(token) is None
    with pytest.raises(Conflict, match="was revoked before"):
        keys.revoke(row.id)
    with pytest.raises(NotFound, match="vitrine keys list"):
        keys.revoke("key-none")
    assert keys.exist(), "a service does not open itself because the last key was revoked"


def test_a_session_ends_by_time_and_by_logging_out(keys: KeyStore) -> None:
    _, key = keys.create("ann")
    first, second = keys.begin_session(key), keys.begin_session(key)
    assert first is not None
    assert second is not None
    keys.end_session(first)
    assert keys.session_caller(first) is None
    assert keys.session_caller(second) is not None
    keys.clock.now += 13 * 3600  # type: ignore[attr-defined]
    assert keys.session_caller(second) is None


def test_the_first_key_is_made_once(keys: KeyStore) -> None:
    key = keys.create_first("admin")
    assert key is not None
    assert keys.caller(key) is not None
    assert keys.create_first("admin") is None


@pytest.mark.parametrize(
    ("owner", "scopes", "seconds", "words"),
    [
        ("", ["infer"], None, "choose 1 to 64 printable"),
        ("x" * 65, ["infer"], None, "choose 1 to 64 printable"),
        ("a\nb", ["infer"], None, "choose 1 to 64 printable"),
        ("ann", ["root"], None, r"\['root'\] are not known; choose some of infer, train"),
        ("ann", [], None, "choose some of infer, train"),
        ("ann", ["infer"], 0, "choose a time above 0"),
    ],
)
def test_odd_keys_are_refused(keys: KeyStore, owner: str, scopes: list[str], seconds: float | None, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        keys.create(owner, scopes, seconds)
    assert not keys.exist()


def test_without_keys_only_loopback_is_served(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    check_exposure(settings, "127.0.0.1")
    with pytest.raises(InvalidRequest, match=r"--host 0.0.0.0 would let everyone in.*vitrine keys create"):
        check_exposure(settings, "0.0.0.0")
    check_exposure(Settings(home=tmp_path, first_key_owner="admin"), "0.0.0.0")
    store = KeyStore(Database(settings.database_url))
    store.create("ann")
    store._database.close()
    check_exposure(settings, "0.0.0.0")
