"""The database of checkpoints: SQLite in the output folder, or PostgreSQL by URL.

Each commit is durable before it returns (SQLite: write-ahead log, synchronous = FULL), and only the process that opened a session last
may add to it: its number, the `life`, is compared in the same transaction. So of two servers of one session the older one stops before
it sends anything more.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from fed_em.errors import CallerError, EnvironmentFault
from fed_em_client.durable_files import locked

FORMAT = 1

_ONE_SERVER = "wait until it is over, or stop it: one session has one server"

RUNNING, FINISHED, FAILED, ABANDONED = "running", "finished", "failed", "abandoned"

_tables = sa.MetaData()
_format = sa.Table("fed_em_checkpoints", _tables, sa.Column("format", sa.Integer, primary_key=True))
_sessions = sa.Table(
    "fed_em_sessions",
    _tables,
    sa.Column("session", sa.String(32), primary_key=True),
    sa.Column("place", sa.Text, nullable=False, index=True),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("life", sa.Integer, nullable=False),
    sa.Column("began", sa.String(32), nullable=False),
    sa.Column("plan", sa.Text, nullable=False),
    sa.Column("transcript", sa.Text, nullable=False),
    sa.Column("entries", sa.Integer, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("record", sa.Text, nullable=False),
    sa.Column("total", sa.Text),
)
_attempts = sa.Table(
    "fed_em_attempts",
    _tables,
    sa.Column("session", sa.String(32), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("request", sa.LargeBinary, nullable=False),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("vector", sa.LargeBinary),
)
_lines = sa.Table(
    "fed_em_record_lines",
    _tables,
    sa.Column("session", sa.String(32), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("line", sa.Text, nullable=False),
)


@dataclass(frozen=True)
class AttemptRow:
    """What one attempt at a sum came to.

    Attributes:
        request: Digest of what was asked for.
        outcome: JSON, without the vector.
        vector: Of an opened sum.
    """

    request: bytes
    outcome: str
    vector: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True)
class SessionRow:
    """A session as it was kept last.

    Attributes:
        session: Its number, hexadecimal.
        status: One of the four above.
        life: How many processes have gone on with it.
        began: ISO 8601, UTC.
        plan, state, record, total: JSON; `plan` never changes.
        transcript: Name of its folder; empty without one.
        entries: How many entries of it belong to what is kept here.
        attempts: In order.
        lines: Of the session's record, in order.
    """

    session: str
    status: str
    life: int
    began: str
    plan: str = field(repr=False)
    transcript: str
    entries: int
    state: str = field(repr=False)
    record: str = field(repr=False)
    total: str | None = field(default=None, repr=False)
    attempts: tuple[AttemptRow, ...] = field(default=(), repr=False)
    lines: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Changes:
    """What a step changed: columns of the session by name, and new rows with the numbers that they have."""

    columns: Mapping[str, Any]
    attempts: Mapping[int, AttemptRow] = field(default_factory=dict)
    lines: Mapping[int, str] = field(default_factory=dict)


class StoreInUse(CallerError):
    """Another process of the server has the store open."""


def checkpoint_url(url: str) -> URL:
    """A URL of a database that can hold checkpoints. Its password is shown by no error.

    Raises:
        CallerError: it is none, or the driver's extra is not installed.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise CallerError(
            "[checkpoints] url is no database URL",
            remedy='"sqlite:///checkpoints.sqlite" or "postgresql+psycopg://user@host/database"',
        ) from None
    if parsed.drivername == "sqlite" and parsed.database and parsed.database != ":memory:":
        return parsed
    if parsed.drivername not in ("postgresql", "postgresql+psycopg"):
        raise CallerError(
            f"checkpoints go to a SQLite file or to PostgreSQL, and not to '{parsed.drivername}'",
            remedy='url = "sqlite:///checkpoints.sqlite" or "postgresql+psycopg://user@host/database"',
        )
    if find_spec("psycopg") is None:
        raise CallerError("checkpoints in PostgreSQL need its driver", remedy="pip install 'fed-em[postgresql]'")
    return parsed.set(drivername="postgresql+psycopg")


class CheckpointStore(AbstractContextManager["CheckpointStore"]):
    """Open, and locked for one place until it is closed.

    Args:
        url: From `checkpoint_url`.
        place: Which server's sessions are meant, where several share a database.

    Raises:
        StoreInUse: another process holds the lock.
        CallerError: the store is of a newer format.
        EnvironmentFault: the database cannot be reached or written.
    """

    def __init__(self, url: URL, place: str) -> None:
        self._place = place
        self._shown = url.render_as_string(hide_password=True)
        self._password = str(url.password) if url.password else ""
        self._held = ExitStack()
        try:
            if url.drivername == "sqlite":
                self._lock_file(Path(str(url.database)))
            self._engine = sa.create_engine(url, hide_parameters=True, pool_pre_ping=True)
            self._held.callback(self._engine.dispose)
            if url.drivername == "sqlite":
                sa.event.listen(self._engine, "connect", _durably)
            with self._trouble():
                if url.drivername != "sqlite":
                    self._lock_place()
                self._require_format()
        except BaseException:
            self._held.close()
            raise

    def _lock_file(self, database: Path) -> None:
        lock = locked(
            database.with_name(f"{database.name}.lock"),
            StoreInUse(f"another server uses {database}", remedy=_ONE_SERVER),
        )
        self._held.callback(os.close, lock)

    def _lock_place(self) -> None:
        connection = self._held.enter_context(self._engine.connect().execution_options(isolation_level="AUTOCOMMIT"))
        found = connection.execute(sa.select(sa.func.pg_try_advisory_lock(sa.func.hashtextextended(self._place, 0))))
        if not found.scalar_one():
            raise StoreInUse(f"another server uses the sessions of {self._place} in {self._shown}", remedy=_ONE_SERVER)

    def _require_format(self) -> None:
        with self._engine.begin() as connection:
            known = sa.inspect(connection).has_table(_format.name)
            found = connection.execute(sa.select(sa.func.max(_format.c.format))).scalar_one() if known else None
            if found is not None and found > FORMAT:
                raise CallerError(
                    f"{self._shown} holds checkpoints of format {found}, and this version of fed-em knows {FORMAT}",
                    remedy="go on with the newer version that wrote them",
                )
            _tables.create_all(connection)
            if found is None:
                connection.execute(_format.insert().values(format=FORMAT))

    @contextmanager
    def _trouble(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            said = str(getattr(error, "orig", None) or type(error).__name__).strip().split("\n")[0]
            said = said.replace(self._password, "***") if self._password else said
            raise EnvironmentFault(
                f"the checkpoints in {self._shown} cannot be read or written: {said}",
                remedy="the database must be there and have room; then start the server again, and the session goes on",
            ) from None

    def unfinished(self) -> SessionRow | None:
        """The newest session of this place that is not over."""
        return self._newest(_sessions.c.status == RUNNING)

    def newest(self) -> SessionRow | None:
        """The newest session of this place, over or not."""
        return self._newest()

    def _newest(self, *where: sa.ColumnElement[bool]) -> SessionRow | None:
        with self._trouble(), self._engine.begin() as connection:
            chosen = sa.select(_sessions).where(_sessions.c.place == self._place, *where)
            row = connection.execute(chosen.order_by(_sessions.c.began.desc()).limit(1)).mappings().one_or_none()
            if row is None:
                return None
            attempts = connection.execute(_of(_attempts, row["session"])).mappings().all()
            lines = connection.execute(_of(_lines, row["session"])).mappings().all()
        made = (AttemptRow(bytes(a["request"]), a["outcome"], a["vector"] and bytes(a["vector"])) for a in attempts)
        columns = {name: value for name, value in row.items() if name != "place"}
        return SessionRow(**columns, attempts=tuple(made), lines=tuple(each["line"] for each in lines))

    def begin(self, row: SessionRow) -> None:
        """A new session."""
        columns = {column.name: getattr(row, column.name) for column in _sessions.columns if column.name != "place"}
        with self._trouble(), self._engine.begin() as connection:
            connection.execute(_sessions.insert().values(place=self._place, **columns))

    def commit(self, session: str, life: int, changes: Changes) -> None:
        """Keep what a step changed; durable when this returns.

        Raises:
            EnvironmentFault: the database does not take it, or another server goes on with the session.
        """
        of_session = (_sessions.c.session == session, _sessions.c.life == life, _sessions.c.status == RUNNING)
        with self._trouble(), self._engine.begin() as connection:
            done = connection.execute(sa.update(_sessions).where(*of_session).values({"life": life, **changes.columns}))
            if done.rowcount != 1:
                raise EnvironmentFault(
                    f"another server goes on with session {session}, or has ended it: this one stops",
                    remedy="one session has one server; see which process runs it",
                )
            for table, rows in ((_attempts, _attempt_rows(changes)), (_lines, _record_rows(changes))):
                if rows:
                    connection.execute(table.insert(), [{"session": session, **each} for each in rows])

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.close()


def _attempt_rows(changes: Changes) -> Sequence[dict[str, Any]]:
    return [
        {"number": number, "request": row.request, "outcome": row.outcome, "vector": row.vector}
        for number, row in changes.attempts.items()
    ]


def _record_rows(changes: Changes) -> Sequence[dict[str, Any]]:
    return [{"number": number, "line": line} for number, line in changes.lines.items()]


def _of(table: sa.Table, session: str) -> sa.Select[Any]:
    return sa.select(table).where(table.c.session == session).order_by(table.c.number)


def _durably(connection: Any, _: object) -> None:
    """Settings of a new connection to SQLite."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.close()
