"""``nas gc`` after a real small search: what a report shows can still be exported, and what nothing needs goes."""

from __future__ import annotations

import json
import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from nas.artifact_stores import FolderStore, open_artifact_store
from nas.cli.stores import open_artifacts
from nas.garbage import find_garbage, remove_garbage
from tests.command_line import CommandLine
from tests.small_tasks import write_film_task

SEARCH = (
    *("--space", "staged", "--objectives", "accuracy,macs", "--fidelities", "distilled", "--steps", "2"),
    *("--sequence-length", "8", "--teacher-steps", "2", "--trials", "2"),
)


@pytest.fixture
def nas(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> CommandLine:
    return CommandLine(capsys, tmp_path / "runs")


@pytest.fixture
def task_folder(tmp_path: Path) -> Path:
    return write_film_task(tmp_path / "task")


def grow_old(folder: Path) -> None:
    for entry in FolderStore(folder).entries():
        os.utime(folder / entry.artifact_id, (1e9, 1e9))


def test_without_runs_there_is_nothing_to_remove(nas: CommandLine) -> None:
    told = nas.in_folder("gc")

    assert (told.code, told.stdout) == (0, "would free 0.0 MB in 0 files; 0 stores were read\n")


def test_what_nothing_needs_is_told_first_and_removed_when_asked(nas: CommandLine) -> None:
    path = nas.runs_folder / "artifacts" / "weights" / f"{'a' * 64}.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(bytes(3_000_000))
    grow_old(nas.runs_folder)

    told = nas.in_folder("gc")
    document = json.loads(nas.in_folder("gc", "--json").stdout)
    kept = path.exists()
    removed = nas.in_folder("gc", "--delete")

    assert "weights" in told.stdout
    assert "would free 3.0 MB in 1 files; 0 stores were read" in told.stdout
    assert "the same command with --delete" in told.stderr
    assert (document["deleted"], document["size_bytes"], document["in_use"]) == (False, 3_000_000, [])
    assert [each["file"] for each in document["files"]] == [f"artifacts/weights/{path.name}"]
    assert kept
    assert "freed 3.0 MB in 1 files" in removed.stdout
    assert not path.exists()


def test_a_store_that_cannot_be_read_is_one_line(nas: CommandLine) -> None:
    (nas.runs_folder / "first").mkdir(parents=True)
    (nas.runs_folder / "first" / "store.db").write_text("no database")

    assert "first/store.db cannot be used" in nas.in_folder("gc", "--delete").error


@pytest.mark.slow
@pytest.mark.torch
def test_all_a_report_shows_is_exported_as_before(
    nas: CommandLine, task_folder: Path, s3_url: str, tmp_path: Path
) -> None:
    shared = ("--artifacts", s3_url)
    searched = nas.in_folder("search", "first", "--task-dir", str(task_folder), *SEARCH, *shared)
    assert searched.code == 0, searched
    grow_old(nas.runs_folder)
    bucket = open_artifact_store(s3_url)

    # Nobody can make an object of S3 older than it is, so it is looked at later.
    artifacts = open_artifacts(runs_folder=nas.runs_folder, shared=s3_url)
    later = datetime.now(UTC) + timedelta(days=2)
    look = {"runs_folder": nas.runs_folder, "storage": None, "grace": timedelta(days=1), "now": later}
    remove_garbage(find_garbage(artifacts, **look))  # type: ignore[arg-type]
    for trial in ("0", "1"):
        exported = nas.in_folder("export", "first", trial, "--to", str(tmp_path / f"kept-{trial}"), *shared)
        assert exported.code == 0, exported
    assert nas.in_folder("report", "first", "--output", str(tmp_path / "report")).code == 0
    kinds = {entry.artifact_id.partition("/")[0] for entry in bucket.entries()}
    assert kinds == {"weights", "teachers", "statistics", "stores"}

    shutil.rmtree(nas.runs_folder / "first")
    removed = remove_garbage(find_garbage(artifacts, **look))  # type: ignore[arg-type]

    assert len({piece.store.place for piece in removed}) == 2
    assert bucket.entries() == []
    assert [entry.artifact_id for entry in FolderStore(nas.runs_folder).entries()] == ["artifacts/teachers/lock"]
