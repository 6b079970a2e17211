from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import pytest

from device_lab.errors import RunnerBuildError
from device_lab.runner.building import Recipe
from device_lab.runner.engines import find_target
from device_lab.runner.ndk import NDK_VARIABLE, build_ndk_bundle, find_compiler, ndk_recipe

LIBRARY = b"\x7fELF..\0LIBC\0VERS_1.29.3\0more"
# Compiles nothing: writes down how it was called.
COMPILER = """#!/bin/sh
if [ "$1" = --version ]; then echo made up; exit; fi
if [ -e "${0%/*}/broken" ]; then echo "harness.cpp:1:1: error: no such thing" >&2; exit 1; fi
echo "$@" >"${0%/*}/called"
while [ "$1" != -o ]; do shift; done
echo program >"$2"
"""


@pytest.fixture
def ndk(tmp_path: Path) -> Path:
    folder = tmp_path / "android-ndk"
    tools = folder / "toolchains/llvm/prebuilt/linux-x86_64/bin"
    tools.mkdir(parents=True)
    for machine in ("aarch64", "x86_64"):
        (tools / f"{machine}-linux-android24-clang++").write_text(COMPILER)
        (tools / f"{machine}-linux-android24-clang++").chmod(0o755)
    return folder


@pytest.fixture
def aar(tmp_path: Path) -> Path:
    return write_aar(tmp_path / "onnxruntime-android-1.29.3.aar", abis=("arm64-v8a", "armeabi-v7a"))


def write_aar(path: Path, *, abis: Sequence[str], library: bytes = LIBRARY) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("classes.jar", "java")
        for abi in abis:
            archive.writestr(f"jni/{abi}/libonnxruntime.so", library)
            archive.writestr(f"jni/{abi}/libonnxruntime4j_jni.so", "java's side of it")
    return path


def recipe_of(aar: Path, folder: Path) -> Recipe:
    return ndk_recipe(
        aar, folder, target=find_target("arm64-v8a"), compiler=Path("/ndk/aarch64-linux-android24-clang++")
    )


def test_the_runner_is_linked_to_the_library_of_the_aar_and_its_own_copy_of_libcxx(aar: Path, tmp_path: Path) -> None:
    compiler, *words = recipe_of(aar, tmp_path / "aar").command(Path("/bundle"))

    sources = [Path(word).name for word in words if word.endswith(".cpp")]
    assert compiler == "/ndk/aarch64-linux-android24-clang++"
    assert sources == ["harness.cpp", "generated_weights.cpp", "onnxruntime_runner.cpp"]
    assert words[words.index("-o") + 1] == "/bundle/runner"
    assert {"-std=c++17", '-DRUNTIME_VERSION="1.29.3"', "-static-libstdc++", "-Wl,-z,max-page-size=16384"} <= {*words}
    assert words[-2:] == ["-L/bundle", "-l:libonnxruntime.so"]


def test_a_bundle_has_the_runner_and_the_library_and_no_loader(
    ndk: Path, aar: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(NDK_VARIABLE, str(ndk))
    cache_folder = tmp_path / "cache"

    bundle = build_ndk_bundle("onnxruntime", abi="arm64-v8a", ndk=None, aar=aar, cache_folder=cache_folder)

    assert {path.name: path.stat().st_mode & 0o777 for path in bundle.folder.iterdir()} == {
        "libonnxruntime.so": 0o644,
        "runner": 0o755,
    }
    assert (bundle.folder / "libonnxruntime.so").read_bytes() == LIBRARY
    assert (bundle.runtime, bundle.runtime_version, bundle.abi) == ("onnxruntime", "1.29.3", "arm64-v8a")
    folder = PurePosixPath("/data/local/tmp/b")
    assert bundle.command(folder) == ["env", "LD_LIBRARY_PATH=/data/local/tmp/b", "/data/local/tmp/b/runner"]
    called = next(ndk.rglob("called"))
    called.unlink()
    assert build_ndk_bundle("onnxruntime", abi="arm64-v8a", ndk=ndk, aar=aar, cache_folder=cache_folder) == bundle
    assert not called.exists()
    assert [path.name for path in cache_folder.iterdir()] == [bundle.archive.parent.name]


def test_another_library_makes_another_bundle(ndk: Path, tmp_path: Path) -> None:
    cache_folder = tmp_path / "cache"
    aars = [
        write_aar(tmp_path / "a.aar", abis=("x86_64",)),
        write_aar(tmp_path / "b.aar", abis=("x86_64",), library=b"without a release"),
    ]

    first, second = (
        build_ndk_bundle("onnxruntime", abi="x86_64", ndk=ndk, aar=aar, cache_folder=cache_folder) for aar in aars
    )

    assert first.sha256 != second.sha256
    assert (first.runtime_version, second.runtime_version) == ("1.29.3", "?")


def test_what_the_compiler_says_is_the_error(ndk: Path, aar: Path, tmp_path: Path) -> None:
    (next(ndk.rglob("aarch64*")).parent / "broken").touch()

    with pytest.raises(RunnerBuildError, match=r"compile the runner of onnxruntime 1\.29\.3: harness.*no such thing"):
        build_ndk_bundle("onnxruntime", abi="arm64-v8a", ndk=ndk, aar=aar, cache_folder=tmp_path / "cache")

    assert list((tmp_path / "cache").iterdir()) == []


def test_without_an_ndk_the_two_ways_to_name_one_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(NDK_VARIABLE, raising=False)

    with pytest.raises(RunnerBuildError, match="no Android NDK is named; give its folder by --ndk or ANDROID_NDK_HOME"):
        find_compiler(None, find_target("arm64-v8a"))


def test_a_folder_that_is_no_ndk_is_named_with_where_it_came_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        RunnerBuildError, match=r"--ndk .* has no toolchains/.*/aarch64-linux-android24-clang\+\+; give"
    ):
        find_compiler(tmp_path, find_target("arm64-v8a"))
    monkeypatch.setenv(NDK_VARIABLE, str(tmp_path))
    with pytest.raises(RunnerBuildError, match=r"ANDROID_NDK_HOME=.* has no .*/x86_64-linux-android24-clang\+\+"):
        find_compiler(None, find_target("x86_64"))


def test_an_aar_without_the_abi_is_named_with_those_it_has(tmp_path: Path) -> None:
    aar = write_aar(tmp_path / "a.aar", abis=("x86", "armeabi-v7a"))

    with pytest.raises(RunnerBuildError, match=r"a\.aar has no jni/arm64-v8a/lib.* for: armeabi-v7a, x86\)"):
        recipe_of(aar, tmp_path)


def test_a_file_that_is_no_aar_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.aar").write_text("not a zip")

    with pytest.raises(RunnerBuildError, match=r"--aar .*a\.aar cannot be read: it is no zip file"):
        recipe_of(tmp_path / "a.aar", tmp_path)
    with pytest.raises(RunnerBuildError, match=r"--aar .*absent cannot be read: No such file"):
        recipe_of(tmp_path / "absent", tmp_path)


def test_executorch_is_not_offered(ndk: Path, aar: Path, tmp_path: Path) -> None:
    with pytest.raises(RunnerBuildError, match="runtime='executorch' is not offered with toolchain ndk"):
        build_ndk_bundle("executorch", abi="arm64-v8a", ndk=ndk, aar=aar, cache_folder=tmp_path)
