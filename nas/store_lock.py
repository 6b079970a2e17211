"""One process at a time makes or changes the tables of a store."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import sqlalchemy as sa

from nas.store_url import sqlite_path

# Any number, as long as all releases agree on it.
_ADVISORY_KEY = 5_073_902_140
_WAIT_MS = 60_000


@contextmanager
def change_lock(engine: sa.Engine) -> Iterator[None]:
    """Keep other processes from making or changing the tables while the block runs; it ends with the process.

    In PostgreSQL it is an advisory lock, which ends with its transaction. A
    SQLite transaction would keep out Optuna's own connections to the same file,
    so there it is a file beside the store, gone when nobody needs it.

    Raises:
        SQLAlchemyError: If the server does not give the lock in a minute.
        OSError: If the folder of the store cannot be written.
    """
    path = sqlite_path(engine.url)
    if path is None:
        with engine.begin() as connection:
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = {_WAIT_MS}")
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ADVISORY_KEY)))
            yield
        return
    lock_path = path.with_name(f"{path.name}.lock")
    with _locked_file(lock_path):
        try:
            yield
        finally:
            lock_path.unlink()


def _locked_file(path: Path) -> IO[str]:
    """Return the lock file, held; closing it gives it up."""
    while True:
        file = path.open("a")
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            if path.stat().st_ino == _inode(file):
                return file
        except FileNotFoundError:
            pass
        # Whoever held it before has removed it; the next one is another file.
        file.close()


def _inode(file: IO[str]) -> int:
    return os.fstat(file.fileno()).st_ino
