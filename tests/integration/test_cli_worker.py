"""``nas worker`` and ``nas status`` as somebody uses them: real processes, a real run, signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from device_lab.files import lock_file
from nas.store import Store, sqlite_url
from tests.command_line import CommandLine

SMALL = ("--teacher-steps", "10", "--sequence-length", "16", "--fidelities", "projected", "--objectives")
TIMEOUT_S = 240


@pytest.fixture
def nas(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> CommandLine:
    return CommandLine(capsys, tmp_path / "runs")


def in_folder(nas: CommandLine, *words: str) -> tuple[str, ...]:
    return (*words, "--runs-folder", str(nas.runs_folder))


def start(nas: CommandLine, *words: str) -> subprocess.Popen[str]:
    program = "from nas.cli.main import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", program, *in_folder(nas, *words)],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


@pytest.mark.slow
def test_a_run_that_was_only_made_is_done_by_two_trainers_and_status_tells(nas: CommandLine) -> None:
    made = nas(*in_folder(nas, "search", "first", "--trials", "12", "--minutes", "0", *SMALL, "accuracy,macs"))
    assert made.code == 0, made
    assert "next: nas worker --run first" in made.stderr
    before = json.loads(nas(*in_folder(nas, "status", "first", "--json")).stdout)
    assert before["num_trials_wanted"] == 12
    assert before["workers"] == []
    assert "nobody works on it; next: nas worker --run first" in nas(*in_folder(nas, "status", "first")).stdout

    workers = [start(nas, "worker", "--run", "first", "--role", "train") for _ in range(2)]
    said = [worker.communicate(timeout=TIMEOUT_S)[1] for worker in workers]

    assert [worker.returncode for worker in workers] == [0, 0], said
    assert all("nothing is left to do for this worker" in each for each in said)
    after = json.loads(nas(*in_folder(nas, "status", "first", "--json")).stdout)
    assert after["num_trials"]["complete"] >= 12
    assert after["num_trials"].get("running", 0) == 0
    assert after["workers"] == []
    shown = nas(*in_folder(nas, "status", "first"))
    assert "nobody works on it; next: nas report first" in shown.stdout
    assert len(list((nas.runs_folder / "first").glob("worker-*.txt"))) == 2


@pytest.mark.slow
def test_sigterm_ends_a_worker_after_its_step_and_another_does_the_rest(nas: CommandLine) -> None:
    made = nas(*in_folder(nas, "search", "first", "--trials", "40", "--minutes", "0", *SMALL, "accuracy,macs"))
    assert made.code == 0, made
    worker = start(nas, "worker", "--run", "first", "--role", "train")
    status = json.loads(nas(*in_folder(nas, "status", "first", "--json")).stdout)
    while status["num_trials"].get("complete", 0) < 4:
        assert worker.poll() is None
        time.sleep(0.2)
        status = json.loads(nas(*in_folder(nas, "status", "first", "--json")).stdout)
    [seen] = status["workers"]
    assert seen["role"] == "train"
    assert seen["is_alive"]
    worker.send_signal(signal.SIGTERM)
    said = worker.communicate(timeout=TIMEOUT_S)[1]

    assert worker.returncode == 0, said
    assert "what it had begun is given back" in said
    status = json.loads(nas(*in_folder(nas, "status", "first", "--json")).stdout)
    assert status["workers"] == []
    assert status["num_trials"].get("running", 0) == 0
    assert 4 <= status["num_trials"]["complete"] < 40


@pytest.mark.slow
def test_sigterm_ends_a_worker_that_waits_for_one_that_trains_the_same_teacher(nas: CommandLine) -> None:
    made = nas(*in_folder(nas, "search", "first", "--trials", "4", "--minutes", "0", *SMALL, "accuracy,macs"))
    assert made.code == 0, made
    with lock_file(nas.runs_folder / "artifacts" / "teachers" / "lock"):
        worker = start(nas, "worker", "--run", "first", "--role", "train")
        # It has begun to work as soon as there is its log, and by then SIGTERM is heard.
        while not list((nas.runs_folder / "first").glob("worker-*.txt")):
            assert worker.poll() is None
            time.sleep(0.1)
        worker.send_signal(signal.SIGTERM)
        said = worker.communicate(timeout=TIMEOUT_S)[1]

    assert worker.returncode == 0, said
    assert "what it had begun is given back" in said


def test_a_worker_needs_a_run_and_a_role_it_can_have(nas: CommandLine) -> None:
    assert "no run 'first'" in nas(*in_folder(nas, "worker", "--run", "first")).error
    Store(sqlite_url(nas.runs_folder / "first" / "store.db")).close()
    assert "no run 'first' in the store" in nas(*in_folder(nas, "worker", "--run", "first")).error
    assert "unknown --role 'boss' (known: train, measure, both)" in (
        nas(*in_folder(nas, "worker", "--run", "first", "--role", "boss")).error
    )


def test_a_status_is_watched_or_printed_as_json(nas: CommandLine) -> None:
    assert "leave one of them out" in nas(*in_folder(nas, "status", "first", "--watch", "--json")).error


@pytest.mark.parametrize(("ahead_s", "way"), [(75.5, "s ahead of"), (-3600.0, "s behind")])
def test_a_machine_whose_clock_is_wrong_may_not_work(
    nas: CommandLine, monkeypatch: pytest.MonkeyPatch, ahead_s: float, way: str
) -> None:
    Store(sqlite_url(nas.runs_folder / "first" / "store.db")).close()
    now = datetime.now(UTC).timestamp()
    monkeypatch.setattr("nas.shared_run.clock_s", lambda _: now - ahead_s)

    error = nas(*in_folder(nas, "worker", "--run", "first")).error

    assert error.startswith("this machine's clock is ")
    assert f"{way} the store's, more than 30 s" in error
    assert "NTP" in error
