"""Options that several verbs share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperCommand

DEFAULT_RUNS_FOLDER = Path("runs")


def complete_run(context: typer.Context, incomplete: str) -> list[str]:
    """Return the runs a shell may complete a half-typed name to."""
    folder = Path(context.params.get("runs_folder") or DEFAULT_RUNS_FOLDER)
    return sorted(path.parent.name for path in folder.glob("*/store.db") if path.parent.name.startswith(incomplete))


RunName = Annotated[str, typer.Argument(help="name of the run", autocompletion=complete_run)]
RunsFolder = Annotated[Path, typer.Option(help="folder that holds the runs")]
Storage = Annotated[str | None, typer.Option(help="SQLAlchemy URL of a shared store instead of the run's own file")]
Artifacts = Annotated[
    str | None,
    typer.Option(help="folder or s3://BUCKET/PREFIX where several machines share teachers and weights"),
]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]

Task = Annotated[str | None, typer.Option(help="embedded-subj, or a GLUE task [default: embedded-subj]")]
TaskFolder = Annotated[Path | None, typer.Option(help="folder with train.tsv and dev.tsv")]
TeacherName = Annotated[
    str | None, typer.Option(help="small, minilm, a checkpoint folder, or hub:OWNER/NAME [default: small]")
]
TeacherSteps = Annotated[
    int | None, typer.Option(min=0, help="training steps of the teacher; 0 for one that is fine-tuned already")
]
TokensPerExample = Annotated[int | None, typer.Option(min=4, max=512, help="tokens per example [default: 128]")]
TrainDevice = Annotated[str, typer.Option(help="where to train: cpu or cuda")]

Runtime = Annotated[str, typer.Option(help="what executes the models: onnxruntime, executorch or litert")]
Threads = Annotated[int, typer.Option(min=1, help="threads of the runtime")]
SequenceLength = Annotated[int, typer.Option(min=1, max=512, help="tokens per sequence")]
NumVirtual = Annotated[
    int,
    typer.Option(
        "--virtual",
        min=0,
        metavar="[INTEGER]",
        help="start this many virtual phones, one without a number, and use them",
    ),
]
Runner = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        dir_okay=False,
        help="your own program for the device, with our JSON contract (also what `nas runner build --toolchain ndk` "
        "built), or LiteRT's benchmark_model",
    ),
]
BudgetMinutes = Annotated[float | None, typer.Option(min=0, help="end after this long; the same command goes on")]


class Verb(TyperCommand):
    """A command whose ``--virtual`` may stand without a number; Typer itself has no such option."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Parse the words after the verb."""
        return super().parse_args(ctx, list(_with_numbers(args)))


def _with_numbers(words: Sequence[str]) -> Iterator[str]:
    for word, following in zip_longest(words, words[1:], fillvalue=""):
        yield word
        if word == "--virtual" and not following.isdecimal():
            yield "1"
