"""Where a store is: URLs read, brought to one form, and shown without their passwords."""

from __future__ import annotations

import platform
from pathlib import Path

import sqlalchemy as sa

from nas.errors import StoreError
from nas.passwords import HIDDEN, SECRETS

POSTGRESQL_DRIVER = "postgresql+psycopg"
FORMS = "sqlite:///PATH or postgresql+psycopg://USER@HOST/DATABASE"
_LOOPBACK = (None, "", "localhost", "127.0.0.1", "::1")
_SQLITE_HERE = f"sqlite://{platform.node()}"
_POSTGRESQL_NAMES = ("postgresql", "postgres", POSTGRESQL_DRIVER)


def parse_store_url(text: str) -> sa.URL:
    """Return the URL of a store, with the driver we use.

    Raises:
        StoreError: If it is no URL, or of a database we do not know. The message never repeats a URL
            that could not be taken apart: a password may be anywhere in it.
    """
    try:
        url = sa.make_url(text)
        # What is no host's name fails much later, where nobody expects it.
        (url.host or "").encode("idna")
    except (sa.exc.ArgumentError, ValueError):
        raise StoreError(
            f"the URL of a store has to be {FORMS}; in it '@', ':', '/' and '%' of a name or a password "
            "are written %40, %3A, %2F and %25"
        ) from None
    if url.drivername in ("sqlite", "sqlite+pysqlite"):
        if url.database in (None, "", ":memory:"):
            raise StoreError("a SQLite store has to be a file: sqlite:///PATH")
        return url
    if url.drivername not in _POSTGRESQL_NAMES:
        raise StoreError(f"a store cannot be kept in {url.drivername!r}; its URL has to be {FORMS}")
    if "@" in (url.host or "") or "@" in (url.database or ""):
        raise StoreError("the URL of the store has more than one '@'; one of a name or a password is written %40")
    if not url.database:
        raise StoreError(f"the URL of the store names no database: {FORMS}")
    return url.set(drivername=POSTGRESQL_DRIVER)


def show_url(url: sa.URL) -> str:
    """Return a URL without its passwords."""
    hidden = dict.fromkeys((key for key in url.query if key in SECRETS), HIDDEN)
    return url.update_query_dict(hidden).render_as_string(hide_password=True).replace("%2A%2A%2A", HIDDEN)


def store_identity(url: sa.URL) -> str:
    """Return what a store is called on every machine that reaches it: its host and path, or database; no user."""
    path = sqlite_path(url)
    if path is not None:
        return f"{_SQLITE_HERE}{path.resolve()}"
    host = platform.node() if url.host in _LOOPBACK else url.host
    return f"postgresql://{host}:{url.port or 5432}/{url.database}"


def file_of_identity(identity: str) -> Path | None:
    """Return the SQLite file of this machine that a store is, or ``None`` if it is none."""
    return Path(identity.removeprefix(_SQLITE_HERE)) if identity.startswith(_SQLITE_HERE) else None


def sqlite_path(url: sa.URL) -> Path | None:
    """Return the file of a SQLite store, or ``None`` for one in PostgreSQL."""
    return Path(url.database or "") if is_sqlite(url) else None


def is_sqlite(url: sa.URL) -> bool:
    """Tell whether a store is a SQLite file."""
    return url.get_backend_name() == "sqlite"
