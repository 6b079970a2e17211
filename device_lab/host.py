"""This machine as a device, through the same runner contract and protocol as a phone."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from device_lab.errors import OutOfMemoryError, RunnerFailedError, RunnerTimeoutError
from device_lab.measurement import UNREADABLE, Backend, Conditions, DeviceInfo, ModelFile
from device_lab.runner.contract import RunnerOutput, RunRequest
from device_lab.runner.profile import PROFILE_WORDS, OperatorProfile
from device_lab.runtimes import Runtime

# ONNX Runtime 1.32 starts a thread that collects and sends usage data; it would run beside what is timed.
_QUIET = {"ORT_DISABLE_TELEMETRY": "1"}
_PACKAGE_PARENT = Path(__file__).resolve().parent.parent
_MEMORY_MARKS = ("MemoryError", "bad_alloc", "Failed to allocate memory", "bad allocation")


class HostDevice:
    """This machine. See `device_lab.device.Device`.

    Args:
        runtime: Executes the models.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.info = host_info()
        self.runtime = runtime.name
        self.runtime_version = runtime.version

    def conditions(self) -> Conditions:
        """Read load, clocks, governor, temperature and cores; ``"?"`` for what this system does not show."""
        return host_conditions()

    def run(self, model: ModelFile, request: RunRequest) -> RunnerOutput:
        """Run ``model`` once in a fresh process, which never outlives the call.

        Raises:
            RunnerTimeoutError: If it is still running after ``request.timeout_s``.
            OutOfMemoryError: If it was killed for memory or could not allocate.
            RunnerFailedError: If it exited with another error.
            RunnerOutputError: If it printed something that is not the contract.
        """
        return self._runtime.read(*self._execute(self._runtime.host_command(model, request), model, request))

    def profile(self, model: ModelFile, request: RunRequest) -> OperatorProfile:
        """Time every operator of ``request.min_runs`` inferences in a fresh process, which never outlives the call.

        Raises:
            DeviceLabError: As `run` does.
        """
        command = (*self._runtime.host_command(model, request), *PROFILE_WORDS)
        stdout, _ = self._execute(command, model, request)
        return OperatorProfile.from_stdout(stdout)

    def _execute(self, command: Sequence[str], model: ModelFile, request: RunRequest) -> tuple[str, str]:
        """Return what a command printed on standard output and on standard error."""
        environment = {**os.environ, **_QUIET, "PYTHONPATH": _python_path(os.environ.get("PYTHONPATH", ""))}
        # A session of its own: Ctrl-C reaches this process alone, which then ends the runner and all it started.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=environment,
            start_new_session=True,
        )
        with process:
            _pin(process.pid, cores=timing_cores(request.num_threads))
            try:
                stdout, stderr = process.communicate(timeout=request.timeout_s)
            except subprocess.TimeoutExpired as error:
                raise RunnerTimeoutError(
                    f"{model.path.name}: the runner was still at work after {request.timeout_s:g} s and was stopped"
                ) from error
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        if process.returncode != 0:
            raise _failure(model, exit_code=process.returncode, stderr=stderr)
        return stdout, stderr


def timing_cores(num_threads: int) -> tuple[int, ...]:
    """Return the cores that every timed process runs on: as many as threads, always the same ones.

    Cores of one machine are not equally fast, least of all those of a virtual
    machine whose neighbours load one of them: a process that lands now here,
    now there differs by more than the networks do. The last cores are taken,
    since systems send most interrupts to the first. Empty where the system
    cannot pin a process.
    """
    if not hasattr(os, "sched_getaffinity"):
        return ()
    return tuple(sorted(os.sched_getaffinity(0))[-num_threads:])


def host_info() -> DeviceInfo:
    """Return what this machine is. Its ``device_id`` is stable and says nothing about its owner."""
    soc = _soc()
    num_cores = os.cpu_count() or 1
    identity = f"{_machine_id()}|{soc}|{num_cores}|{platform.machine()}"
    return DeviceInfo(
        device_id=f"host-{hashlib.sha256(identity.encode()).hexdigest()[:10]}",
        backend=Backend.HOST,
        model=_first_line(Path("/sys/class/dmi/id/product_name"), command=("sysctl", "-n", "hw.model")),
        soc=soc,
        os_version=f"{_os_name()}, {platform.system()} {platform.release()}",
        abi=platform.machine(),
        num_cores=num_cores,
    )


def host_conditions(root: Path = Path("/")) -> Conditions:
    """Read what is in force on this machine now.

    Args:
        root: Folder that holds ``proc`` and ``sys``.
    """
    cpus = root / "sys/devices/system/cpu"
    zones = [
        float(text) / 1000 for text in _texts(root / "sys/class/thermal", "thermal_zone*/temp") if _is_number(text)
    ]
    frequencies = [
        f"{int(text) // 1000}" for text in _texts(cpus, "cpu[0-9]*/cpufreq/scaling_cur_freq") if text.isdigit()
    ]
    governors = sorted(set(_texts(cpus, "cpu[0-9]*/cpufreq/scaling_governor")))
    load = _text(root / "proc/loadavg").split()
    if not load and root == Path("/"):
        load = [f"{value:.2f}" for value in os.getloadavg()]
    return Conditions(
        taken_at=datetime.now(UTC).isoformat(timespec="seconds"),
        readings=(
            ("load_1min", load[0] if load else UNREADABLE),
            ("load_5min", load[1] if load else UNREADABLE),
            ("governor", " ".join(governors) or UNREADABLE),
            ("frequencies_mhz", " ".join(frequencies) or UNREADABLE),
            ("max_temperature_celsius", f"{max(zones):.1f}" if zones else UNREADABLE),
        ),
    )


def _pin(pid: int, *, cores: tuple[int, ...]) -> None:
    # Before the runner has loaded anything: the threads it starts later inherit its cores.
    if cores:
        with suppress(ProcessLookupError):
            os.sched_setaffinity(pid, cores)


def _failure(model: ModelFile, *, exit_code: int, stderr: str) -> RunnerFailedError:
    lines = stderr.strip().splitlines()
    last_line = lines[-1] if lines else "no output"
    if exit_code == -signal.SIGKILL or any(mark in stderr for mark in _MEMORY_MARKS):
        return OutOfMemoryError(f"{model.path.name}: the runner ran out of memory: {last_line}")
    return RunnerFailedError(f"{model.path.name}: the runner exited with {exit_code}: {last_line}")


def _python_path(given: str) -> str:
    """Return a search path on which the runner finds this package even where it is not installed."""
    return os.pathsep.join(part for part in (str(_PACKAGE_PARENT), given) if part)


def _machine_id() -> str:
    for path in (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id")):
        if text := _text(path):
            return text
    return _command_output("sysctl", "-n", "kern.uuid") or platform.node()


def _soc() -> str:
    cpuinfo = _text(Path("/proc/cpuinfo"))
    found = re.search(r"^(?:model name|Hardware|Model)\s*:\s*(.+)$", cpuinfo, flags=re.MULTILINE)
    if found:
        return found.group(1).strip()
    return _command_output("sysctl", "-n", "machdep.cpu.brand_string") or UNREADABLE


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        return f"macOS {platform.mac_ver()[0]}" if platform.mac_ver()[0] else UNREADABLE


def _first_line(path: Path, *, command: tuple[str, ...]) -> str:
    return _text(path) or _command_output(*command) or UNREADABLE


def _command_output(*command: str) -> str:
    try:
        finished = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return finished.stdout.strip() if finished.returncode == 0 else ""


def _texts(folder: Path, pattern: str) -> list[str]:
    return [text for path in sorted(folder.glob(pattern)) if (text := _text(path))]


def _text(path: Path) -> str:
    """Return the content of a file, or nothing where the system has none or does not let it be read."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-?\d+", text) is not None
