"""A measurement without its samples: a median for each process says all of its ratio, in a hundredth of the room.

A run of ten thousand networks has a million blocks, of which nobody looks at
more than a few; the statistics are still computed from what every process took.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import numpy as np

from device_lab.measurement import (
    Block,
    Conditions,
    DeviceInfo,
    Interval,
    Measurement,
    Precision,
    Reason,
    RunSettings,
)
from device_lab.statistics import (
    Findings,
    Floats,
    block_medians_ns,
    candidate_runs,
    find,
    kept_blocks,
    percentiles_ms,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Digest:
    """What is kept of all samples of a measurement beside them.

    ``medians_ns`` are float64 (n, 3) as bytes, see `block_medians_ns`.
    ``percentiles_ms`` are p50, p90 and p99 of the candidate over the blocks that
    count, or ``None`` if none does.
    """

    medians_ns: bytes
    percentiles_ms: tuple[float, float, float] | None

    def to_json(self) -> str:
        """Return the digest as a JSON document."""
        return json.dumps({"medians_ns": _array(self.medians_ns).tolist(), "percentiles_ms": self.percentiles_ms})

    @classmethod
    def from_json(cls, text: str) -> Digest:
        """Rebuild a digest from `to_json` output."""
        document = json.loads(text)
        percentiles = document["percentiles_ms"]
        return cls(
            medians_ns=np.array(document["medians_ns"], dtype=np.float64).tobytes(),
            percentiles_ms=None if percentiles is None else tuple(percentiles),
        )


def digest(blocks: tuple[Block, ...]) -> Digest:
    """Return what is kept of blocks beside their samples."""
    runs = candidate_runs(kept_blocks(blocks))
    percentiles = percentiles_ms(runs, generator=np.random.default_rng(0), num_resamples=0) if runs else None
    return Digest(
        medians_ns=block_medians_ns(blocks).tobytes(),
        percentiles_ms=None
        if percentiles is None
        else (percentiles.p50.estimate, percentiles.p90.estimate, percentiles.p99.estimate),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """A finished measurement with what its blocks say; the fields of `Measurement` mean the same here.

    ``findings`` are computed from ``digest`` alone. ``blocks`` hold the samples
    where they were read, and are ``None`` where they were left in the store,
    which has them under ``key``.
    """

    device: DeviceInfo
    settings: RunSettings
    precision: Precision
    model_sha256: str
    reference_sha256: str
    reason: Reason
    num_cooldowns: int
    conditions_before: Conditions
    conditions_after: Conditions
    digest: Digest
    blocks: tuple[Block, ...] | None = None
    key: str = ""
    findings: Findings = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "findings", find(_array(self.digest.medians_ns)))

    @property
    def ratio(self) -> Interval | None:
        """The ratio of candidate to reference, ``None`` if fewer than two blocks were kept."""
        return self.findings.ratio

    @property
    def num_blocks(self) -> int:
        """How many blocks there are, dropped ones included."""
        return len(self.findings.is_kept)

    @property
    def kept(self) -> tuple[Block, ...]:
        """The blocks that count, where samples were read; else none."""
        pairs = zip(self.blocks or (), self.findings.is_kept.tolist(), strict=self.blocks is not None)
        return tuple(block for block, is_kept in pairs if is_kept)


def timed(measurement: Measurement) -> Timed:
    """Return a measurement with what its blocks say, its samples included."""
    return Timed(
        device=measurement.device,
        settings=measurement.settings,
        precision=measurement.precision,
        model_sha256=measurement.model_sha256,
        reference_sha256=measurement.reference_sha256,
        reason=measurement.reason,
        num_cooldowns=measurement.num_cooldowns,
        conditions_before=measurement.conditions_before,
        conditions_after=measurement.conditions_after,
        digest=digest(measurement.blocks),
        blocks=measurement.blocks,
    )


def _array(medians_ns: bytes) -> Floats:
    medians: Floats = np.frombuffer(medians_ns, dtype=np.float64).reshape(-1, 3)
    return medians
