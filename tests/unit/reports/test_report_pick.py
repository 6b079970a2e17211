from __future__ import annotations

from dataclasses import replace

import pytest

from device_lab.measurement import Interval
from nas.records import Objective, Role
from reports.analysis import Analysis, analyse
from reports.errors import NothingFitsError
from reports.pick import export_command, pick_by_accuracy, pick_within_latency, sentences
from search_spaces.reference import dense_encoder, squeezebert_rule
from tests.fake_run import TEACHER, fake_run_of, fake_trial


def analysis_of(*points: tuple[float | None, float | None], name: str = "fake") -> Analysis:
    """The rule at 85 %, and candidates 1, 2, .. with these accuracies and ratios."""
    rule = fake_trial(0, architecture=squeezebert_rule(TEACHER), role=Role.SQUEEZEBERT_RULE, accuracy=0.85, ratio=None)
    candidates = (
        fake_trial(
            number,
            architecture=dense_encoder(
                hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64 * number
            ),
            accuracy=accuracy,
            ratio=ratio,
        )
        for number, (accuracy, ratio) in enumerate(points, start=1)
    )
    return analyse(fake_run_of(rule, *candidates, name=name))


def test_the_best_score_within_the_latency_wins_and_the_next_best_is_runner_up() -> None:
    analysis = analysis_of((0.88, 0.4), (0.90, 0.7), (0.95, 0.9), (0.86, 0.3))

    pick = pick_within_latency(analysis, max_ratio=0.8)

    assert pick.runner_up is not None
    assert (pick.model.trial.number, pick.runner_up.trial.number) == (2, 1)
    assert pick.probability > 0.999


def test_the_cheapest_that_scores_enough_wins() -> None:
    analysis = analysis_of((0.88, 0.4), (0.90, 0.7), (0.95, 0.9), (0.86, 0.3))

    pick = pick_by_accuracy(analysis, min_accuracy=0.895)

    assert pick.runner_up is not None
    assert (pick.model.trial.number, pick.runner_up.trial.number) == (2, 3)
    # The interval of 2,000 examples is 1.3 points to each side of 90 %, so 89.5 % is 0.75 deviations below it.
    assert pick.probability == pytest.approx(0.772, abs=0.005)
    assert "the chance is 77 %" in " ".join(sentences(pick, analysis))


def test_a_limit_right_at_the_estimate_is_kept_with_even_odds() -> None:
    analysis = analysis_of((0.88, 0.4))
    ratio = analysis.compared[1].ratio
    assert ratio is not None

    assert pick_within_latency(analysis, max_ratio=ratio.estimate).probability == pytest.approx(0.5, abs=0.01)


def test_the_rule_itself_may_be_picked_and_has_no_runner_up() -> None:
    analysis = analysis_of((0.80, 1.4))

    pick = pick_within_latency(analysis, max_ratio=1.0)

    assert pick.model.trial.role is Role.SQUEEZEBERT_RULE
    assert pick.runner_up is None
    assert pick.probability == 1.0
    assert sentences(pick, analysis)[-1] == "There is no runner-up: no other model keeps the limit."


@pytest.mark.parametrize(("limit", "is_sure"), [(1.19, False), (1.21, True)])
def test_a_lopsided_interval_is_sure_of_a_limit_only_beyond_its_own_end(limit: float, is_sure: bool) -> None:
    analysis = analysis_of((0.88, 0.8))
    # As of the worst of several devices, of which one is not known well.
    rule, model = analysis.compared
    lopsided = replace(analysis, compared=(rule, replace(model, ratio=Interval(estimate=0.8, low=0.7, high=1.2))))

    pick = pick_within_latency(lopsided, max_ratio=limit)

    found = [sentence for sentence in sentences(pick, lopsided) if sentence.startswith("It keeps the limit")]
    assert ("whole 95 % interval" in found[0]) == is_sure


def test_without_scores_the_fastest_is_picked() -> None:
    analysis = analyse(
        fake_run_of(
            *(
                fake_trial(
                    number,
                    architecture=dense_encoder(
                        hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64 * number
                    ),
                    accuracy=None,
                    ratio=ratio,
                )
                for number, ratio in ((1, 0.7), (2, 0.4))
            )
        )
    )

    assert pick_within_latency(analysis, max_ratio=0.8).model.trial.number == 2


def test_a_limit_nothing_keeps_names_the_nearest_model() -> None:
    analysis = analysis_of((0.88, 0.4), (0.90, 0.7), name="mine")

    with pytest.raises(
        NothingFitsError,
        match=r"no compared model of run 'mine' has a latency ratio of at most 0.1; the fastest is trial 1 at 0\.",
    ):
        pick_within_latency(analysis, max_ratio=0.1)
    with pytest.raises(
        NothingFitsError, match=r"has accuracy of at least 99 %; the best is trial 2 at 0\.9 .*trials N"
    ):
        pick_by_accuracy(analysis, min_accuracy=0.99)


def test_a_limit_on_what_nobody_has_leads_to_the_other_limit() -> None:
    untimed = fake_run_of(fake_trial(1, accuracy=0.9, ratio=None))
    analysis = analyse(replace(untimed, objectives=(Objective.ACCURACY, Objective.MACS)))

    with pytest.raises(NothingFitsError, match="none was timed; pick by the other limit, or search a new run"):
        pick_within_latency(analysis, max_ratio=0.8)


def test_the_export_command_quotes_a_run_name() -> None:
    analysis = analysis_of((0.88, 0.4), name="a b")

    assert export_command(analysis.compared[1], analysis) == "nas export 'a b' 1 --to 'a b'-1"
