"""A database of every earlier form of the tables (tests/stores/) becomes like a new one, with its rows; one of a later
version is left alone."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.engine import Engine, make_url

from service.aliases import AliasStore
from service.batches import BatchStore
from service.database import Database, sqlite_url
from service.errors import InvalidRequest
from service.jobs.store import JobStore
from service.keys import KeyStore
from service.tables import SCHEMA_VERSION, Base, Job
from service.webhooks import WebhookStore

FORMS = sorted((Path(__file__).parent / "stores").glob("form*.sql"))
FIRST_ON_POSTGRESQL = "form5.sql"
FILE = {
    "id": "file-1", "created_at": 1.0, "filename": "old.jsonl", "bytes": 5, "purpose": "fine-tune",
    "status": "processed", "faults": "[]", "training_faults": "[]", "labels": '["a", "b"]', "num_rows": 4,
}  # fmt: skip
JOB = {
    "id": "ftjob-1", "created_at": 2.0, "status": "succeeded", "priority": 0, "model": "tiny",
    "training_file": "file-1", "seed": 7, "hyperparameters": json.dumps({"n_epochs": 2}), "meta": "{}",
    "fine_tuned_model": "ft:tiny", "lease_until": 0.0, "attempts": 1,
}  # fmt: skip
EVENT = {
    "id": "ftevent-1", "job_id": "ftjob-1", "key": "created", "created_at": 2.0, "level": "info",
    "message": "Created fine-tuning job", "type": "message", "data": "{}",
}  # fmt: skip


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    url = make_url(database_url)
    opened = create_engine(url if url.get_backend_name() == "sqlite" else url.set(drivername="postgresql+psycopg"))
    yield opened
    opened.dispose()


def make_old(engine: Engine, form: Path) -> None:
    script = form.read_text()
    if engine.dialect.name == "postgresql":
        script = script.replace("DOUBLE", "DOUBLE PRECISION").replace("number INTEGER", "number BIGSERIAL")
    with engine.begin() as connection:
        for statement in script.split(";\n"):
            if statement.strip():
                connection.execute(text(statement))
        for table, values in (("files", FILE), ("jobs", JOB), ("events", EVENT)):
            owned = any(column["name"] == "owner" for column in inspect(connection).get_columns(table))
            row = values | ({"owner": "local"} if owned else {})
            names = ", ".join(f'"{name}"' for name in row)
            places = ", ".join(f":{name}" for name in row)
            connection.execute(text(f"INSERT INTO {table} ({names}) VALUES ({places})"), row)


def shape_of(engine: Engine) -> dict[str, tuple[set[str], set[str | None]]]:
    """Columns and indexes of each table."""
    found = inspect(engine)
    return {
        table: ({column["name"] for column in found.get_columns(table)}, _indexes(found, table))
        for table in found.get_table_names()
    }


def _indexes(found: "inspect", table: str) -> set[str | None]:  # type: ignore[valid-type]
    unique = {constraint["name"] for constraint in found.get_unique_constraints(table)}  # type: ignore[attr-defined]
    return {index["name"] for index in found.get_indexes(table)} - unique  # type: ignore[attr-defined]


CASES = [  # the first forms are of before PostgreSQL
    pytest.param(kind, form, id=f"{kind}-{form.stem}")
    for kind in ("sqlite", "postgresql")
    for form in FORMS
    if kind == "sqlite" or form.name >= FIRST_ON_POSTGRESQL
]


@pytest.mark.parametrize(("database_url", "form"), CASES, indirect=["database_url"])
def test_an_old_database_becomes_like_a_new_one_and_keeps_its_rows(
    form: Path, engine: Engine, database_url: str, tmp_path: Path
) -> None:
    make_old(engine, form)
    database = Database(database_url)
    expected = {table.name: {column.name for column in table.columns} for table in Base.metadata.sorted_tables}
    indexes = {table.name: {index.name for index in table.indexes} for table in Base.metadata.sorted_tables}
    shape = shape_of(engine)
    assert {table: columns for table, (columns, _) in shape.items()} == expected
    assert {table: found for table, (_, found) in shape.items()} == indexes
    check_old_rows(JobStore(database))
    check_new_rows(database)
    database.close()
    Database(database_url).close()  # once more changes nothing
    assert shape_of(engine) == shape


def check_old_rows(store: JobStore) -> None:
    own = store.of("local")
    file, job = own.file("file-1"), own.job("ftjob-1")
    assert (file.filename, file.labels, file.task, file.expires_at) == ("old.jsonl", ["a", "b"], None, None)
    assert (job.status, job.fine_tuned_model, job.hyperparameters) == ("succeeded", "ft:tiny", {"n_epochs": 2})
    assert [event.message for event in own.list_events("ftjob-1", None, 9)[0]] == ["Created fine-tuning job"]


def check_new_rows(database: Database) -> None:
    """Every table takes new ones."""
    store = JobStore(database).of("local")
    job = store.create_job(Job(id="ftjob-2", model="tiny", training_file="file-1", seed=0, hyperparameters={}, meta={}, priority=0, request_key=None), 9, None)  # fmt: skip
    claimed = store.claim_job("w", 10)
    assert claimed is not None
    assert claimed.id == job.id
    store.add_checkpoint(job.id, 3, "ft:tiny:ckpt-step-3", {"step": 3})
    assert store.report("file-1", "tiny").report is None
    assert store.cancel_job(job.id).status == "cancelled"
    store.delete_file("file-1")  # jobs that have ended outlive it
    key = KeyStore(database).create("local")[1]
    assert KeyStore(database).begin_session(key) is not None
    AliasStore(database).promote("local", "moods", "ft:tiny")
    WebhookStore(database).create("local", "mine", "https://example.com", ["fine_tuning.job.succeeded"])
    store.add_file("file-2", "requests.jsonl", 3, "batch")
    BatchStore(database).create("local", "/v1/classify", "file-2", {}, None)


def test_a_new_database_is_of_this_version_and_a_later_one_is_refused(database_url: str, engine: Engine) -> None:
    Database(database_url).close()
    with engine.begin() as connection:
        assert connection.scalar(text("SELECT version FROM schema_version")) == SCHEMA_VERSION
        connection.execute(text(f"UPDATE schema_version SET version = {SCHEMA_VERSION + 6}"))
        connection.execute(text("ALTER TABLE files ADD COLUMN of_the_future VARCHAR"))
    before = shape_of(engine)
    with pytest.raises(InvalidRequest, match=rf"is of schema {SCHEMA_VERSION + 6}, .* up to {SCHEMA_VERSION}; use the"):
        Database(database_url)
    assert shape_of(engine) == before


def test_the_last_stored_form_is_the_one_before_these_numbers(tmp_path: Path) -> None:
    """Whoever changes the tables raises SCHEMA_VERSION and keeps the form of before in tests/stores."""
    Database(url := sqlite_url(tmp_path / "new.sqlite")).close()
    engine = create_engine(url)
    new = shape_of(engine)
    engine.dispose()
    del new["schema_version"]
    old = create_engine(sqlite_url(tmp_path / "old.sqlite"))
    make_old(old, FORMS[-1])
    assert shape_of(old) == new, "then SCHEMA_VERSION is 2, and this test compares with the form of 1"
    assert SCHEMA_VERSION == 1
    old.dispose()
