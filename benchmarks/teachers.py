"""Tasks and teachers that several benchmarks share: MiniLM fine-tuned on SST-2 and on TREC, kept once trained.

The task data is not part of the project: give a folder with one subfolder a
task, each with ``train.tsv`` and ``dev.tsv``.

    python -m benchmarks.teachers --data DATA --work WORK --task sst2
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from nas.artifacts import ArtifactFolder
from nas.tasks import load_task_folder
from nas.teacher import Teacher, prepare_teacher
from nas.teacher_plans import minilm_plan
from nas.tokens import TokenizedTask, tokenize_task

SEED = 0
SEQUENCE_LENGTH = 128
# One pass over SST-2, three over TREC.
TEACHER_STEPS = {"sst2": 2105, "trec": 513}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bench:
    """A task, its fine-tuned teacher, and where both keep things."""

    data: TokenizedTask
    teacher: Teacher
    artifacts: ArtifactFolder


def open_bench(task: str, *, data: Path, work: Path) -> Bench:
    """Load a task and train its teacher, or find it under ``work``."""
    artifacts = ArtifactFolder(work / "artifacts")
    tokenized = tokenize_task(load_task_folder(data / task), sequence_length=SEQUENCE_LENGTH)
    teacher = prepare_teacher(
        tokenized,
        minilm_plan(num_steps=TEACHER_STEPS[task]),
        artifacts=artifacts,
        seed=SEED,
        device="cpu",
        on_step=_report,
    )
    return Bench(data=tokenized, teacher=teacher, artifacts=artifacts)


def bench_arguments(description: str, *, is_required: bool = True) -> argparse.ArgumentParser:
    """Return a parser that knows where the data is and where to keep things."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", type=Path, required=is_required, help="folder with one subfolder a task")
    parser.add_argument("--work", type=Path, required=is_required, help="folder for teachers and results")
    return parser


def _report(step: int, num_steps: int) -> None:
    if step % 100 == 0 or step == num_steps:
        print(f"teacher: step {step} of {num_steps}", file=sys.stderr)


def main() -> None:
    parser = bench_arguments("Train a teacher and print its dev metrics.")
    parser.add_argument("--task", choices=TEACHER_STEPS, required=True)
    arguments = parser.parse_args()
    bench = open_bench(arguments.task, data=arguments.data, work=arguments.work)
    print(f"{arguments.task}: teacher {bench.teacher.teacher_id} {dict(bench.teacher.dev_metrics)}")


if __name__ == "__main__":
    main()
