"""What a user demands of every candidate, and by how much one falls short of it."""

from __future__ import annotations

from dataclasses import dataclass, fields

from nas.cost import Cost

# A weight is a float32.
BYTES_PER_PARAMETER = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraints:
    """Bounds on candidates; ``None`` leaves a number free.

    ``max_latency_ratio`` is to SqueezeBERT's rule; ``max_model_mb`` counts
    10^6 bytes of float32 weights; ``min_accuracy`` is a fraction, of whatever
    metric the task has.
    """

    max_latency_ratio: float | None = None
    max_parameters: int | None = None
    max_model_mb: float | None = None
    min_accuracy: float | None = None

    def __bool__(self) -> bool:
        """Tell whether anything is demanded."""
        return any(getattr(self, field.name) is not None for field in fields(self))

    def violations(
        self, cost: Cost, *, latency_ratio: float | None = None, accuracy: float | None = None
    ) -> dict[str, float]:
        """Return by how much each bound is missed, as a share of it, for those whose number is known.

        Returns:
            Name of the bound to its violation: positive if it is missed, zero or negative if it is kept.
        """
        values = {
            "max_latency_ratio": latency_ratio,
            "max_parameters": float(cost.parameters),
            "max_model_mb": model_mb(cost),
            "min_accuracy": accuracy,
        }
        found = {}
        for name, value in values.items():
            bound = getattr(self, name)
            if bound is not None and value is not None:
                excess = value - bound if name.startswith("max_") else bound - value
                found[name] = excess / bound
        return found

    def first_missed(
        self, cost: Cost, *, latency_ratio: float | None = None, accuracy: float | None = None
    ) -> str | None:
        """Say in one line which bound is missed, or return ``None``."""
        values = {
            "max_latency_ratio": f"a latency ratio of {latency_ratio or 0:.3g}",
            "max_parameters": f"{cost.parameters:,} parameters",
            "max_model_mb": f"{model_mb(cost):.3g} MB of weights",
            "min_accuracy": f"a score of {accuracy or 0:.4g}",
        }
        for name, missed in self.violations(cost, latency_ratio=latency_ratio, accuracy=accuracy).items():
            if missed > 0:
                return f"{values[name]} against {self.show(name)}"
        return None

    def show(self, name: str) -> str:
        """Return a bound as its option is written."""
        return f"--{name.replace('_', '-')} {getattr(self, name)}"


def model_mb(cost: Cost) -> float:
    """Return the size of the weights in 10^6 bytes."""
    return cost.parameters * BYTES_PER_PARAMETER / 1e6
