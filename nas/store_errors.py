"""What a database says when it fails, as one line with the next step."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager

import optuna
import sqlalchemy as sa

from nas.errors import StoreError
from nas.passwords import hide_passwords
from nas.store_url import is_sqlite, show_url

_PASSWORD_ADVICE = (
    "give it in ~/.pgpass, or in the environment by PGPASSWORD or PGPASSFILE; `--storage` needs none in it"
)
_SQLITE_ADVICE = "check the path, its permissions and the free disk space"
# What the server or its client library says -> what to do. The first that is found counts.
_ADVICE = (
    ("password authentication failed", _PASSWORD_ADVICE),
    ("no password supplied", _PASSWORD_ADVICE),
    ("no pg_hba.conf entry", "let this machine in, in the server's pg_hba.conf"),
    ("permission denied", "let the user own the database: `ALTER DATABASE ... OWNER TO ...`"),
    ("read-only transaction", "choose the primary server, not a standby"),
    ("too many connections", "end other work on the store, or raise max_connections on the server"),
    ("too many clients", "end other work on the store, or raise max_connections on the server"),
    ("lock timeout", "another process changes the store; give the same command again"),
    ("invalid connection option", "leave it out of the URL"),
    ("invalid port number", "mend it in the URL"),
    ("invalid sslmode value", "mend it in the URL"),
    ("bad value for", "mend it in the URL"),
    ("No space left on device", "free disk space on the server"),
    ("could not extend file", "free disk space on the server"),
)
_CONNECTION_ADVICE = "check the host and the port, and that the server runs; then give the same command again"


@contextmanager
def store_errors(url: sa.URL) -> Iterator[None]:
    """Turn the database's own errors inside the block into `StoreError`."""
    try:
        yield
    except (sa.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        raise StoreError(explain(error, url)) from error


def explain(error: Exception, url: sa.URL) -> str:
    """Return an error of the database as one line: the store, what it says, what to do. No password is in it."""
    cause = _cause(error)
    lines = str(cause).strip().splitlines() or [type(cause).__name__]
    reason = hide_passwords(lines[0] if is_sqlite(url) else " ".join(line.strip() for line in lines))
    return f"store {show_url(url)} cannot be used: {reason}; {_advice(reason, url)}"


def _cause(error: BaseException) -> BaseException:
    """Return what the driver said, beneath SQLAlchemy's and Optuna's own errors."""
    while True:
        beneath = getattr(error, "orig", None) or error.__cause__
        if beneath is None or not isinstance(error, sa.exc.SQLAlchemyError | optuna.exceptions.StorageInternalError):
            return error
        error = beneath


def _advice(reason: str, url: sa.URL) -> str:
    if is_sqlite(url):
        return _SQLITE_ADVICE
    if "does not exist" in reason and "database" in reason:
        return f"make it: `{_createdb(url)}`"
    return next((advice for words, advice in _ADVICE if words in reason), _CONNECTION_ADVICE)


def _createdb(url: sa.URL) -> str:
    words = ["createdb"]
    for option, value in (("-h", url.host), ("-p", url.port), ("-U", url.username)):
        words += [option, str(value)] if value else []
    return shlex.join([*words, url.database or ""])
