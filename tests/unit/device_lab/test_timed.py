"""A measurement without its samples says what it says with them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_lab.measurement import Block
from device_lab.statistics import (
    MIN_KEPT_BLOCKS,
    candidate_runs,
    half_width,
    is_disturbed,
    kept_blocks,
    percentiles_ms,
    ratio_interval,
)
from device_lab.timed import Digest, digest, timed
from tests.lab_blocks import chain, measured

TIMES_NS = st.integers(900_000, 1_100_000)


@st.composite
def block_lists(draw: st.DrawFn) -> tuple[Block, ...]:
    count = draw(st.integers(1, 12))
    references = draw(st.lists(TIMES_NS, min_size=count + 1, max_size=count + 1))
    return tuple(chain(references, draw(st.lists(TIMES_NS, min_size=count, max_size=count))))


@given(block_lists())
@settings(max_examples=60, deadline=None)
def test_the_digest_says_of_the_ratio_what_the_samples_say(blocks: tuple[Block, ...]) -> None:
    text = digest(blocks).to_json()
    without = replace(timed(measured(blocks)), digest=Digest.from_json(text), blocks=None)

    kept = kept_blocks(blocks)
    assert without.num_blocks == len(blocks)
    assert without.findings.num_kept == len(kept)
    assert without.findings.half_width == half_width(blocks)
    assert without.findings.is_disturbed == is_disturbed(blocks)
    assert without.ratio == (ratio_interval(blocks) if len(kept) >= MIN_KEPT_BLOCKS else None)
    assert without.kept == ()
    assert timed(measured(blocks)).kept == kept


def test_percentiles_of_the_digest_are_those_of_the_samples() -> None:
    blocks = tuple(chain([1_000_000] * 6, [900_000, 910_000, 905_000, 920_000, 915_000]))

    told = digest(blocks).percentiles_ms

    expected = percentiles_ms(candidate_runs(blocks), generator=np.random.default_rng(1))
    assert told == pytest.approx((expected.p50.estimate, expected.p90.estimate, expected.p99.estimate))


def test_nothing_that_counts_has_no_percentiles() -> None:
    assert digest(tuple(chain([1_000_000, 1_200_000], [900_000]))).percentiles_ms is None
