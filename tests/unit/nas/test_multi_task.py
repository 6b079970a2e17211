from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_lab.measurement import Interval
from nas.accuracy import find_or_evaluate
from nas.errors import NonFiniteLossError, TrainingError
from nas.metrics import bootstrap_interval
from nas.multi_task import MultiTaskEvaluator, mean_interval, mean_score
from nas.records import Score
from nas.store import Store, sqlite_url
from search_spaces.architecture import Architecture
from tests.fake_parts import TEACHER, FormulaEvaluator

FILM = Score(
    task="film",
    metric="accuracy",
    evaluator="distilled",
    interval=Interval(estimate=0.9, low=0.86, high=0.93),
    metrics=(("accuracy", 0.9), ("f1", 0.8)),
    num_examples=200,
    duration_s=3.0,
    weights_sha256="a",
    teacher_divergence=0.25,
)
QUESTION = replace(
    FILM,
    task="question",
    interval=Interval(estimate=0.7, low=0.67, high=0.74),
    metrics=(("accuracy", 0.7),),
    num_examples=500,
    duration_s=4.5,
    weights_sha256="b",
    teacher_divergence=0.75,
)


@st.composite
def _intervals(draw: st.DrawFn) -> Interval:
    estimate = draw(st.floats(min_value=-1, max_value=1))
    below, above = (draw(st.floats(min_value=0, max_value=0.2)) for _ in range(2))
    return Interval(estimate=estimate, low=estimate - below, high=estimate + above)


class NamedEvaluator(FormulaEvaluator):
    """A formula of one task's own."""

    def __init__(self, task: str, *, bonus: float = 0.0, name: str = "distilled") -> None:
        super().__init__(name=name, bonus=bonus)
        self.settings_id = f"{task}-{name}"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(sqlite_url(tmp_path / "store.db"))


def test_a_score_over_tasks_is_the_mean_of_their_first_metrics() -> None:
    score = mean_score({"film": FILM, "question": QUESTION})

    assert score.interval.estimate == pytest.approx(0.8)
    # sqrt(0.04^2 + 0.03^2) / 2 and sqrt(0.03^2 + 0.04^2) / 2
    assert score.interval.low == pytest.approx(0.775)
    assert score.interval.high == pytest.approx(0.825)
    assert (score.task, score.metric, score.evaluator) == ("film,question", "mean accuracy", "distilled")
    assert score.metrics == (("film.accuracy", 0.9), ("film.f1", 0.8), ("question.accuracy", 0.7))
    assert (score.num_examples, score.duration_s, score.teacher_divergence) == (700, 7.5, 0.5)
    assert score.weights_sha256 is None


def test_tasks_of_different_metrics_have_a_mean_score_and_no_divergence_where_one_has_none() -> None:
    score = mean_score({"film": FILM, "alike": replace(QUESTION, metric="pearson", teacher_divergence=None)})

    assert (score.metric, score.teacher_divergence) == ("mean score", None)


def test_the_interval_of_a_mean_is_that_of_an_independent_bootstrap() -> None:
    generator = np.random.default_rng(1)
    sizes, rates = (200, 500, 90), (0.93, 0.7, 0.55)
    hits = [(generator.random(size) < rate).astype(float) for size, rate in zip(sizes, rates, strict=True)]

    ours = mean_interval([bootstrap_interval("accuracy", each, np.ones(len(each)), seed=0) for each in hits])

    means = [generator.choice(each, size=(20_000, len(each))).mean(axis=1) for each in hits]
    low, high = np.quantile(np.mean(means, axis=0), [0.025, 0.975])
    width = high - low
    assert ours.estimate == pytest.approx(float(np.mean([each.mean() for each in hits])))
    assert ours.low == pytest.approx(low, abs=0.05 * width)
    assert ours.high == pytest.approx(high, abs=0.05 * width)


@given(st.lists(_intervals(), min_size=1, max_size=9))
def test_a_mean_lies_in_its_interval_which_is_no_wider_than_the_mean_of_all(parts: list[Interval]) -> None:
    mean = mean_interval(parts)

    assert mean.low <= mean.estimate <= mean.high
    assert mean.high - mean.low <= sum(each.high - each.low for each in parts) / len(parts) + 1e-12


@given(_intervals(), st.integers(min_value=1, max_value=9))
def test_tasks_that_are_alike_narrow_the_interval_by_the_root_of_their_number(part: Interval, count: int) -> None:
    mean = mean_interval([part] * count)

    assert mean.estimate == pytest.approx(part.estimate)
    assert (mean.high - mean.estimate) * math.sqrt(count) == pytest.approx(part.high - part.estimate, abs=1e-9)
    assert (mean.estimate - mean.low) * math.sqrt(count) == pytest.approx(part.estimate - part.low, abs=1e-9)


def test_every_task_is_scored_once_and_kept_under_its_own_settings(store: Store) -> None:
    parts = {"film": NamedEvaluator("film"), "question": NamedEvaluator("question", bonus=-0.2)}
    evaluator = MultiTaskEvaluator(parts, store=store)
    known = find_or_evaluate(parts["film"], TEACHER, store=store)
    steps: list[tuple[int, int]] = []

    score = evaluator.evaluate(TEACHER, on_step=lambda step, num_steps: steps.append((step, num_steps)))

    question = store.find_score("question-distilled", TEACHER.arch_id)
    assert question is not None
    assert score.interval.estimate == pytest.approx((known.interval.estimate + question.interval.estimate) / 2)
    assert [part.scored for part in parts.values()] == [[TEACHER.arch_id]] * 2
    # The first task was known; the one step of the second is the second of two.
    assert (evaluator.name, steps) == ("distilled", [(2, 2)])


def test_the_settings_id_tells_tasks_their_order_and_their_evaluators_apart(store: Store) -> None:
    film, question, other = (NamedEvaluator(task) for task in ("film", "question", "other"))
    sets = [
        {"film": film, "question": question},
        {"question": question, "film": film},
        {"film": film, "question": other},
        {"film": film, "renamed": question},
        {"film": film, "question": question, "other": other},
    ]

    ids = {MultiTaskEvaluator(parts, store=store).settings_id for parts in sets}

    assert len(ids) == len(sets)
    assert MultiTaskEvaluator(dict(sets[0]), store=store).settings_id in ids


def test_a_training_that_fails_names_its_task_and_keeps_the_others_scores(store: Store) -> None:
    def fail(arch: Architecture) -> None:
        raise NonFiniteLossError(step=3, loss=math.nan)

    failing = NamedEvaluator("question")
    failing._before = fail
    evaluator = MultiTaskEvaluator({"film": NamedEvaluator("film"), "question": failing}, store=store)

    with pytest.raises(TrainingError, match=r"^task 'question': loss=nan at step 3 is not finite"):
        evaluator.evaluate(TEACHER)
    assert store.find_score("film-distilled", TEACHER.arch_id) is not None
