"""A report of a run with very many blocks: whose samples it has, and that it says so."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from nas.records import Run
from reports import detail, figures, tables
from reports.analysis import analyse
from reports.detail import shown_in_detail
from reports.page import cards
from reports.resampling import MANY_BLOCKS
from reports.write import write_report
from tests.fake_run import fake_run


def without_samples(run: Run, *, but: frozenset[int]) -> Run:
    """``run`` as a store reads it, with the samples of some trials."""
    return replace(
        run,
        trials=tuple(
            trial
            if trial.number in but
            else replace(
                trial, measurements=tuple(replace(each, blocks=None, key="kept") for each in trial.measurements)
            )
            for trial in run.trials
        ),
    )


@pytest.fixture
def long_run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run with more of everything than a page has room for."""
    monkeypatch.setattr(detail, "MAX_BLOCKS_IN_FULL", 100)
    monkeypatch.setattr(detail, "MAX_BLOCKS_IN_DETAIL", 100)
    monkeypatch.setattr(figures, "MAX_VECTOR_POINTS", 20)
    monkeypatch.setattr(tables, "MAX_ROWS", 30)
    run = fake_run(60)
    return without_samples(run, but=shown_in_detail(run))


def test_a_run_of_few_blocks_has_all_samples() -> None:
    run = fake_run(20)

    assert shown_in_detail(run) == {trial.number for trial in run.trials if trial.measurements}


def test_a_run_of_many_blocks_has_the_samples_of_the_references_and_the_front(long_run: Run) -> None:
    analysis = analyse(long_run)

    here = {item.trial.number for item in analysis.evidence if item.has_samples}
    front = [item.trial.number for item in analysis.front]
    assert {0, 1} <= here
    assert here & set(front) == set(front[: len(here & set(front))])
    assert 0 < len(here) * 5 <= 100 + 5


def test_without_samples_every_number_is_the_same(long_run: Run) -> None:
    whole, less = analyse(fake_run(60)), analyse(long_run)

    assert [item.ratio for item in less.evidence] == [item.ratio for item in whole.evidence]
    assert less.probabilities == whole.probabilities
    for number, percentiles in less.milliseconds.items():
        assert percentiles.p90.estimate == pytest.approx(whole.milliseconds[number].p90.estimate)


def test_a_card_without_samples_has_no_bounds_and_says_why(long_run: Run) -> None:
    analysis = analyse(without_samples(long_run, but=frozenset()))

    facts = [dict(card.facts) for card in cards(analysis) if card.name.endswith(str(card.number))]

    assert facts
    for of_card in facts:
        assert of_card["p90 ms"].replace(".", "", 1).isdigit()
        assert "left in the store" in of_card["single times"]
        assert "peak memory, runner included" not in of_card


def test_the_page_says_what_is_not_in_it(long_run: Run, tmp_path: Path) -> None:
    files = write_report(long_run, tmp_path)

    page = files.html.read_text()
    document = json.loads(files.json.read_text())
    assert "is in the store" in page
    assert f"where they are {MANY_BLOCKS} or more, from the normal distribution" in page
    assert "The other 30 are in report.csv" in page
    assert "the ratios whose blocks are here" in page
    assert "drawn for the front alone" in page
    assert len(files.csv.read_text().splitlines()) == 61
    left = [each for trial in document["trials"] for each in trial["measurements"] if each["blocks"] is None]
    assert left
    assert all(each["key"] == "kept" and each["num_blocks"] == 5 for each in left)
