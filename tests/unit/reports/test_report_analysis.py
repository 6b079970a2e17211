from __future__ import annotations

from dataclasses import replace

import pytest

from nas.records import Objective, Role, Trial
from reports.analysis import analyse
from reports.errors import EmptyRunError
from search_spaces.architecture import Architecture
from search_spaces.reference import dense_encoder, squeezebert_rule
from tests.fake_run import TEACHER, failed, fake_run, fake_run_of, fake_trial


def small(width: int) -> Architecture:
    return dense_encoder(hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=width)


def rule(*, accuracy: float | None = 0.85) -> Trial:
    return fake_trial(
        0, architecture=squeezebert_rule(TEACHER), role=Role.SQUEEZEBERT_RULE, accuracy=accuracy, ratio=None
    )


def test_a_run_without_trials_says_what_to_do() -> None:
    with pytest.raises(EmptyRunError, match=r"run 'mine' has no trials; start them with `nas search`"):
        analyse(fake_run_of(name="mine"))


def test_the_front_is_cheapest_first_and_leaves_out_the_dominated() -> None:
    run = fake_run_of(
        rule(),
        fake_trial(1, architecture=small(128), accuracy=0.90, ratio=0.9),
        fake_trial(2, architecture=small(256), accuracy=0.80, ratio=0.5),
        fake_trial(3, architecture=small(512), accuracy=0.79, ratio=0.7),
    )

    analysis = analyse(run)

    assert [item.trial.number for item in analysis.front] == [2, 1]


def test_what_to_ship_is_the_cheapest_that_scores_as_well_as_the_rule() -> None:
    run = fake_run_of(
        rule(accuracy=0.85),
        fake_trial(1, architecture=small(128), accuracy=0.92, ratio=1.4),
        fake_trial(2, architecture=small(256), accuracy=0.86, ratio=0.8),
        fake_trial(3, architecture=small(512), accuracy=0.60, ratio=0.4),
    )

    ship = analyse(run).ship

    assert ship is not None
    assert ship.trial.number == 2


def test_without_a_score_of_the_rule_the_knee_is_shipped() -> None:
    analysis = analyse(fake_run_of(rule(accuracy=None), fake_trial(1, architecture=small(128), ratio=0.5)))

    assert analysis.ship is analysis.knee
    assert analysis.squeezebert is None


def test_the_same_run_gives_the_same_answers() -> None:
    first, second = analyse(fake_run(20)), analyse(fake_run(20))

    assert first.probabilities == second.probabilities
    assert first.milliseconds == second.milliseconds


def test_a_clear_winner_is_on_the_front_for_certain_and_a_clear_loser_never() -> None:
    run = fake_run_of(
        fake_trial(1, architecture=small(128), accuracy=0.95, ratio=0.5),
        fake_trial(2, architecture=small(256), accuracy=0.60, ratio=1.5),
    )

    assert analyse(run).probabilities == {1: 1.0, 2: 0.0}


def test_two_models_alike_are_each_uncertain() -> None:
    run = fake_run_of(
        fake_trial(1, architecture=small(128), accuracy=0.90, ratio=0.8),
        fake_trial(2, architecture=small(256), accuracy=0.90, ratio=0.8),
    )

    probabilities = analyse(run).probabilities

    assert all(0.2 < probability < 1.0 for probability in probabilities.values())


def test_the_hypervolume_is_the_share_of_the_box_to_twice_the_rule() -> None:
    run = fake_run_of(rule(accuracy=0.8), objectives=(Objective.ACCURACY, Objective.MACS))

    analysis = analyse(run)

    # Accuracy 0.8 of 1, over the dearer half of the costs from 0 to twice the rule's.
    assert analysis.hypervolume.tolist() == pytest.approx([0.8 * 0.5])


def test_repeats_do_not_enter_the_hypervolume() -> None:
    run = fake_run_of(rule(), replace(fake_trial(1, architecture=small(128))), replace(fake_trial(2), same_as=1))

    assert len(analyse(run).hypervolume) == 2


def test_the_milliseconds_of_an_untimed_rule_are_those_of_the_reference() -> None:
    analysis = analyse(fake_run_of(rule(), fake_trial(1, architecture=small(128), ratio=0.5)))

    assert analysis.milliseconds[0].p50.estimate == pytest.approx(8.0, rel=0.03)
    assert analysis.milliseconds[1].p50.estimate == pytest.approx(4.0, rel=0.03)


def test_a_run_without_anything_finished_has_no_front() -> None:
    analysis = analyse(fake_run_of(failed(fake_trial(0), failure="out of memory")))

    assert analysis.front == ()
    assert analysis.ship is None
    assert analysis.hypervolume.tolist() == []
