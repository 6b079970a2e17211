from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from optuna.artifacts.exceptions import ArtifactNotFound

from nas.artifact_stores import ArtifactStore, FolderStore, open_artifact_store, read
from nas.artifacts import TEACHERS, ArtifactFolder, pack, seal, unpack, unseal
from nas.errors import ArtifactError, DamagedArtifactError, MissingExtraError, StoreWarning
from tests.many_processes import at_once

TENSORS = {"b": torch.arange(6.0).view(2, 3).T, "a": torch.tensor([1.5])}
OTHERS = {"a": torch.tensor([2.5])}


class CutStore(FolderStore):
    """A shared folder whose first answers are cut short, as over a bad connection."""

    def __init__(self, path: Path, *, num_cut: int) -> None:
        super().__init__(path)
        self.num_cut = num_cut

    def open_reader(self, artifact_id: str) -> BytesIO:
        with super().open_reader(artifact_id) as file:
            content = file.read()
        self.num_cut -= 1
        return BytesIO(content[:-1] if self.num_cut >= 0 else content)


def files_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_weights_come_back_with_their_description(tmp_path: Path) -> None:
    folder = ArtifactFolder(tmp_path)

    sha256 = folder.put_weights(TENSORS, description='{"arch": "é"}')
    tensors, description = folder.get_weights(sha256)

    assert description == '{"arch": "é"}'
    assert set(tensors) == {"a", "b"}
    assert torch.equal(tensors["b"], TENSORS["b"])
    assert files_in(tmp_path) == [f"weights/{sha256}.safetensors"]


def test_equal_weights_have_one_name_whatever_their_order(tmp_path: Path) -> None:
    folder = ArtifactFolder(tmp_path)

    assert folder.put_weights(TENSORS, description="x") == folder.put_weights(
        dict(reversed(TENSORS.items())), description="x"
    )
    assert folder.put_weights(TENSORS, description="y") != folder.put_weights(TENSORS, description="x")


def test_weights_that_are_kept_again_are_young_again(tmp_path: Path) -> None:
    folder = ArtifactFolder(tmp_path)
    path = folder.weights_file(folder.put_weights(TENSORS, description="x"))
    os.utime(path, (1, 1))

    folder.put_weights(TENSORS, description="x")

    assert path.stat().st_mtime > 1


def test_changed_weights_are_moved_aside_and_named(tmp_path: Path) -> None:
    folder = ArtifactFolder(tmp_path)
    sha256 = folder.put_weights(TENSORS, description="x")
    damaged = pack({"a": torch.zeros(1)}, description="x")
    folder.weights_file(sha256).write_bytes(damaged)

    with pytest.raises(
        DamagedArtifactError,
        match=rf"{sha256}\.safetensors: content has SHA-256 .*, not that of its name; moved to quarantine/weights/",
    ):
        folder.get_weights(sha256)

    assert files_in(tmp_path) == [f"quarantine/weights/{sha256}.safetensors"]
    assert (tmp_path / "quarantine" / "weights" / f"{sha256}.safetensors").read_bytes() == damaged


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        ArtifactError, match=r"abc\.safetensors: no such weights in .*; give --artifacts if .*score their architecture"
    ):
        ArtifactFolder(tmp_path).get_weights("abc")


def test_bytes_that_are_no_safetensors_are_refused() -> None:
    with pytest.raises(ArtifactError, match=r"here: not a safetensors file \(.*\); delete the file"):
        unpack(b"not tensors at all", source=Path("here"))


@given(st.data())
def test_a_seal_finds_every_changed_byte(data: st.DataObject) -> None:
    content = seal(TENSORS, description="what it is")
    place = data.draw(st.integers(0, len(content) - 1))
    changed = content[:place] + bytes([content[place] ^ data.draw(st.integers(1, 255))]) + content[place + 1 :]

    tensors, description = unseal(content)
    assert (sorted(tensors), description) == (["a", "b"], "what it is")
    with pytest.raises(ArtifactError):
        unseal(changed)


def test_a_file_without_a_seal_is_one_of_an_older_release() -> None:
    assert unseal(pack(TENSORS, description="what it is"))[1] == "what it is"


def test_what_one_machine_makes_another_finds(tmp_path: Path) -> None:
    shared = FolderStore(tmp_path / "shared")
    here, there = (ArtifactFolder(tmp_path / name, shared=shared) for name in ("here", "there"))

    sha256 = here.put_weights(TENSORS, description="x")
    here.keep(TEACHERS, "t", TENSORS, description="the first")
    kept = there.keep(TEACHERS, "t", OTHERS, description="the second")

    assert there.get_weights(sha256)[1] == "x"
    # Who is later goes on with what is there.
    assert (kept[1], sorted(kept[0])) == ("the first", ["a", "b"])
    assert files_in(tmp_path / "there") == files_in(tmp_path / "shared") == files_in(tmp_path / "here")


def test_what_was_made_before_it_was_shared_is_shared_when_it_is_used(tmp_path: Path) -> None:
    ArtifactFolder(tmp_path / "here").keep(TEACHERS, "t", TENSORS, description="x")

    ArtifactFolder(tmp_path / "here", shared=FolderStore(tmp_path / "shared")).find(TEACHERS, "t")

    assert files_in(tmp_path / "shared") == ["teachers/t.safetensors"]


def test_a_damaged_cache_is_filled_again_from_where_it_is_shared(tmp_path: Path) -> None:
    folder = ArtifactFolder(tmp_path / "here", shared=FolderStore(tmp_path / "shared"))
    sha256 = folder.put_weights(TENSORS, description="x")
    folder.weights_file(sha256).write_bytes(b"half a")

    with pytest.warns(StoreWarning, match=r"content has SHA-256 .*; moved to quarantine/.*; fetching it anew"):
        assert folder.get_weights(sha256)[1] == "x"

    assert files_in(tmp_path / "here") == [
        f"quarantine/weights/{sha256}.safetensors",
        f"weights/{sha256}.safetensors",
    ]


@pytest.mark.parametrize("num_cut", [1, 2])
def test_what_arrives_damaged_is_fetched_once_more(tmp_path: Path, num_cut: int) -> None:
    sha256 = ArtifactFolder(tmp_path / "there", shared=FolderStore(tmp_path / "shared")).put_weights(
        TENSORS, description="x"
    )
    here = ArtifactFolder(tmp_path / "here", shared=CutStore(tmp_path / "shared", num_cut=num_cut))

    if num_cut == 1:
        assert here.get_weights(sha256)[1] == "x"
        assert files_in(tmp_path / "shared") == [f"weights/{sha256}.safetensors"]
    else:
        with pytest.raises(DamagedArtifactError, match=r"shared/weights/.*: content has SHA-256 .*; moved to quara"):
            here.get_weights(sha256)
        assert files_in(tmp_path / "shared") == [f"quarantine/weights/{sha256}.safetensors"]
        assert files_in(tmp_path / "here") == []


def test_a_damaged_teacher_is_to_be_made_anew(tmp_path: Path) -> None:
    folder = ArtifactFolder(tmp_path / "here", shared=FolderStore(tmp_path / "shared"))
    folder.keep(TEACHERS, "t", TENSORS, description="x")
    for path in tmp_path.rglob("t.safetensors"):
        path.write_bytes(path.read_bytes()[:-1] + b"!")

    with pytest.warns(StoreWarning, match=r"content has not the SHA-256 it was written with; moved to") as warned:
        assert folder.find(TEACHERS, "t") is None

    assert [str(each.message).rpartition("; ")[2] for each in warned] == ["fetching it anew", "it has to be made anew"]
    assert folder.keep(TEACHERS, "t", OTHERS, description="y")[1] == "y"
    assert files_in(tmp_path / "shared") == ["quarantine/teachers/t.safetensors", "teachers/t.safetensors"]


def _write_and_read(number: int, folder: Path) -> set[str]:
    """Write one artifact again and again, and return what was read of it meanwhile."""
    artifacts = ArtifactFolder(folder / str(number), shared=FolderStore(folder / "shared"))
    seen = set()
    for _ in range(20):
        artifacts.put_weights(TENSORS, description="x")
        kept = artifacts.keep(TEACHERS, "t", TENSORS, description=f"by {number}")
        seen.add(kept[1])
        assert len(read(FolderStore(folder / "shared"), "teachers/t.safetensors") or b"") > 0
    return seen


def test_processes_that_write_the_same_disturb_nobody(tmp_path: Path) -> None:
    answers = at_once(_write_and_read, 3, tmp_path)

    assert set().union(*answers) <= {"by 0", "by 1", "by 2"}
    # Whoever was last of those that found nothing: from then on it is the same for all.
    shared = FolderStore(tmp_path / "shared")
    folders = [ArtifactFolder(tmp_path / str(number), shared=shared) for number in range(4)]
    (kept,) = {folder.keep(TEACHERS, "t", TENSORS, description="by 3")[1] for folder in folders}
    assert kept in set().union(*answers)
    names = files_in(tmp_path / "shared")
    assert [name.partition("/")[0] for name in names] == ["teachers", "weights"]


def _require_room_error(write: Callable[[], None], folder: Path, before: list[str]) -> None:
    with pytest.raises(OSError, match=r"no room for it \(.*\); free disk space, then give the same command again"):
        write()
    assert files_in(folder) == before


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk takes root")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mount.returncode:
        pytest.skip("nothing may be mounted here")
    try:
        folder = ArtifactFolder(disk)
        folder.put_weights(TENSORS, description="small")
        before = files_in(disk)
        large = {"a": torch.zeros(100_000)}
        _require_room_error(lambda: _drop(folder.put_weights(large, description="x")), disk, before)
        _require_room_error(lambda: _drop(folder.keep(TEACHERS, "t", large, description="x")), disk, before)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_file_that_may_not_grow_is_not_kept_in_part(tmp_path: Path) -> None:
    folder = ArtifactFolder(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        _require_room_error(lambda: _drop(folder.put_weights({"a": torch.zeros(1000)}, description="x")), tmp_path, [])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def _drop(_value: object) -> None:
    pass


def test_an_error_that_is_not_of_room_stays_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "weights").write_text("a file where a folder has to be")

    with pytest.raises(OSError, match="File exists") as caught:
        ArtifactFolder(tmp_path).put_weights(TENSORS, description="x")

    assert caught.value.errno == errno.EEXIST


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("ftp://host/x", r"artifacts cannot be kept at ftp://; give a folder, s3://BUCKET/PREFIX or gs://BUCKET"),
        ("s3://key:hunter2@bucket/x", r"--artifacts s3://\.\.\.: user names, passwords and options do not belong"),
        ("s3://bucket/x?secret=hunter2", r"--artifacts s3://\.\.\.: user names, passwords and options do not belong"),
        ("s3:///hunter2", r"--artifacts s3://\.\.\. names no bucket"),
        ("s3://[hunter2", r"--artifacts is no URL"),
    ],
)
def test_a_place_that_cannot_be_used_is_refused_without_its_secrets(place: str, message: str) -> None:
    with pytest.raises(ArtifactError, match=message) as caught:
        open_artifact_store(place)

    assert "hunter2" not in str(caught.value)


def test_a_driver_that_is_not_installed_is_named_by_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)

    with pytest.raises(MissingExtraError, match=r"artifacts at gs:// needs the extra 'gs'; run `pip install 'pock"):
        open_artifact_store("gs://bucket/x")


def test_a_folder_is_a_store_as_optuna_wants_it(tmp_path: Path) -> None:
    store: ArtifactStore = open_artifact_store(f"file://{tmp_path}/x")
    store.write("weights/a", BytesIO(b"abc"))

    (entry,) = store.entries()

    assert (store.place, entry.artifact_id, entry.size_bytes) == (f"{tmp_path}/x", "weights/a", 3)
    assert store.find("weights/a") == entry
    store.remove("weights/a")
    assert (store.find("weights/a"), store.entries(), read(store, "weights/a")) == (None, [], None)
    with pytest.raises(ArtifactNotFound, match=r"weights/a: no such artifact"):
        store.remove("weights/a")
    with pytest.raises(ArtifactNotFound, match=r"weights/a: no such artifact"):
        store.move("weights/a", "b")
