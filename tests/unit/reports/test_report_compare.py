from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from device_lab.measurement import Backend
from nas.records import Objective, Role, Run
from reports.analysis import analyse
from reports.compare import Comparison, compare
from reports.comparison_text import comparison_figure, document, move_table, sentences
from reports.errors import IncomparableRunsError
from search_spaces.reference import dense_encoder, squeezebert_rule
from tests.fake_run import HOST, SETTINGS, TEACHER, failed, fake_run, fake_run_of, fake_trial


def run_of(name: str, *points: tuple[int, float, float], labels: int = 0) -> Run:
    """The rule, and a candidate for each (FFN width, accuracy, true ratio)."""
    rule = fake_trial(0, architecture=squeezebert_rule(TEACHER), role=Role.SQUEEZEBERT_RULE, accuracy=0.85, ratio=None)
    candidates = (
        fake_trial(
            labels + i,
            architecture=dense_encoder(
                hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=width
            ),
            accuracy=accuracy,
            ratio=ratio,
        )
        for i, (width, accuracy, ratio) in enumerate(points, start=1)
    )
    return fake_run_of(rule, *candidates, name=name)


def compared(first: Run, second: Run) -> Comparison:
    return compare(analyse(first), analyse(second))


def timed_on(run: Run, **changes: object) -> Run:
    device = replace(HOST, **changes)  # type: ignore[arg-type]
    trials = tuple(
        replace(trial, measurements=tuple(replace(m, device=device) for m in trial.measurements))
        for trial in run.trials
    )
    return replace(run, device=device, trials=trials)


def test_a_run_against_itself_shows_no_difference() -> None:
    run = fake_run(20)

    comparison = compared(run, run)

    # What both have is measured once: it cannot differ from itself.
    assert (comparison.difference.low, comparison.difference.estimate, comparison.difference.high) == (0, 0, 0)
    assert comparison.first.hypervolume.low < comparison.first.hypervolume.high
    assert not any(move.is_beyond_chance for move in comparison.moves)
    assert len(comparison.moves) == len(comparison.first.compared)


def test_measurements_that_both_runs_have_do_not_blur_what_differs() -> None:
    shared, added = (64, 0.95, 0.7), (16, 0.90, 0.5)
    first = run_of("first", shared)
    more = run_of("second", shared, added)
    own = run_of("second", shared, added, labels=100)

    paired, unpaired = compared(first, more).difference, compared(first, own).difference

    assert paired.high - paired.low < 0.7 * (unpaired.high - unpaired.low)
    assert paired.low > 0


def test_scores_on_other_data_are_not_compared() -> None:
    first, second = fake_run(12), fake_run(12)

    comparison = compared(replace(first, task_sha256="aa11"), replace(second, task_sha256="bb22"))

    assert Objective.ACCURACY not in comparison.objectives
    assert "the data of task 'subj' are others (aa11 and bb22)" in comparison.notices[0]


def test_the_hypervolume_of_one_model_is_its_share_of_the_box() -> None:
    rule = fake_trial(0, architecture=squeezebert_rule(TEACHER), role=Role.SQUEEZEBERT_RULE, accuracy=0.8, ratio=None)

    comparison = compared(fake_run_of(rule, name="a"), run_of("b", (128, 0.9, 0.5)))

    # From accuracy 0.8 down to 0 and from the rule's MACs up to twice as many.
    assert comparison.objectives == (Objective.ACCURACY, Objective.MACS)
    assert comparison.notices == ("Multiply-accumulates stand in for cost: the runs share no other.",)
    assert comparison.first.hypervolume.estimate == pytest.approx(0.8 * 1 / 2)
    assert comparison.difference.low > 0


def test_a_model_that_became_slower_is_found_and_one_that_did_not_is_not() -> None:
    comparison = compared(
        run_of("a", (128, 0.90, 0.5), (256, 0.91, 0.8)), run_of("b", (128, 0.90, 0.7), (256, 0.91, 0.8), labels=10)
    )

    moved = [move for move in comparison.moves if move.is_beyond_chance]

    assert [(move.first.trial.number, move.second.trial.number) for move in moved] == [(1, 11)]
    change = dict(moved[0].changes)[Objective.LATENCY]
    assert change.low < 0.7 / 0.5 < change.high
    assert comparison.moves[0] is moved[0]


def test_unchanged_models_seldom_count_as_moved() -> None:
    points = [(64 * i, 0.85 + 0.005 * i, 0.4 + 0.1 * i) for i in range(1, 16)]

    comparison = compared(run_of("a", *points), run_of("b", *points, labels=50))

    # Fifteen times 5 % would be one; four or more happen once in two hundred pairs.
    assert sum(move.is_beyond_chance for move in comparison.moves) <= 3


@pytest.mark.slow
def test_the_interval_of_the_hypervolume_difference_covers_no_difference() -> None:
    points = ((128, 0.88, 0.4), (256, 0.90, 0.6), (512, 0.92, 0.9))
    differences = [
        compared(run_of("a", *points, labels=100 * i), run_of("b", *points, labels=100 * i + 50)).difference
        for i in range(8)
    ]

    assert sum(difference.low <= 0 <= difference.high for difference in differences) >= 6


def test_times_of_two_devices_are_not_compared_and_macs_stand_in() -> None:
    first = fake_run(8)

    comparison = compared(first, timed_on(first, device_id="phone-7", backend=Backend.DEVICE))

    assert comparison.objectives == (Objective.ACCURACY, Objective.MACS)
    assert comparison.bench is None
    assert "one was timed on this machine (host), the other on phone" in comparison.notices[0]


def test_another_thread_count_is_another_kind_of_time() -> None:
    first = fake_run(8)
    settings = replace(SETTINGS, num_threads=2)
    trials = tuple(
        replace(trial, measurements=tuple(replace(m, settings=settings) for m in trial.measurements))
        for trial in first.trials
    )

    comparison = compared(first, replace(first, settings=settings, trials=trials))

    assert "num_threads is 1 and 2" in comparison.notices[0]


def test_a_newer_system_is_compared_and_said() -> None:
    first = fake_run(8)

    comparison = compared(first, timed_on(first, os_version="Linux 6.9"))

    assert Objective.LATENCY in comparison.objectives
    assert comparison.notices == ("The system was Linux 6.1 and then Linux 6.9.",)


def test_scores_of_two_tasks_are_not_compared() -> None:
    comparison = compared(fake_run(8), replace(fake_run(8), task="trec"))

    assert comparison.objectives == (Objective.LATENCY,)
    assert comparison.notices == ("Accuracy is not compared: the runs have the tasks 'subj' and 'trec'.",)
    assert comparison_figure(comparison) is None


def test_runs_without_anything_in_common_are_refused() -> None:
    first = fake_run(8, objectives=(Objective.ACCURACY,))
    second = fake_run(8, objectives=(Objective.LATENCY,))

    with pytest.raises(IncomparableRunsError, match="cannot be compared: they share no objective"):
        compared(first, second)


def test_a_run_that_finished_nothing_is_named() -> None:
    nothing = fake_run_of(failed(fake_trial(1), failure="out of memory"), name="empty")

    with pytest.raises(IncomparableRunsError, match=r"cannot be compared: run 'empty' has no finished trial with"):
        compared(fake_run(8), nothing)


def test_the_words_the_table_and_the_json_agree() -> None:
    comparison = compared(run_of("a", (128, 0.90, 0.5)), run_of("b", (128, 0.90, 0.7), labels=10))

    text = " ".join(sentences(comparison))
    header, rows = move_table(comparison)
    parsed = json.loads(json.dumps(document(comparison)))

    assert "2 models are in both; 1 moved beyond chance" in text
    assert header == ["trials", "front", "accuracy, points", "latency, times", "moved"]
    assert (rows[0][0], rows[0][-1]) == ("1, 11", "yes")
    assert parsed["moves"][0]["changes"]["latency"]["estimate"] == pytest.approx(1.4, rel=0.05)
    assert parsed["hypervolume_difference"]["estimate"] == pytest.approx(
        parsed["second"]["hypervolume"]["estimate"] - parsed["first"]["hypervolume"]["estimate"]
    )


def test_both_fronts_are_drawn_at_their_own_points() -> None:
    comparison = compared(run_of("a", (128, 0.90, 0.5)), run_of("b", (256, 0.92, 0.7), labels=10))

    figure = comparison_figure(comparison)

    assert figure is not None
    legends = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]  # type: ignore[union-attr]
    assert legends == ["a: 1 of 2 on its front", "b: 1 of 2 on its front"]
    offsets = [np.asarray(collection.get_offsets()) for collection in figure.axes[0].collections]
    drawn = np.array([each for each in offsets if len(each) == 1])
    assert drawn[:, 0, 1] == pytest.approx([90.0, 92.0])
