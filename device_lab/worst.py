"""Several devices as one number: the ratio on the device where it is greatest, with its interval.

The worst of several true ratios lies below no single one of them, and above
none but the greatest. So the greatest of the upper bounds is an upper bound of
the same level: it fails only if that of the truly worst device does. The
greatest of the lower bounds fails if that of *any* device does, which of equal
devices happens once for each. Lower bounds are therefore taken at a level at
which all of them together fail as often as one does (Bonferroni), and the
interval holds at its level whatever the devices have in common. The estimate is
the greatest of the estimates. Where devices are equal it is a little too high,
by less than the half-width: it errs on the slow side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

from device_lab.errors import TooFewBlocksError
from device_lab.measurement import Block, Interval
from device_lab.statistics import LEVEL, Findings, block_medians_ns, find, interval_at


def worst_ratio(sessions: Sequence[Sequence[Block]]) -> Interval:
    """Return the greatest ratio of one candidate over several devices, given the blocks of each.

    Of one device it is `device_lab.statistics.ratio_interval`.

    Raises:
        TooFewBlocksError: If a device has fewer than two kept blocks.
    """
    return worst_of([find(block_medians_ns(blocks)) for blocks in sessions])


def worst_of(sessions: Sequence[Findings]) -> Interval:
    """Return the greatest ratio of one candidate over several devices, given what the blocks of each say.

    Raises:
        TooFewBlocksError: If a device has fewer than two kept blocks.
    """
    shared = shared_level(LEVEL, len(sessions))
    ratios = []
    for each in sessions:
        if each.ratio is None:
            raise TooFewBlocksError(num_kept=each.num_kept, num_blocks=len(each.is_kept))
        ratios.append(each.ratio)
    return _worst(ratios, [interval_at(each, level=shared).low for each in sessions])


def worst_interval(intervals: Sequence[Interval]) -> Interval:
    """Return the greatest of several ratios of which only intervals are known, symmetric and normal on the log scale.

    Its level is the lowest of theirs.
    """
    lows = []
    for interval in intervals:
        # A bound that is moved out by the quotient of two normal quantiles.
        wider = _quantile(shared_level(interval.level, len(intervals))) / _quantile(interval.level)
        lows.append(interval.estimate * math.exp(wider * math.log(interval.low / interval.estimate)))
    return _worst(intervals, lows)


def _worst(intervals: Sequence[Interval], lows: Sequence[float]) -> Interval:
    return Interval(
        estimate=max(interval.estimate for interval in intervals),
        low=max(lows),
        high=max(interval.high for interval in intervals),
        level=min(interval.level for interval in intervals),
    )


def shared_level(level: float, num_devices: int) -> float:
    """Return the level at which the lower bounds of several devices together fail as often as one does at ``level``."""
    return 1 - (1 - level) / num_devices


def _quantile(level: float) -> float:
    return NormalDist().inv_cdf((1 + level) / 2)
