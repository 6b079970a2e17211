from __future__ import annotations

import math

import numpy as np
import pytest

from device_lab.errors import TooFewBlocksError
from device_lab.measurement import Block, Precision, Reason
from device_lab.statistics import (
    _MAX_WEIGHTS,
    INTERVAL_FACTOR,
    PRECISIONS,
    block_log_ratio,
    busy_cores,
    candidate_runs,
    decide,
    half_width,
    heat_slope,
    is_disturbed,
    kept_blocks,
    median_rank,
    percentiles_ms,
    process_median_ns,
    ratio_interval,
    reference_change,
    reference_runs,
)
from tests.lab_blocks import chain, process

MEDIUM = Precision(name="test", goal=0.02, looks=(3, 5), min_timed_s=1.0)


def test_the_median_of_an_even_number_of_samples_lies_between_the_middle_two() -> None:
    assert process_median_ns(process(40, 10, 30, 20)) == 25.0
    assert process_median_ns(process(30, 10, 20)) == 20.0


def test_a_block_is_the_log_median_of_the_candidate_minus_the_mean_log_median_of_its_references() -> None:
    # 90 against the geometric mean of 100 and 104, each a median of three.
    block = Block(
        index=0,
        reference_before=process(100, 99, 500),
        candidate=process(90, 1, 91),
        reference_after=process(104, 104, 103),
    )

    assert block_log_ratio(block) == pytest.approx(math.log(90 / math.sqrt(100 * 104)), abs=1e-15)
    assert reference_change(block) == pytest.approx(math.log(1.04), abs=1e-15)


def test_the_interval_is_a_widened_t_interval_of_the_log_ratios() -> None:
    # Ratios 0.79, 0.80, 0.81 to a constant reference. With n = 3: t(2, 97.5 %) = 4.302653.
    blocks = chain([10_000] * 4, [7_900, 8_000, 8_100])
    logs = [math.log(ratio) for ratio in (0.79, 0.80, 0.81)]
    centre = sum(logs) / 3
    deviation = math.sqrt(sum((log - centre) ** 2 for log in logs) / 2)
    half = 1.2 * 4.302653 * deviation / math.sqrt(3)

    interval = ratio_interval(blocks)

    assert INTERVAL_FACTOR == 1.2
    assert interval.estimate == pytest.approx(math.exp(centre), rel=1e-12)
    assert interval.low == pytest.approx(math.exp(centre - half), rel=1e-6)
    assert interval.high == pytest.approx(math.exp(centre + half), rel=1e-6)
    assert interval.level == 0.95
    assert half_width(blocks) == pytest.approx(half, rel=1e-6)


def test_a_block_whose_references_differ_by_more_than_five_percent_is_dropped() -> None:
    # exp(0.05) = 1.05127: the second block changes by 4.9 %, the third by 6 % from there.
    blocks = chain([1_000_000, 1_000_000, 1_050_000, 1_115_000], [900_000, 900_000, 900_000])

    assert [block.index for block in kept_blocks(blocks)] == [0, 1]


@pytest.mark.parametrize("direction", [1.3, 0.7])
def test_a_candidate_that_was_disturbed_alone_is_dropped(direction: float) -> None:
    candidates = [8_000, 8_040, 7_960, round(8_000 * direction), 8_020]
    blocks = chain([10_000] * 6, candidates)

    assert [block.index for block in kept_blocks(blocks)] == [0, 1, 2, 4]


def test_a_candidate_that_scatters_widely_by_itself_loses_no_block() -> None:
    # Median 8000, deviations 600, 300, 0, 300, 600: the limit is 4 * 1.4826 * 300, far above each of them.
    blocks = chain([10_000] * 6, [7_400, 7_700, 8_000, 8_300, 8_600])

    assert len(kept_blocks(blocks)) == 5


def test_where_most_blocks_were_dropped_the_interval_takes_in_the_median_of_all() -> None:
    # The references of every block but the first three differ by 10 %. Those three agree on 0.8 within a tenth of a
    # percent; the six others say 0.9 and more. Of nine blocks the second from either end bounds the median.
    references = [10_000, 10_000, 10_000, 10_000, 11_000, 10_000, 11_000, 10_000, 11_000, 10_000]
    candidates = [8_000, 8_004, 7_996, 9_500, 9_600, 9_700, 9_800, 9_900, 10_000]
    blocks = chain(references, candidates)
    log_ratios = sorted(block_log_ratio(block) for block in blocks)

    quiet, disturbed = ratio_interval(blocks[:4]), ratio_interval(blocks)

    assert (is_disturbed(blocks[:4]), is_disturbed(blocks)) == (False, True)
    assert quiet.high / quiet.low < 1.01
    assert disturbed.estimate == pytest.approx(quiet.estimate)
    assert disturbed.high == pytest.approx(math.exp(log_ratios[-2]))
    # The bound of the kept ones lies lower than that of the median, and stays.
    assert disturbed.low == pytest.approx(quiet.low)
    assert half_width(blocks) == pytest.approx(math.log(disturbed.high / disturbed.estimate))


def test_two_dropped_blocks_of_five_leave_the_interval_to_the_others() -> None:
    blocks = chain([10_000, 10_000, 10_000, 10_000, 20_000, 10_000], [8_000, 8_040, 7_960, 8_000, 8_000])

    assert len(kept_blocks(blocks)) == 3
    assert not is_disturbed(blocks)
    assert half_width(blocks) < 0.02


@pytest.mark.parametrize("count", [6, 7, 9, 16, 28, 80])
def test_the_ranks_around_a_median_are_the_tightest_that_hold_it_often_enough(count: int) -> None:
    # Fewer than r values below the median happen with the tail of a fair coin; each side may miss 2.5 %.
    def tail(rank: int) -> float:
        return sum(math.comb(count, k) for k in range(rank)) * 0.5**count

    assert tail(median_rank(count)) <= 0.025 < tail(median_rank(count) + 1)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_of_very_few_values_all_together_stand_for_the_median(count: int) -> None:
    assert median_rank(count) == 1


def test_one_kept_block_has_no_interval() -> None:
    blocks = chain([1_000, 1_000, 2_000], [900, 900])

    assert half_width(blocks) == math.inf
    with pytest.raises(TooFewBlocksError, match=r"1 of 2 blocks kept, an interval needs at least 2"):
        ratio_interval(blocks)


def test_no_block_at_all_has_no_interval() -> None:
    assert kept_blocks([]) == ()
    with pytest.raises(TooFewBlocksError, match=r"0 of 0 blocks kept"):
        ratio_interval([])


def test_the_goal_is_only_looked_at_after_the_named_numbers_of_kept_blocks() -> None:
    quiet = chain([10_000] * 6, [8_000, 8_001, 8_000, 8_001, 8_000])

    assert [decide(quiet[:n], precision=MEDIUM) for n in (2, 3, 4, 5)] == [None, Reason.GOAL_MET, None, Reason.GOAL_MET]


def test_the_goal_is_judged_with_the_blocks_that_count_and_not_trimmed_again() -> None:
    # In thousandths, deviations near 0.5, 0.5, 1.5, 60, 61, 400: the limit is 4 * 1.4826 * 31 = 180, so 400 goes.
    # Of the five left the median deviation is 1, and a second trimming would leave three that agree.
    blocks = chain([1_000_000] * 7, [1_000_000, 1_001_000, 999_000, 1_062_000, 941_000, 1_500_000])
    precision = Precision(name="test", goal=0.02, looks=(5, 9), min_timed_s=1.0)

    assert len(kept_blocks(blocks)) == 5
    assert len(kept_blocks(kept_blocks(blocks))) == 3
    assert half_width(blocks) > precision.goal
    assert decide(blocks, precision=precision) is None


def test_a_goal_missed_at_the_last_look_ends_the_measurement() -> None:
    noisy = chain([10_000] * 6, [7_400, 7_700, 8_000, 8_300, 8_600])

    assert decide(noisy[:3], precision=MEDIUM) is None
    assert decide(noisy, precision=MEDIUM) is Reason.BUDGET


def test_a_reference_that_never_agrees_with_itself_ends_after_twice_the_last_look() -> None:
    blocks = chain([10_000, 12_000] * 6, [9_000] * 10)

    assert decide(blocks[:9], precision=MEDIUM) is None
    assert decide(blocks, precision=MEDIUM) is Reason.NOISY_REFERENCE


def test_the_three_precisions_promise_five_two_and_one_percent() -> None:
    assert {name: precision.goal for name, precision in PRECISIONS.items()} == {
        "coarse": 0.05,
        "normal": 0.02,
        "fine": 0.01,
    }
    assert PRECISIONS["normal"].looks == (10, 14, 20, 28, 40)
    assert PRECISIONS["fine"].looks[-1] == 80
    assert (PRECISIONS["normal"].min_runs, PRECISIONS["normal"].min_timed_s) == (20, 1.0)


def test_percentiles_of_equal_processes_are_exact() -> None:
    # 1 to 100 ms in every process: 50, 90 and 99 % lie at or below 50, 90 and 99 ms in every resample.
    runs = [process(*(n * 1_000_000 for n in range(1, 101))) for _ in range(4)]

    result = percentiles_ms(runs, generator=np.random.default_rng(0))

    assert [(p.low, p.estimate, p.high) for p in (result.p50, result.p90, result.p99)] == [
        (50.0, 50.0, 50.0),
        (90.0, 90.0, 90.0),
        (99.0, 99.0, 99.0),
    ]


def test_every_process_weighs_the_same_in_a_percentile() -> None:
    # By samples 1 ms would be 4 % of all; by processes it is two thirds.
    runs = [process(1_000_000), process(1_000_000), process(*[9_000_000] * 50)]

    result = percentiles_ms(runs, generator=np.random.default_rng(0))

    assert (result.p50.estimate, result.p90.estimate) == (1.0, 9.0)


def test_the_interval_of_a_percentile_comes_from_processes_not_from_samples() -> None:
    # A thousand samples each, but two processes: the median may be that of either.
    runs = [process(*[1_000_000] * 1000), process(*[2_000_000] * 1000)]

    result = percentiles_ms(runs, generator=np.random.default_rng(0))

    assert (result.p50.low, result.p50.high) == (1.0, 2.0)


def test_the_same_generator_state_gives_the_same_percentiles() -> None:
    runs = [process(*(n * 1_000 + k for n in range(1, 30))) for k in range(6)]

    first, second = (percentiles_ms(runs, generator=np.random.default_rng(5)) for _ in range(2))

    assert first == second


def test_percentiles_of_nothing_are_refused() -> None:
    with pytest.raises(TooFewBlocksError):
        percentiles_ms([], generator=np.random.default_rng(0))


def test_a_shared_reference_is_one_process() -> None:
    blocks = chain([100, 101, 102], [90, 91])

    assert [run.samples_ns for run in reference_runs(blocks)] == [(100,), (101,), (102,)]
    assert [run.samples_ns for run in candidate_runs(blocks)] == [(90,), (91,)]


def test_the_heat_slope_is_the_growth_of_the_reference_for_each_block() -> None:
    references = [round(1e12 * 1.01**i) for i in range(6)]

    assert heat_slope(chain(references, [1_000] * 5)) == pytest.approx(math.log(1.01), rel=1e-9)
    with pytest.raises(TooFewBlocksError):
        heat_slope([])


def test_busy_cores_are_cpu_time_over_wall_time_of_all_processes() -> None:
    # (150 + 390) / (100 + 200)
    assert busy_cores([process(100, cpu_ns=150), process(200, cpu_ns=390)]) == pytest.approx(1.8)


def test_percentiles_of_very_many_inferences_have_intervals() -> None:
    # More weights in one resample than are drawn at once.
    runs = [process(*([1_000_000 + 1000 * number] * (_MAX_WEIGHTS // 2))) for number in range(3)]

    found = percentiles_ms(runs, generator=np.random.default_rng(0), num_resamples=5)

    assert found.p50.estimate == pytest.approx(1.001)
    assert found.p50.low <= found.p50.estimate <= found.p50.high
