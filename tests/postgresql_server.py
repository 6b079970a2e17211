"""A real PostgreSQL server for the tests: a throw-away cluster on a port of its own."""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
from itertools import count
from pathlib import Path

import psycopg

from tests.system_packages import require_program

OWNER = "tester"
GUARDED = "guarded"
# Recognisable in whatever is printed, and with the characters that URLs write otherwise.
PASSWORD = "hunter2%@:/{secret}"
_HBA = f"host all {OWNER} 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
_OPTIONS = (
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "fsync=off",
    "shared_buffers=16MB",
    "max_connections=60",
    "lc_messages=C",
)


class PostgresqlServer:
    """A cluster in ``folder``, which PostgreSQL's own user may write where the tests run as root."""

    def __init__(self, folder: Path) -> None:
        self._programs = Path(_find_programs())
        self._data = folder / "data"
        self._user: dict[str, object] = {}
        if os.getuid() == 0:
            # The server refuses to run as root.
            account = pwd.getpwnam("postgres")
            os.chown(folder, account.pw_uid, account.pw_gid)
            self._user = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        self._names = count()
        self.port = _free_port()
        self._run("initdb", "-U", OWNER, "-A", "trust", "-N", "--no-locale", "-E", "UTF8")
        hba = self._data / "pg_hba.conf"
        hba.write_text(_HBA)
        self.start()
        with self.connect("postgres") as connection:
            connection.execute(f"CREATE ROLE {GUARDED} LOGIN SUPERUSER PASSWORD '{PASSWORD}'")

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        options = " ".join(["-p", str(self.port), *(f"-c {option}" for option in _OPTIONS)])
        self._run("pg_ctl", "start", "-w", "-o", options, "-l", str(self._data / "log"))

    def stop(self) -> None:
        """Stop the server; open connections are cut."""
        self._run("pg_ctl", "stop", "-w", "-m", "fast")

    def connect(self, database: str) -> psycopg.Connection[tuple[object, ...]]:
        """Return a connection of the owner, in which every statement is a transaction."""
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user=OWNER, dbname=database, autocommit=True, connect_timeout=10
        )

    def new_database(self) -> str:
        """Make an empty database and return the URL of a store in it."""
        name = f"store{next(self._names)}"
        with self.connect("postgres") as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def url(self, database: str, *, user: str = OWNER, port: int | None = None) -> str:
        """Return the URL of a store, without a password."""
        return f"postgresql+psycopg://{user}@127.0.0.1:{port or self.port}/{database}"

    def _run(self, program: str, *words: str) -> None:
        command = [str(self._programs / program), "-D", str(self._data), *words]
        # A server that is started keeps what it inherits, so nothing may wait for the end of its output.
        finished = subprocess.run(
            command,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
            timeout=60,
            **self._user,  # type: ignore[call-overload]
        )
        assert finished.returncode == 0, command


def _find_programs() -> str:
    """Return the folder of PostgreSQL's programs; Debian keeps them off the path."""
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (folder / "initdb").exists():
            return str(folder)
    return str(Path(require_program("initdb", package="postgresql")).parent)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
