from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

import pytest

from nas.artifact_stores import FolderStore
from nas.artifacts import ArtifactFolder
from nas.claims import claim
from nas.errors import StoreError
from nas.garbage import Garbage, Kind, find_garbage, remove_garbage
from nas.holders import new_holder, show_holder
from nas.run_folder import hold_run
from nas.store import Store, sqlite_url
from nas.store_url import parse_store_url, store_identity
from tests.fake_parts import make_search
from tests.store_contents import SCORE

HASH, OTHER = "a" * 64, "b" * 64
DAY = timedelta(days=1)
# Of the run that `make_search` makes.
NEEDED = (
    f"weights/{HASH}.safetensors",
    "teachers/0.safetensors",
    "teachers/lock",
    "statistics/0-0-8192-0-2.safetensors",
    "README.md",
)
UNNEEDED = {
    f"weights/{OTHER}.safetensors": Kind.WEIGHTS,
    "teachers/abc.safetensors": Kind.TEACHERS,
    "teachers/abc.checkpoint": Kind.CHECKPOINTS,
    "statistics/0-1-8192-0-2.safetensors": Kind.STATISTICS,
    "statistics/abc-0-8192-0-2.safetensors": Kind.STATISTICS,
    "models/0123456789ab-2-128.onnx": Kind.MODELS,
    "quarantine/weights/c.safetensors": Kind.QUARANTINE,
    f"weights/.{HASH}.safetensors.ab_12cd3.safetensors": Kind.TEMPORARY,
}


@pytest.fixture
def runs_folder(tmp_path: Path) -> Path:
    """A run with a score, and beside it artifacts that it needs and others, all of them old."""
    folder = tmp_path / "runs"
    store = Store(sqlite_url(folder / "first" / "store.db"))
    make_search(store, tmp_path, run="first")
    store.save_score(replace(SCORE, weights_sha256=HASH), settings_id="settings", arch_id="arch")
    store.close()
    for name in (*NEEDED, *UNNEEDED):
        write(folder / "artifacts", name)
    for name in ("measurements/models/x.onnx", "first/log.txt", "first/report/.index.html.ab12cd34.html"):
        write(folder, name)
    return folder


def write(folder: Path, name: str) -> None:
    FolderStore(folder).write(name, BytesIO(name.encode()))


def find(
    runs_folder: Path, *, storage: str | None = None, shared: Path | None = None, later: timedelta = 2 * DAY
) -> Garbage:
    """Look for garbage as if it were some time later."""
    artifacts = ArtifactFolder(runs_folder / "artifacts", shared=None if shared is None else FolderStore(shared))
    now = datetime.now(UTC) + later
    return find_garbage(artifacts, runs_folder=runs_folder, storage=storage, grace=DAY, now=now)


def names(garbage: Garbage) -> dict[str, Kind]:
    return {piece.entry.artifact_id: piece.kind for piece in garbage.pieces}


def test_what_a_store_refers_to_stays_and_the_rest_goes(runs_folder: Path) -> None:
    garbage = find(runs_folder)

    assert names(garbage) == {f"artifacts/{name}": kind for name, kind in UNNEEDED.items()} | {
        "measurements/models/x.onnx": Kind.MODELS,
        "first/report/.index.html.ab12cd34.html": Kind.TEMPORARY,
    }
    assert (garbage.live, garbage.num_stores) == ((), 1)
    assert len(remove_garbage(garbage)) == len(garbage.pieces)
    left = {entry.artifact_id for entry in FolderStore(runs_folder).entries()}
    assert left == {f"artifacts/{name}" for name in NEEDED} | {"first/log.txt", "first/store.db"}
    assert find(runs_folder).pieces == ()


def test_what_is_young_stays(runs_folder: Path) -> None:
    assert find(runs_folder, later=timedelta(hours=23)).pieces == ()


def test_what_was_written_again_meanwhile_stays(runs_folder: Path) -> None:
    path = runs_folder / "artifacts" / "weights" / f"{OTHER}.safetensors"
    for entry in FolderStore(runs_folder).entries():
        os.utime(runs_folder / entry.artifact_id, (1e9, 1e9))
    garbage = find(runs_folder)

    path.write_text("again")

    assert f"artifacts/weights/{OTHER}.safetensors" not in {p.entry.artifact_id for p in remove_garbage(garbage)}
    assert path.read_text() == "again"


@pytest.fixture(params=["held", "claimed"])
def live(request: pytest.FixtureRequest, runs_folder: Path) -> Iterator[str]:
    """What a run that is worked on is called: one of this machine, or one in a store."""
    if request.param == "held":
        with hold_run(runs_folder / "first"):
            yield str(runs_folder / "first")
        return
    store = Store(sqlite_url(runs_folder / "first" / "store.db"))
    holder = new_holder()
    claim(store, "trial/1/0", holder=holder, lease_s=60)
    claim(store, "trial/1/1", holder="elsewhere/1/0-0/0", lease_s=-1)
    yield show_holder(holder)
    store.close()


def test_while_a_run_is_worked_on_what_it_may_use_stays(runs_folder: Path, live: str) -> None:
    garbage = find(runs_folder)

    assert garbage.live == (live,)
    assert set(names(garbage).values()) == {Kind.WEIGHTS, Kind.QUARANTINE, Kind.TEMPORARY}


def test_a_shared_place_is_looked_through_as_well(runs_folder: Path, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    for name in (*NEEDED, *UNNEEDED):
        write(shared, name)

    found = names(find(runs_folder, shared=shared))

    assert {name: kind for name, kind in found.items() if not name.startswith(("artifacts/", "meas", "first"))} == (
        UNNEEDED
    )


def test_the_store_at_storage_is_read_besides(runs_folder: Path, tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "shared.db")
    store = Store(url)
    store.save_score(replace(SCORE, weights_sha256=OTHER), settings_id="settings", arch_id="arch")
    store.close()

    garbage = find(runs_folder, storage=url)

    assert garbage.num_stores == 2
    assert Kind.WEIGHTS not in names(garbage).values()


def test_a_store_that_cannot_be_read_stops_everything(runs_folder: Path) -> None:
    (runs_folder / "second").mkdir()
    (runs_folder / "second" / "store.db").write_text("no database at all, and long enough to be told from an empty one")

    with pytest.raises(StoreError, match=r"second/store\.db cannot be used: .*; nothing was removed$"):
        find(runs_folder)


def test_a_database_that_is_no_store_is_left_as_it_is(runs_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE notes (text)")
    ArtifactFolder(runs_folder / "artifacts").add_user(store_identity(parse_store_url(sqlite_url(path))))

    for storage in (None, sqlite_url(path), sqlite_url(tmp_path / "none.db")):
        with pytest.raises(StoreError, match=r"there is no store at .*; nothing was removed$"):
            find(runs_folder, storage=storage)

    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("notes",)]
    assert not (tmp_path / "none.db").exists()


def test_a_store_that_used_the_artifacts_has_to_be_read(runs_folder: Path, tmp_path: Path) -> None:
    artifacts = ArtifactFolder(runs_folder / "artifacts")
    identity = store_identity(parse_store_url("postgresql://me:hunter2@db.example.org/nas"))
    artifacts.add_user(identity)

    with pytest.raises(
        StoreError,
        match=r"store postgresql://db\.example\.org:5432/nas uses these artifacts and was not read; give it by "
        r"--storage, .* delete stores/\w+\.txt from .*artifacts; nothing was removed$",
    ):
        find(runs_folder)


def test_a_file_of_this_machine_that_used_the_artifacts_is_read_unasked(runs_folder: Path, tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "elsewhere" / "store.db")
    store = Store(url)
    store.save_score(replace(SCORE, weights_sha256=OTHER), settings_id="settings", arch_id="arch")
    store.close()
    ArtifactFolder(runs_folder / "artifacts").add_user(store_identity(parse_store_url(url)))

    garbage = find(runs_folder)

    assert garbage.num_stores == 2
    assert not {Kind.WEIGHTS, Kind.USERS} & set(names(garbage).values())


def test_a_run_that_was_deleted_here_is_needed_no_more(runs_folder: Path) -> None:
    identity = store_identity(parse_store_url(sqlite_url(runs_folder / "gone" / "store.db")))
    ArtifactFolder(runs_folder / "artifacts").add_user(identity)

    garbage = find(runs_folder)

    assert Kind.USERS in names(garbage).values()
    remove_garbage(garbage)
    assert ArtifactFolder(runs_folder / "artifacts").users() == []


def test_a_run_folder_without_its_store_stops_everything(runs_folder: Path, tmp_path: Path) -> None:
    write(runs_folder, "shared-run/log.txt")

    with pytest.raises(StoreError, match=r"run folder .*shared-run has no store, and its run is in no store that was"):
        find(runs_folder)
    store = Store(sqlite_url(tmp_path / "shared.db"))
    make_search(store, tmp_path, run="shared-run")
    store.close()

    assert find(runs_folder, storage=sqlite_url(tmp_path / "shared.db")).num_stores == 2


def test_a_store_has_one_name_whoever_asks() -> None:
    urls = (
        "postgresql://one@db.example.org/nas",
        "postgresql+psycopg://two:pw@db.example.org:5432/nas?sslmode=require",
    )

    assert {store_identity(parse_store_url(url)) for url in urls} == {"postgresql://db.example.org:5432/nas"}
    assert "localhost" not in store_identity(parse_store_url("postgresql://me@localhost/nas"))
