"""Two models timed by turns within one process, for a machine whose speed changes from second to second.

The protocol of `device_lab` runs every model in a process of its own, which a
product wants and neighbours on a shared processor disturb: each lasts longer
than the machine keeps its speed. Here inferences alternate, R A R A .. R, and
a pair counts only while the references on both sides of it are nearly as quick
as the quickest ever seen.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from benchmarks.recordings import SEQUENCE_LENGTH
from device_lab.runner.host_onnxruntime import open_session, session_options

Floats = NDArray[np.float64]

TOKEN = 500
# Fresh sessions lie elsewhere in memory, which changes their speed by a percent or two: more than anything within one.
MIN_SESSIONS = 6
PAIRS_PER_SESSION = 12
MIN_TIMES = 8
MAX_SESSION_S = 6.0
NUM_WARMUPS = 2
# A processor has several quick clocks; a neighbour that disturbs costs half as much again.
MAX_SLOWDOWN = 1.3


class Quickest:
    """The time of a reference while nothing else is on the processor, the best of all sessions so far."""

    time_s = math.inf


def log_ratios(
    model: Path, reference: Path, quickest: Quickest, *, num_sessions: int, max_session_s: float = MAX_SESSION_S
) -> Floats:
    """Return log ratios to the reference, one a session, the median of its pairs; few or none on a busy machine."""
    found = [
        # Whatever is loaded first is a percent slower, so both are by turns.
        _session_log_ratio(model, reference, quickest, max_session_s=max_session_s, is_reference_first=number % 2 == 1)
        for number in range(num_sessions)
    ]
    return np.array([each for each in found if each is not None])


def log_ratios_to(
    goal: float,
    model: Path,
    reference: Path,
    quickest: Quickest,
    *,
    known: Sequence[float] = (),
    max_sessions: int,
) -> Floats:
    """Add sessions to those known until the 95 % interval of the ratio is at most ``goal`` to each side."""
    found = np.array(known)
    while len(found) < MIN_SESSIONS or half_width(found) > goal:
        more = log_ratios(model, reference, quickest, num_sessions=MIN_SESSIONS)
        found = np.concatenate([found, more])
        if not len(more) or len(found) >= max_sessions:
            break
    return found


def ratio_interval(log_ratios: Floats) -> tuple[float, float, float]:
    """Return the ratio of two or more log ratios of independent sessions, and the bounds of its 95 % t interval."""
    half, centre = half_width(log_ratios), float(log_ratios.mean())
    return math.exp(centre), math.exp(centre - half), math.exp(centre + half)


def half_width(log_ratios: Floats) -> float:
    """Return half the width of the 95 % t interval of the log ratio."""
    return float(stdtrit(len(log_ratios) - 1, 0.975)) * float(log_ratios.std(ddof=1)) / math.sqrt(len(log_ratios))


def _session_log_ratio(
    model: Path, reference: Path, quickest: Quickest, *, max_session_s: float, is_reference_first: bool
) -> float | None:
    if is_reference_first:
        theirs, ours = _Inference(reference), _Inference(model)
    else:
        ours, theirs = _Inference(model), _Inference(reference)
    for _ in range(NUM_WARMUPS):
        ours.time_s()
        theirs.time_s()
    ours_s: list[float] = []
    theirs_s = [theirs.time_s()]
    start_s = time.monotonic()
    times, kept = np.zeros(0), np.zeros(0, dtype=np.intp)
    while len(kept) < PAIRS_PER_SESSION and time.monotonic() - start_s < max_session_s:
        ours_s.append(ours.time_s())
        theirs_s.append(theirs.time_s())
        times = np.array(theirs_s)
        if len(times) >= MIN_TIMES:
            quickest.time_s = min(quickest.time_s, float(np.quantile(times, 0.05)))
            is_quick = times <= MAX_SLOWDOWN * quickest.time_s
            kept = np.nonzero(is_quick[:-1] & is_quick[1:])[0]
    if len(kept) < PAIRS_PER_SESSION:
        return None
    return float(np.median(np.log(np.array(ours_s) / np.sqrt(times[:-1] * times[1:]))[kept]))


class _Inference:
    """One inference of made up tokens by ONNX Runtime on one thread."""

    def __init__(self, model: Path) -> None:
        self._session, _ = open_session(str(model), session_options(num_threads=1))
        shape = (1, SEQUENCE_LENGTH)
        feed = {"input_ids": np.full(shape, TOKEN), "attention_mask": np.ones(shape, np.int64)}
        feed["token_type_ids"] = np.zeros(shape, np.int64)
        self._feed = {node.name: feed[node.name] for node in self._session.get_inputs()}

    def time_s(self) -> float:
        """Run once."""
        start_s = time.perf_counter()
        self._session.run(["logits"], self._feed)
        return time.perf_counter() - start_s
