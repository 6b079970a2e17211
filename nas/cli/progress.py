"""Progress of a search in a terminal: one bar with the remaining time, one line for each trial."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from device_lab.measurement import Precision
from device_lab.protocol import Progress as MeasuringProgress
from nas.cli.console import stderr
from nas.records import Objective, Role

_ROLE_NAMES = {
    Role.CANDIDATE: "",
    Role.SQUEEZEBERT_RULE: " (SqueezeBERT's rule)",
    Role.DENSE_TEACHER: " (dense teacher)",
}


class TerminalObserver:
    """Shows a search on standard error. See `nas.search.Observer`."""

    def __init__(self, progress: Progress, *, num_trials: int) -> None:
        self._progress = progress
        self._task = progress.add_task("searching", total=num_trials)
        self._roles: dict[int, Role] = {}

    def resumed(self, num_known: int) -> None:
        """Count what an earlier process did. See `nas.search.Observer.resumed`."""
        if num_known:
            self._progress.console.print(f"resuming: {num_known} architectures are known", markup=False)
        self._progress.update(self._task, completed=num_known)

    def proposed(self, number: int, role: Role) -> None:
        """Note the role of a trial. See `nas.search.Observer.proposed`."""
        self._roles[number] = role

    def trained(self, number: int, step: int, num_steps: int) -> None:
        """Show a training step. See `nas.search.Observer.trained`."""
        self._describe(f"trial {number}: training {step}/{num_steps}")

    def measured(self, progress: MeasuringProgress) -> None:
        """Show a round of measuring. See `nas.search.Observer.measured`."""
        if progress.is_cooling:
            self._describe("cooling down")
        else:
            self._describe(f"timing: block {progress.num_blocks}, ±{progress.half_width:.1%}")

    def finished(self, number: int, values: dict[Objective, float]) -> None:
        """Print a trial's values. See `nas.search.Observer.finished`."""
        shown = ", ".join(_value_text(objective, value) for objective, value in values.items())
        role = _ROLE_NAMES[self._roles.get(number, Role.CANDIDATE)]
        self._progress.console.print(f"trial {number:>3}: {shown}{role}", markup=False)
        self._progress.advance(self._task)

    def failed(self, number: int, reason: str) -> None:
        """Print why a trial failed. See `nas.search.Observer.failed`."""
        self._progress.console.print(f"trial {number:>3}: failed: {reason}", markup=False)
        self._progress.advance(self._task)

    def refining(self, num_architectures: int, precision: Precision) -> None:
        """Say that the front is measured again. See `nas.search.Observer.refining`."""
        self._progress.console.print(
            f"timing {num_architectures} networks of the front again, to ±{precision.goal:.0%}", markup=False
        )

    def _describe(self, text: str) -> None:
        self._progress.update(self._task, description=escape(text))


@contextmanager
def show_progress() -> Iterator[Progress]:
    """Draw bars on standard error while the block runs; only lines where that is no terminal."""
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=stderr,
        transient=True,
        disable=not stderr.is_terminal,
    )
    with progress:
        yield progress


def _value_text(objective: Objective, value: float) -> str:
    match objective:
        case Objective.ACCURACY:
            return f"accuracy {value:.1%}"
        case Objective.LATENCY:
            return f"latency {value:.2f}x SqueezeBERT's rule"
        case Objective.MACS:
            return f"{value / 1e6:.1f} MMACs"
        case Objective.PARAMETERS:
            return f"{value / 1e6:.2f} M parameters"
