"""`nas teach`: one process or several of a real torchrun, on loopback, make the same teacher."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from nas.cli import torchrun as torchrun_environment
from nas.cli.stores import load_runs
from tests.checkpoint_folders import write_checkpoint
from tests.command_line import CommandLine
from tests.small_tasks import BLAME, PRAISE, TINY, write_split
from tests.torchrun import NUM_PROCESSES, ROOT, environment, finish, start
from tests.training_rank import RECIPE, seen_in_training

pytestmark = pytest.mark.torch
SHORT = ("--teacher", "tiny", "--teacher-steps", "6", "--task-dir", "praise", "--sequence-length", "16")
WITHOUT_END = tuple("100000" if word == "6" else word for word in SHORT)


@pytest.fixture
def nas(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """`nas` in a folder with a task and a checkpoint."""
    monkeypatch.chdir(tmp_path)
    write_checkpoint(tmp_path / "tiny", TINY)
    (tmp_path / "praise").mkdir()
    rows = [f"{text}\t{label}" for label, texts in enumerate((BLAME, PRAISE)) for text in texts]
    write_split(tmp_path / "praise/train.tsv", "sentence\tlabel", *rows * 4)
    write_split(tmp_path / "praise/dev.tsv", "sentence\tlabel", *rows)
    return CommandLine(capsys, tmp_path / "runs")


def teachers(runs_folder: Path) -> dict[str, bytes]:
    """What lies in the folder of teachers beside its lock, hidden files too."""
    files = {path.name: path.read_bytes() for path in (runs_folder / "artifacts/teachers").iterdir()}
    return {name: content for name, content in files.items() if name != "lock"}


@pytest.mark.slow
def test_a_search_finds_what_was_taught_and_trains_no_teacher(nas: CommandLine) -> None:
    taught = nas.in_folder("teach", *SHORT)
    kept = teachers(nas.runs_folder)
    again = nas.in_folder("teach", *SHORT)

    searched = nas.in_folder("search", "first", *SHORT, "--objectives", "macs,parameters", "--trials", "1")

    assert (taught.code, again.code, searched.code) == (0, 0, 0), (taught, again, searched)
    ((name, _),) = kept.items()
    teacher_id = name.removesuffix(".safetensors")
    assert taught.stdout.startswith(f"praise: teacher {teacher_id} from tiny, accuracy ")
    assert again.stdout == taught.stdout
    assert taught.stderr == "next: nas search RUN with the same options, which trains no teacher\n"
    assert teachers(nas.runs_folder) == kept
    assert nas.runs_folder.joinpath("first/store.db").exists()
    assert len(load_runs(["first"], runs_folder=nas.runs_folder, storage=None)) == 1


@pytest.mark.slow
def test_a_teacher_is_compiled_if_there_is_a_compiler_and_trained_all_the_same_if_not(
    nas: CommandLine, tmp_path: Path
) -> None:
    def taught(folder: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["nas", "teach", *SHORT, "--compile", "--runs-folder", folder],
            cwd=tmp_path,
            env=environment(TORCHINDUCTOR_CACHE_DIR=str(tmp_path / "none"), **more),
            capture_output=True,
            text=True,
            check=True,
        )

    without, compiled = taught("without", CXX="/no/such/compiler"), taught("compiled")

    (line, _) = without.stderr.splitlines()
    assert line.startswith("warning: --compile does nothing: torch.compile finds no compiler (")
    assert "warning" not in compiled.stderr
    as_ever = nas.in_folder("teach", *SHORT)
    assert without.stdout == compiled.stdout == as_ever.stdout
    ((name, _),) = teachers(nas.runs_folder).items()
    wanted, found = (load_file(tmp_path / folder / "artifacts/teachers" / name) for folder in ("runs", "compiled"))
    for tensor_name, tensor in wanted.items():
        assert torch.allclose(found[tensor_name], tensor, atol=1e-4), tensor_name


@pytest.mark.slow
def test_the_losses_of_two_processes_are_those_of_one(tmp_path: Path) -> None:
    alone = seen_in_training(tmp_path)
    (tmp_path / "run.checkpoint").unlink()

    ended = finish(start(str(ROOT / "tests/training_rank.py"), str(tmp_path), folder=tmp_path))

    assert ended.code == 0, ended
    (steps, first, weights), (_, second, same_weights) = (torch.load(tmp_path / f"{i}.pt") for i in range(2))
    assert steps == alone.steps == list(range(1, RECIPE.num_steps + 1))
    # The one example of a last batch is seen by both.
    assert {(rows, more) for (rows, _), (more, _) in zip(first, second, strict=True)} == {(4, 4), (1, 1)}
    together = [
        (rows * loss + more * other) / (rows + more) for (rows, loss), (more, other) in zip(first, second, strict=True)
    ]
    assert together == pytest.approx([loss for _, loss in alone.losses], abs=1e-5)
    for name, tensor in alone.weights.items():
        assert torch.allclose(weights[name], tensor, atol=1e-5), name
        assert torch.equal(weights[name], same_weights[name]), name


@pytest.mark.slow
def test_two_processes_go_on_from_the_checkpoint_of_one(tmp_path: Path) -> None:
    whole = seen_in_training(tmp_path)
    (tmp_path / "run.checkpoint").unlink()

    def interrupt(step: int, num_steps: int) -> None:
        if step == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        seen_in_training(tmp_path, on_step=interrupt)
    ended = finish(start(str(ROOT / "tests/training_rank.py"), str(tmp_path), folder=tmp_path))

    assert ended.code == 0, ended
    for rank in range(NUM_PROCESSES):
        steps, _, weights = torch.load(tmp_path / f"{rank}.pt")
        assert steps == [7, 8, 9, 10, 11, 12]
        for name, tensor in whole.weights.items():
            assert torch.allclose(weights[name], tensor, atol=1e-5), name


@pytest.mark.slow
def test_two_processes_teach_what_one_teaches_and_only_the_first_speaks(nas: CommandLine, tmp_path: Path) -> None:
    alone = nas.in_folder("teach", *SHORT)

    ended = finish(start("--no-python", "nas", "teach", *SHORT, "--runs-folder", "together", folder=tmp_path))

    assert (ended.code, ended.stdout) == (0, alone.stdout), ended
    assert ended.ours == alone.stderr.splitlines()
    ((name, _),) = teachers(tmp_path / "together").items()
    one, two = (load_file(tmp_path / folder / "artifacts/teachers" / name) for folder in ("runs", "together"))
    for tensor_name, tensor in one.items():
        assert torch.allclose(two[tensor_name], tensor, atol=1e-5), tensor_name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "messages"),
    [
        # torchrun may tell the first process to end before it misses the second one.
        ("killed", ("rank 0 of 2: another process of this training is gone", "stopped; the same command goes on")),
        ("error", ("rank 1 of 2: the disk is gone",)),
        ("nan", ("rank 0 of 2: loss=nan at step 3 is not finite", "rank 1 of 2: loss=nan at step 3 is not finite")),
    ],
)
def test_a_process_that_fails_ends_all_with_one_line_and_one_process_goes_on(
    nas: CommandLine, tmp_path: Path, how: str, messages: tuple[str, ...]
) -> None:
    program = str(ROOT / "tests/unlucky_rank.py")

    ended = finish(start(program, how, "teach", *SHORT, "--runs-folder", "runs", folder=tmp_path))

    assert ended.code != 0
    (line,) = ended.ours
    assert line.removeprefix("nas: error: ").startswith(messages), ended
    (left,) = teachers(nas.runs_folder)
    assert left.endswith(".checkpoint")
    assert nas.in_folder("teach", *SHORT).code == 0
    ((name, _),) = teachers(nas.runs_folder).items()
    nas("teach", *SHORT, "--runs-folder", "whole")
    one, two = (load_file(tmp_path / folder / "artifacts/teachers" / name) for folder in ("runs", "whole"))
    for tensor_name, tensor in one.items():
        assert torch.allclose(two[tensor_name], tensor, atol=1e-5), tensor_name


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_processes_with_one_line_and_a_whole_checkpoint(
    nas: CommandLine, tmp_path: Path, number: signal.Signals
) -> None:
    process = start("--no-python", "nas", "teach", *WITHOUT_END, "--runs-folder", "runs", folder=tmp_path)
    folder, give_up_s = nas.runs_folder / "artifacts/teachers", time.monotonic() + 120
    # A file that is being written begins with a dot.
    while not list(folder.glob("[!.]*.checkpoint")) and time.monotonic() < give_up_s:
        time.sleep(0.1)

    process.send_signal(number)
    ended = finish(process)

    assert ended.code != 0
    assert ended.ours == ["stopped; the same command goes on from the last checkpoint"], ended
    (name,) = teachers(nas.runs_folder)
    assert torch.load(folder / name, weights_only=True)["step"] >= 200


@pytest.fixture
def second_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if torchrun had started this process beside another, and ended it at once."""
    for name, value in {
        "TORCHELASTIC_RUN_ID": "x",
        "RANK": "1",
        "WORLD_SIZE": "2",
        "LOCAL_RANK": "1",
        "LOCAL_WORLD_SIZE": "2",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torchrun_environment, "PATIENCE_S", 0.0)


@pytest.mark.usefixtures("second_of_two")
@pytest.mark.parametrize(
    "words", [("show", "first"), ("search", "first"), ("teach", "--no-such-option"), ("store", "x")]
)
def test_what_the_first_process_refuses_the_others_leave_without_a_word(
    nas: CommandLine, words: tuple[str, ...]
) -> None:
    finished = nas(*words)

    assert finished.code == 1
    assert finished.stdout + finished.stderr == ""


@pytest.mark.usefixtures("second_of_two")
@pytest.mark.parametrize("verb", ["search", "show", "quickstart"])
def test_a_verb_that_works_in_one_process_says_so_under_torchrun(
    nas: CommandLine, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    monkeypatch.setenv("RANK", "0")

    refused = nas(verb, *(["first"] if verb != "quickstart" else []))

    assert refused.error == (
        f"rank 0 of 2: torchrun started 2 processes of `nas {verb}`, which works in one; run it without torchrun "
        "(several train a teacher together: `nas teach`)"
    )
    assert not nas.runs_folder.exists()
