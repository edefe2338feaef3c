"""One SQL database, SQLite or PostgreSQL, whose writers go one after the other, and what its stores have in common.
Each process opens it once.

What a transaction has read is still true when it writes, on both: SQLite is locked when the transaction begins,
PostgreSQL by an advisory lock of ours. A change of the store takes milliseconds; correctness is worth the queue.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Float,
    Select,
    cast,
    create_engine,
    event,
    extract,
    func,
    literal,
    select,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session, sessionmaker

from service.errors import InvalidRequest, NotFound
from service.tables import Base, Batch, Checkpoint, File, Job, WebhookEndpoint, create_tables

WRITES = "vitrine_writes"  # execution option of a transaction that changes something
WRITE_LOCK = 0x76697472  # of all stores in one PostgreSQL database
BUSY_SECONDS = 30

Row = TypeVar("Row", File, Job, Checkpoint, Batch, WebhookEndpoint)  # what is listed in pages


class Database:
    """Of a URL: `sqlite:////path/file` or `postgresql://user:password@host/name`. Makes the tables that are missing,
    and those of an earlier version like ours. Raises InvalidRequest for those of a later one."""

    def __init__(self, url: str) -> None:
        self._engine = _engine(url)
        self.on_postgresql = self._engine.dialect.name == "postgresql"
        self._sessions: sessionmaker[Session] = sessionmaker(self._engine, expire_on_commit=False)
        try:
            with self.write() as session:
                create_tables(session.connection())
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A transaction that changes nothing; it sees one state of the database."""
        with self._sessions.begin() as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction that no other writer comes between."""
        with self._sessions.begin() as session:
            session.connection(execution_options={WRITES: True})
            if self.on_postgresql:
                session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": WRITE_LOCK})
            yield session

    def insert_once(self, session: Session, table: type[Base], values: dict[str, Any]) -> None:
        """Adds a row, unless one with the same key is there."""
        if self.on_postgresql:
            session.execute(postgresql.insert(table).values(**values).on_conflict_do_nothing())
        else:
            session.execute(sqlite.insert(table).values(**values).on_conflict_do_nothing())


@contextmanager
def opened(url: str) -> Iterator[Database]:
    """A database for a moment."""
    database = Database(url)
    try:
        yield database
    finally:
        database.close()


class Store:
    """What is kept in some of the tables. Times are Unix seconds from the wall clock."""

    def __init__(self, database: Database, clock: Callable[[], float] | None = None) -> None:
        """A `clock` that is given takes the place of all others."""
        self._database = database
        self.clock = clock or time.time
        self._leases_by_database = database.on_postgresql and clock is None

    def lease_clock(self) -> ColumnElement[float]:
        """What leases are given and end by: hosts that share a PostgreSQL go by its clock, as their own may differ by
        more than a lease. SQLite has one host."""
        if self._leases_by_database:
            return cast(extract("epoch", func.clock_timestamp()), Float)
        return literal(self.clock())

    def lease_now(self, session: Session) -> float:
        """That clock's time."""
        return session.scalars(select(self.lease_clock())).one()


def page(
    session: Session,
    query: Select[Row],
    table: type[Row],
    after: str | None,
    limit: int,
    descending: bool = True,
) -> tuple[list[Row], bool]:
    """The rows after the one of this id, by age, newest first unless said otherwise -> and whether there are more."""
    created, own_id = table.created_at, table.id
    if after is not None:
        anchor = session.get(table, after)
        if anchor is None or not set(session.scalars(query.with_only_columns(own_id).where(own_id == after))):
            raise NotFound(f"after={after!r} names nothing in this list; start again without it", "after")
        older = (created < anchor.created_at) | ((created == anchor.created_at) & (own_id > anchor.id))
        newer = (created > anchor.created_at) | ((created == anchor.created_at) & (own_id < anchor.id))
        query = query.where(older if descending else newer)
    order = (created.desc(), own_id) if descending else (created, own_id.desc())
    rows = list(session.scalars(query.order_by(*order).limit(limit + 1)))
    return rows[:limit], len(rows) > limit


def sqlite_url(path: Path) -> str:
    return f"sqlite:///{path.absolute()}"


def _engine(url: str) -> Engine:
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        assert parsed.database
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(parsed, connect_args={"timeout": BUSY_SECONDS}, hide_parameters=True)
        event.listen(engine, "connect", _configure_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    try:
        driver = parsed.set(drivername="postgresql+psycopg")
        return create_engine(
            driver, pool_pre_ping=True, connect_args={"connect_timeout": BUSY_SECONDS}, hide_parameters=True
        )
    except ModuleNotFoundError as error:
        raise InvalidRequest(
            "VITRINE_DATABASE names a PostgreSQL database, which needs psycopg; install it with "
            "pip install 'vitrine[postgresql]'"
        ) from error


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(WRITES)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _configure_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # SQLAlchemy begins transactions itself, see `_begin_sqlite`
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")  # what was acknowledged survives a power cut
    cursor.execute("PRAGMA foreign_keys=OFF")  # tables of earlier versions had some that do not hold any more
    cursor.close()
