"""What the store keeps and the reports read, as plain values.

No engine here: `nas.store` fills these from its tables, `nas.search` makes
them, `reports` turns them into pages. None of them computes anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from device_lab.measurement import DeviceInfo, Interval, Measurement, RunSettings
from device_lab.qualification import Qualification
from device_lab.timed import Timed
from nas.constraints import Constraints
from nas.cost import Cost
from search_spaces.architecture import Architecture


class Objective(StrEnum):
    """What a search may optimise. Accuracy is maximised, everything else minimised."""

    ACCURACY = "accuracy"
    LATENCY = "latency"
    MACS = "macs"
    PARAMETERS = "parameters"


class LatencyMode(StrEnum):
    """Where a search's latencies come from: all measured, those of the front, or those that decide the front."""

    MEASURED = "measured"
    PREDICTED = "predicted"
    HYBRID = "hybrid"


class Role(StrEnum):
    """Why a trial is in a run."""

    CANDIDATE = "candidate"
    SQUEEZEBERT_RULE = "squeezebert-rule"
    DENSE_TEACHER = "dense-teacher"


class TrialState(StrEnum):
    """How far a trial came."""

    RUNNING = "running"
    COMPLETE = "complete"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """How well an architecture does a task.

    ``value`` is the task's first metric as a fraction (0.89 for 89 %), with a
    95 % bootstrap interval over the dev examples in ``interval``. Over several
    tasks it is the mean of their first metrics, and has no weights of its own:
    each task's own score is kept beside it.
    ``evaluator`` names the method and so the fidelity; scores of two
    evaluators are never compared. ``metrics`` holds all metrics of the task by
    name. ``weights_sha256`` names the trained weights in the artifact folder.
    ``teacher_divergence`` is the mean divergence of its answers from the
    teacher's (squared distance for regression): smoother than a count of hits.
    ``outcomes`` tells which dev examples were answered rightly, see
    `nas.outcomes`; ``None`` where the first metric is no accuracy, of means over
    tasks, and of scores that were taken before it was kept.
    """

    task: str
    metric: str
    evaluator: str
    interval: Interval
    metrics: tuple[tuple[str, float], ...]
    num_examples: int
    duration_s: float
    weights_sha256: str | None
    teacher_divergence: float | None = None
    outcomes: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceLatency:
    """What is known of an architecture on one of several devices; see `Trial` for the fields."""

    device: DeviceInfo
    measurements: tuple[Timed, ...]
    predicted: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One architecture a run proposed, with all that is known of it.

    ``number`` is Optuna's. ``same_as`` is the number of the earlier trial with
    the same architecture when this one was answered from the store.
    ``failure`` is the reason in one line if ``state`` is FAILED. ``score`` is
    that of the highest fidelity the architecture has reached.
    ``measurements`` all have an interval, the narrowest last. ``predicted`` is
    the latency ratio of one that has none, with the interval a measurement would
    lie in, where the run predicts; ``predicted_beyond`` says in what the
    architecture lies outside of all that was measured, or is "".

    Of a run on several devices ``on_devices`` has what is known on each, in the
    run's order; otherwise it is empty. ``measurements`` are then those of the
    device where the ratio is greatest, once all have one, and ``predicted`` is
    the greatest over them.
    """

    number: int
    state: TrialState
    role: Role
    architecture: Architecture
    cost: Cost
    score: Score | None
    measurements: tuple[Timed, ...]
    same_as: int | None
    failure: str | None
    duration_s: float | None
    predicted: Interval | None = None
    predicted_beyond: str = ""
    on_devices: tuple[DeviceLatency, ...] = ()

    @property
    def all_measurements(self) -> tuple[Timed, ...]:
        """Those on all devices."""
        return tuple(each for known in self.on_devices for each in known.measurements) or self.measurements


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorCost:
    """What the operators of one kind at one position of a network take together, per inference.

    ``kind`` is the engine's name for them. ``position`` says what they are for
    (``query``, ``FFN in``, ``attention``), and is "" where the engine does not tell.
    """

    kind: str
    position: str
    num_calls: float
    time_ns: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelProfile:
    """Where the time of one network goes on one device.

    Taken over ``num_runs`` inferences in ``num_processes`` fresh processes, with a
    clock read around every operator: its times are no latency, and are compared
    with none.
    """

    device: DeviceInfo
    settings: RunSettings
    taken_at: str
    num_processes: int
    num_runs: int
    pocketbert_version: str
    operators: tuple[OperatorCost, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A search run: its settings, where it was timed, and its trials by number.

    ``evaluator`` is the fidelity of the run's front: the highest that a
    candidate has reached. ``profiles`` are those taken on ``device`` under
    ``settings``, by ``arch_id``. ``constraints`` are what candidates had to keep.
    ``devices`` is empty unless there are several; ``device`` is then their first.
    ``task_sha256`` is of the task's data, of several with commas; empty where nobody knows.
    """

    name: str
    space: str
    task: str
    objectives: tuple[Objective, ...]
    sampler: str
    evaluator: str
    seed: int
    teacher: str
    created_at: str
    versions: tuple[tuple[str, str], ...]
    device: DeviceInfo | None
    settings: RunSettings | None
    trials: tuple[Trial, ...]
    profiles: Mapping[str, ModelProfile] = field(default_factory=dict)
    constraints: Constraints = field(default_factory=Constraints)
    devices: tuple[DeviceInfo, ...] = ()
    task_sha256: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceResults:
    """All that was timed on one device under the same settings against the same reference.

    ``reference`` and the first of each of ``measurements`` are names of
    architectures; the finest measurement of each is there, of the newest where
    there are very many: ``num_older`` architectures are left out. ``certificate``
    is the newest one, or ``None``.
    """

    device: DeviceInfo
    settings: RunSettings
    reference: str
    certificate: Qualification | None
    measurements: tuple[tuple[str, Measurement], ...]
    num_older: int = 0
