"""Progress of a search in a terminal: one bar with the remaining time, one line for each trial."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

import numpy as np
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from device_lab.device import Device
from device_lab.errors import DeviceLabError
from device_lab.measurement import Precision
from device_lab.protocol import Progress as MeasuringProgress
from nas.cli.console import stderr
from nas.cli.log import Log
from nas.records import Objective, Role, Score
from reports.front import non_dominated

# Reading it takes a phone a tenth of a second, between two rounds.
TEMPERATURE_EVERY_S = 10.0
MAX_FRONT = 6
# Another process takes a while to start: as many seconds, for it is told once a second.
PATIENT_WAITS = 20
_ROLE_NAMES = {
    Role.CANDIDATE: "",
    Role.SQUEEZEBERT_RULE: " (SqueezeBERT's rule)",
    Role.DENSE_TEACHER: " (dense teacher)",
}


class TerminalObserver:
    """Shows a search on standard error, and tells ``log``. See `nas.observer.Observer`.

    ``known`` are the values of trials an earlier process finished, by number.
    """

    def __init__(
        self, progress: Progress, *, num_trials: int | None, log: Log, known: Mapping[int, Mapping[Objective, float]]
    ) -> None:
        self._progress = progress
        self._log = log
        self._values = dict(known)
        self._task = progress.add_task("searching", total=num_trials)
        self._roles: dict[int, Role] = {}
        self._num_rejected = 0
        self._num_waits_in_vain = 0

    def resumed(self, num_known: int) -> None:
        """Count what an earlier process did. See `nas.observer.Observer.resumed`."""
        if num_known:
            self._say(f"resuming: {num_known} architectures are known")
        self._progress.update(self._task, completed=num_known)

    def proposed(self, number: int, role: Role) -> None:
        """Note the role of a trial. See `nas.observer.Observer.proposed`."""
        self._roles[number] = role

    def trained(self, number: int, step: int, num_steps: int) -> None:
        """Show a training step. See `nas.observer.Observer.trained`."""
        self._describe(f"trial {number}: training {step}/{num_steps}")

    def measured(self, progress: MeasuringProgress) -> None:
        """Show a round of measuring. See `nas.observer.Observer.measured`."""
        if progress.is_cooling:
            self._describe("cooling down")
        else:
            self._describe(f"timing: block {progress.num_blocks}, ±{progress.half_width:.1%}")

    def finished(self, number: int, values: dict[Objective, float], *, is_predicted: bool) -> None:
        """Print a trial's values. See `nas.observer.Observer.finished`."""
        shown = ", ".join(_value_text(objective, value) for objective, value in values.items())
        shown += " (predicted)" if is_predicted else ""
        role = _ROLE_NAMES[self._roles.get(number, Role.CANDIDATE)]
        self._say(f"trial {number:>3}: {shown}{role}")
        self._values[number] = values
        self._progress.advance(self._task)

    def failed(self, number: int, reason: str) -> None:
        """Print why a trial failed. See `nas.observer.Observer.failed`."""
        self._say(f"trial {number:>3}: failed: {reason}")
        self._progress.advance(self._task)

    def handed_over(self, number: int) -> None:
        """Say that another process times a trial. See `nas.observer.Observer.handed_over`."""
        self._say(f"trial {number:>3}: scored, waits to be timed")

    def waiting(self, *, lacking: str | None = None, unserved: Sequence[str] = ()) -> None:
        """Show that others work on the rest. See `nas.observer.Observer.waiting`."""
        self._describe("waiting for other workers")
        self._num_waits_in_vain = self._num_waits_in_vain + 1 if lacking or unserved else 0
        if self._num_waits_in_vain != PATIENT_WAITS:
            return
        if lacking is not None:
            self._say(f"waiting for somebody to {lacking}, and there is nobody: nas worker --role {lacking}")
        else:
            self._say(
                f"waiting for somebody to measure on {', '.join(unserved)}, and there is nobody: "
                "nas worker --role measure where that is attached"
            )

    def rejected(self, number: int, missed: str) -> None:
        """Note in the log which constraint a candidate misses. See `nas.observer.Observer.rejected`."""
        self._log(f"trial {number:>3}: rejected unscored: misses {missed}")
        self._num_rejected += 1
        self._describe(f"{self._num_rejected} rejected by the constraints")

    def settling(self, num_architectures: int) -> None:
        """Say that doubtful candidates are measured. See `nas.observer.Observer.settling`."""
        self._say(f"timing {num_architectures} networks that their predictions leave a place on the front")

    def refining(self, num_architectures: int, precision: Precision) -> None:
        """Say that the front is measured again. See `nas.observer.Observer.refining`."""
        self._say(f"timing {num_architectures} networks of the front again, to ±{precision.goal:.0%}")

    def promoting(self, num_architectures: int, fidelity: str) -> None:
        """Say that the best go on to the next fidelity. See `nas.observer.Observer.promoting`."""
        self._say(f"{num_architectures} networks go on to fidelity {fidelity!r}")

    def promoted(self, number: int, score: Score) -> None:
        """Print a score of the next fidelity. See `nas.observer.Observer.promoted`."""
        shown = _value_text(Objective.ACCURACY, score.interval.estimate)
        self._say(
            f"trial {number:>3}: {score.evaluator}, {shown}{_ROLE_NAMES[self._roles.get(number, Role.CANDIDATE)]}"
        )

    def _say(self, line: str) -> None:
        self._progress.console.print(line, markup=False)
        self._log(line)

    def _describe(self, text: str) -> None:
        front = current_front(self._values)
        shown = f"; front: {', '.join(map(str, front[-MAX_FRONT:]))}" if front else ""
        self._progress.update(self._task, description=escape(text + shown))


def current_front(values: Mapping[int, Mapping[Objective, float]]) -> list[int]:
    """Return the numbers of the trials nothing beats by the values so far, the best in the first objective last."""
    if not values:
        return []
    objectives = list(next(iter(values.values())))
    rows = {number: row for number, row in values.items() if list(row) == objectives}
    signs = [-1.0 if objective is Objective.ACCURACY else 1.0 for objective in objectives]
    losses = np.array([[sign * row[o] for sign, o in zip(signs, objectives, strict=True)] for row in rows.values()])
    members = [number for number, is_member in zip(rows, non_dominated(losses), strict=True) if is_member]
    return sorted(members, key=lambda number: -signs[0] * rows[number][objectives[0]])


class LaneProgress:
    """One line for one device: its temperature, the block, the half-width so far."""

    def __init__(self, progress: Progress, name: str, *, total: int) -> None:
        self._progress = progress
        self._name = name
        self._task = progress.add_task(escape(name), total=total)
        self._temperature = ""
        self._read_at_s = -math.inf

    def tell(self, text: str) -> None:
        """Show what the device is doing."""
        self._progress.update(self._task, description=escape(f"{self._name}: {text}"))

    def measured(self, progress: MeasuringProgress, device: Device) -> None:
        """Show a round of measuring; the temperature is read now and then."""
        if not self._progress.disable and progress.elapsed_s - self._read_at_s >= TEMPERATURE_EVERY_S:
            self._read_at_s = progress.elapsed_s
            self._temperature = ""
            with suppress(DeviceLabError):  # a device that is lost is found out by its next run
                celsius = device.conditions()["max_temperature_celsius"]
                self._temperature = "" if celsius == "?" else f"{celsius} \N{DEGREE SIGN}C, "
        state = "cooling down" if progress.is_cooling else f"block {progress.num_blocks}, ±{progress.half_width:.1%}"
        self._progress.update(self._task, completed=progress.num_kept)
        self.tell(self._temperature + state)


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
