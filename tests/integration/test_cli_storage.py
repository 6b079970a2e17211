"""Verbs on a store in PostgreSQL: as on a file, and with one clear line where it cannot be used."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest

from nas import store_engine
from nas.records import Objective
from nas.runs import SearchRequest
from nas.store import Store, sqlite_url
from nas.store_schema import SCHEMA_VERSION
from tests.command_line import CommandLine
from tests.fake_parts import SEQUENCE_LENGTH, make_search
from tests.loopback_proxy import loopback_proxy
from tests.old_stores import make_version_1
from tests.postgresql_server import GUARDED, PASSWORD, PostgresqlServer
from tests.store_contents import SCORE

SEARCH = ("--objectives", "macs,parameters", "--trials", "2", "--space", "staged", "--sequence-length", "16")
WORDS_OF_PASSWORD = ("hunter2", "{secret}", quote(PASSWORD, safe=""))


@pytest.fixture
def nas(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> CommandLine:
    return CommandLine(capsys, tmp_path / "runs")


@pytest.fixture
def database(postgresql_server: PostgresqlServer) -> str:
    return postgresql_server.new_database().rpartition("/")[2]


@pytest.fixture
def guarded_url(postgresql_server: PostgresqlServer, database: str) -> str:
    """A store for a user with a password, without it."""
    return postgresql_server.url(database, user=GUARDED)


def with_password(url: str, password: str) -> str:
    return url.replace(f"{GUARDED}@", f"{GUARDED}:{quote(password, safe='')}@")


@pytest.mark.slow
def test_verbs_say_the_same_of_both_databases(
    nas: CommandLine, guarded_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    request = SearchRequest(
        space="grouped", objectives=(Objective.ACCURACY, Objective.MACS), sequence_length=SEQUENCE_LENGTH
    )
    urls = (sqlite_url(tmp_path / "shared.db"), guarded_url)
    for url in urls:
        store = Store(url)
        for run, seed in (("first", 1), ("second", 2)):
            make_search(store, tmp_path, run=run, request=replace(request, seed=seed)).run(5)
        store.close()

    for words in (
        ("show", "first", "--json"),
        ("show", "first", "--trial", "2", "--json"),
        ("pick", "second", "--min-accuracy", "0.4", "--json"),
        ("compare", "first", "second"),
        ("report", "first", "--json", "--output", str(tmp_path / "report")),
    ):
        said = [nas.in_folder(*words, "--storage", url) for url in urls]
        without_times = [re.sub(r'"(duration_s|created_at)": [^,\n]*', "", each.stdout) for each in said]
        assert [each.code for each in said] == [0, 0], said
        assert without_times[0] == without_times[1], words
    other = nas.in_folder("search", "first", "--seed", "9", "--storage", guarded_url)
    assert "has other settings: seed is 1, asked for 9" in other.error
    missing = nas.in_folder("show", "third", "--storage", guarded_url)
    assert "no run 'third' in the store (runs: first, second)" in missing.error


@pytest.mark.slow
def test_a_password_is_found_nowhere(
    nas: CommandLine, guarded_url: str, database: str, postgresql_server: PostgresqlServer, tmp_path: Path
) -> None:
    url = with_password(guarded_url, PASSWORD)
    said = [
        nas.in_folder("search", "run", *SEARCH, "--storage", url),
        nas.in_folder("report", "run", "--storage", url, "--output", str(tmp_path / "report")),
        nas.in_folder("show", "run", "--storage", url),
        nas("store", "upgrade", url, "--json"),
        nas("store", "copy", url, str(tmp_path / "copy.db"), "--json"),
    ]
    failed = nas.in_folder("search", "run", *SEARCH, "--seed", "5", "--storage", url)

    assert [each.code for each in said] == [0] * 5, said
    assert failed.code == 1
    written = [path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file()]
    assert any(f"--storage postgresql+psycopg://{GUARDED}:***@127.0.0.1" in text for text in written)
    for text in (*written, *(each.stdout + each.stderr for each in (*said, failed))):
        assert not [word for word in WORDS_OF_PASSWORD if word in text]
    store = Store(postgresql_server.url(database))
    assert not any(word in repr(vars(each)) for each in (store, store.optuna_storage) for word in WORDS_OF_PASSWORD)
    store.close()


def test_a_password_may_come_from_a_file_or_the_environment(
    nas: CommandLine, guarded_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passfile = tmp_path / "pgpass"
    passfile.write_text(f"127.0.0.1:*:*:{GUARDED}:{PASSWORD.replace(':', chr(92) + ':')}\n")
    passfile.chmod(0o600)

    for name, value in (("PGPASSFILE", str(passfile)), ("PGPASSWORD", PASSWORD)):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            assert "no run 'run' in the store (runs: none)" in nas("show", "run", "--storage", guarded_url).error


def test_what_postgresql_cannot_do_is_one_line_with_the_next_step(
    nas: CommandLine, guarded_url: str, database: str, postgresql_server: PostgresqlServer
) -> None:
    with postgresql_server.connect(database) as connection:
        connection.execute("CREATE ROLE guest LOGIN")
        connection.execute("ALTER ROLE guest PASSWORD 'guest'")
    here = f"127.0.0.1:{postgresql_server.port}"
    expected = {
        with_password(guarded_url, "hunter2"): "password authentication failed.*PGPASSWORD",
        guarded_url: "no password supplied.*~/.pgpass",
        with_password(guarded_url, PASSWORD).replace(here, "127.0.0.1:1"): "Connection refused.*check the host and the",
        with_password(guarded_url, PASSWORD).replace(here, "nowhere.invalid"): "resolve host.*check the host",
        with_password(guarded_url, PASSWORD).replace(database, "none"): (
            rf'database "none" does not exist; make it: `createdb -h 127.0.0.1 -p \d+ -U {GUARDED} none`'
        ),
        with_password(guarded_url, PASSWORD) + "?colour=red": 'invalid connection option "colour"; leave it out',
        with_password(guarded_url, PASSWORD) + "?sslmode=red": 'invalid sslmode value: "red"; mend it in the URL',
        f"postgresql://guest:guest@{here}/{database}": "permission denied for schema public.*own the database",
    }

    for url, message in expected.items():
        finished = nas("show", "run", "--storage", url)
        assert re.search(message, finished.error), finished
        assert not [word for word in WORDS_OF_PASSWORD if word in finished.stderr], finished
        assert "\n" not in finished.stderr.strip(), finished


def test_a_server_that_is_too_old_is_told(nas: CommandLine, database: str, postgresql_server: PostgresqlServer) -> None:
    # The same length, or the messages of the protocol would be cut elsewhere.
    with loopback_proxy(postgresql_server.port, rewrite=(b"PostgreSQL 15.", b"PostgreSQL 11.")) as proxy:
        url = postgresql_server.url(database, port=proxy.port)
        told = nas("show", "run", "--storage", url).error

    assert re.search(r"is on PostgreSQL 11\.\d+, this release needs 13 or newer; update the server", told)
    assert store_engine.MIN_SERVER_VERSION == 13


def test_a_driver_that_is_not_installed_is_named_by_its_extra(
    nas: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)

    told = nas("show", "run", "--storage", f"postgresql://me:{quote(PASSWORD, safe='')}@127.0.0.1/nas").error

    assert "needs the extra 'postgresql'; run `pip install 'pocketbert[postgresql]'`" in told


def test_the_commands_of_the_store_tell_what_they_did(
    nas: CommandLine, database: str, postgresql_server: PostgresqlServer, tmp_path: Path
) -> None:
    url = postgresql_server.url(database)
    make_version_1(url).dispose()
    path = tmp_path / "folder" / "store.db"

    refused = nas("show", "run", "--storage", url).error
    command = re.findall(r"`nas (store upgrade [^`]+)`", refused)
    upgraded = nas(*command[0].split())
    again = nas("store", "upgrade", url)
    store = Store(url)
    store.save_score(SCORE, settings_id="settings", arch_id="arch")
    store.close()
    copied = nas("store", "copy", url, str(path))
    document = json.loads(nas("store", "copy", str(path), url, "--json").stdout)

    assert f"schema version: {SCHEMA_VERSION}, was 1" in upgraded.stdout
    assert f"schema version: {SCHEMA_VERSION}, as before" in again.stdout
    assert re.search(r"scores +1 +1 +([0-9a-f]{16}) +\1\b", copied.stdout)
    assert "verified" in copied.stdout
    (scores,) = [kind for kind in document if kind["name"] == "scores"]
    assert (scores["num_records"], scores["num_copied"]) == (1, 0)
    assert scores["from_sha256"] == scores["to_sha256"]
    missing = nas("store", "copy", str(tmp_path / "none.db"), url).error
    assert re.search(r"there is no store at sqlite:///.*none\.db; check the path", missing)
