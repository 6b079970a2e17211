from __future__ import annotations

import numpy as np
import pytest

from nas.records import Role
from reports.analysis import analyse
from reports.published import published_figure, published_points, published_table, relative_points
from search_spaces.reference import dense_encoder, squeezebert_rule
from tests.fake_run import TEACHER, fake_run, fake_run_of, fake_trial


def test_the_papers_own_claim_is_there_without_a_score() -> None:
    point = next(each for each in published_points() if each.model == "SqueezeBERT")

    assert point.relative_latency == pytest.approx(1 / 4.3)
    assert point.relative_score is None
    assert "2006.11316" in point.source


def test_every_point_names_its_source_and_no_two_share_a_letter() -> None:
    points = published_points()

    assert len(points) >= 10
    assert len({point.letter for point in points}) == len(points)
    assert all(point.source and point.hardware and point.speedup > 1 for point in points)


def test_a_score_stands_only_beside_the_baseline_of_its_source() -> None:
    for point in published_points():
        assert (point.score is None) == (point.baseline_score is None) == (not point.score_name), point.model
    baselines = {(point.source, point.score_name): point.baseline_score for point in published_points()}
    for point in published_points():
        assert baselines[point.source, point.score_name] == point.baseline_score


def test_the_run_is_held_against_its_own_dense_teacher() -> None:
    run = fake_run_of(
        fake_trial(0, architecture=squeezebert_rule(TEACHER), role=Role.SQUEEZEBERT_RULE, accuracy=0.80, ratio=None),
        fake_trial(1, role=Role.DENSE_TEACHER, accuracy=0.90, ratio=2.0),
        fake_trial(
            2,
            architecture=dense_encoder(
                hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128
            ),
            accuracy=0.81,
            ratio=0.5,
        ),
    )

    (point,) = relative_points(analyse(run))

    item, latency, score = point
    assert item.trial.number == 2
    assert latency.low < 0.25 < latency.high
    assert score.estimate == pytest.approx(0.9)


def test_published_and_measured_are_on_axes_of_their_own() -> None:
    analysis = analyse(fake_run(30))

    figure = published_figure(analysis)

    assert figure is not None
    left, right = figure.axes
    marks = {c.get_gid(): np.asarray(c.get_offsets()) for axes in (left, right) for c in axes.collections}
    assert len(marks["published"]) == sum(point.relative_score is not None for point in published_points())
    assert len(marks["measured"]) == len(relative_points(analysis))
    assert "BERT-base of the same source" in left.get_xlabel()
    assert "this run's dense teacher" in right.get_xlabel()


def test_a_run_without_a_timed_teacher_shows_nothing_published() -> None:
    assert published_figure(analyse(fake_run_of(fake_trial(1)))) is None


def test_what_is_not_known_is_a_dash_in_the_table() -> None:
    row = next(row for row in published_table() if row[1] == "SqueezeBERT")

    assert row[2:5] == ("0.23", "\N{EN DASH}", "\N{EN DASH}")
