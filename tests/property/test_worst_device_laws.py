from __future__ import annotations

import math
from itertools import pairwise
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_lab.measurement import Block, Interval
from device_lab.statistics import ratio_interval
from device_lab.worst import worst_interval, worst_ratio
from tests.lab_blocks import chain

_TIMES = st.integers(min_value=980_000, max_value=1_020_000)


@st.composite
def sessions(draw: st.DrawFn) -> list[Block]:
    num_blocks = draw(st.integers(min_value=3, max_value=9))
    references = draw(st.lists(_TIMES, min_size=num_blocks + 1, max_size=num_blocks + 1))
    return chain(references, draw(st.lists(_TIMES, min_size=num_blocks, max_size=num_blocks)))


@st.composite
def intervals(draw: st.DrawFn) -> Interval:
    centre = draw(st.floats(min_value=-1, max_value=1))
    half = draw(st.floats(min_value=0, max_value=0.3))
    return Interval(estimate=math.exp(centre), low=math.exp(centre - half), high=math.exp(centre + half))


@given(sessions())
def test_the_worst_of_one_device_is_that_device(blocks: list[Block]) -> None:
    assert worst_ratio([blocks]) == ratio_interval(blocks)


@given(st.lists(sessions(), min_size=1, max_size=4))
def test_no_device_is_slower_than_the_worst_and_one_is_as_slow(devices: list[list[Block]]) -> None:
    worst = worst_ratio(devices)
    each = [ratio_interval(blocks) for blocks in devices]

    assert worst.estimate == max(interval.estimate for interval in each)
    assert worst.high == max(interval.high for interval in each)
    assert worst.low <= max(interval.low for interval in each)
    assert worst.low <= worst.estimate <= worst.high


@given(st.lists(sessions(), min_size=2, max_size=4))
def test_a_further_device_never_lowers_what_the_worst_may_come_to(devices: list[list[Block]]) -> None:
    fewer, more = worst_ratio(devices[:-1]), worst_ratio(devices)

    assert more.estimate >= fewer.estimate
    assert more.high >= fewer.high


@given(st.lists(intervals(), min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_the_order_of_the_devices_does_not_matter(each: list[Interval], random: Random) -> None:
    shuffled = list(each)
    random.shuffle(shuffled)

    assert worst_interval(shuffled) == worst_interval(each)


def test_equal_devices_have_a_lower_bound_that_all_of_them_together_keep() -> None:
    one = Interval(estimate=1.0, low=math.exp(-1.959964), high=math.exp(1.959964))

    found = [worst_interval([one] * count) for count in (1, 2, 4)]

    # By the tables of the normal distribution: 2.5 %, 1.25 % and 0.625 % on one side.
    assert [-math.log(interval.low) for interval in found] == pytest.approx([1.960, 2.241, 2.498], abs=1e-3)
    assert {interval.high for interval in found} == {one.high}
    assert all(wider.low < narrower.low for narrower, wider in pairwise(found))


@pytest.mark.slow
@pytest.mark.parametrize("gap", [0.0, 0.02, 0.3])
@pytest.mark.parametrize("num_devices", [2, 5])
def test_the_interval_of_the_worst_covers_it_whether_devices_are_alike_or_not(num_devices: int, gap: float) -> None:
    generator = np.random.default_rng(7)
    true_logs = -gap * np.arange(num_devices)
    num_repetitions, num_blocks, noise = 400, 8, 0.01
    too_high = too_low = 0
    for _ in range(num_repetitions):
        devices = []
        for log_ratio in true_logs:
            references = 1e6 * np.exp(generator.normal(0, noise, num_blocks + 1))
            candidates = 1e6 * np.exp(log_ratio + generator.normal(0, noise, num_blocks))
            devices.append(chain(references.astype(int).tolist(), candidates.astype(int).tolist()))
        interval = worst_ratio(devices)
        too_high += interval.low > 1.0
        too_low += interval.high < 1.0

    # 2.5 % a side are promised; 400 repetitions tell 2.5 % from 5 %.
    assert too_high <= 0.045 * num_repetitions
    assert too_low <= 0.045 * num_repetitions
