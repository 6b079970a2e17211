"""Faults to order: what goes wrong, where, after how many bytes, how often."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Stage(StrEnum):
    """What the host is doing when a fault strikes."""

    CONNECT = "connect"
    SHELL = "shell"
    PUSH = "push"
    PULL = "pull"


class Kind(StrEnum):
    """What goes wrong."""

    CLOSE = "close"  # the connection is closed in order
    RESET = "reset"  # the connection is reset
    STALL = "stall"  # nothing is read or written any more
    CORRUPT = "corrupt"  # a packet arrives with a wrong checksum
    REFUSE = "refuse"  # the service is not opened
    FULL = "full"  # the disk is full


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault. ``after_bytes`` counts both directions, from the start of the stage."""

    kind: Kind
    stage: Stage
    after_bytes: int = 0
    times: int = 1


class FaultBoard:
    """The faults a phone has still to show, over all its connections."""

    def __init__(self) -> None:
        self._waiting: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Have ``fault`` strike the next ``fault.times`` occasions."""
        self._waiting.extend([fault] * fault.times)

    def clear(self) -> None:
        """Forget every fault that did not strike yet."""
        self._waiting.clear()

    def take(self, *stages: Stage, refusal: bool = False) -> Fault | None:
        """Return the next fault for one of ``stages`` and forget it, or ``None``.

        Refusals strike when a service is opened, all others when it has begun.
        """
        for fault in self._waiting:
            if fault.stage in stages and (fault.kind is Kind.REFUSE) is refusal:
                self._waiting.remove(fault)
                return fault
        return None
