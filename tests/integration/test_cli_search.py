"""A run from the command line: a real teacher, real candidates, real files; small, so that it takes seconds."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nas.run_folder import hold_run
from search_spaces.architecture import Architecture
from tests.command_line import CommandLine
from tests.system_packages import require_program

pytestmark = [pytest.mark.torch, pytest.mark.slow]

SEARCH = ("--space", "staged", "--objectives", "accuracy,macs", "--steps", "2", "--sequence-length", "8")


@pytest.fixture(scope="module")
def task_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A task of two words that a small network learns in seconds."""
    folder = tmp_path_factory.mktemp("task")
    for name, count in (("train", 96), ("dev", 24)):
        rows = [f"{'good film' if i % 2 else 'bad film'} {i % 7}\t{i % 2}" for i in range(count)]
        (folder / f"{name}.tsv").write_text("\n".join(["sentence\tlabel", *rows]) + "\n")
    return folder


@pytest.fixture(scope="module")
def runs_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared by the module, so that the teacher is trained once."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def nas(capsys: pytest.CaptureFixture[str], runs_folder: Path) -> CommandLine:
    return CommandLine(capsys, runs_folder)


def search(nas: CommandLine, task_folder: Path, run: str, *arguments: str, trials: int = 3) -> None:
    finished = nas.in_folder(
        "search", run, "--task-dir", str(task_folder), *SEARCH, "--trials", str(trials), *arguments
    )
    assert finished.code == 0, finished


def test_a_run_is_searched_resumed_shown_and_reported(nas: CommandLine, task_folder: Path, runs_folder: Path) -> None:
    search(nas, task_folder, "whole")
    resumed = nas.in_folder("search", "whole", "--trials", "5")

    trials = json.loads(nas.in_folder("show", "whole", "--json").stdout)
    arch = Architecture.from_json(nas.in_folder("show", "whole", "--trial", "0", "--json").stdout)
    report = json.loads(nas.in_folder("report", "whole", "--json").stdout)

    assert resumed.code == 0
    assert "resuming: 3 architectures are known" in resumed.stderr
    assert len({trial["arch_id"] for trial in trials}) == 5
    assert [trial["role"] for trial in trials[:2]] == ["squeezebert-rule", "dense-teacher"]
    assert all(0 <= trial["score"]["low"] <= trial["score"]["high"] <= 1 for trial in trials)
    assert arch.arch_id == trials[0]["arch_id"]
    assert "whole" in Path(report["html"]).read_text()
    assert trials[0]["arch_id"] in (Path(report["folder"]) / "report.json").read_text()


def test_show_prints_every_layer_of_a_trial(nas: CommandLine, task_folder: Path) -> None:
    search(nas, task_folder, "whole")

    shown = nas.in_folder("show", "whole", "--trial", "0").stdout

    assert "squeezebert-rule" in shown
    # Four layers of SqueezeBERT's rule: heads, FFN width, then 4 groups everywhere but after attention.
    assert [line.split()[1:] for line in shown.splitlines()[-4:]] == [["4", "512", "4", "4", "4", "1", "4", "4"]] * 4


def test_an_unknown_trial_is_named_with_those_there_are(nas: CommandLine, task_folder: Path) -> None:
    search(nas, task_folder, "whole")

    assert "has no trial 77 (trials: 0, 1, 2" in nas.in_folder("show", "whole", "--trial", "77").error


def test_other_settings_for_a_run_show_the_difference(nas: CommandLine, task_folder: Path) -> None:
    search(nas, task_folder, "whole")

    error = nas.in_folder("search", "whole", "--space", "grouped", "--seed", "3").error

    assert 'space is "staged", asked for "grouped"' in error
    assert "seed is 0, asked for 3" in error


def test_two_searches_on_one_run_at_once_are_refused(nas: CommandLine, task_folder: Path, runs_folder: Path) -> None:
    with hold_run(runs_folder / "held"):
        error = nas.in_folder("search", "held", "--task-dir", str(task_folder), *SEARCH).error

    assert f"in use by process {os.getpid()}" in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--space", "huge"), "unknown space 'huge' (known: squeezebert, staged, grouped)"),
        (("--sampler", "grid"), "unknown sampler 'grid' (known: evolution, tpe, nsga2, random)"),
        (("--train-device", "gpu"), "--train-device gpu: must be cpu or cuda"),
        (("--fidelities", "guess"), "unknown evaluator 'guess'"),
        (("--fidelities", "distilled,projected"), "fidelities 'distilled,projected' must be one or more of"),
        (("--objectives", "accuracy,speed"), "unknown objective 'speed' (known: accuracy, latency, macs, parameters)"),
        (("--objectives", "macs,macs"), "name one twice"),
        (("--teacher", "huge"), "unknown teacher 'huge'"),
        (("--objectives", "accuracy,latency", "--runtime", "ncnn"), "unknown runtime 'ncnn' (known: "),
        (("--objectives", "accuracy,latency", "--device", "8A3X1"), "no device with serial '8A3X1'"),
    ],
)
def test_an_unknown_name_is_refused_with_the_known_ones(
    nas: CommandLine, task_folder: Path, arguments: tuple[str, ...], message: str
) -> None:
    error = nas.in_folder("search", "names", "--task-dir", str(task_folder), *SEARCH, *arguments).error

    assert message in error


def test_an_unknown_task_is_refused_with_the_known_ones(nas: CommandLine) -> None:
    assert "unknown task 'sst3'" in nas.in_folder("search", "names", "--task", "sst3").error


@pytest.mark.parametrize("name", ["../up", "artifacts", "", "a b"])
def test_a_run_name_that_is_no_folder_name_is_refused(nas: CommandLine, name: str) -> None:
    assert f"run name {name!r} must be" in nas.in_folder("search", name).error


def test_a_row_with_a_missing_field_is_named_by_file_and_line(nas: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_text("sentence\tlabel\ngood\t1\nbad\t0\nonly a sentence\n")
    (tmp_path / "dev.tsv").write_text("sentence\tlabel\ngood\t1\n")

    assert "train.tsv:4" in nas.in_folder("search", "rows", "--task-dir", str(tmp_path), *SEARCH).error


def test_a_pickle_checkpoint_is_refused_with_the_way_to_convert_it(nas: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04")

    assert "safetensors" in nas.in_folder("search", "pickle", "--teacher", str(tmp_path), *SEARCH).error


def test_a_corrupt_store_is_named_and_left_alone(nas: CommandLine, task_folder: Path, runs_folder: Path) -> None:
    (runs_folder / "broken").mkdir()
    store = runs_folder / "broken" / "store.db"
    store.write_bytes(b"no database" * 500)

    for verb in ("search", "show", "report"):
        assert "broken/store.db cannot be used: file is not a database" in nas.in_folder(verb, "broken").error
    assert store.read_bytes() == b"no database" * 500


def test_ctrl_c_says_how_to_go_on_and_the_run_ends_as_if_it_had_not_happened(
    nas: CommandLine, task_folder: Path, runs_folder: Path
) -> None:
    search(nas, task_folder, "whole", trials=6)
    command = [sys.executable, "-c", "from nas.cli.main import main; main()", "search", "stopped"]
    command += ["--task-dir", str(task_folder), *SEARCH, "--trials", "6", "--runs-folder", str(runs_folder)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    _wait_for_trials(nas, process, "stopped", 2)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    nas.in_folder("search", "stopped", "--trials", "6")

    whole, stopped = (json.loads(nas.in_folder("show", run, "--json").stdout) for run in ("whole", "stopped"))

    assert process.returncode == 130
    assert stderr.splitlines()[-1] == "stopped; nothing is lost. To go on: nas search stopped"
    assert [trial["arch_id"] for trial in stopped] == [trial["arch_id"] for trial in whole[: len(stopped)]]
    assert len({trial["arch_id"] for trial in stopped}) == 6


def _wait_for_trials(nas: CommandLine, process: subprocess.Popen[str], run: str, count: int) -> None:
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        shown = nas.in_folder("show", run, "--json")
        if shown.code == 0 and len(json.loads(shown.stdout)) >= count:
            return
        time.sleep(0.05)
    raise AssertionError(f"run {run} did not get to {count} trials")


def test_a_full_disk_is_one_line_and_leaves_a_run_that_goes_on(task_folder: Path, tmp_path: Path) -> None:
    require_program("unshare", package="util-linux")
    small = tmp_path / "small"
    small.mkdir()
    nas = f"{sys.executable} -c 'from nas.cli.main import main; main()'"
    options = f"--task-dir {task_folder} {' '.join(SEARCH)} --trials 3 --runs-folder {small}"
    # A disk of 24 MB: the teacher of 20 MB fits, the candidates' weights do not. Then the disk grows.
    script = f"""
        mount -t tmpfs -o size=24m tmpfs {small} || exit 77
        {nas} search full {options} > /dev/null; echo first: $?
        mount -o remount,size=500m {small}
        {nas} search full {options} > /dev/null; echo second: $?
        {nas} show full --runs-folder {small} --json
    """
    finished = subprocess.run(["unshare", "-Urm", "sh", "-c", script], capture_output=True, text=True, check=False)
    if finished.returncode == 77 or "Operation not permitted" in finished.stderr:
        pytest.skip("this system does not let a user mount a tmpfs in a namespace")

    lines = finished.stdout.splitlines()
    assert lines[:2] == ["first: 1", "second: 0"], finished.stderr
    errors = [line for line in finished.stderr.splitlines() if line.startswith("nas: error: ")]
    assert len(errors) == 1
    assert "No space left on device" in errors[0] or "disk is full" in errors[0]
    assert "Traceback" not in finished.stderr
    assert len(json.loads("\n".join(lines[2:]))) == 3
