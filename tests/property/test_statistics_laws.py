from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_lab.measurement import Block, Precision, ProcessRun, Reason
from device_lab.statistics import block_log_ratio, decide, half_width, heat_slope, kept_blocks, ratio_interval
from tests.lab_blocks import chain

_TIMES = st.integers(min_value=970_000, max_value=1_030_000)


@st.composite
def _sessions(draw: st.DrawFn) -> list[Block]:
    num_blocks = draw(st.integers(min_value=3, max_value=12))
    references = draw(st.lists(_TIMES, min_size=num_blocks + 1, max_size=num_blocks + 1))
    return chain(references, draw(st.lists(_TIMES, min_size=num_blocks, max_size=num_blocks)))


def _scaled(run: ProcessRun, factor: int) -> ProcessRun:
    return replace(run, samples_ns=tuple(sample * factor for sample in run.samples_ns))


@given(st.integers(min_value=1), st.integers(min_value=1))
def test_swapping_candidate_and_reference_inverts_the_ratio(candidate_ns: int, reference_ns: int) -> None:
    (block,) = chain([reference_ns] * 2, [candidate_ns])
    (swapped,) = chain([candidate_ns] * 2, [reference_ns])

    assert block_log_ratio(block) == pytest.approx(-block_log_ratio(swapped), abs=1e-9)


@given(_TIMES, st.lists(_TIMES, min_size=3, max_size=12))
def test_swapping_candidate_and_a_steady_reference_inverts_the_interval(
    reference_ns: int, candidates_ns: list[int]
) -> None:
    interval = ratio_interval(chain([reference_ns] * (len(candidates_ns) + 1), candidates_ns))
    swapped = ratio_interval(
        [
            replace(
                block,
                reference_before=block.candidate,
                candidate=block.reference_before,
                reference_after=block.candidate,
            )
            for block in chain([reference_ns] * (len(candidates_ns) + 1), candidates_ns)
        ]
    )

    assert swapped.estimate == pytest.approx(1 / interval.estimate)
    assert (swapped.low, swapped.high) == pytest.approx((1 / interval.high, 1 / interval.low))


@given(_sessions(), st.integers(min_value=1, max_value=1000))
def test_a_device_that_is_slower_at_everything_gives_the_same_ratio(blocks: list[Block], factor: int) -> None:
    slower = [
        replace(
            block,
            reference_before=_scaled(block.reference_before, factor),
            candidate=_scaled(block.candidate, factor),
            reference_after=_scaled(block.reference_after, factor),
        )
        for block in blocks
    ]
    if len(kept_blocks(blocks)) < 2:
        return
    before, after = ratio_interval(blocks), ratio_interval(slower)

    assert (after.low, after.estimate, after.high) == pytest.approx((before.low, before.estimate, before.high))


@given(_sessions(), st.integers(min_value=2, max_value=9))
def test_a_candidate_that_is_slower_by_a_factor_moves_the_interval_by_it(blocks: list[Block], factor: int) -> None:
    slower = [replace(block, candidate=_scaled(block.candidate, factor)) for block in blocks]
    if len(kept_blocks(blocks)) < 2:
        return
    before, after = ratio_interval(blocks), ratio_interval(slower)

    assert after.estimate == pytest.approx(factor * before.estimate)
    assert after.high / after.low == pytest.approx(before.high / before.low)


@given(st.lists(st.integers(min_value=800_000, max_value=1_600_000), min_size=4, max_size=12))
def test_a_goal_is_only_met_by_the_interval_that_is_reported(candidates_ns: list[int]) -> None:
    precision = Precision(name="test", goal=0.05, looks=tuple(range(2, 13)), min_timed_s=1.0)
    blocks = chain([1_000_000] * (len(candidates_ns) + 1), candidates_ns)

    is_met = decide(blocks, precision=precision) is Reason.GOAL_MET

    assert is_met == (half_width(blocks) <= precision.goal)


@given(_sessions())
def test_an_interval_contains_its_estimate(blocks: list[Block]) -> None:
    if len(kept_blocks(blocks)) < 2:
        return
    interval = ratio_interval(blocks)

    assert 0 < interval.low <= interval.estimate <= interval.high < math.inf


@given(_sessions())
def test_a_session_run_backwards_has_the_opposite_heat_slope(blocks: list[Block]) -> None:
    backwards = [
        replace(block, reference_before=block.reference_after, reference_after=block.reference_before)
        for block in reversed(blocks)
    ]

    assert heat_slope(backwards) == pytest.approx(-heat_slope(blocks), abs=1e-12)
