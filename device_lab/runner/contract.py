"""What every runner takes on its command line and prints on standard output.

A runner loads one model, feeds it one deterministic input, warms up, times
inferences and prints a single line of JSON. The Python runner of this machine
and the compiled runners of a phone keep the same contract, so the protocol
cannot tell them apart.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

from device_lab.errors import RunnerOutputError, WrongOutputError
from device_lab.measurement import ModelFile, Summary

CONTRACT_VERSION = 1
OUTPUT_TOLERANCE = 1e-4


# A table of words is read in as many places at most.
MAX_TOKEN_LIMIT = 1000


def token_ids(count: int, *, token_limit: int) -> list[int]:
    """Return the deterministic input every runner feeds: ``count`` token ids below ``token_limit``.

    The multiplier is a prime, so the ids differ from position to position. The
    attention mask that goes with them is all ones, the token types are zeros.
    """
    return [(i * 7919 + 101) % token_limit for i in range(count)]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """How one fresh process warms up and times: at least ``min_runs`` inferences and ``min_timed_s`` seconds.

    The warm-up ends at ``max_warmup_s`` even if the times have not settled. The
    device stops a runner that is still at work after ``timeout_s``.
    """

    num_threads: int
    min_runs: int
    min_timed_s: float
    max_warmup_s: float
    timeout_s: float = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerArguments:
    """The command line of a runner: one ``--name value`` pair for each field, dashes for underscores."""

    model: str
    num_threads: int
    sequence_length: int
    batch_size: int
    token_limit: int
    min_runs: int
    min_timed_s: float
    max_warmup_s: float

    @classmethod
    def of_run(cls, path: str, model: ModelFile, request: RunRequest) -> Self:
        """Return the arguments that run ``model``, which lies at ``path`` where the runner is, as ``request`` asks."""
        return cls(
            model=path,
            num_threads=request.num_threads,
            sequence_length=model.sequence_length,
            batch_size=model.batch_size,
            token_limit=model.token_limit,
            min_runs=request.min_runs,
            min_timed_s=request.min_timed_s,
            max_warmup_s=request.max_warmup_s,
        )

    def to_argv(self) -> list[str]:
        """Return the arguments that follow the name of the runner."""
        pairs = [(f"--{field.name.replace('_', '-')}", str(getattr(self, field.name))) for field in fields(self)]
        return [word for pair in pairs for word in pair]

    @classmethod
    def from_argv(cls, argv: Sequence[str]) -> Self:
        """Read what `to_argv` returned.

        Raises:
            ValueError: If a name is missing or unknown, or a value is not a number.
        """
        readers = {"int": int, "float": float, "str": str}
        given = dict(zip(argv[::2], argv[1::2], strict=True))
        try:
            values = {
                field.name: readers[str(field.type)](given.pop(f"--{field.name.replace('_', '-')}"))
                for field in fields(cls)
            }
        except KeyError as error:
            raise ValueError(f"{error.args[0]} is missing") from error
        if given:
            raise ValueError(f"unknown argument {next(iter(given))}")
        return cls(**values)


def check_output(output: Sequence[float] | None, *, expected: Sequence[float], answered_by: str = "torch") -> None:
    """Compare the logits of a run with those ``answered_by`` gives: 1e-4, absolute below 1 and relative above.

    Raises:
        WrongOutputError: If their number differs, or one of them by more, or there are none.
    """
    if output is None or len(output) != len(expected):
        num_seen = 0 if output is None else len(output)
        raise WrongOutputError(
            f"the model gave {num_seen} logits, {answered_by} gives {len(expected)}; export it again"
        )
    for index, (seen, right) in enumerate(zip(output, expected, strict=True)):
        # Written so that a NaN fails.
        if not abs(seen - right) <= OUTPUT_TOLERANCE * max(1.0, abs(right)):
            raise WrongOutputError(
                f"logit {index} is {seen:.6g}, {answered_by} gives {right:.6g}; they may differ by {OUTPUT_TOLERANCE:g}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerOutput:
    """What a runner said of one process. Times in nanoseconds of a monotonic clock on the device.

    A runner that keeps the contract prints all of it but ``summary`` as one line of
    JSON. ``summary``, an unknown ``cpu_ns`` and a missing ``output`` belong to
    `device_lab.runner.benchmark_model`, which prints less.
    """

    runtime: str
    runtime_version: str
    num_threads: int
    num_warmup_runs: int
    samples_ns: tuple[int, ...]
    wall_ns: int
    cpu_ns: int | None
    peak_rss_bytes: int | None
    output: tuple[float, ...] | None
    summary: Summary | None = None

    def to_json(self) -> str:
        """Return the one line a runner prints."""
        return json.dumps({"contract": CONTRACT_VERSION, **{name: getattr(self, name) for name in _PRINTED}})

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
            document |= {name: int(document[name]) for name in _COUNTS}
            document["samples_ns"] = tuple(int(sample) for sample in document["samples_ns"])
            document["output"] = tuple(float(value) for value in document["output"])
            printed = {name: document.pop(name) for name in _PRINTED}
            return cls(**printed, **document, summary=None)  # a name that is left, `summary` too, is a TypeError
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise RunnerOutputError(f"runner printed {line[:120]!r} instead of its line of JSON") from error


_PRINTED = tuple(field.name for field in fields(RunnerOutput) if field.name != "summary")
_COUNTS = ("num_threads", "num_warmup_runs", "wall_ns", "cpu_ns")
