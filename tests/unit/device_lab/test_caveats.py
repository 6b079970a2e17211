"""Whether a measurement says of itself that its blocks disagree."""

from __future__ import annotations

from device_lab.caveats import caveats
from device_lab.measurement import Block, Measurement
from tests.lab_blocks import chain, measured


def _caveats(blocks: list[Block]) -> list[str]:
    measurement: Measurement = measured(blocks)
    return caveats(measurement)


def test_a_quiet_session_has_nothing_to_say() -> None:
    assert _caveats(chain([10_000] * 6, [8_000, 8_001, 8_000, 8_001, 8_000])) == []


def test_a_session_that_lost_most_of_its_blocks_says_so_with_their_number() -> None:
    (said,) = _caveats(chain([10_000, 12_000] * 3, [9_000] * 5))

    assert said.startswith("not a quiet session: 5 of 5 blocks were dropped; those kept need not be typical")
    assert said.endswith("end other work on the device and measure again")


def test_a_candidate_that_scatters_between_two_steady_references_is_named() -> None:
    # Log deviations of 1, 1.3, 1, 1.3, 1, 1.3: half of log 1.3 to either side, times the root of 6/5.
    (said,) = _caveats(chain([10_000] * 7, [10_000, 13_000] * 3))

    assert said.startswith("the candidate's processes scatter by 14% while the reference is steady")


def test_one_block_scatters_by_nothing() -> None:
    assert _caveats(chain([10_000] * 2, [8_000])) == []
