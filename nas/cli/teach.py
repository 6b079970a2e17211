"""``nas teach``: train a teacher ahead of a search, in one process or in several that torchrun started."""

from __future__ import annotations

from typing import Annotated

import typer

from nas.cli.console import print_json, stderr, stdout
from nas.cli.defaults import from_file
from nas.cli.options import (
    DEFAULT_RUNS_FOLDER,
    Artifacts,
    AsJson,
    RunsFolder,
    Task,
    TaskFolder,
    TeacherName,
    TeacherSteps,
    TokensPerExample,
    TrainDevice,
)
from nas.cli.torchrun import STOPPED_EXIT_CODE


def teach(
    context: typer.Context,
    *,
    task: Task = None,
    task_dir: TaskFolder = None,
    tasks: Annotated[
        str | None, typer.Option(help="several tasks, a teacher for each; --task-dir then holds a folder for each")
    ] = None,
    teacher: TeacherName = None,
    teacher_steps: TeacherSteps = None,
    seed: Annotated[int | None, typer.Option(help="seed of the training [default: 0]")] = None,
    sequence_length: TokensPerExample = None,
    train_device: TrainDevice = "cpu",
    compiled: Annotated[bool, typer.Option("--compile", help="train through torch.compile")] = False,
    runs_folder: RunsFolder = DEFAULT_RUNS_FOLDER,
    artifacts: Artifacts = None,
    as_json: AsJson = False,
) -> None:
    """Train the teacher of a search and keep it; `nas search` with the same options finds it.

    Several processes, one for each GPU with --train-device cuda, share out every
    batch: torchrun --nproc-per-node 2 --no-python nas teach --teacher minilm.
    Ctrl-C stops it; the same command goes on from the last checkpoint.

    Example: nas teach --teacher minilm --task sst2
    """
    flags = {
        "task": task,
        "task_dir": str(task_dir.resolve()) if task_dir else None,
        "tasks": tasks,
        "teacher": teacher,
        "teacher_steps": teacher_steps,
        "seed": seed,
        "sequence_length": sequence_length,
    }
    given = {name: value for name, value in flags.items() if value is not None}
    defaults = {name: given.pop(name) for name in list(given) if name in from_file(context)}
    try:
        # To import torch takes seconds, in which Ctrl-C is as likely as later.
        from nas.cli.assembly import Workplace, prepare_teachers
        from nas.cli.joining import joined_processes
        from nas.cli.progress import show_progress
        from nas.cli.requests import new_request
        from nas.cli.stores import open_artifacts

        with joined_processes(train_device) as processes, show_progress() as progress:
            workplace = Workplace(
                artifacts=open_artifacts(runs_folder=runs_folder, shared=artifacts),
                train_device=train_device,
                compiled=compiled,
            )
            bar = progress.add_task("teacher", total=None)
            prepared = [
                made
                for _, made in prepare_teachers(
                    new_request(given, defaults),
                    workplace=workplace,
                    processes=processes,
                    on_step=lambda step, num_steps: progress.update(
                        bar, description="training the teacher", completed=step, total=num_steps
                    ),
                )
            ]
    except KeyboardInterrupt:
        stderr.print("stopped; the same command goes on from the last checkpoint", markup=False)
        raise typer.Exit(STOPPED_EXIT_CODE) from None
    if as_json:
        print_json(
            [
                {
                    "task": made.task,
                    "teacher_id": made.teacher_id,
                    "origin": made.origin,
                    "dev_metrics": dict(made.dev_metrics),
                    "file": str(workplace.artifacts.teacher_file(made.teacher_id)),
                }
                for made in prepared
            ]
        )
        return
    for made in prepared:
        metrics = ", ".join(f"{name} {value:.3f}" for name, value in made.dev_metrics)
        stdout.print(f"{made.task}: teacher {made.teacher_id} from {made.origin}, {metrics}")
    stderr.print("next: nas search RUN with the same options, which trains no teacher", markup=False)
