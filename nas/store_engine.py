"""Connections to the database of a store: made the same way for Optuna's tables and ours, and made again when lost."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from nas.errors import MissingExtraError, StoreError, StoreWarning
from nas.store_url import is_sqlite, show_url, sqlite_path

T = TypeVar("T")

# What we use is older still, but nobody looks after servers below it; tests run on 15.
MIN_SERVER_VERSION = 13
# A server that is started again, or fails over, is back in this time.
RECONNECT_S = 60.0
_BUSY_TIMEOUT_S = 60
# Serialization failure, deadlock: the server asks for the transaction once more.
_TRY_AGAIN = ("40001", "40P01")
_MAX_DELAY_S = 4.0
# What a user's URL may say otherwise. A peer that vanished without a word is given up after about a minute.
_POSTGRESQL_DEFAULTS = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
    "application_name": "nas",
}


def without_password(url: sa.URL) -> tuple[sa.URL, dict[str, Any]]:
    """Take the password out of a URL, so that no library can show it.

    Returns:
        The URL, and the arguments of `sqlalchemy.create_engine` that go with it.
    """
    if is_sqlite(url):
        # Waits for other writers; the listener runs before anything else on a connection.
        return url, {"connect_args": {"timeout": _BUSY_TIMEOUT_S}, "pool_events": [(_set_pragmas, "connect")]}
    arguments: dict[str, Any] = {key: value for key, value in _POSTGRESQL_DEFAULTS.items() if key not in url.query}
    if url.password is not None:
        arguments["password"] = str(url.password)
    if "password" in url.query:
        arguments["password"] = url.query["password"]
    bare = sa.URL.create(
        url.drivername, username=url.username, host=url.host, port=url.port, database=url.database, query=url.query
    )
    return bare.difference_update_query(["password"]), {"pool_pre_ping": True, "connect_args": arguments}


def make_engine(url: sa.URL) -> sa.Engine:
    """Return an engine for a store; nothing is connected yet.

    Raises:
        MissingExtraError: If the driver of the database is not installed.
    """
    bare, arguments = without_password(url)
    try:
        return sa.create_engine(bare, **arguments)
    except ImportError as error:
        raise missing_driver(url) from error


def missing_driver(url: sa.URL) -> MissingExtraError:
    """Return the error for a database whose driver is not installed."""
    return MissingExtraError(feature=f"a store at {url.drivername}://", extra="postgresql")


def make_folder(url: sa.URL) -> None:
    """Make the folder of a SQLite store.

    Raises:
        OSError: If it cannot be made.
    """
    path = sqlite_path(url)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)


def refuse_old_server(connection: sa.Connection, url: sa.URL) -> None:
    """Refuse a PostgreSQL server that is older than what we are made for.

    Raises:
        StoreError: If it is.
    """
    if is_sqlite(url):
        return
    version = connection.dialect.server_version_info or ()
    if version < (MIN_SERVER_VERSION,):
        raise StoreError(
            f"store {show_url(url)} is on PostgreSQL {'.'.join(map(str, version))}, "
            f"this release needs {MIN_SERVER_VERSION} or newer; update the server, or use another one"
        )


def reconnect_patiently(engine: sa.Engine, url: sa.URL) -> None:
    """Let an engine whose store was opened wait for a server that went away, for up to `RECONNECT_S`.

    Optuna's transactions begin on the same engine, so they wait as well.
    """

    def connect(dialect: sa.Dialect, _record: object, arguments: Any, options: dict[str, Any]) -> Any:
        start_s = time.monotonic()
        delay_s = 0.1
        while True:
            try:
                return dialect.connect(*arguments, **options)
            except dialect.loaded_dbapi.OperationalError:
                if time.monotonic() - start_s > RECONNECT_S:
                    raise
                if delay_s > 1:
                    _say_waiting(url)
            time.sleep(delay_s)
            delay_s = min(2 * delay_s, _MAX_DELAY_S)

    if not is_sqlite(url):
        sa.event.listen(engine, "do_connect", connect)


def transact(engine: sa.Engine, work: Callable[[sa.Connection], T]) -> T:
    """Return what ``work`` gives in a transaction of its own; where the connection is lost, once more from its start.

    The server may have kept a transaction whose answer was lost, so ``work``
    finds rows by keys and inserts them by `insert_new`.
    """
    start_s = time.monotonic()
    delay_s = 0.1
    while True:
        try:
            with engine.begin() as connection:
                return work(connection)
        except sa.exc.DBAPIError as error:
            if not _may_pass(error) or time.monotonic() - start_s > RECONNECT_S:
                raise
        time.sleep(delay_s)
        delay_s = min(2 * delay_s, _MAX_DELAY_S)


def insert_new(connection: sa.Connection, table: sa.TableClause, rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows; one whose key is there already stays as it is, whoever wrote it."""
    insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    connection.execute(insert(table).on_conflict_do_nothing(), rows)


def _may_pass(error: sa.exc.DBAPIError) -> bool:
    return error.connection_invalidated or getattr(error.orig, "sqlstate", None) in _TRY_AGAIN


def _say_waiting(url: sa.URL) -> None:
    warnings.warn(f"store {show_url(url)} does not answer; trying for {RECONNECT_S:.0f} s", StoreWarning, stacklevel=2)


def _set_pragmas(connection: Any, _record: object) -> None:
    # Write-ahead logging survives a killed process at any point and needs no disk flush per commit.
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
