from __future__ import annotations

from nas.records import Objective, Role, Run, Trial
from reports.analysis import analyse
from reports.wording import answers, headline
from search_spaces.reference import dense_encoder, squeezebert_rule
from tests.fake_run import TEACHER, failed, fake_run, fake_run_of, fake_trial

SMALL = dense_encoder(hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128)


def rule(accuracy: float) -> Trial:
    return fake_trial(
        0, architecture=squeezebert_rule(TEACHER), role=Role.SQUEEZEBERT_RULE, accuracy=accuracy, ratio=None
    )


def said(run: Run) -> list[str]:
    return [" ".join(answer.sentences) for answer in answers(analyse(run))]


def test_the_first_page_asks_the_three_questions_a_reader_has() -> None:
    questions = [answer.question for answer in answers(analyse(fake_run(20)))]

    assert questions == ["What should I ship?", "How sure is that?", "How does it compare?"]


def test_a_faster_model_that_scores_as_well_is_recommended_with_its_intervals() -> None:
    what, _, against = said(fake_run_of(rule(0.85), fake_trial(1, architecture=SMALL, accuracy=0.86, ratio=0.5)))

    assert what.startswith("Trial 1. Its accuracy is 86.0 % (84.5 to 87.5).")
    assert "times as long as SqueezeBERT's rule, on this machine (host)." in what
    assert "the cheapest front model that scores at least as well" in what
    assert "accuracy 1.0 points higher, which may be chance (the intervals overlap)" in against
    assert "% less time per inference on this machine (host), beyond chance (the intervals are apart)" in against


def test_the_headline_says_what_to_ship_how_it_compares_and_how_sure_that_is() -> None:
    run = fake_run_of(rule(0.85), fake_trial(1, architecture=SMALL, accuracy=0.85, ratio=0.5))
    analysis = analyse(run)

    as_accurate, as_fast = (analysis.no_worse[name] for name in (Objective.ACCURACY, Objective.LATENCY))

    # One score, drawn by itself for each of the two: a coin.
    assert 0.4 < as_accurate < 0.6
    assert as_fast == 1.0
    share = f"{100 * as_accurate:.0f} %"
    assert headline(analysis).startswith("Ship trial 1: 85.0 % accuracy against 85.0 % of SqueezeBERT's rule, 0.")
    assert headline(analysis).endswith(
        f") times the time of the rule. {share} sure to be as accurate, 100 % sure to be as fast."
    )
    assert f"SqueezeBERT's rule or better: as accurate in {share} and as fast in 100 %." in said(run)[1]


def test_the_headline_of_a_run_without_times_or_without_the_rule_says_what_there_is() -> None:
    lone = analyse(fake_run_of(fake_trial(1, architecture=SMALL, accuracy=0.9, ratio=0.5)))
    nothing = analyse(fake_run_of(failed(fake_trial(0), failure="out of memory")))
    itself = analyse(fake_run_of(rule(0.95), fake_trial(1, architecture=SMALL, accuracy=0.90, ratio=0.5)))

    assert headline(lone).startswith("Ship trial 1: 90.0 % accuracy, 0.")
    assert headline(lone).endswith(" times the time of SqueezeBERT's rule.")
    assert lone.no_worse == itself.no_worse == {}
    assert headline(nothing) == ""
    assert headline(itself) == "Ship SqueezeBERT's rule (trial 0): no candidate scored as well at a lower cost."


def test_scores_far_apart_are_called_beyond_chance() -> None:
    *_, against = said(fake_run_of(rule(0.60), fake_trial(1, architecture=SMALL, accuracy=0.90, ratio=0.5)))

    assert "accuracy 30.0 points higher, beyond chance (the intervals are apart)" in against


def test_the_rule_itself_is_recommended_when_nothing_beats_it() -> None:
    what, *_ = said(fake_run_of(rule(0.95), fake_trial(1, architecture=SMALL, accuracy=0.90, ratio=0.5)))

    assert what.startswith("SqueezeBERT's rule (trial 0).")
    assert "No candidate scored as well at a lower cost" in what


def test_a_missing_reference_is_named() -> None:
    what, _, against = said(fake_run_of(fake_trial(1, architecture=SMALL)))

    assert "It is the knee" in what
    assert "SqueezeBERT's rule has no finished trial to compare with." in against
    assert "The dense teacher has no finished trial to compare with." in against


def test_a_run_in_which_all_failed_recommends_nothing() -> None:
    assert said(fake_run_of(failed(fake_trial(0), failure="out of memory"))) == [
        "Nothing yet: none of 1 trials has finished."
    ]
