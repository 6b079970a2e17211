"""What every runner takes on its command line and prints on standard output.

A runner loads one model, feeds it one deterministic input, warms up, times
inferences and prints a single line of JSON. The Python runner of this machine
and the compiled runners of a phone keep the same contract, so the protocol
cannot tell them apart.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Self

from device_lab.errors import RunnerOutputError

CONTRACT_VERSION = 1


def token_ids(count: int, *, token_limit: int) -> list[int]:
    """Return the deterministic input every runner feeds: ``count`` token ids below ``token_limit``.

    The multiplier is a prime, so the ids differ from position to position. The
    attention mask that goes with them is all ones, the token types are zeros.
    """
    return [(i * 7919 + 101) % token_limit for i in range(count)]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerOutput:
    """The line of JSON a runner prints. Times in nanoseconds of a monotonic clock on the device."""

    runtime: str
    runtime_version: str
    num_threads: int
    num_warmup_runs: int
    samples_ns: tuple[int, ...]
    wall_ns: int
    cpu_ns: int
    peak_rss_bytes: int | None
    output: tuple[float, ...]

    def to_json(self) -> str:
        """Return the one line a runner prints."""
        document = {"contract": CONTRACT_VERSION, **{name: getattr(self, name) for name in self.__slots__}}
        return json.dumps(document)

    @classmethod
    def from_stdout(cls, text: str) -> Self:
        """Read the last line of a runner's standard output.

        Raises:
            RunnerOutputError: If it is not the contract's JSON, or of another version.
        """
        line = text.strip().splitlines()[-1] if text.strip() else ""
        try:
            document: dict[str, Any] = json.loads(line)
            version = document.pop("contract")
            if version != CONTRACT_VERSION:
                raise RunnerOutputError(f"runner speaks contract {version!r}, this release reads {CONTRACT_VERSION}")
            document["samples_ns"] = tuple(int(sample) for sample in document["samples_ns"])
            document["output"] = tuple(float(value) for value in document["output"])
            return cls(**document)
        except (json.JSONDecodeError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise RunnerOutputError(f"runner printed {line[:120]!r} instead of its line of JSON") from error
