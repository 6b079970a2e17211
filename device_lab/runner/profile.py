"""What a runner prints with ``--mode profile``: the time of each operator.

A pass of its own, because reading the clock around every operator slows the model down.
The runner of LiteRT has none.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Self

from device_lab.errors import RunnerOutputError
from device_lab.runner.contract import CONTRACT_VERSION

PROFILE_WORDS = ("--mode", "profile")
"""What follows the arguments of a run to have it profiled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorTime:
    """One operator of a model over all profiled inferences.

    ``type`` is the operator's kind as the engine names it (``Conv``), or for
    ExecuTorch where it ran: ``kernel`` or ``delegate``.
    """

    name: str
    type: str
    num_calls: int
    total_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorProfile:
    """The operators of ``num_runs`` inferences in one process, the most expensive first."""

    runtime: str
    runtime_version: str
    num_runs: int
    operators: tuple[OperatorTime, ...]

    def to_json(self) -> str:
        """Return the one line a runner prints."""
        return json.dumps({"contract": CONTRACT_VERSION, **asdict(self)})

    @classmethod
    def from_stdout(cls, text: str) -> Self:
        """Read the last line of a runner's standard output.

        Raises:
            RunnerOutputError: If it is not a profile, or of another version of the contract.
        """
        line = text.strip().splitlines()[-1] if text.strip() else ""
        try:
            document: dict[str, Any] = json.loads(line)
            version = document.pop("contract")
            if version != CONTRACT_VERSION:
                raise RunnerOutputError(f"runner speaks contract {version!r}, this release reads {CONTRACT_VERSION}")
            document["operators"] = tuple(_read_operator(**operator) for operator in document["operators"])
            return cls(**(document | {"num_runs": int(document["num_runs"])}))
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise RunnerOutputError(f"runner printed {line[:120]!r} instead of its profile") from error


def _read_operator(*, name: str, type: str, num_calls: Any, total_ns: Any) -> OperatorTime:
    return OperatorTime(name=str(name), type=str(type), num_calls=int(num_calls), total_ns=max(0, int(total_ns)))
