"""A phone as a device of the protocol: its runner and models are put there once, each run is a fresh process."""

from __future__ import annotations

import contextlib
import re
import secrets
import shlex
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePosixPath

from device_lab.adb import LAB_FOLDER
from device_lab.adb_command import CommandResult, parse_free_bytes
from device_lab.errors import (
    CommandTimeoutError,
    DeviceFullError,
    DeviceLabError,
    DeviceLostError,
    DeviceUnauthorizedError,
    DeviceUnreachableError,
    OutOfMemoryError,
    RemoteCommandError,
    RunnerFailedError,
    RunnerTimeoutError,
    TransferError,
)
from device_lab.held_phone import HeldPhone
from device_lab.measurement import Backend, Conditions, ModelFile
from device_lab.runner.bundle import Bundle
from device_lab.runner.contract import RunnerOutput, RunRequest
from device_lab.runner.profile import PROFILE_WORDS, OperatorProfile

BUNDLES_FOLDER = LAB_FOLDER / "bundles"
# An empty file for each model in the cache; its time is that of the model's last use.
MARKS_FOLDER = LAB_FOLDER / "models"
MAX_MODELS = 48
MAX_BUNDLES = 4
UNPINNED = "all"
_QUESTION_TIMEOUT_S = 30.0
_UNPACK_TIMEOUT_S = 120.0
# Killed from outside, as Android's low-memory killer does.
_KILLED = 137
_MEMORY_MARKS = ("bad_alloc", "Failed to allocate memory", "Cannot allocate memory")
_CLOCKS = """
for file in /sys/devices/system/cpu/cpu[0-9]*/cpufreq/cpuinfo_max_freq; do echo "$file=$(cat "$file" 2>/dev/null)"; done
command -v taskset >/dev/null && echo taskset
true
"""


class PhoneDevice:
    """A phone that is held, with a runner. See `device_lab.device.Device`.

    Args:
        held: The phone; it stays held as long as this is used.
        bundle: The runner, for the phone's kind of processor.
        num_threads: Threads the models are run with: that many of the fastest cores are used.
    """

    def __init__(self, held: HeldPhone, bundle: Bundle, *, num_threads: int) -> None:
        self.info = held.info
        self.runtime = bundle.runtime
        self.runtime_version = bundle.runtime_version
        self._held = held
        self._bundle = bundle
        self._num_threads = num_threads
        self._folder: PurePosixPath | None = None
        self._mask: int | None = None
        self._models: dict[str, PurePosixPath] = {}
        self._stopping = threading.Event()

    def prepare(self) -> PurePosixPath:
        """Put the runner on the phone, unless it is there, choose the cores, and return the runner's folder.

        Raises:
            DeviceFullError: If the phone has no space for it.
            DeviceLabError: If the phone cannot be reached or refuses the files.
        """
        if self._folder is None:
            self._mask = self._find_mask()
            self._folder = self._install()
        return self._folder

    def conditions(self) -> Conditions:
        """Read heat, battery, clocks, load and more; ``"?"`` for what this phone does not show."""
        self.prepare()
        conditions = self._held.conditions()
        mask = UNPINNED if self._mask is None else f"{self._mask:x}"
        return replace(conditions, readings=(*conditions.readings, ("core_mask", mask)))

    def run(self, model: ModelFile, request: RunRequest) -> RunnerOutput:
        """Run ``model`` once in a fresh process, which the phone itself ends after ``request.timeout_s``.

        Raises:
            DeviceLostError: If the connection dropped and cannot be made again.
            RunnerTimeoutError: If it was still running after ``request.timeout_s``.
            OutOfMemoryError: If it was killed for memory or could not allocate.
            RunnerFailedError: If it exited with another error.
            RunnerOutputError: If it printed something that is not the contract.
            TransferError: If the model cannot be put on the phone.
            KeyboardInterrupt: If `stop` was called.
        """
        result = self._execute(model, request)
        return self._bundle.read(result.text, result.stderr.decode(errors="replace"))

    def profile(self, model: ModelFile, request: RunRequest) -> OperatorProfile:
        """Time every operator of ``request.min_runs`` inferences in a fresh process.

        Raises:
            DeviceLabError: As `run` does.
            KeyboardInterrupt: If `stop` was called.
        """
        return OperatorProfile.from_stdout(self._execute(model, request, *PROFILE_WORDS).text)

    def _execute(self, model: ModelFile, request: RunRequest, *more_words: str) -> CommandResult:
        if self._stopping.is_set():
            raise KeyboardInterrupt
        try:
            folder = self.prepare()
            command = " ".join((self._command(folder, self._put(model), model, request), *more_words))
            result = self._held.run(command, timeout_s=request.timeout_s)
        except RemoteCommandError as error:
            raise _failure(model, error) from error
        except CommandTimeoutError as error:
            raise RunnerTimeoutError(
                f"{model.path.name}: the runner was still at work after {request.timeout_s:g} s and was stopped"
            ) from error
        except (DeviceLostError, DeviceUnreachableError, DeviceUnauthorizedError) as error:
            if self._stopping.is_set():
                raise KeyboardInterrupt from error
            raise DeviceLostError(serial=self.info.device_id, command=f"the runner on {model.path.name}") from error
        return result

    def stop(self) -> None:
        """End the run another thread waits for, and refuse further ones: that thread gets a `KeyboardInterrupt`."""
        self._stopping.set()
        with contextlib.suppress(DeviceLabError):
            self._held.adb.interrupt()

    def _install(self) -> PurePosixPath:
        """Unpack the bundle under a name that stands for its content; other bundles make room."""
        folder = BUNDLES_FOLDER / self._bundle.sha256
        adb = self._held.adb
        is_there = adb.run(f"[ -d {folder} ] && touch {folder} && echo yes || true", timeout_s=_QUESTION_TIMEOUT_S)
        if is_there.text == "yes":
            return folder
        archive = adb.push_cached(self._bundle.archive)
        self._require_space(archive)
        part = f"{folder}.part-{secrets.token_hex(4)}"
        script = (
            f"rm -rf {BUNDLES_FOLDER}/*.part-*; mkdir -p {part}\n"
            f"if tar -xf {archive} -C {part} && mv {part} {folder}; then rm -f {archive}; "
            f"else rm -rf {part} {archive}; exit 1; fi\n"
            f"cd {BUNDLES_FOLDER} && ls -t | tail -n +{MAX_BUNDLES + 1} | while read -r old; do rm -rf $old; done"
        )
        try:
            adb.run(script, timeout_s=_UNPACK_TIMEOUT_S)
        except RemoteCommandError as error:
            raise TransferError(
                serial=self.info.device_id, path=str(folder), seen=f"cannot unpack the runner: {_last_line(error)}"
            ) from error
        return folder

    def _require_space(self, archive: PurePosixPath) -> None:
        """Ask for the space of what is in the archive; without it the archive goes, too."""
        adb = self._held.adb
        size_bytes = self._bundle.archive.stat().st_size
        free = adb.run(
            f"mkdir -p {BUNDLES_FOLDER} && df -k {BUNDLES_FOLDER}", timeout_s=_QUESTION_TIMEOUT_S, retry=True
        )
        free_bytes = parse_free_bytes(free.text)
        if free_bytes < size_bytes:
            adb.run(f"rm -f {archive}", timeout_s=_QUESTION_TIMEOUT_S, retry=True)
            raise DeviceFullError(
                serial=self.info.device_id, path=str(BUNDLES_FOLDER), needed_bytes=size_bytes, free_bytes=free_bytes
            )

    def _find_mask(self) -> int | None:
        if self.info.backend is not Backend.DEVICE:
            return None  # the clocks of a virtual phone are invented
        text = self._held.adb.run(_CLOCKS, timeout_s=_QUESTION_TIMEOUT_S, retry=True).text
        if not text.endswith("taskset"):
            return None
        clocks = re.findall(r"/cpu(\d+)/cpufreq/cpuinfo_max_freq=(\d+)$", text, re.MULTILINE)
        return fastest_cores({int(core): int(clock) for core, clock in clocks}, num_threads=self._num_threads)

    def _put(self, model: ModelFile) -> PurePosixPath:
        """Return where the model lies on the phone; the models used longest ago make room for a new one."""
        if model.sha256 not in self._models:
            adb = self._held.adb
            self._models[model.sha256] = adb.push_cached(model.path)
            script = (
                f"mkdir -p {MARKS_FOLDER} && cd {MARKS_FOLDER} && touch {model.sha256} && "
                f"ls -t | tail -n +{MAX_MODELS + 1} | "
                f'while read -r old; do rm -f "{self._models[model.sha256].parent}/$old" "$old"; echo "$old"; done'
            )
            removed = adb.run(script, timeout_s=_QUESTION_TIMEOUT_S, retry=True).text.split()
            if removed:
                adb.close()  # so that it looks again at what is still there
            for sha256 in removed:
                self._models.pop(sha256, None)
        return self._models[model.sha256]

    def _command(self, folder: PurePosixPath, remote: PurePosixPath, model: ModelFile, request: RunRequest) -> str:
        words = self._bundle.run_command(folder, str(remote), model, request)
        if self._mask is not None:
            words = ["taskset", f"{self._mask:x}", *words]
        # ONNX Runtime 1.32 would start a thread that collects usage data, beside what is timed.
        return f"touch {MARKS_FOLDER / model.sha256}; cd {folder} && ORT_DISABLE_TELEMETRY=1 {shlex.join(words)}"


def fastest_cores(clocks_khz: Mapping[int, int], *, num_threads: int) -> int | None:
    """Return the mask of the cores to run on: whole clusters, the fastest first, until they hold every thread.

    Args:
        clocks_khz: Highest clock of each core that shows it.
        num_threads: Threads to hold.

    Returns:
        A bit for each core; ``None`` where the mask would rule out no core.
    """
    cores: list[int] = []
    for clock in sorted(set(clocks_khz.values()), reverse=True):
        if len(cores) >= num_threads:
            break
        cores.extend(core for core, its in clocks_khz.items() if its == clock)
    if len(cores) in (0, len(clocks_khz)):
        return None
    return sum(1 << core for core in cores)


def _last_line(error: RemoteCommandError) -> str:
    lines = error.stderr.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "no output"


def _failure(model: ModelFile, error: RemoteCommandError) -> RunnerFailedError:
    last_line = _last_line(error)
    if error.exit_status == _KILLED or any(mark.encode() in error.stderr for mark in _MEMORY_MARKS):
        return OutOfMemoryError(f"{model.path.name}: the runner ran out of memory: {last_line}")
    return RunnerFailedError(f"{model.path.name}: the runner exited with {error.exit_status}: {last_line}")
