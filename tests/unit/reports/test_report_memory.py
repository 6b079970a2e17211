from __future__ import annotations

from dataclasses import replace

import pytest

from device_lab.measurement import Block
from device_lab.statistics import peak_memory_bytes
from device_lab.timed import Timed
from nas.records import Run
from reports.analysis import analyse
from reports.page import cards
from tests.fake_run import fake_run_of, fake_trial


def with_peaks(measurement: Timed, *, candidate: int, reference: int) -> Timed:
    """Processes of the candidate and of the reference have these peaks, in bytes, the last one a thousand more."""

    def block_with_peaks(block: Block) -> Block:
        return replace(
            block,
            reference_before=replace(block.reference_before, peak_rss_bytes=reference),
            candidate=replace(block.candidate, peak_rss_bytes=candidate),
            reference_after=replace(block.reference_after, peak_rss_bytes=reference + 1000),
        )

    return replace(measurement, blocks=tuple(map(block_with_peaks, measurement.blocks or ())))


def run_with_peaks() -> Run:
    trial = fake_trial(1)
    peaks = tuple(with_peaks(each, candidate=120_000_000, reference=150_000_000) for each in trial.measurements)
    return fake_run_of(replace(trial, measurements=peaks))


def test_the_peak_is_that_of_the_largest_process_and_unknown_where_none_tells() -> None:
    (measurement,) = run_with_peaks().trials[0].measurements
    (untold,) = fake_trial(1).measurements

    assert peak_memory_bytes(block.reference_after for block in measurement.blocks or ()) == 150_001_000
    assert peak_memory_bytes(block.candidate for block in untold.blocks or ()) is None


@pytest.mark.parametrize("is_known", [True, False])
def test_a_card_tells_memory_beside_the_references_where_it_is_known(is_known: bool) -> None:
    (card,) = cards(analyse(run_with_peaks() if is_known else fake_run_of(fake_trial(1))))

    assert dict(card.facts).get("peak memory, runner included") == (
        "120 MB (SqueezeBERT's rule: 150 MB)" if is_known else None
    )
