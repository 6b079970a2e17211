"""Where the time of a model goes: shares of a profile, by kind of operator and by position.

A profile reads a clock around every operator. Its times are longer than those of
an inference left alone, so nothing here is a latency; shares are what it is for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from device_lab.measurement import Backend
from nas.records import ModelProfile, OperatorCost, Run

CAVEAT = (
    "A profile reads a clock around every operator, which slows a model down: its milliseconds are no latency, and may "
    "be held against those of another profile only."
)
OTHER = "other"
MAX_KINDS = 7
"""As many kinds have a colour of their own; the rest share one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What belongs to one name of a profile. ``share`` is of all operators, 0.1 for 10 %; the rest per inference."""

    name: str
    share: float
    time_ms: float
    num_calls: float


def by_kind(profile: ModelProfile, kinds: Iterable[str] = ()) -> tuple[Part, ...]:
    """Return the parts of a profile by kind of operator, the most expensive first.

    Args:
        profile: The profile.
        kinds: Those to tell apart, if not all: the rest is one part, `OTHER`, at the end.
    """
    told_apart = set(kinds)
    return _parts(
        profile, [cost.kind if not told_apart or cost.kind in told_apart else OTHER for cost in profile.operators]
    )


def by_position(profile: ModelProfile) -> tuple[Part, ...]:
    """Return the parts of a profile by what operators are for; nothing where the engine does not tell."""
    if not any(cost.position for cost in profile.operators):
        return ()
    return _parts(profile, [cost.position or OTHER for cost in profile.operators])


def profile_of(run: Run, arch_id: str) -> ModelProfile | None:
    """Return the profile of a network on the run's device; none from an emulated processor, whose times say nothing."""
    profile = run.profiles.get(arch_id)
    return None if profile is None or profile.device.backend is Backend.QEMU else profile


def shown_kinds(profiles: Iterable[ModelProfile]) -> tuple[str, ...]:
    """Return the kinds that take most time over some profiles, each an equal voice: one order for all their bars."""
    shares: dict[str, float] = {}
    for profile in profiles:
        for part in by_kind(profile):
            shares[part.name] = shares.get(part.name, 0.0) + part.share
    return tuple(sorted(shares, key=lambda kind: -shares[kind])[:MAX_KINDS])


def total_ms(profile: ModelProfile) -> float:
    """Return the time of all operators of one inference."""
    return sum(cost.time_ns for cost in profile.operators) / 1e6


def source(profile: ModelProfile) -> str:
    """Return where and how a profile was taken, in one line."""
    device, settings = profile.device, profile.settings
    return (
        f"{device.device_id} ({device.backend.value}), {settings.runtime} {settings.runtime_version}, "
        f"{settings.num_threads} thread(s), {settings.sequence_length} tokens, {profile.num_runs} inferences "
        f"in {profile.num_processes} processes, "
        f"{profile.taken_at}"
    )


def _parts(profile: ModelProfile, names: list[str]) -> tuple[Part, ...]:
    costs: dict[str, list[OperatorCost]] = {}
    for name, cost in zip(names, profile.operators, strict=True):
        costs.setdefault(name, []).append(cost)
    # An engine whose clock is too coarse for a tiny model gives no time at all.
    total_ns = sum(cost.time_ns for cost in profile.operators) or 1.0
    parts = [
        Part(
            name=name,
            share=sum(cost.time_ns for cost in own) / total_ns,
            time_ms=sum(cost.time_ns for cost in own) / 1e6,
            num_calls=sum(cost.num_calls for cost in own),
        )
        for name, own in costs.items()
    ]
    return tuple(sorted(parts, key=lambda part: (part.name == OTHER, -part.share)))
