"""Teachers and weights that several machines share in S3. Each machine is a runs folder of its own."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest
import torch

from nas.artifact_stores import ArtifactStore, FolderStore, open_artifact_store, read
from nas.artifacts import TEACHERS, ArtifactFolder
from nas.errors import DamagedArtifactError, StoreWarning
from nas.saved_model import load
from nas.store import sqlite_url
from tests.command_line import CommandLine
from tests.many_processes import at_once
from tests.s3_server import SECRET, S3Server
from tests.small_tasks import write_film_task

pytestmark = pytest.mark.slow

TENSORS = {"a": torch.arange(4.0)}
SEARCH = (
    *("--space", "staged", "--objectives", "accuracy,macs", "--steps", "2", "--sequence-length", "8"),
    *("--teacher-steps", "2", "--trials", "3"),
)


@pytest.fixture
def shared(s3_url: str) -> ArtifactStore:
    return open_artifact_store(s3_url)


def ids_in(store: ArtifactStore) -> list[str]:
    return [entry.artifact_id for entry in store.entries()]


def test_a_bucket_is_a_store_as_optuna_wants_it(shared: ArtifactStore) -> None:
    assert (shared.entries(), shared.find("weights/a"), read(shared, "weights/a")) == ([], None, None)
    for content in (b"first", b"second!"):
        shared.write("weights/a", BytesIO(content))

    (entry,) = shared.entries()

    assert (entry.artifact_id, entry.size_bytes, read(shared, "weights/a")) == ("weights/a", 7, b"second!")
    found = shared.find("weights/a")
    assert found is not None
    assert found.modified_at == entry.modified_at
    shared.move("weights/a", "quarantine/weights/a")
    assert ids_in(shared) == ["quarantine/weights/a"]
    shared.remove("quarantine/weights/a")
    assert ids_in(shared) == []


def test_what_is_damaged_in_a_bucket_is_moved_aside_there(shared: ArtifactStore, tmp_path: Path) -> None:
    sha256 = ArtifactFolder(tmp_path / "here", shared=shared).put_weights(TENSORS, description="x")
    there = ArtifactFolder(tmp_path / "there", shared=shared)
    assert there.get_weights(sha256)[1] == "x"
    there.weights_file(sha256).write_bytes(b"half")
    shared.write(f"weights/{sha256}.safetensors", BytesIO(b"half"))

    with (
        pytest.warns(StoreWarning, match="moved to quarantine/weights/.*; fetching it anew"),
        pytest.raises(DamagedArtifactError, match=r"^s3://.*: content has SHA-256 .*; moved to quarantine/weights/"),
    ):
        there.get_weights(sha256)

    assert ids_in(shared) == [f"quarantine/weights/{sha256}.safetensors"]
    ArtifactFolder(tmp_path / "here", shared=shared).put_weights(TENSORS, description="x")
    assert there.get_weights(sha256)[1] == "x"


def _keep(number: int, url: str, folder: Path) -> str:
    artifacts = ArtifactFolder(folder / str(number), shared=open_artifact_store(url))
    description = ""
    for _ in range(5):
        artifacts.put_weights(TENSORS, description="x")
        _, description = artifacts.keep(TEACHERS, "t", TENSORS, description=f"by {number}")
    return description


def test_processes_that_upload_the_same_end_with_the_same(s3_url: str, tmp_path: Path) -> None:
    answers = at_once(_keep, 3, s3_url, tmp_path)

    assert answers in [[f"by {number}"] * 3 for number in range(3)]
    assert [name.partition("/")[0] for name in ids_in(open_artifact_store(s3_url))] == ["teachers", "weights"]


@pytest.fixture
def task_folder(tmp_path: Path) -> Path:
    return write_film_task(tmp_path / "task")


@pytest.mark.torch
def test_a_model_is_trained_on_one_machine_and_exported_on_another(
    capsys: pytest.CaptureFixture[str], s3_url: str, task_folder: Path, tmp_path: Path
) -> None:
    here, there = (CommandLine(capsys, tmp_path / name) for name in ("here", "there"))
    places = ("--storage", sqlite_url(tmp_path / "shared.db"), "--artifacts", s3_url)
    task = ("--task-dir", str(task_folder))

    searched = here.in_folder("search", "run", *task, *SEARCH, *places)
    refused = there.in_folder("export", "run", "0", "--to", str(tmp_path / "none"), *places[:2]).error
    exported = there.in_folder("export", "run", "0", "--to", str(tmp_path / "model"), *places)
    again = there.in_folder(
        "search", "other", *task, *SEARCH, *places, "--steps", "3", "--fidelities", "distilled", "--trials", "2"
    )

    assert (searched.code, exported.code, again.code) == (0, 0, 0), (searched, exported, again)
    assert "no such teacher; give --artifacts if it is shared elsewhere" in refused
    assert load(tmp_path / "model").task == "task"
    # The second search made none of these itself.
    folders = {name: tmp_path / name / "artifacts" for name in ("here", "there")}
    for kind in ("teachers", "statistics"):
        (made,), (fetched,) = ((folders[name] / kind).glob("*.safetensors") for name in ("here", "there"))
        assert (made.name, made.read_bytes()) == (fetched.name, fetched.read_bytes())
    assert "training the teacher" not in again.stderr
    # The layout is that of the folders, so that a folder can be copied into the bucket.
    kept = {name for folder in folders.values() for name in ids_in(FolderStore(folder))}
    assert set(ids_in(open_artifact_store(s3_url))) == kept - {"teachers/lock"}


@pytest.mark.torch
def test_a_bucket_that_cannot_be_used_is_one_line_without_secrets(
    capsys: pytest.CaptureFixture[str],
    s3_server: S3Server,
    task_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    nas = CommandLine(capsys, tmp_path / "runs")
    search = ("search", "run", "--task-dir", str(task_folder), *SEARCH, "--artifacts")
    none = nas.in_folder(*search, "s3://no-such-bucket/x")
    with_secret = nas.in_folder(*search, f"s3://tester:{SECRET}@lab/x")

    assert "artifacts at s3://no-such-bucket/x cannot be used: The specified bucket does not exist" in none.error
    assert "user names, passwords and options do not belong there" in with_secret.error
    written = [path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file()]
    for text in (*written, *(each.stdout + each.stderr for each in (none, with_secret))):
        assert SECRET not in text
