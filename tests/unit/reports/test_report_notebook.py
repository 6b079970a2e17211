from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

import reports
from nas.errors import StoreError
from nas.notebook import load
from nas.records import Objective
from reports.errors import EmptyRunError, NoPlaneError
from tests.fake_run import fake_run, fake_run_of
from tests.poor_runs import poor_runs

HOSTILE = "<script>alert(1)</script>"


class Tags(HTMLParser):
    """The elements of a piece of HTML."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)


def test_the_frame_has_a_row_for_every_trial_and_the_front_its_members() -> None:
    report = reports.load(fake_run(20))

    frame, front = report.frame(), report.front()

    assert len(frame) == 20
    assert list(front["number"]) == [item.trial.number for item in report.analysis.front]
    assert set(front["number"]) == set(frame.loc[frame["on_front"], "number"])
    assert list(front["ratio"]) == sorted(front["ratio"])


def test_the_front_is_drawn_on_the_axes_that_are_given() -> None:
    report = reports.load(fake_run(20))
    axes = Figure(figsize=(4, 3)).subplots()

    returned = report.plot_front(axes)

    assert returned is axes
    (points,) = [each for each in axes.collections if each.get_gid() == "points"]
    accuracies = [100 * (item.value(Objective.ACCURACY) or 0) for item in report.analysis.compared]
    assert np.asarray(points.get_offsets())[:, 1] == pytest.approx(accuracies)
    assert axes.get_xlabel() == "latency / SqueezeBERT's rule, this machine (host)"


def test_without_axes_a_figure_is_made() -> None:
    assert isinstance(reports.load(fake_run(8)).plot_front().figure, Figure)


def test_a_cell_shows_the_answers_the_picture_and_the_table() -> None:
    html = reports.load(fake_run(12))._repr_html_()

    tags = Tags(html).tags
    assert ("svg" in tags, "table" in tags) == (True, True)
    assert "What should I ship?" in html
    assert "var(--" not in html


def test_a_hostile_name_stays_text_in_a_cell() -> None:
    html = reports.load(replace(fake_run(8), name=HOSTILE, task=HOSTILE))._repr_html_()

    assert "script" not in Tags(html).tags
    assert "&lt;script&gt;" in html


def test_one_objective_is_no_front_to_draw() -> None:
    report = reports.load(fake_run(8, objectives=(Objective.LATENCY,)))

    with pytest.raises(NoPlaneError, match="run 'fake' has fewer than two objectives to compare"):
        report.plot_front()
    assert "<svg" not in report._repr_html_()


@pytest.mark.parametrize("name", poor_runs())
def test_a_poor_run_is_still_a_cell_and_a_table(name: str) -> None:
    report = reports.load(poor_runs()[name])

    assert "What should I ship?" in report._repr_html_()
    assert len(report.frame()) == len(report.run.trials)
    assert len(report.front()) == len(report.analysis.front)


def test_an_empty_run_says_what_to_do() -> None:
    with pytest.raises(EmptyRunError, match="start them with `nas search`"):
        reports.load(fake_run_of()).frame()


def test_a_run_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no run 'first' in folder"):
        load("first", runs_folder=tmp_path)
