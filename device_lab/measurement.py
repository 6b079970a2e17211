"""What a measurement is: raw samples of fresh processes, and where they were taken.

Everything here is plain data. Statistics are computed from it by
`device_lab.statistics` and never stored in place of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

UNREADABLE = "?"
"""A reading that a device does not give."""


class Backend(StrEnum):
    """Where a time was taken. A report never puts two of these on one axis."""

    DEVICE = "device"
    HOST = "host"
    VIRTUAL_PHONE = "virtual-phone"
    QEMU = "qemu"
    SIMULATED = "simulated"


class Reason(StrEnum):
    """Why a measurement ended: its goal was met, or what kept it from that."""

    GOAL_MET = "goal_met"
    THERMAL = "thermal"
    NOISY_REFERENCE = "noisy_reference"
    BUDGET = "budget"
    DISCONNECTED = "disconnected"
    OUT_OF_MEMORY = "out_of_memory"


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An estimate with its bounds. ``level`` is the nominal coverage, 0.95 for 95 %."""

    estimate: float
    low: float
    high: float
    level: float = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceInfo:
    """One device. ``device_id`` is ``ro.serialno`` of a phone, or a stable name of this machine."""

    device_id: str
    backend: Backend
    model: str
    soc: str
    os_version: str
    abi: str
    num_cores: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What was in force on a device at one moment. An unreadable item is ``"?"``, never zero."""

    taken_at: str
    readings: tuple[tuple[str, str], ...]

    def __getitem__(self, name: str) -> str:
        """Return the reading called ``name``, or ``"?"``."""
        return dict(self.readings).get(name, UNREADABLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """How narrow the interval of a ratio has to be, and how often to look.

    ``goal`` is the half-width of the 95 % interval of the log ratio (0.02 for
    2 %). ``looks`` are the numbers of kept blocks after which to look;
    the last one ends the measurement. Every process times at least
    ``min_runs`` inferences and at least ``min_timed_s`` seconds, after a warm-up
    that ends at ``max_warmup_s`` even if the times have not settled.
    """

    name: str
    goal: float
    looks: tuple[int, ...]
    min_timed_s: float
    min_runs: int = 20
    max_warmup_s: float = 8.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """What a latency belongs to besides the model and the device."""

    runtime: str
    runtime_version: str
    num_threads: int
    sequence_length: int
    batch_size: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """A model on this machine's disk, with what a right answer looks like.

    ``expected_output`` are the logits, in order, that ``answered_by`` gives for the
    deterministic input of `device_lab.runner.contract`; a run whose output
    differs by more than 1e-4 is an error, never a latency. ``token_limit`` is
    one more than the largest token id that input may hold. ``checked_here_by``
    names the engine that computed those logits from this very file on this
    machine, or is "": only then may a program run it that prints no answer.
    """

    path: Path
    sha256: str
    sequence_length: int
    batch_size: int
    token_limit: int
    expected_output: tuple[float, ...]
    checked_here_by: str = ""
    answered_by: str = "torch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a program printed in place of raw samples: the ``median`` or ``average`` of ``num_runs`` inferences."""

    statistic: str
    num_runs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessRun:
    """One fresh process: warm-up, then timed inferences.

    ``samples_ns`` are wall-clock times of single inferences in the order run,
    by a monotonic clock on the device; where ``summary`` is there, the one number
    it describes. ``cpu_ns`` and ``wall_ns`` cover the
    timed part, so their ratio is the number of busy cores; ``cpu_ns`` is ``None``
    where the program does not tell. ``num_threads`` was read back from the process, not asked for.
    ``output_checked_here`` says that the process printed no answer: the file it
    ran was held against torch on this machine instead. ``peak_rss_bytes`` is the
    peak of the whole process, runner and engine included, as the kernel keeps
    it anyway; ``None`` where the program does not tell.
    """

    run_id: str
    samples_ns: tuple[int, ...]
    num_warmup_runs: int
    num_threads: int
    wall_ns: int
    cpu_ns: int | None
    summary: Summary | None = None
    output_checked_here: bool = False
    peak_rss_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One candidate run between two runs of the reference, which other blocks may share."""

    index: int
    reference_before: ProcessRun
    candidate: ProcessRun
    reference_after: ProcessRun


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """All blocks of one candidate against one reference, in one session on one device.

    Dropped blocks stay in ``blocks``; `device_lab.statistics` decides from the
    samples which they are. ``num_cooldowns`` counts the pauses of the heat gate.
    """

    device: DeviceInfo
    settings: RunSettings
    precision: Precision
    model_sha256: str
    reference_sha256: str
    blocks: tuple[Block, ...]
    reason: Reason
    num_cooldowns: int
    conditions_before: Conditions
    conditions_after: Conditions
