from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import pytest

from device_lab.errors import RunnerBuildError, UnknownRuntimeError
from device_lab.files import sha256_of
from device_lab.runner import wheels
from device_lab.runner.bundle import Bundle, build_bundle, default_cache_folder, wrap_program
from device_lab.runner.engines import find_engine, find_target


def test_a_bundle_is_started_through_its_own_loader() -> None:
    bundle = Bundle(
        runtime="onnxruntime",
        runtime_version="1.2",
        abi="arm64-v8a",
        folder=Path("here"),
        archive=Path("a.tar"),
        sha256="0",
        loader="ld.so",
    )

    command = bundle.command(PurePosixPath("/data/local/tmp/b"))

    assert command == [
        "/data/local/tmp/b/ld.so",
        "--inhibit-cache",
        "--library-path",
        "/data/local/tmp/b",
        "/data/local/tmp/b/runner",
    ]


def test_a_program_of_the_user_starts_by_itself(tmp_path: Path) -> None:
    program = tmp_path / "benchmark"
    program.write_text("#!/bin/sh\necho hello $1\n")

    bundle = wrap_program(program, runtime="onnxruntime", abi="arm64-v8a", cache_folder=tmp_path / "cache")

    command = bundle.command(bundle.folder)
    assert command == ["env", f"LD_LIBRARY_PATH={bundle.folder}", str(bundle.folder / "runner")]
    assert subprocess.run([*command, "you"], capture_output=True, text=True, check=True).stdout == "hello you\n"
    assert bundle.sha256 == sha256_of(bundle.archive)
    assert wrap_program(program, runtime="onnxruntime", abi="arm64-v8a", cache_folder=tmp_path / "cache") == bundle


def test_a_program_may_come_in_a_tar_file_with_its_libraries(tmp_path: Path) -> None:
    program = write_tar(tmp_path / "own.tar", {"runner": '#!/bin/sh\ncat "${0%/*}/libown.so"', "libown.so": "its own"})

    bundle = wrap_program(program, runtime="onnxruntime", abi="armeabi-v7a", cache_folder=tmp_path / "cache")

    run = subprocess.run(bundle.command(bundle.folder), capture_output=True, text=True, check=True)
    assert run.stdout == "its own"
    with tarfile.open(bundle.archive) as archive:
        assert [(member.name, member.mode) for member in archive] == [("libown.so", 0o644), ("runner", 0o755)]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("benchmark",), "not of a program 'runner' and plain files beside it"),
        (("runner", "lib/libown.so"), "not of a program 'runner' and plain files beside it"),
        (("runner", "../libown.so"), "not of a program 'runner' and plain files beside it"),
        (("runner", "ld-linux-aarch64.so.1"), "a bundle with the loader ld-linux-aarch64.so.1; leave out --runner"),
    ],
)
def test_a_tar_file_of_something_else_is_refused(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    program = write_tar(tmp_path / "own.tar", dict.fromkeys(names, "x"))

    with pytest.raises(RunnerBuildError, match=message):
        wrap_program(program, runtime="onnxruntime", abi="arm64-v8a", cache_folder=tmp_path / "cache")

    assert list((tmp_path / "cache").iterdir()) == []


def write_tar(path: Path, contents: Mapping[str, str]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, text in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return path


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunnerBuildError, match=r"--runner .*absent cannot be read: No such file"):
        wrap_program(tmp_path / "absent", runtime="onnxruntime", abi="x86_64", cache_folder=tmp_path)


def test_an_abi_without_a_bundle_is_named_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(RunnerBuildError, match=r"abi='armeabi-v7a' \(known: arm64-v8a, x86_64\).*--runner"):
        build_bundle("onnxruntime", abi="armeabi-v7a", cache_folder=tmp_path)


def test_a_runtime_without_a_runner_is_named_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UnknownRuntimeError, match=r"'ncnn' \(known: executorch, onnxruntime\)"):
        build_bundle("ncnn", abi="x86_64", cache_folder=tmp_path)


@pytest.mark.parametrize("abi", ["arm64-v8a", "x86_64"])
def test_a_missing_compiler_is_named_with_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abi: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    expected = find_target(abi).compiler_package

    with pytest.raises(RunnerBuildError) as caught:
        build_bundle("onnxruntime", abi=abi, cache_folder=tmp_path)

    assert str(caught.value).endswith(f"-linux-gnu-g++ is not installed; run `apt-get install {expected}`")
    assert not list(tmp_path.iterdir())


def test_another_machine_needs_a_cross_compiler_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")

    assert find_target("arm64-v8a").compiler_package == "g++-aarch64-linux-gnu"
    assert find_target("x86_64").compiler_package == "g++-x86-64-linux-gnu"
    assert find_target("x86_64").compilers == ("x86_64-linux-gnu-g++",)


def test_a_wheel_pip_cannot_download_gives_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Sequence[str]] = []

    def refuse(command: Sequence[str], **_: object) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        return subprocess.CompletedProcess(
            command, 1, stdout="", stderr="WARNING: Retrying\nERROR: No matching distribution found for it\n"
        )

    monkeypatch.setattr(subprocess, "run", refuse)
    engine = find_engine("executorch")

    with pytest.raises(RunnerBuildError, match=r"executorch==1\.5\.1 for arm64-v8a: No matching distribution found"):
        wheels.engine_folder(engine, find_target("arm64-v8a"), cache_folder=tmp_path)

    assert "manylinux_2_28_aarch64" in asked[0]
    assert list((tmp_path / "wheels").iterdir()) == []


def test_bundles_are_kept_in_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    assert default_cache_folder() == tmp_path / "pocketbert" / "bundles"


def test_of_two_processes_that_build_the_same_the_first_stays(tmp_path: Path) -> None:
    first, second, final = tmp_path / "first", tmp_path / "second", tmp_path / "final"
    for folder in (first, second):
        folder.mkdir()
        (folder / "by").write_text(folder.name)

    wheels.move_into_place(first, final)
    wheels.move_into_place(second, final)

    assert (final / "by").read_text() == "first"
    with pytest.raises(FileNotFoundError):
        wheels.move_into_place(tmp_path / "never built", tmp_path / "nowhere" / "final")
