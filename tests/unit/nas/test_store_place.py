from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nas import store_place
from nas.cli.stores import open_store
from nas.errors import StoreWarning
from nas.store import Store, sqlite_url
from nas.store_place import count_other_processes, find_network_filesystem
from nas.store_url import parse_store_url
from tests.many_processes import PROCESSES, begin


@pytest.fixture
def mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the kernel says is mounted where; a folder with a blank in its name is on a network."""
    path = tmp_path / "mounts"
    path.write_text(
        "/dev/vda / ext4 rw,relatime 0 0\n"
        f"server:/export {tmp_path}/with\\040blank nfs4 rw,vers=4.2 0 0\n"
        f"/dev/vdb {tmp_path}/with\\040blank/local xfs rw 0 0\n"
        f"//server/share {tmp_path}/share cifs rw 0 0\n"
    )
    monkeypatch.setattr(store_place, "_MOUNTS", path)
    return path


def test_the_nearest_mount_says_what_a_file_is_on(mounts: Path, tmp_path: Path) -> None:
    found = {
        folder: find_network_filesystem(tmp_path / folder / "store.db")
        for folder in ("with blank", "with blank/run", "with blank/local/run", "share/run", "shared", ".")
    }

    assert found == {
        "with blank": "nfs4",
        "with blank/run": "nfs4",
        "with blank/local/run": None,
        "share/run": "cifs",
        "shared": None,
        ".": None,
    }


def test_a_link_is_followed_to_where_the_file_is(mounts: Path, tmp_path: Path) -> None:
    (tmp_path / "share").mkdir()
    (tmp_path / "runs").symlink_to(tmp_path / "share")

    assert find_network_filesystem(tmp_path / "runs" / "run" / "store.db") == "cifs"


def test_a_store_on_a_network_is_opened_with_a_warning_that_names_the_command(mounts: Path, tmp_path: Path) -> None:
    folder = tmp_path / "share"

    with (
        pytest.warns(StoreWarning, match=r"run/store.db is on cifs, .*`nas store copy \S+run/store.db postgresql\+psy"),
        open_store("run", runs_folder=folder, storage=None) as store,
    ):
        assert store.run_names() == []


def test_this_machine_without_a_list_of_mounts_warns_of_nothing(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(store_place, "_MOUNTS", tmp_path / "none")
    monkeypatch.setattr(store_place, "_LOCKS", tmp_path / "none")

    with open_store("run", runs_folder=tmp_path, storage=None) as store:
        assert count_other_processes(tmp_path / "run" / "store.db") == 0
        assert store.run_names() == []


@pytest.mark.slow
def test_processes_that_have_a_store_open_are_counted_and_told(tmp_path: Path) -> None:
    Store(sqlite_url(tmp_path / "run" / "store.db")).close()
    opened, done = PROCESSES.Semaphore(0), PROCESSES.Event()
    processes = [begin(hold_open, tmp_path, opened, done) for _ in range(store_place.MANY_PROCESSES)]
    try:
        for _ in processes:
            assert opened.acquire(timeout=60)
        with (
            pytest.warns(StoreWarning, match=r"is open in 4 other processes, .*`nas store copy "),
            open_store("run", runs_folder=tmp_path, storage=None) as store,
        ):
            assert store.run_names() == []
    finally:
        done.set()
        for process in processes:
            process.join(60)

    assert count_other_processes(tmp_path / "run" / "store.db") == 0


def hold_open(folder: Path, opened: Any, done: Any) -> None:
    store = Store(sqlite_url(folder / "run" / "store.db"))
    store.run_names()
    opened.release()
    done.wait(60)
    store.close()


def test_a_store_in_postgresql_is_where_it_belongs() -> None:
    store_place.warn_of_place(parse_store_url("postgresql://me@host/nas"))
