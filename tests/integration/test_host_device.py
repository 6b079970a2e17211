from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from device_lab.errors import (
    OutOfMemoryError,
    RunnerFailedError,
    RunnerOutputError,
    RunnerTimeoutError,
    WrongOutputError,
)
from device_lab.host import HostDevice
from device_lab.measurement import Backend, Measurement, ModelFile, Precision, Reason
from device_lab.protocol import measure
from device_lab.runner.contract import RunnerOutput, RunRequest, check_output
from device_lab.runtimes import find_runtime
from device_lab.statistics import busy_cores, candidate_runs, ratio_interval
from tests.tiny_onnx import write_tiny_model

REQUEST = RunRequest(num_threads=1, min_runs=20, min_timed_s=0.01, max_warmup_s=0.05)
ANY = Precision(name="any", goal=10.0, looks=(2,), min_timed_s=0.01, min_runs=5, max_warmup_s=0.05)
ROOT = Path(__file__).parents[2]


@dataclass
class _Program:
    """A runtime whose runner is any command: what a broken or hostile runner would do."""

    command: Sequence[str]
    name: str = "onnxruntime"
    version: str = "1"

    def host_command(self, model: ModelFile, request: RunRequest) -> Sequence[str]:
        return self.command

    def read(self, stdout: str, stderr: str) -> RunnerOutput:
        return RunnerOutput.from_stdout(stdout)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ModelFile:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny.onnx", sequence_length=8, batch_size=2)


@pytest.fixture(scope="module")
def host() -> HostDevice:
    return HostDevice(find_runtime("onnxruntime"))


def _python(*lines: str) -> HostDevice:
    return HostDevice(_Program([sys.executable, "-c", "\n".join(lines)]))


@pytest.mark.parametrize("num_threads", [1, 2])
def test_the_thread_count_is_counted_in_the_process_that_was_timed(
    tiny: ModelFile, host: HostDevice, num_threads: int
) -> None:
    # Long enough that a tick of the kernel's, up to which another thread's time is known, is little of it.
    output = host.run(tiny, replace(REQUEST, num_threads=num_threads, min_timed_s=0.3))

    assert output.num_threads == num_threads
    # More cores than threads cannot be busy; the margin is for the two clocks being read one after the other.
    assert output.cpu_ns is not None
    assert 0 < output.cpu_ns / output.wall_ns <= num_threads * 1.2


def test_a_fresh_process_gives_samples_and_the_right_answer(tiny: ModelFile, host: HostDevice) -> None:
    output = host.run(tiny, REQUEST)

    check_output(output.output, expected=tiny.expected_output)
    assert len(output.output or ()) == 4, "two logits for each of the two sequences"
    assert len(output.samples_ns) >= 20
    assert sum(output.samples_ns) <= output.wall_ns
    assert min(output.samples_ns) > 0
    assert output.num_warmup_runs >= 1
    assert output.peak_rss_bytes is not None
    assert 10_000_000 < output.peak_rss_bytes < 2_000_000_000
    assert (output.runtime, output.runtime_version) == (host.runtime, host.runtime_version)


@pytest.mark.slow
def test_candidates_are_measured_against_the_reference(tmp_path: Path, tiny: ModelFile, host: HostDevice) -> None:
    deeper = write_tiny_model(tmp_path / "deeper.onnx", sequence_length=8, batch_size=2, hidden_size=256, num_layers=12)

    outcomes = measure(
        [tiny, deeper],
        reference=tiny,
        device=host,
        num_threads=1,
        precision=ANY,
        generator=np.random.default_rng(0),
    )

    for outcome in outcomes:
        assert isinstance(outcome, Measurement)
        # On a machine with other work the goal may be out of reach; that is said, and is no failure.
        assert outcome.reason in {Reason.GOAL_MET, Reason.NOISY_REFERENCE, Reason.BUDGET}
        assert outcome.device.backend is Backend.HOST
        assert 0 < busy_cores(candidate_runs(outcome.blocks)) <= 1.2
        assert ratio_interval(outcome.blocks).estimate > 0


@pytest.mark.slow
def test_a_wrong_answer_is_never_a_latency(tiny: ModelFile, host: HostDevice) -> None:
    first, *others = tiny.expected_output
    wrong = replace(tiny, sha256="wrong", expected_output=(first + 0.001, *others))

    right_outcome, wrong_outcome = measure(
        [tiny, wrong],
        reference=tiny,
        device=host,
        num_threads=1,
        precision=ANY,
        generator=np.random.default_rng(0),
    )

    assert isinstance(right_outcome, Measurement)
    assert isinstance(wrong_outcome, WrongOutputError)


def test_a_file_that_is_no_model_is_one_line_with_the_file_and_the_cause(
    tmp_path: Path, tiny: ModelFile, host: HostDevice
) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a model")

    with pytest.raises(
        RunnerFailedError, match=r"broken\.onnx: the runner exited with 1: .*INVALID_PROTOBUF"
    ) as caught:
        host.run(replace(tiny, path=broken), REQUEST)

    assert "\n" not in str(caught.value)


def test_a_runner_that_prints_garbage_is_refused(tiny: ModelFile) -> None:
    with pytest.raises(RunnerOutputError, match=r"runner printed 'Segmentation fine' instead of its line of JSON"):
        _python("print('Segmentation fine')").run(tiny, REQUEST)


def test_a_runner_that_was_killed_ran_out_of_memory(tiny: ModelFile) -> None:
    device = _python("import os", "import signal", "os.kill(os.getpid(), signal.SIGKILL)")

    with pytest.raises(OutOfMemoryError, match=r"tiny\.onnx: the runner ran out of memory"):
        device.run(tiny, REQUEST)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux enforces a limit on address space")
def test_a_model_that_does_not_fit_into_memory_says_so(tmp_path: Path) -> None:
    # Twelve layers of 1024 x 1024 floats are 50 MB, loaded with 20 MB to spare.
    large = write_tiny_model(tmp_path / "large.onnx", hidden_size=1024, num_layers=12)
    arguments = find_runtime("onnxruntime").host_command(large, REQUEST)[4:]
    limited = _python(
        "import resource",
        "from pathlib import Path",
        "from device_lab.runner.host_onnxruntime import main",
        "used = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()",
        "resource.setrlimit(resource.RLIMIT_AS, (used + 20_000_000,) * 2)",
        f"main({list(arguments)!r})",
    )

    with pytest.raises(OutOfMemoryError, match=r"large\.onnx: the runner ran out of memory") as caught:
        limited.run(large, REQUEST)

    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_runner_that_hangs_is_stopped_with_everything_it_started(tmp_path: Path, tiny: ModelFile) -> None:
    pids = tmp_path / "pids"
    device = _python(*_hanging(pids))

    with pytest.raises(RunnerTimeoutError, match=r"tiny\.onnx: the runner was still at work after 2 s and was stopped"):
        device.run(tiny, replace(REQUEST, timeout_s=2.0))

    assert _are_gone(json.loads(pids.read_text()))


@pytest.mark.slow
def test_an_interrupt_stops_the_runner_with_everything_it_started(tmp_path: Path, tiny: ModelFile) -> None:
    pids = tmp_path / "pids"
    user = tmp_path / "user.py"
    hanging = "\n".join(_hanging(pids))
    user.write_text(
        "\n".join(
            [
                "import sys",
                "from pathlib import Path",
                "from tests.integration.test_host_device import REQUEST, _Program",
                "from tests.tiny_onnx import write_tiny_model",
                "from device_lab.host import HostDevice",
                f"tiny = write_tiny_model(Path({str(tmp_path / 'tiny.onnx')!r}))",
                f"HostDevice(_Program([sys.executable, '-c', {hanging!r}])).run(tiny, REQUEST)",
            ]
        )
    )
    with subprocess.Popen(
        [sys.executable, str(user)], env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True
    ) as process:
        _wait_for(pids)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)

    assert "KeyboardInterrupt" in stderr
    assert _are_gone(json.loads(pids.read_text()))


def test_a_module_in_the_folder_the_user_is_in_does_not_hide_the_runners(
    tmp_path: Path, tiny: ModelFile, host: HostDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "onnxruntime.py").write_text("raise SystemExit('the wrong module')")
    monkeypatch.chdir(tmp_path)

    assert host.run(tiny, REQUEST).samples_ns


def _hanging(pids: Path) -> list[str]:
    """A program that starts another, notes both process ids whole, and sleeps."""
    return [
        "import json, os, pathlib, subprocess, sys, time",
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])",
        f"notes = pathlib.Path({str(pids)!r})",
        "draft = notes.with_suffix('.draft')",
        "draft.write_text(json.dumps([os.getpid(), child.pid]))",
        "draft.rename(notes)",
        "time.sleep(60)",
    ]


def _wait_for(path: Path) -> None:
    deadline_s = time.monotonic() + 30
    while not path.exists() and time.monotonic() < deadline_s:
        time.sleep(0.05)


def _are_gone(pids: list[int]) -> bool:
    """Whether no process of ``pids`` runs; a killed orphan may need a moment to be reaped by its new parent."""
    deadline_s = time.monotonic() + 10
    while any(_is_running(pid) for pid in pids):
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.05)
    return True


def _is_running(pid: int) -> bool:
    finished = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    state = finished.stdout.strip()
    return bool(state) and not state.startswith("Z")
