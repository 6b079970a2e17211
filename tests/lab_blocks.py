"""Blocks of chosen numbers, for tests of what is computed from them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from device_lab.measurement import Block, Conditions, Measurement, ProcessRun, Reason, RunSettings
from device_lab.simulation import SimulatedDevice
from device_lab.statistics import PRECISIONS

_ids = itertools.count()


def process(*samples_ns: int, num_threads: int = 1, cpu_ns: int | None = None) -> ProcessRun:
    """One process with these samples and an id of its own."""
    wall_ns = sum(samples_ns)
    return ProcessRun(
        run_id=f"run-{next(_ids)}",
        samples_ns=samples_ns,
        num_warmup_runs=30,
        num_threads=num_threads,
        wall_ns=wall_ns,
        cpu_ns=wall_ns if cpu_ns is None else cpu_ns,
    )


def chain(references_ns: list[int], candidates_ns: list[int]) -> list[Block]:
    """R C R C R ...: consecutive blocks share the reference between them, as in a session."""
    references = [process(time_ns) for time_ns in references_ns]
    return [
        Block(index=i, reference_before=references[i], candidate=process(time_ns), reference_after=references[i + 1])
        for i, time_ns in enumerate(candidates_ns)
    ]


def measured(blocks: Sequence[Block]) -> Measurement:
    """A measurement of these blocks at normal precision."""
    unread = Conditions(taken_at="", readings=())
    return Measurement(
        device=SimulatedDevice.info,
        settings=RunSettings(runtime="simulated", runtime_version="1", num_threads=1, sequence_length=64),
        precision=PRECISIONS["normal"],
        model_sha256="candidate",
        reference_sha256="reference",
        blocks=tuple(blocks),
        reason=Reason.GOAL_MET,
        num_cooldowns=0,
        conditions_before=unread,
        conditions_after=unread,
    )
