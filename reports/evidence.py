"""What may be compared: one evaluator, one bench, every architecture once.

A run can hold scores of several evaluators, times from several devices and
repeats of one architecture. Numbers of different origin never share a front or
an axis, so each trial is either comparable or carries the reason why not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from device_lab.measurement import Backend, Block, DeviceInfo, Interval, RunSettings
from device_lab.timed import Timed
from device_lab.worst import worst_of
from nas.records import DeviceLatency, Objective, Role, Run, Trial, TrialState
from search_spaces.architecture import Architecture

BACKEND_LABELS = {
    Backend.DEVICE: "phone",
    Backend.HOST: "this machine (host)",
    Backend.VIRTUAL_PHONE: "virtual phone, not a phone",
    Backend.SIMULATED: "simulated, not measured",
}
SEVERAL_LABELS = {
    Backend.DEVICE: "phones",
    Backend.HOST: "machines",
    Backend.VIRTUAL_PHONE: "virtual phones",
    Backend.SIMULATED: "simulated devices",
}
EXACTLY_ONE = Interval(estimate=1.0, low=1.0, high=1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Where and how the times of a report were taken; ratios of two benches are never compared.

    ``devices`` is empty unless there are several, of which the slowest counts;
    ``device`` is then their first.
    """

    device: DeviceInfo
    settings: RunSettings
    reference_sha256: str
    devices: tuple[DeviceInfo, ...] = ()

    @property
    def label(self) -> str:
        """What a reader must know of these times, to be shown beside each of them."""
        return f"the slowest of {self.devices_label}" if self.devices else BACKEND_LABELS[self.device.backend]

    @property
    def all_devices(self) -> tuple[DeviceInfo, ...]:
        """The one device, or the several."""
        return self.devices or (self.device,)

    @property
    def devices_label(self) -> str:
        """How many devices there are, and of what kind."""
        return f"{len(self.devices)} {SEVERAL_LABELS[self.device.backend]}"

    def holds(self, measurement: Timed) -> bool:
        """Tell whether a measurement was taken here."""
        return (
            measurement.device in self.all_devices
            and measurement.settings == self.settings
            and measurement.reference_sha256 == self.reference_sha256
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRatio:
    """What a trial comes to on one of several devices: see `Evidence` for the fields."""

    device: DeviceInfo
    ratio: Interval | None
    measurement: Timed | None

    @property
    def kept(self) -> tuple[Block, ...]:
        """The blocks that count, where the samples were read; else none."""
        return self.measurement.kept if self.measurement is not None else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """A trial with its comparable numbers.

    ``ratio`` is the latency over that of SqueezeBERT's rule, from
    ``measurement``; the rule's own is 1 by definition. ``left_out`` says in one
    line why the trial is not compared, and is ``None`` if it is. ``on_devices`` is
    empty unless the run has several devices; ``ratio`` is then the worst over them,
    and ``measurement`` that of the device where it is.
    """

    trial: Trial
    accuracy: Interval | None
    ratio: Interval | None
    measurement: Timed | None
    left_out: str | None
    on_devices: tuple[DeviceRatio, ...] = ()

    @property
    def num_kept(self) -> int:
        """How many blocks of the measurement count."""
        return self.measurement.findings.num_kept if self.measurement is not None else 0

    @property
    def has_samples(self) -> bool:
        """Whether the samples of its measurement were read."""
        return self.measurement is not None and self.measurement.blocks is not None

    @property
    def kept(self) -> tuple[Block, ...]:
        """The blocks that count, where the samples were read; else none."""
        return self.measurement.kept if self.measurement is not None else ()

    def value(self, objective: Objective) -> float | None:
        """Return the estimate of ``objective``: a fraction, a ratio or a count."""
        interval = self.interval(objective)
        return interval.estimate if interval else None

    def interval(self, objective: Objective) -> Interval | None:
        """Return the estimate of ``objective`` with its bounds, which coincide for counts."""
        match objective:
            case Objective.ACCURACY:
                return self.accuracy
            case Objective.LATENCY:
                return self.ratio
            case Objective.MACS:
                return _exactly(self.trial.cost.macs)
            case Objective.PARAMETERS:
                return _exactly(self.trial.cost.parameters)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """All evidence of a run, by trial number, with what it may be compared on.

    ``objectives`` are the run's own as far as anything is known of them.
    ``notices`` are whole sentences on what is missing.
    """

    bench: Bench | None
    objectives: tuple[Objective, ...]
    notices: tuple[str, ...]
    evidence: tuple[Evidence, ...]


def gather(run: Run) -> Gathered:
    """Return what each trial of ``run`` says, and which trials may be compared on what."""
    bench = _choose_bench(run)
    numbers = [_numbers(trial, run=run, bench=bench) for trial in run.trials]
    objectives, notices = _objectives(run, numbers)
    if any(m.device.backend is Backend.QEMU for trial in run.trials for m in trial.measurements):
        notices += ("Times from an emulated processor (qemu) say nothing about a phone and are not shown.",)
    first_numbers: dict[Architecture, int] = {}
    evidence = [
        replace(
            item,
            left_out=_reason_to_leave_out(item, run=run, bench=bench, objectives=objectives, seen=first_numbers),
        )
        for item in numbers
    ]
    return Gathered(bench=bench, objectives=objectives, notices=notices, evidence=tuple(evidence))


def _choose_bench(run: Run) -> Bench | None:
    """Take the run's own device and settings where anything was timed on them, else the most used."""
    benches = Counter(
        _bench_of(measurement)
        for trial in run.trials
        for measurement in trial.measurements
        if measurement.device.backend is not Backend.QEMU
    )
    devices = run.devices or (run.device,)
    own = {bench: n for bench, n in benches.items() if bench.device in devices and bench.settings == run.settings}
    ranked = Counter(own or benches).most_common(1)
    if not ranked:
        return None
    return replace(ranked[0][0], device=run.devices[0], devices=run.devices) if run.devices else ranked[0][0]


def _bench_of(measurement: Timed) -> Bench:
    return Bench(
        device=measurement.device, settings=measurement.settings, reference_sha256=measurement.reference_sha256
    )


def _numbers(trial: Trial, *, run: Run, bench: Bench | None) -> Evidence:
    score = trial.score
    accuracy = score.interval if score is not None and score.evaluator == run.evaluator else None
    on_devices = tuple(_on_device(trial, each, bench) for each in trial.on_devices)
    measurement = _finest(trial.measurements, bench)
    if on_devices:
        taken = [each.measurement.findings for each in on_devices if each.measurement is not None]
        ratio = worst_of(taken) if len(taken) == len(on_devices) else None
    else:
        ratio = measurement.ratio if measurement is not None else None
    if trial.role is Role.SQUEEZEBERT_RULE and bench is not None:
        ratio = EXACTLY_ONE
    return Evidence(
        trial=trial, accuracy=accuracy, ratio=ratio, measurement=measurement, left_out=None, on_devices=on_devices
    )


def _on_device(trial: Trial, known: DeviceLatency, bench: Bench | None) -> DeviceRatio:
    measurement = _finest(known.measurements, bench)
    ratio = measurement.ratio if measurement is not None else None
    if trial.role is Role.SQUEEZEBERT_RULE and bench is not None:
        ratio = EXACTLY_ONE
    return DeviceRatio(device=known.device, ratio=ratio, measurement=measurement)


def _finest(measurements: Sequence[Timed], bench: Bench | None) -> Timed | None:
    """Return the last measurement on ``bench`` that gives an interval."""
    having = (each for each in reversed(measurements) if each.ratio is not None)
    return next((each for each in having if bench is not None and bench.holds(each)), None)


def _objectives(run: Run, numbers: Iterable[Evidence]) -> tuple[tuple[Objective, ...], tuple[str, ...]]:
    known = [item for item in numbers if item.trial.state is TrialState.COMPLETE]
    objectives = run.objectives
    notices: tuple[str, ...] = ()
    if Objective.ACCURACY in objectives and not any(item.accuracy for item in known):
        notices += ("No trial has an accuracy yet, so accuracy is not compared.",)
        objectives = tuple(objective for objective in objectives if objective is not Objective.ACCURACY)
    if Objective.LATENCY in objectives and not any(item.measurement for item in known):
        notices += ("No latency measurement has finished yet, so multiply-accumulates stand in for latency.",)
        replaced = (Objective.MACS if objective is Objective.LATENCY else objective for objective in objectives)
        objectives = tuple(dict.fromkeys(replaced))
    return objectives or (Objective.MACS,), notices


def _reason_to_leave_out(
    item: Evidence, *, run: Run, bench: Bench | None, objectives: tuple[Objective, ...], seen: dict[Architecture, int]
) -> str | None:
    trial = item.trial
    if trial.state is TrialState.FAILED:
        return trial.failure or "failed"
    if trial.state is TrialState.RUNNING:
        return "not finished"
    first = trial.same_as if trial.same_as is not None else seen.get(trial.architecture)
    if first is not None:
        return f"same architecture as trial {first}"
    if Objective.ACCURACY in objectives and item.accuracy is None:
        if trial.score is None:
            return "not scored"
        return f"scored by {trial.score.evaluator!r}; this report compares {run.evaluator!r}"
    if Objective.LATENCY in objectives and item.ratio is None:
        return _why_no_ratio(trial, bench)
    if trial.role is Role.CANDIDATE and (missed := missed_constraint(item, run)) is not None:
        return missed
    seen[trial.architecture] = trial.number
    return None


def missed_constraint(item: Evidence, run: Run) -> str | None:
    """Say which of the run's constraints a trial misses, or return ``None``."""
    missed = run.constraints.first_missed(
        item.trial.cost,
        latency_ratio=item.value(Objective.LATENCY),
        accuracy=item.value(Objective.ACCURACY),
    )
    return None if missed is None else f"misses a constraint: {missed}"


def _why_no_ratio(trial: Trial, bench: Bench | None) -> str:
    lacking = [each.device.device_id for each in trial.on_devices if not each.measurements]
    if 0 < len(lacking) < len(trial.on_devices):
        return f"not timed on {', '.join(lacking)}"
    here = [measurement for measurement in trial.measurements if bench is not None and bench.holds(measurement)]
    if here:
        kept, total = here[-1].findings.num_kept, here[-1].num_blocks
        return f"only {kept} of {total} blocks kept ({here[-1].reason.value})"
    elsewhere = [m for m in trial.measurements if m.device.backend is not Backend.QEMU]
    if elsewhere:
        device = elsewhere[-1].device
        return f"timed elsewhere ({BACKEND_LABELS[device.backend]}, {device.model}) or against another reference"
    if trial.predicted is not None:
        predicted = trial.predicted
        return (
            f"not timed: a ratio of {predicted.estimate:.2f} ({predicted.low:.2f}-{predicted.high:.2f}) is predicted, "
            "with which it would add next to nothing to the front"
            + (f"; less sure than it looks, for {trial.predicted_beyond}" if trial.predicted_beyond else "")
        )
    return "not timed"


def _exactly(count: int) -> Interval:
    return Interval(estimate=count, low=count, high=count)
