"""All of an NDK's bundle but the NDK: this machine's compiler and wheel stand in for clang and the AAR."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import zipfile
from pathlib import Path

import pytest

from device_lab.virtual_phone.launch import start_virtual_phone
from device_lab.virtual_phone.options import PhoneOptions
from tests.command_line import CommandLine
from tests.phone_commands import Nas, only_model
from tests.system_packages import require_program

pytestmark = [
    pytest.mark.slow,
    pytest.mark.torch,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the phone runs the bundle natively"),
]


def stand_in_ndk(folder: Path) -> Path:
    compiler = require_program("g++", package="g++")
    tools = folder / "toolchains/llvm/prebuilt/linux-x86_64/bin"
    tools.mkdir(parents=True)
    (tools / "x86_64-linux-android24-clang++").symlink_to(compiler)
    return folder


def stand_in_aar(path: Path) -> Path:
    version = importlib.metadata.version("onnxruntime")
    wheel = importlib.metadata.distribution("onnxruntime")
    library = Path(str(wheel.locate_file(f"onnxruntime/capi/libonnxruntime.so.{version}"))).read_bytes()
    # The library of an AAR goes by its bare name.
    renamed = library.replace(b"\0libonnxruntime.so.1\0", b"\0libonnxruntime.so\0\0\0")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("jni/x86_64/libonnxruntime.so", renamed)
    return path


def test_what_toolchain_ndk_builds_times_models_on_a_phone(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for variable in ("CACHE", "CONFIG"):
        monkeypatch.setenv(f"XDG_{variable}_HOME", str(tmp_path / variable.lower()))
    command_line = CommandLine(capsys, tmp_path / "runs")
    named = ("--ndk", str(stand_in_ndk(tmp_path / "ndk")), "--aar", str(stand_in_aar(tmp_path / "a.aar")))

    built = command_line("runner", "build", "--toolchain", "ndk", "--abi", "x86_64", *named, "--json")
    assert built.code == 0, built
    bundle = json.loads(built.stdout)
    with start_virtual_phone(PhoneOptions(serial="BIONIC")) as phone:
        # A model whose answers are not torch's would be an error, not a ratio.
        finished = Nas(command_line, tmp_path)(
            "measure", "--json", "--device", phone.address, "--runner", bundle["archive"], "--unqualified",
            "--budget-minutes", "0.2",
        )  # fmt: skip
        left = sorted(path.name for path in phone.on_host("/data/local/tmp/pocketbert/bundles").glob("*/*"))

    (document,) = json.loads(finished.stdout)
    model = only_model(document)
    assert bundle["runtime_version"] == importlib.metadata.version("onnxruntime")
    assert model["num_blocks"] >= 1, finished
    assert model["settings"]["runtime_version"] == f"program-{bundle['sha256'][:12]}"
    assert left == ["libonnxruntime.so", "runner"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--toolchain", "clang"), "unknown toolchain 'clang' (known: glibc, ndk)"),
        (("--toolchain", "ndk"), "--toolchain ndk needs --aar: download onnxruntime-android-VERSION.aar from https://"),
        (("--aar", "a.aar"), "--ndk and --aar are for --toolchain ndk; add it or leave them out"),
        (("--toolchain", "ndk", "--ndk", "/", "--aar", "a.aar"), "--ndk / has no toolchains/llvm/prebuilt/*/bin/"),
        (
            ("--toolchain", "ndk", "--runtime", "executorch", "--aar", "a.aar"),
            "runtime='executorch' is not offered with toolchain ndk, onnxruntime alone is; leave out --toolchain",
        ),
    ],
)
def test_a_choice_that_cannot_be_built_is_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    built = CommandLine(capsys, tmp_path)("runner", "build", "--cache-folder", str(tmp_path), *arguments)

    assert message in built.error
