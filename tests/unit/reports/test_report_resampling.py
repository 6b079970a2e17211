from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from device_lab.timed import digest
from nas.outcomes import pack_outcomes
from nas.records import Objective, Run, Trial
from reports.analysis import analyse
from reports.resampling import is_paired, resampled_losses
from reports.write import write_report
from tests.fake_run import TEACHER, fake_run_of, fake_trial
from tests.lab_blocks import chain

NUM_EXAMPLES = 1000


def trial_with(number: int, *, wrong: set[int], kept: bool = True) -> Trial:
    """A trial that answered all dev examples but ``wrong`` ones rightly, of an architecture of its own."""
    is_right = np.array([i not in wrong for i in range(NUM_EXAMPLES)])
    trial = fake_trial(
        number,
        architecture=replace(TEACHER, vocab_size=1000 + number),
        accuracy=1 - len(wrong) / NUM_EXAMPLES,
        ratio=None,
    )
    assert trial.score is not None
    outcomes = pack_outcomes(is_right) if kept else None
    return replace(trial, score=replace(trial.score, num_examples=NUM_EXAMPLES, outcomes=outcomes))


def run_of(*trials: Trial) -> Run:
    return fake_run_of(*trials, objectives=(Objective.ACCURACY,))


HARD = set(range(100))


def test_a_model_that_is_right_wherever_another_is_is_never_behind_it() -> None:
    probabilities = analyse(
        run_of(trial_with(0, wrong=HARD | {200, 300, 400}), trial_with(1, wrong=HARD))
    ).probabilities

    assert probabilities[1] == 1.0
    # Level only where none of the three examples is drawn: e to the power of -3.
    assert probabilities[0] == pytest.approx(0.05, abs=0.04)


def test_without_the_answers_the_same_two_models_are_a_toss_up() -> None:
    trials = (
        trial_with(0, wrong=HARD | {200, 300, 400}, kept=False),
        trial_with(1, wrong=HARD, kept=False),
    )

    probabilities = analyse(run_of(*trials)).probabilities

    assert 0.25 < probabilities[0] < 0.75


def test_redrawn_accuracies_spread_as_a_binomial_does() -> None:
    compared = analyse(run_of(trial_with(0, wrong=HARD), trial_with(1, wrong=HARD | {500}))).compared

    losses = resampled_losses(compared, (Objective.ACCURACY,), np.random.default_rng(0))

    assert losses[:, 0, 0].mean() == pytest.approx(0.1, abs=0.002)
    assert losses[:, 0, 0].std() == pytest.approx((0.1 * 0.9 / NUM_EXAMPLES) ** 0.5, rel=0.12)
    assert np.corrcoef(losses[:, 0, 0], losses[:, 1, 0])[0, 1] > 0.98


@pytest.mark.parametrize("kept", [True, False])
def test_the_page_says_how_scores_were_redrawn(tmp_path: Path, kept: bool) -> None:
    run = run_of(trial_with(0, wrong=HARD), trial_with(1, wrong=HARD | {5}, kept=kept))

    page = write_report(run, tmp_path).html.read_text()

    assert is_paired(analyse(run).compared) is kept
    assert ("the same ones for all models" in page) is kept
    assert ("models are drawn independently" in page) is not kept


def test_scores_on_another_number_of_examples_are_drawn_by_themselves() -> None:
    other = trial_with(1, wrong=HARD)
    assert other.score is not None
    fewer = base64.b64encode(bytes(125)).decode()
    other = replace(other, score=replace(other.score, num_examples=995, outcomes=fewer))

    compared = analyse(run_of(trial_with(0, wrong=HARD), other)).compared

    assert not is_paired(compared)
    losses = resampled_losses(compared, (Objective.ACCURACY,), np.random.default_rng(0))
    assert abs(np.corrcoef(losses[:, 0, 0], losses[:, 1, 0])[0, 1]) < 0.2


def test_the_ratio_of_a_session_that_was_not_quiet_is_redrawn_as_widely_as_its_interval() -> None:
    # Of nine blocks three are kept, which agree on 0.8; the median of all nine may be 0.98.
    references = [10_000, 10_000, 10_000, 10_000, 11_000, 10_000, 11_000, 10_000, 11_000, 10_000]
    blocks = tuple(chain(references, [8_000, 8_004, 7_996, 9_500, 9_600, 9_700, 9_800, 9_900, 10_000]))
    trial = fake_trial(0, architecture=TEACHER, accuracy=0.9, ratio=0.8)
    (measurement,) = trial.measurements
    disturbed = replace(trial, measurements=(replace(measurement, blocks=blocks, digest=digest(blocks)),))
    run = fake_run_of(disturbed, objectives=(Objective.LATENCY,))
    (item,) = analyse(run).evidence
    assert item.ratio is not None

    drawn = resampled_losses([item], (Objective.LATENCY,), np.random.default_rng(0))

    low, high = np.quantile(drawn, [0.025, 0.975])
    assert high / low == pytest.approx(item.ratio.high / item.ratio.low, rel=0.05)
