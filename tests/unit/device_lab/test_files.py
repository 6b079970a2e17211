from __future__ import annotations

from pathlib import Path

import pytest

from device_lab.files import atomic_folder, lock_file


def test_a_folder_is_there_only_when_it_is_whole(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "deep" / "model") as folder:
        (folder / "weights").write_text("x")
        assert not (tmp_path / "deep" / "model").exists()

    assert (tmp_path / "deep" / "model" / "weights").read_text() == "x"
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["model"]


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    def fill() -> None:
        with atomic_folder(tmp_path / "model") as folder:
            (folder / "weights").write_text("x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fill()

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("late", [False, True])
def test_what_is_there_already_stays_as_it_is(tmp_path: Path, late: bool) -> None:
    path = tmp_path / "model"
    if not late:
        path.mkdir()

    with pytest.raises(FileExistsError, match=r"model: is there already .*; give another path"), atomic_folder(path):
        path.mkdir()

    assert [each.name for each in tmp_path.iterdir()] == ["model"]
    assert list(path.iterdir()) == []


def test_whoever_waits_for_a_lock_may_give_up_waiting(tmp_path: Path) -> None:
    def give_up() -> None:
        raise InterruptedError

    with lock_file(tmp_path / "lock"), pytest.raises(InterruptedError), lock_file(tmp_path / "lock", on_wait=give_up):
        pass

    with lock_file(tmp_path / "lock", on_wait=give_up):
        pass
