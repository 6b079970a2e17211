"""Fixtures for every test that keeps something in a store."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.postgresql_server import PostgresqlServer


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgresqlServer]:
    from tests.postgresql_server import PostgresqlServer

    # Not under pytest's own folder, where another user than its owner may not look.
    folder = Path(tempfile.mkdtemp(prefix="nas-postgresql-"))
    try:
        server = PostgresqlServer(folder)
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a store that does not exist yet, in each database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/folder/store.db"
    server: PostgresqlServer = request.getfixturevalue("postgresql_server")
    return server.new_database()
