"""Fixtures for every test that keeps something in a store."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.s3_server import BUCKET

if TYPE_CHECKING:
    from tests.postgresql_server import PostgresqlServer
    from tests.s3_server import S3Server


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


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    from tests.s3_server import S3Server

    server = S3Server(tmp_path_factory.mktemp("s3"))
    yield server
    server.stop()


@pytest.fixture
def s3_url(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty place in the bucket of a real S3 API, with the credentials for it in the environment."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    s3_server.make_bucket()
    return f"s3://{BUCKET}/{uuid.uuid4().hex}"
