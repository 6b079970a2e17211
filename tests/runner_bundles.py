"""Bundles and models for the tests of the compiled runners."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from device_lab.errors import RunnerBuildError
from device_lab.files import sha256_of
from device_lab.measurement import ModelFile
from device_lab.runner.bundle import Bundle, build_bundle
from device_lab.runner.contract import RunnerArguments
from device_lab.runner.engines import find_target
from tests.system_packages import require_program

DATA = Path(__file__).parent / "data"
# What ONNX Runtime reads on a Cortex-A76; under an emulator it would find the host's and crash.
_ARM_CPUINFO = """\
processor\t: 0
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x3
CPU part\t: 0xd0b
CPU revision\t: 1
"""


def require_bundle(runtime: str, *, abi: str, cache_folder: Path) -> Bundle:
    """Return a bundle; skip the calling test where its compiler or its wheel cannot be had."""
    target = find_target(abi)
    require_program(target.compilers[-1], package=target.compiler_package)
    try:
        return build_bundle(runtime, abi=abi, cache_folder=cache_folder)
    except RunnerBuildError as error:
        if "pip cannot download" not in str(error) or os.environ.get("NAS_REQUIRE_ALL") == "1":
            raise
        pytest.skip(str(error))


def tiny_program() -> ModelFile:
    """Return a stored ExecuTorch program of one encoder block, with torch's logits for it."""
    path = DATA / "tiny_encoder.pte"
    facts = json.loads((DATA / "tiny_encoder.json").read_text())
    facts["expected_output"] = tuple(facts["expected_output"])
    return ModelFile(path=path, sha256=sha256_of(path), **facts)


def runner_arguments(model: ModelFile, *, num_threads: int = 1, max_warmup_s: float = 0.0) -> list[str]:
    """Return the arguments of a short run: no more than one inference to warm up, three timed ones."""
    return RunnerArguments(
        model=str(model.path),
        num_threads=num_threads,
        sequence_length=model.sequence_length,
        batch_size=model.batch_size,
        token_limit=model.token_limit,
        min_runs=3,
        min_timed_s=0.0,
        max_warmup_s=max_warmup_s,
    ).to_argv()


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """A copy of a bundle somewhere else, as on a phone, and how to start it there."""

    bundle: Bundle
    folder: Path
    emulator: tuple[str, ...] = ()

    def run(self, arguments: list[str], *, home: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run it from an unrelated folder, with nothing of this process' environment."""
        command = [*self.emulator, *self.bundle.command(self.folder), *arguments]
        environment = {"HOME": str(home)} if home else {}
        return subprocess.run(
            command, capture_output=True, text=True, env=environment, cwd="/", timeout=120, check=False
        )


def emulate_arm64(folder: Path) -> tuple[str, ...]:
    """Return the words that run an arm64 program here; skip the calling test where the emulator is missing.

    ``folder`` becomes the emulated system's root. Times taken so mean nothing.
    """
    emulator = require_program("qemu-aarch64-static", package="qemu-user-static")
    (folder / "proc").mkdir(parents=True)
    (folder / "proc" / "cpuinfo").write_text(_ARM_CPUINFO)
    return (emulator, "-cpu", "cortex-a76", "-L", str(folder))
