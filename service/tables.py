"""The tables of the service: files with what was found in them, jobs, events. Used by `store.py`, which alone changes
them."""

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Connection,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    TypeDecorator,
    UniqueConstraint,
    delete,
    insert,
    inspect,
    select,
    text,
    update,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from service.errors import InvalidRequest

SCHEMA_VERSION = 1  # raised with each change of the tables; tests/stores/ has every earlier form
GONE = {"batches": ("scopes",)}  # columns of earlier versions that may not be empty, and that nobody fills any more
LOCAL_OWNER = "local"  # of everything that is made while the service has no API keys
OF_OLD_ROWS = "of_old_rows"  # in a column's info: the value for rows of a database that did not have it
NUL, SYMBOL_FOR_NUL = "\0", "\N{SYMBOL FOR NULL}"


class Text(TypeDecorator[str]):
    """Text that every database takes: PostgreSQL knows no NUL character, and users' file names may have one."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002 - its signature
        return value if value is None else value.replace(NUL, SYMBOL_FOR_NUL)


class Base(DeclarativeBase):
    """Tables of the service."""

    type_annotation_map = {str: Text, int: BigInteger}  # noqa: RUF012 - read by SQLAlchemy when the class is made


class File(Base):
    """An uploaded file; its bytes lie in the files folder under the id."""

    __tablename__ = "files"
    id: Mapped[str] = mapped_column(Text, primary_key=True)
    created_at: Mapped[float] = mapped_column(Float, index=True)
    filename: Mapped[str]
    bytes: Mapped[int]
    purpose: Mapped[str]
    status: Mapped[str] = mapped_column(default="uploaded")  # uploaded, processed, error
    faults: Mapped[list[str]] = mapped_column(JSON, default=list)  # why it can't be read
    training_faults: Mapped[list[str]] = mapped_column(JSON, default=list)  # why it can't be trained on
    labels: Mapped[list[str]] = mapped_column(JSON, default=list)
    num_rows: Mapped[int] = mapped_column(default=0)
    task: Mapped[str | None]  # what its rows are for, told by their columns; None until checked
    warnings: Mapped[list[str] | None] = mapped_column(JSON)  # what is odd but can be trained on
    expires_at: Mapped[float | None]  # when it deletes itself, unless a job still needs it
    owner: Mapped[str | None] = mapped_column(default=LOCAL_OWNER, index=True, info={OF_OLD_ROWS: LOCAL_OWNER})


class FileReport(Base):
    """What is in a file, measured with one model's tokenizer; pending until it has a report or an error."""

    __tablename__ = "file_reports"
    file_id: Mapped[str] = mapped_column(Text, primary_key=True)
    model: Mapped[str] = mapped_column(primary_key=True)
    requested_at: Mapped[float]
    report: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    error: Mapped[str | None]


class Job(Base):
    """A fine-tuning job and everything needed to run it again after a crash."""

    __tablename__ = "jobs"
    id: Mapped[str] = mapped_column(Text, primary_key=True)
    created_at: Mapped[float] = mapped_column(Float, index=True)
    finished_at: Mapped[float | None]
    status: Mapped[str] = mapped_column(Text, index=True)
    priority: Mapped[int] = mapped_column(default=0)
    model: Mapped[str]
    training_file: Mapped[str]  # no foreign key: a job that has ended may outlive its files
    validation_file: Mapped[str | None]
    suffix: Mapped[str | None]
    seed: Mapped[int]
    hyperparameters: Mapped[dict[str, Any]] = mapped_column(JSON)
    meta: Mapped[dict[str, str]] = mapped_column(JSON, default=dict)
    error: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    fine_tuned_model: Mapped[str | None]
    trained_tokens: Mapped[int | None]
    progress: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    metrics: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    result_files: Mapped[list[str] | None] = mapped_column(JSON)  # ids, once it has succeeded
    worker: Mapped[str | None]
    lease_until: Mapped[float] = mapped_column(default=0.0)
    attempts: Mapped[int] = mapped_column(default=0)
    request_key: Mapped[str | None] = mapped_column(index=True)  # hash of the create request, against doubled retries
    owner: Mapped[str | None] = mapped_column(default=LOCAL_OWNER, index=True, info={OF_OLD_ROWS: LOCAL_OWNER})
    claimed_at: Mapped[float | None]  # when a worker last took it


class Checkpoint(Base):
    """A model as it was at one evaluation of a job, callable under its own name."""

    __tablename__ = "checkpoints"
    __table_args__ = (UniqueConstraint("job_id", "step"),)
    id: Mapped[str] = mapped_column(Text, primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    step: Mapped[int]
    created_at: Mapped[float]
    model: Mapped[str]
    metrics: Mapped[dict[str, Any]] = mapped_column(JSON)


class Batch(Base):
    """Bulk prediction: a file of requests, and how far it is."""

    __tablename__ = "batches"
    id: Mapped[str] = mapped_column(Text, primary_key=True)
    owner: Mapped[str] = mapped_column(Text, index=True)
    endpoint: Mapped[str]
    input_file: Mapped[str]
    meta: Mapped[dict[str, str]] = mapped_column(JSON)
    status: Mapped[str] = mapped_column(Text, index=True)
    errors: Mapped[list[dict[str, Any]]] = mapped_column(JSON)  # of the file, with lines, when it has failed
    times: Mapped[dict[str, float]] = mapped_column(JSON)  # of each status
    created_at: Mapped[float] = mapped_column(index=True)
    expires_at: Mapped[float]
    output_lives: Mapped[float | None]  # seconds until its files delete themselves
    total: Mapped[int]  # requests in the file; 0 until it has been read
    completed: Mapped[int]
    failed: Mapped[int]
    tokens: Mapped[int]
    output_bytes: Mapped[int]  # of the answers that are on disk for good
    error_bytes: Mapped[int]
    output_file: Mapped[str | None]
    error_file: Mapped[str | None]
    worker: Mapped[str | None]
    lease_until: Mapped[float]


class Alias(Base):
    """A name that stands for one model at a time."""

    __tablename__ = "aliases"
    owner: Mapped[str] = mapped_column(Text, primary_key=True)
    name: Mapped[str] = mapped_column(Text, primary_key=True)
    change: Mapped[int]  # number of the change that holds


class AliasChange(Base):
    """One promotion or roll-back; they stay, so that a roll-back knows what was before."""

    __tablename__ = "alias_changes"
    __table_args__ = (Index("alias_changes_by_name", "owner", "name"),)
    number: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    owner: Mapped[str]
    name: Mapped[str]
    model: Mapped[str]
    before: Mapped[int | None]  # the change that a roll-back goes to
    created_at: Mapped[float]


class ApiKey(Base):
    """A key to the service, by its hash."""

    __tablename__ = "api_keys"
    id: Mapped[str] = mapped_column(Text, primary_key=True)
    owner: Mapped[str]
    hash: Mapped[str] = mapped_column(Text, unique=True)
    scopes: Mapped[list[str]] = mapped_column(JSON)
    created_at: Mapped[float]
    expires_at: Mapped[float | None]
    revoked_at: Mapped[float | None]


class BrowserSession(Base):
    """A browser that has logged in with a key."""

    __tablename__ = "browser_sessions"
    hash: Mapped[str] = mapped_column(Text, primary_key=True)  # of the cookie's value
    key_id: Mapped[str] = mapped_column(ForeignKey("api_keys.id"))
    expires_at: Mapped[float]


class WebhookEndpoint(Base):
    """An address that wants to be told of events."""

    __tablename__ = "webhook_endpoints"
    id: Mapped[str] = mapped_column(Text, primary_key=True)
    owner: Mapped[str] = mapped_column(Text, index=True)
    name: Mapped[str]
    url: Mapped[str]
    event_types: Mapped[list[str]] = mapped_column(JSON)
    created_at: Mapped[float]
    updated_at: Mapped[float]
    secret: Mapped[str]  # in the clear: what is sent is signed with it
    old_secret: Mapped[str | None]  # the one before, good for a while beside it
    old_until: Mapped[float | None]


class WebhookDelivery(Base):
    """One event for one endpoint; done when it was taken, or given up."""

    __tablename__ = "webhook_deliveries"
    id: Mapped[str] = mapped_column(Text, primary_key=True)
    endpoint_id: Mapped[str] = mapped_column(Text, index=True)
    body: Mapped[str]
    created_at: Mapped[float]
    next_at: Mapped[float] = mapped_column(index=True)
    attempts: Mapped[int]
    done_at: Mapped[float | None]
    problem: Mapped[str | None]  # of the last attempt; None when it was taken


class Event(Base):
    """Something that happened to a job; `key` makes a repeated one (after a resume) count once."""

    __tablename__ = "events"
    __table_args__ = (UniqueConstraint("job_id", "key"), Index("events_by_job", "job_id", "number"))
    number: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    id: Mapped[str] = mapped_column(Text, unique=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    key: Mapped[str]
    created_at: Mapped[float]
    level: Mapped[str]
    message: Mapped[str]
    type: Mapped[str]
    data: Mapped[dict[str, Any]] = mapped_column(JSON)


class SchemaVersion(Base):
    """One row: which form of the tables this database has."""

    __tablename__ = "schema_version"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    version: Mapped[int]


def create_tables(connection: Connection) -> None:
    """Makes what is missing: tables, and in a database of an earlier version the columns that may be empty, and the
    indexes; drops columns that would refuse new rows. Raises InvalidRequest for a database of a later version."""
    before = schema_version(connection)
    if before > SCHEMA_VERSION:
        raise InvalidRequest(too_new("the database", before))
    Base.metadata.create_all(connection)
    found = inspect(connection)
    for table in Base.metadata.sorted_tables:
        known = {column["name"] for column in found.get_columns(table.name)}
        for name in known.intersection(GONE.get(table.name, ())):
            connection.execute(text(f'ALTER TABLE {table.name} DROP COLUMN "{name}"'))
        for column in table.columns:
            if column.name not in known:
                kind = column.type.compile(connection.dialect)
                connection.execute(text(f'ALTER TABLE {table.name} ADD COLUMN "{column.name}" {kind}'))
                if OF_OLD_ROWS in column.info:
                    connection.execute(update(table).values({column.name: column.info[OF_OLD_ROWS]}))
        indexed = {index["name"] for index in found.get_indexes(table.name)}
        for index in table.indexes:
            if index.name not in indexed:
                index.create(connection)
    if connection.dialect.name == "postgresql":  # SQLite is told to look at none
        for key in found.get_foreign_keys(Job.__tablename__):  # a job that has ended may outlive its files
            connection.execute(text(f'ALTER TABLE {Job.__tablename__} DROP CONSTRAINT "{key["name"]}"'))
    if before != SCHEMA_VERSION:
        connection.execute(delete(SchemaVersion))
        connection.execute(insert(SchemaVersion).values(id=1, version=SCHEMA_VERSION))


def schema_version(connection: Connection) -> int:
    """0 of a database that is new, or older than these numbers."""
    if not inspect(connection).has_table(SchemaVersion.__tablename__):
        return 0
    return int(connection.scalar(select(SchemaVersion.version)) or 0)


def too_new(what: str, version: int) -> str:
    return (
        f"{what} is of schema {version}, and this version of Vitrine knows those up to {SCHEMA_VERSION}; use the "
        "version that made it, or a later one"
    )
