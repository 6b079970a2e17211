"""Measure candidates against a reference: interleaved fresh processes, a heat gate, a stop rule.

One round is R C1 C2 .. Ck R, the candidates in random order; the last reference
of a round is the first of the next. Whatever the device does slowly hits
candidate and reference alike and cancels in the ratio. The scheduling knows
neither phones nor this machine: it runs a `Device` by a `Clock`.
"""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType

import numpy as np

from device_lab.device import Clock, Device, SystemClock
from device_lab.errors import (
    DeviceLabError,
    DeviceLostError,
    ModelMismatchError,
    OutOfMemoryError,
    RunnerOutputError,
    ThreadCountError,
    WrongOutputError,
)
from device_lab.measurement import Block, Conditions, Measurement, ModelFile, Precision, ProcessRun, Reason, RunSettings
from device_lab.runner.contract import RunnerOutput, RunRequest, check_output
from device_lab.statistics import decide, half_width, kept_blocks, process_median_ns

MAX_HEAT = 1.05
COOLDOWN_S = 90.0
MAX_COOLDOWNS = 10
_NUM_RECENT_REFERENCES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where one candidate stands. ``half_width`` is infinite below two kept blocks."""

    model_sha256: str
    num_blocks: int
    num_kept: int
    half_width: float
    num_cooldowns: int
    elapsed_s: float
    is_cooling: bool


def measure(
    candidates: Sequence[ModelFile],
    *,
    reference: ModelFile,
    device: Device,
    num_threads: int,
    precision: Precision,
    generator: np.random.Generator,
    cold_baseline_ns: float | None = None,
    budget_s: float | None = None,
    earlier_blocks: Mapping[str, Sequence[Block]] = MappingProxyType({}),
    on_block: Callable[[ModelFile, Block], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    clock: Clock | None = None,
) -> list[Measurement | DeviceLabError]:
    """Time every candidate against the reference until each ratio is known to ``precision``.

    A candidate leaves the batch as soon as its stop rule says so. One whose
    runner fails leaves with its error and the others go on; one that was killed
    for memory, or whose device was lost, leaves with the blocks it has. An
    error of the reference is the outcome of every candidate still in the batch.

    Args:
        candidates: Models of the reference's sequence length and batch size.
        reference: The model all ratios are to.
        device: Where to run; held by the caller alone.
        num_threads: Threads of the runtime, checked against what the runner read back.
        precision: Goal and looks.
        generator: Draws the order of the candidates.
        cold_baseline_ns: Median time of the reference on the cold device. Without it there is no heat gate.
        budget_s: Bounds the batch; a round that would pass it is not begun, the first always is.
        earlier_blocks: Blocks by candidate's ``sha256``, from ``on_block`` of a session that was interrupted.
        on_block: Called with every finished block, so that a store can keep it.
        on_progress: Called for every candidate still in the batch after each round, and before each pause.
        clock: The time to wait by; the real one if not given.

    Returns:
        One entry for each candidate, in their order: its measurement, or the error that ended it.

    Raises:
        ModelMismatchError: If a candidate has another sequence length or batch size than the reference.
    """
    for candidate in candidates:
        _require_comparable(candidate, reference)
    session = _Session(
        candidates=[_Candidate(model=model, blocks=list(earlier_blocks.get(model.sha256, ()))) for model in candidates],
        reference=reference,
        device=device,
        num_threads=num_threads,
        precision=precision,
        generator=generator,
        cold_baseline_ns=cold_baseline_ns,
        budget_s=budget_s,
        on_block=on_block,
        on_progress=on_progress,
        clock=clock or SystemClock(),
    )
    return session.run()


def run_process(model: ModelFile, *, device: Device, num_threads: int, precision: Precision) -> ProcessRun:
    """Run one fresh process on ``device`` and check its answer, runtime and threads before believing its times.

    Raises:
        WrongOutputError: If the logits differ from torch's, or nobody has seen them.
        ThreadCountError: If the runner read back another number of threads.
        RunnerOutputError: If there are no samples, or another runtime or version answered.
        DeviceLabError: Whatever `Device.run` raises.
    """
    request = RunRequest(
        num_threads=num_threads,
        min_runs=precision.min_runs,
        min_timed_s=precision.min_timed_s,
        max_warmup_s=precision.max_warmup_s,
    )
    output = device.run(model, request)
    _check_answer(output, model)
    if output.num_threads != num_threads:
        raise ThreadCountError(asked=num_threads, used=output.num_threads)
    asked = (device.runtime, device.runtime_version)
    if (output.runtime, output.runtime_version) != asked:
        raise RunnerOutputError(
            f"runner is {output.runtime} {output.runtime_version}, not {asked[0]} {asked[1]}; build the runner again"
        )
    num_runs = output.summary.num_runs if output.summary else len(output.samples_ns)
    if num_runs < request.min_runs or min(output.samples_ns) <= 0:
        raise RunnerOutputError(
            f"runner printed {num_runs} samples, at least {request.min_runs} positive ones were asked for"
        )
    return ProcessRun(
        run_id=uuid.uuid4().hex,
        samples_ns=output.samples_ns,
        num_warmup_runs=output.num_warmup_runs,
        num_threads=output.num_threads,
        wall_ns=output.wall_ns,
        cpu_ns=output.cpu_ns,
        summary=output.summary,
        output_checked_here=output.output is None,
        peak_rss_bytes=output.peak_rss_bytes,
    )


def _check_answer(output: RunnerOutput, model: ModelFile) -> None:
    """Hold what a process answered against what is right; one that prints nothing needs a file that was checked."""
    if output.output is not None:
        check_output(output.output, expected=model.expected_output, answered_by=model.answered_by)
    elif not model.checked_here_by:
        raise WrongOutputError(
            f"{model.path.name}: the runner prints no answer and nobody has held this file against torch; "
            "use a runner that prints its output"
        )


@dataclass(slots=True, kw_only=True)
class _Candidate:
    """One candidate under way. ``outcome`` is set when it leaves the batch."""

    model: ModelFile
    blocks: list[Block]
    outcome: Measurement | DeviceLabError | None = None


class _TooHotError(Exception):
    """The heat gate did not open; never seen by a caller."""


@dataclass(slots=True, kw_only=True)
class _Session:
    candidates: list[_Candidate]
    reference: ModelFile
    device: Device
    num_threads: int
    precision: Precision
    generator: np.random.Generator
    cold_baseline_ns: float | None
    budget_s: float | None
    on_block: Callable[[ModelFile, Block], None] | None
    on_progress: Callable[[Progress], None] | None
    clock: Clock
    num_cooldowns: int = 0
    started_s: float = 0.0

    def run(self) -> list[Measurement | DeviceLabError]:
        self.started_s = self.clock.monotonic_s()
        try:
            conditions = self.device.conditions()
        except DeviceLabError as error:
            return [error for _ in self.candidates]
        self._leave_where_decided(conditions)
        try:
            self._run_rounds(conditions)
        except _TooHotError:
            self._end_all(Reason.THERMAL, conditions)
        except DeviceLostError as error:
            self._end_lost(error, conditions)
        except DeviceLabError as error:
            for candidate in self._active():
                candidate.outcome = error
        return [candidate.outcome for candidate in self.candidates if candidate.outcome is not None]

    def _run_rounds(self, conditions: Conditions) -> None:
        recent: deque[float] = deque(maxlen=_NUM_RECENT_REFERENCES)
        before: ProcessRun | None = None
        round_s = 0.0
        while self._active():
            round_started_s = self.clock.monotonic_s()
            if before is not None and self._would_pass_budget(round_s):
                self._end_all(Reason.BUDGET, conditions)
                return
            before = self._cool_reference(before, recent)
            runs = self._run_candidates(conditions)
            after = self._run_process(self.reference)
            recent.append(process_median_ns(after))
            for candidate, run in runs:
                index = candidate.blocks[-1].index + 1 if candidate.blocks else 0
                block = Block(index=index, reference_before=before, candidate=run, reference_after=after)
                candidate.blocks.append(block)
                if self.on_block is not None:
                    self.on_block(candidate.model, block)
            self._report(is_cooling=False)
            self._leave_where_decided(conditions)
            before = after
            round_s = self.clock.monotonic_s() - round_started_s

    def _run_candidates(self, conditions: Conditions) -> list[tuple[_Candidate, ProcessRun]]:
        """Run every active candidate once in random order; those that fail leave the batch."""
        active = self._active()
        runs = []
        for position in self.generator.permutation(len(active)):
            candidate = active[position]
            try:
                runs.append((candidate, self._run_process(candidate.model)))
            except DeviceLostError:
                raise
            except OutOfMemoryError:
                self._end(candidate, Reason.OUT_OF_MEMORY, conditions)
            except DeviceLabError as error:
                candidate.outcome = error
        return runs

    def _cool_reference(self, before: ProcessRun | None, recent: deque[float]) -> ProcessRun:
        """Return a run of the reference on a device that is cool enough, pausing as long as it is not."""
        if before is None:
            before = self._run_process(self.reference)
            recent.append(process_median_ns(before))
        while self.cold_baseline_ns is not None and np.median(recent) > MAX_HEAT * self.cold_baseline_ns:
            if self.num_cooldowns == MAX_COOLDOWNS or self._would_pass_budget(COOLDOWN_S):
                raise _TooHotError
            self.num_cooldowns += 1
            self._report(is_cooling=True)
            self.clock.sleep(COOLDOWN_S)
            # What was measured before the pause says nothing about the heat after it.
            recent.clear()
            before = self._run_process(self.reference)
            recent.append(process_median_ns(before))
        return before

    def _run_process(self, model: ModelFile) -> ProcessRun:
        return run_process(model, device=self.device, num_threads=self.num_threads, precision=self.precision)

    def _active(self) -> list[_Candidate]:
        return [candidate for candidate in self.candidates if candidate.outcome is None]

    def _would_pass_budget(self, next_s: float) -> bool:
        return self.budget_s is not None and self._elapsed_s() + next_s > self.budget_s

    def _elapsed_s(self) -> float:
        return self.clock.monotonic_s() - self.started_s

    def _leave_where_decided(self, conditions: Conditions) -> None:
        for candidate in self._active():
            reason = decide(candidate.blocks, precision=self.precision)
            if reason is not None:
                self._end(candidate, reason, conditions)

    def _end_all(self, reason: Reason, conditions: Conditions) -> None:
        for candidate in self._active():
            self._end(candidate, reason, conditions)

    def _end_lost(self, error: DeviceLostError, conditions: Conditions) -> None:
        for candidate in self._active():
            if candidate.blocks:
                candidate.outcome = self._measurement(candidate, Reason.DISCONNECTED, conditions, _unreadable())
            else:
                candidate.outcome = error

    def _end(self, candidate: _Candidate, reason: Reason, before: Conditions) -> None:
        try:
            after = self.device.conditions()
        except DeviceLabError:
            # The verdict stands on the samples; what cannot be read any more is `?`.
            after = _unreadable()
        candidate.outcome = self._measurement(candidate, reason, before, after)

    def _measurement(self, candidate: _Candidate, reason: Reason, before: Conditions, after: Conditions) -> Measurement:
        return Measurement(
            device=self.device.info,
            settings=RunSettings(
                runtime=self.device.runtime,
                runtime_version=self.device.runtime_version,
                num_threads=self.num_threads,
                sequence_length=self.reference.sequence_length,
                batch_size=self.reference.batch_size,
            ),
            precision=self.precision,
            model_sha256=candidate.model.sha256,
            reference_sha256=self.reference.sha256,
            blocks=tuple(candidate.blocks),
            reason=reason,
            num_cooldowns=self.num_cooldowns,
            conditions_before=before,
            conditions_after=after,
        )

    def _report(self, *, is_cooling: bool) -> None:
        if self.on_progress is None:
            return
        for candidate in self._active():
            self.on_progress(
                Progress(
                    model_sha256=candidate.model.sha256,
                    num_blocks=len(candidate.blocks),
                    num_kept=len(kept_blocks(candidate.blocks)),
                    half_width=half_width(candidate.blocks),
                    num_cooldowns=self.num_cooldowns,
                    elapsed_s=self._elapsed_s(),
                    is_cooling=is_cooling,
                )
            )


def _unreadable() -> Conditions:
    return Conditions(taken_at=datetime.now(UTC).isoformat(timespec="seconds"), readings=())


def _require_comparable(candidate: ModelFile, reference: ModelFile) -> None:
    for name in ("sequence_length", "batch_size"):
        seen, wanted = getattr(candidate, name), getattr(reference, name)
        if seen != wanted:
            raise ModelMismatchError(
                f"{candidate.path.name}: {name}={seen}, the reference has {wanted}; export both with the same shape"
            )
