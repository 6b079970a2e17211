"""What every verb has in common: help with an example, 80 columns, no colour where none is wanted, defaults, logs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import cast

import pytest
import torch
import typer
from safetensors.torch import load_file, save_file
from typer.core import TyperGroup

from nas.cli.console import our_warnings_as_lines
from nas.cli.defaults import read_defaults
from nas.cli.log import run_log
from nas.cli.main import app
from nas.cli.options import complete_run
from nas.cli.progress import current_front
from nas.cli.stores import load_runs
from nas.errors import ProjectionWarning, SettingsError
from nas.records import Objective
from tests.checkpoint_folders import write_checkpoint
from tests.command_line import CommandLine
from tests.small_tasks import TINY, write_split

GROUP = cast("TyperGroup", typer.main.get_command(app))
VERBS = {
    **{name: each for name, each in GROUP.commands.items() if not isinstance(each, TyperGroup)},
    **{
        f"{name} {verb}": each
        for name, group in GROUP.commands.items()
        if isinstance(group, TyperGroup)
        for verb, each in group.commands.items()
    },
}
MANY_COLOURS = {"TERM": "xterm-256color", "FORCE_COLOR": "1", "COLUMNS": "80"}


@pytest.fixture
def nas(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> CommandLine:
    return CommandLine(capsys, tmp_path / "runs")


def run_nas(*arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the program as a shell does."""
    return subprocess.run(
        [sys.executable, "-c", "import sys; sys.argv[0] = 'nas'; from nas.cli.main import main; main()", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("verb", VERBS)
def test_every_help_has_an_example_that_parses(verb: str) -> None:
    help_text = VERBS[verb].help or ""
    found = re.search(r"Example: nas (.*?)$", help_text, flags=re.MULTILINE)

    assert found, verb
    words = found.group(1).partition(" >")[0].split()
    assert " ".join(words).startswith(verb)
    # Parsing refuses an option or a number of arguments that does not exist.
    VERBS[verb].make_context(verb, words[len(verb.split()) :], resilient_parsing=False)


@pytest.mark.parametrize("verb", ["--help", *(f"{name} --help" for name in VERBS)])
def test_help_fits_eighty_columns(nas: CommandLine, verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")

    lines = nas(*verb.split()).stdout.splitlines()

    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    ("words", "number"),
    [
        (("devices",), 0),
        (("devices", "--virtual"), 1),
        (("devices", "--virtual", "--json"), 1),
        (("devices", "--virtual", "3"), 3),
        (("devices", "--virtual=2"), 2),
        (("measure", "--virtual", "model.onnx"), 1),
        (("measure", "--virtual", "2", "model.onnx"), 2),
    ],
)
def test_virtual_phones_without_a_number_are_one(words: tuple[str, ...], number: int) -> None:
    verb, *arguments = words

    assert VERBS[verb].make_context(verb, arguments).params["virtual"] == number


def test_help_names_the_exit_codes_and_the_file_of_defaults(nas: CommandLine) -> None:
    text = " ".join(nas("--help").stdout.split())

    for words in ("0 done", "2 a wrong command line", "3 `nas gate` could not measure", "130 stopped", "nas.toml"):
        assert words in text


@pytest.mark.slow
def test_no_color_is_kept_even_where_colour_is_forced(tmp_path: Path) -> None:
    plain = run_nas("spaces", folder=tmp_path, NO_COLOR="1", **MANY_COLOURS)

    assert plain.returncode == 0
    # Colours are the codes 30 to 49 and 90 to 107; a bold heading is none.
    assert not re.search(r"\x1b\[(?:\d+;)*(?:3\d|4\d|9\d|10[0-7])", plain.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_there_is_a_completion_for_each_shell(tmp_path: Path, shell: str) -> None:
    variable = "_NAS_COMPLETE"
    shown = run_nas("--help", folder=tmp_path, **{variable: f"source_{shell}"})

    assert variable in shown.stdout
    if shell == "bash":
        syntax = subprocess.run(["bash", "-n"], input=shown.stdout, text=True, capture_output=True, check=False)
        assert syntax.returncode == 0, syntax.stderr


def test_a_run_name_is_completed_from_the_runs_there_are(tmp_path: Path) -> None:
    for name in ("first", "firm", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "store.db").touch()
    (tmp_path / "fir-empty").mkdir()
    context = typer.Context(GROUP)
    context.params["runs_folder"] = tmp_path

    assert complete_run(context, "fir") == ["firm", "first"]


def test_a_default_of_the_file_holds_and_a_flag_is_stronger(
    nas: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nas.toml").write_text("sequence-length = 64\n[cost]\nnum-labels = 3\njson = true\n")

    by_file = nas("cost", "squeezebert").stdout
    by_flag = nas("cost", "squeezebert", "--sequence-length", "32").stdout

    assert '"sequence_length": 64' in by_file
    assert '"sequence_length": 32' in by_flag


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[cots]\njson = true\n", r"nas.toml: \[cots\] is no verb \(known: quickstart, search"),
        ("[cost]\ncolour = 1\n", r"nas.toml: `nas cost` has no option --colour; see `nas cost --help`"),
        ("colour = 1\n", r"nas.toml: no verb has the option --colour; see `nas --help`"),
        ("json = \n", r"nas.toml is not TOML: "),
    ],
)
def test_a_mistake_in_the_file_is_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "nas.toml"
    path.write_text(content)

    with pytest.raises(SettingsError, match=message):
        read_defaults(path, GROUP)


def test_a_wrong_value_in_the_file_is_a_wrong_command_line(
    nas: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nas.toml").write_text('[cost]\nsequence-length = "many"\n')

    finished = nas("cost", "squeezebert")

    assert finished.code == 2
    assert "Invalid value for '--sequence-length'" in finished.stderr


def test_without_a_file_there_are_no_defaults(tmp_path: Path) -> None:
    assert read_defaults(tmp_path / "nas.toml", GROUP) == {}


def test_the_log_has_what_was_said_and_how_it_ended(tmp_path: Path) -> None:
    with run_log(tmp_path) as log:
        log("trial   0: latency 1.00x")
    with pytest.raises(KeyboardInterrupt), run_log(tmp_path):
        raise KeyboardInterrupt
    with pytest.raises(OSError, match="full"), run_log(tmp_path):
        raise OSError("the disk is full")

    lines = [line.split(" ", 1)[1] for line in (tmp_path / "log.txt").read_text().splitlines()]

    assert [line.split(":")[0] for line in lines] == ["begin", "trial 0", "end", "begin", "end", "begin", "end"]
    assert [line for line in lines if line.startswith("end")] == [
        "end: done",
        "end: stopped by Ctrl-C",
        "end: OSError: the disk is full",
    ]


def test_the_front_so_far_is_what_nothing_beats() -> None:
    accuracy, latency = Objective.ACCURACY, Objective.LATENCY
    values = {
        0: {accuracy: 0.80, latency: 1.0},
        1: {accuracy: 0.90, latency: 2.0},
        2: {accuracy: 0.80, latency: 0.5},
        3: {accuracy: 0.85, latency: 0.7},
    }

    assert current_front(values) == [2, 3, 1]
    assert current_front({}) == []


@pytest.mark.slow
@pytest.mark.torch
def test_the_file_shapes_a_new_run_and_never_changes_one_that_exists(
    nas: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    task = tmp_path / "task"
    task.mkdir()
    for name, count in (("train", 32), ("dev", 8)):
        rows = [f"{'good' if i % 2 else 'bad'} film {i}\t{i % 2}" for i in range(count)]
        (task / f"{name}.tsv").write_text("\n".join(["sentence\tlabel", *rows]) + "\n")
    defaults = tmp_path / "nas.toml"
    defaults.write_text('[search]\nspace = "staged"\nsequence-length = 8\nobjectives = "macs,parameters"\n')

    made = nas("search", "one", "--task-dir", str(task), "--trials", "2")
    defaults.write_text('[search]\nspace = "grouped"\nsequence-length = 16\n')
    resumed = nas("search", "one", "--trials", "3")
    refused = nas("search", "one", "--trials", "4", "--space", "grouped").error

    assert (made.code, resumed.code) == (0, 0), (made, resumed)
    (run,) = load_runs(["one"], runs_folder=tmp_path / "runs", storage=None)
    assert (run.space, run.objectives) == ("staged", (Objective.MACS, Objective.PARAMETERS))
    assert 'space is "staged", asked for "grouped"' in refused


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.filterwarnings("default")
def test_a_projection_the_data_does_not_determine_is_one_line_each(nas: CommandLine, tmp_path: Path) -> None:
    teacher = write_checkpoint(tmp_path / "teacher", TINY, num_labels=2)
    weights = teacher / "model.safetensors"
    save_file({name: torch.zeros_like(tensor) for name, tensor in load_file(weights).items()}, weights)
    for split in ("train", "dev"):
        write_split(tmp_path / f"{split}.tsv", "sentence\tlabel", "a dull mess\t0", "a lovely film\t1")

    # Everything this teacher sees is zero.
    finished = nas.in_folder(
        *("search", "zero", "--teacher", str(teacher), "--teacher-steps", "0", "--task-dir", str(tmp_path)),
        *("--space", "staged", "--objectives", "accuracy,macs", "--fidelities", "projected"),
        *("--sequence-length", "8", "--trials", "2"),
    )

    assert finished.code == 0
    lines = finished.stderr.splitlines()
    assert lines[0] == ("warning: layer 0 query: its inputs do not determine a projection; the teacher's weights stay")
    assert "ProjectionWarning" not in finished.stderr
    assert ".py:" not in finished.stderr


def test_a_warning_that_is_not_ours_goes_where_it_went(capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings(record=True, action="always") as recorded, our_warnings_as_lines():
        warnings.warn("an engine is old", stacklevel=1)
        warnings.warn("layer 3 [key] stays", ProjectionWarning, stacklevel=1)

    assert [str(each.message) for each in recorded] == ["an engine is old"]
    assert capsys.readouterr().err == "warning: layer 3 [key] stays\n"
