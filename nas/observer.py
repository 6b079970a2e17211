"""The seam between a search and whoever watches it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from device_lab.measurement import Precision
from device_lab.protocol import Progress
from nas.records import Objective, Role, Score


class Observer(Protocol):
    """Hears how a search goes on."""

    def resumed(self, num_known: int) -> None:
        """The run was opened; it has this many architectures already."""
        ...

    def proposed(self, number: int, role: Role) -> None:
        """A trial got its architecture."""
        ...

    def trained(self, number: int, step: int, num_steps: int) -> None:
        """A step of a trial's training is done."""
        ...

    def measured(self, progress: Progress) -> None:
        """A round of measuring is done."""
        ...

    def finished(self, number: int, values: dict[Objective, float], *, is_predicted: bool) -> None:
        """A trial has its values; its latency may be predicted."""
        ...

    def failed(self, number: int, reason: str) -> None:
        """A trial failed; the search goes on."""
        ...

    def handed_over(self, number: int) -> None:
        """A trial has its score; its latency is measured by another process."""
        ...

    def waiting(self, *, lacking: str | None = None, unserved: Sequence[str] = ()) -> None:
        """Others have to do the rest; told again and again meanwhile.

        ``lacking`` is a role that none of them has, ``unserved`` are devices that none of them has.
        """
        ...

    def rejected(self, number: int, missed: str) -> None:
        """A trial's architecture misses constraints; nothing is spent on it."""
        ...

    def settling(self, num_architectures: int) -> None:
        """Candidates are about to be measured that may be on the front by their predictions."""
        ...

    def refining(self, num_architectures: int, precision: Precision) -> None:
        """The members of the front are about to be measured again, more precisely."""
        ...

    def promoting(self, num_architectures: int, fidelity: str) -> None:
        """Candidates are about to be scored at the next fidelity."""
        ...

    def promoted(self, number: int, score: Score) -> None:
        """A trial's architecture has its score at the next fidelity."""
        ...
