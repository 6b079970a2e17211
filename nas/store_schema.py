"""The tables of a store: made once, by one process at a time, and brought from version to version.

Optuna's tables have a version of their own, kept by Optuna.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import sqlalchemy as sa

from nas import tables
from nas.errors import StoreError
from nas.optuna_storage import OptunaStorage
from nas.store_engine import make_engine, make_folder, refuse_old_server
from nas.store_errors import store_errors
from nas.store_lock import change_lock
from nas.store_migrations import OLDEST_VERSION, migrate
from nas.store_url import show_url, sqlite_path

SCHEMA_VERSION = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Upgrade:
    """What `upgrade_store` did: our version and Optuna's, before and after."""

    version_before: int
    version: int
    optuna_version_before: str
    optuna_version: str


def open_storage(url: sa.URL) -> OptunaStorage:
    """Open a store, with all tables; a new one is made, whole and by one process alone.

    Raises:
        StoreError: If it cannot be opened, is not a store, or is one of another release.
        MissingExtraError: If the driver of the database is not installed.
    """
    make_folder(url)
    with _engine(url) as engine, store_errors(url):
        version = _find_version(engine, url)
        if version is None:
            with change_lock(engine):
                version = _find_version(engine, url) or _make_tables(engine, url)
        _refuse_other_version(version, url)
        return _open_optuna(url)


def require_store(url: sa.URL) -> None:
    """Refuse a place that holds no store, and make none.

    Raises:
        StoreError: If there is none, or it cannot be read.
    """
    with _engine(url) as engine, store_errors(url):
        _read_version(engine, url)


def upgrade_store(url: sa.URL) -> Upgrade:
    """Bring the tables of a store, ours and Optuna's, to what this release reads. A step is done whole or not at all.

    Raises:
        StoreError: If there is no store, or a newer release wrote it.
    """
    require_store(url)
    with _engine(url) as engine, store_errors(url), change_lock(engine):
        before = version = _read_version(engine, url)
        if not OLDEST_VERSION <= version <= SCHEMA_VERSION:
            _refuse_other_version(version, url)
        while version < SCHEMA_VERSION:
            with engine.begin() as connection:
                if engine.dialect.name == "sqlite":
                    # The driver itself begins no transaction before a change of tables.
                    connection.exec_driver_sql("BEGIN IMMEDIATE")
                version = migrate(connection, version=version)
        storage = OptunaStorage(url)
        try:
            optuna_before = storage.get_current_version()
            if optuna_before not in storage.get_all_versions():
                raise StoreError(_newer_optuna(url))
            if optuna_before != storage.get_head_version():
                with _password_in_environment(url):
                    storage.upgrade()
            optuna_version = storage.get_current_version()
        finally:
            storage.close()
    return Upgrade(
        version_before=before, version=version, optuna_version_before=optuna_before, optuna_version=optuna_version
    )


@contextmanager
def _engine(url: sa.URL) -> Iterator[sa.Engine]:
    engine = make_engine(url)
    try:
        yield engine
    finally:
        engine.dispose()


def _find_version(engine: sa.Engine, url: sa.URL) -> int | None:
    """Return the version of our tables, or ``None`` where there are none yet."""
    path = sqlite_path(url)
    if path is not None and (not path.exists() or not path.stat().st_size):
        # Connecting would make the file.
        return None
    with engine.connect() as connection:
        refuse_old_server(connection, url)
        if not sa.inspect(connection).has_table(tables.schema.name):
            return None
        return connection.execute(sa.select(sa.func.max(tables.schema.c.version))).scalar()


def _read_version(engine: sa.Engine, url: sa.URL) -> int:
    version = _find_version(engine, url)
    if version is None:
        raise StoreError(f"there is no store at {show_url(url)}; check the path, or the name of the database")
    return version


def _make_tables(engine: sa.Engine, url: sa.URL) -> int:
    OptunaStorage(url, makes_tables=True).close()
    with engine.begin() as connection:
        tables.METADATA.create_all(connection)
        # The last of all: with it the store is whole.
        connection.execute(sa.insert(tables.schema), [{"version": SCHEMA_VERSION}])
    return SCHEMA_VERSION


def _refuse_other_version(version: int, url: sa.URL) -> None:
    if version != SCHEMA_VERSION:
        step = (
            f"end what uses it, then run `nas store upgrade {show_url(url)}`"
            if OLDEST_VERSION <= version < SCHEMA_VERSION
            else "use the release that wrote it"
        )
        raise StoreError(
            f"store {show_url(url)} has schema version {version}, this release reads {SCHEMA_VERSION}; {step}"
        )


def _open_optuna(url: sa.URL) -> OptunaStorage:
    storage = OptunaStorage(url)
    version = storage.get_current_version()
    if version == storage.get_head_version():
        return storage
    is_older = version in storage.get_all_versions()
    storage.close()
    raise StoreError(_older_optuna(url) if is_older else _newer_optuna(url))


def _older_optuna(url: sa.URL) -> str:
    step = f"end what uses it, then run `nas store upgrade {show_url(url)}`"
    return f"store {show_url(url)} was made by an older version of Optuna; {step}"


def _newer_optuna(url: sa.URL) -> str:
    return f"store {show_url(url)} was made by a newer version of Optuna; run `pip install --upgrade optuna`"


@contextmanager
def _password_in_environment(url: sa.URL) -> Iterator[None]:
    """Give the password where the connections that Optuna's upgrade makes by itself find it."""
    password = url.password or url.query.get("password")
    before = os.environ.get("PGPASSWORD")
    if password is not None:
        os.environ["PGPASSWORD"] = str(password)
    try:
        yield
    finally:
        if before is not None:
            os.environ["PGPASSWORD"] = before
        elif password is not None:
            del os.environ["PGPASSWORD"]
