from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from device_lab.measurement import Backend, DeviceInfo, Measurement, Reason
from device_lab.timed import timed
from nas.records import Objective, Role, Run, TrialState
from reports.evidence import gather
from search_spaces.architecture import Architecture
from search_spaces.reference import dense_encoder
from tests.fake_run import HOST, failed, fake_measurement, fake_run_of, fake_score, fake_trial

WIDE, NARROW = 1024, 512


def reasons(run: Run) -> dict[int, str | None]:
    return {item.trial.number: item.left_out for item in gather(run).evidence}


def test_trials_of_one_evaluator_on_one_bench_are_compared() -> None:
    run = fake_run_of(fake_trial(0, architecture=_arch(WIDE)), fake_trial(1, architecture=_arch(NARROW)))

    assert reasons(run) == {0: None, 1: None}
    assert gather(run).notices == ()


def test_a_score_of_another_evaluator_is_never_compared() -> None:
    other = replace(fake_trial(1, architecture=_arch(NARROW)), score=fake_score(0.9, evaluator="projected"))
    run = fake_run_of(fake_trial(0, architecture=_arch(WIDE)), other)

    assert reasons(run) == {0: None, 1: "scored by 'projected'; this report compares 'distilled'"}


def test_a_time_of_another_device_is_never_compared() -> None:
    phone = replace(HOST, backend=Backend.VIRTUAL_PHONE, model="Pixel <b>")
    elsewhere = replace(fake_trial(1, architecture=_arch(NARROW)), measurements=(timed(_measurement(device=phone)),))
    run = fake_run_of(fake_trial(0, architecture=_arch(WIDE)), elsewhere)

    assert reasons(run)[1] == ("timed elsewhere (virtual phone, not a phone, Pixel <b>) or against another reference")


def test_a_time_against_another_reference_is_never_compared() -> None:
    measurement = replace(_measurement(), reference_sha256="another model")
    run = fake_run_of(
        fake_trial(0, architecture=_arch(WIDE)),
        fake_trial(1, architecture=_arch(NARROW)),
        replace(fake_trial(2, architecture=_arch(256)), measurements=(timed(measurement),)),
    )

    assert "another reference" in str(reasons(run)[2])


def test_the_bench_of_the_run_wins_over_a_more_used_one() -> None:
    phone = replace(HOST, backend=Backend.DEVICE)
    many = [
        replace(fake_trial(i, architecture=_arch(256 * i)), measurements=(timed(_measurement(device=phone)),))
        for i in (1, 2, 3)
    ]
    run = fake_run_of(*many, fake_trial(4, architecture=_arch(WIDE)))

    bench = gather(run).bench

    assert bench is not None
    assert bench.label == "this machine (host)"


def test_emulated_times_are_not_shown_and_macs_stand_in() -> None:
    emulated = replace(fake_trial(0), measurements=(timed(_measurement(device=replace(HOST, backend=Backend.QEMU))),))

    gathered = gather(fake_run_of(emulated))

    assert gathered.bench is None
    assert gathered.evidence[0].ratio is None
    assert gathered.objectives == (Objective.ACCURACY, Objective.MACS)
    assert any("qemu" in notice for notice in gathered.notices)


def test_a_repeat_names_the_trial_it_repeats() -> None:
    run = fake_run_of(fake_trial(3), replace(fake_trial(7), same_as=3))

    assert reasons(run) == {3: None, 7: "same architecture as trial 3"}


def test_a_repeat_that_was_not_marked_is_found_by_its_architecture() -> None:
    assert reasons(fake_run_of(fake_trial(3), fake_trial(7)))[7] == "same architecture as trial 3"


def test_a_failed_trial_keeps_its_reason_and_leaves_its_architecture_free() -> None:
    run = fake_run_of(failed(fake_trial(0), failure="out of memory"), fake_trial(1))

    assert reasons(run) == {0: "out of memory", 1: None}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"state": TrialState.RUNNING}, "not finished"),
        ({"score": None}, "not scored"),
        ({"measurements": ()}, "not timed"),
    ],
)
def test_what_a_trial_lacks_is_named(change: dict[str, object], reason: str) -> None:
    lacking = replace(fake_trial(1, architecture=_arch(NARROW)), **change)  # type: ignore[arg-type]

    assert reasons(fake_run_of(fake_trial(0, architecture=_arch(WIDE)), lacking))[1] == reason


def test_too_few_kept_blocks_are_counted_in_the_reason() -> None:
    short = replace(_measurement(), reason=Reason.NOISY_REFERENCE)
    short = replace(short, blocks=short.blocks[:1])
    trial = replace(fake_trial(1, architecture=_arch(NARROW)), measurements=(timed(short),))

    assert reasons(fake_run_of(fake_trial(0, architecture=_arch(WIDE)), trial))[1] == (
        "only 1 of 1 blocks kept (noisy_reference)"
    )


def test_the_finest_measurement_speaks_for_a_trial() -> None:
    coarse, normal = _measurement(ratio=0.9), _measurement(ratio=0.8, precision="normal")
    trial = replace(fake_trial(0), measurements=(timed(coarse), timed(normal)))

    item = gather(fake_run_of(trial)).evidence[0]

    assert item.measurement == timed(normal)
    assert item.ratio is not None
    assert item.ratio.estimate == pytest.approx(0.8, rel=0.02)


def test_the_ratio_of_squeezeberts_rule_is_one_by_definition() -> None:
    rule = fake_trial(0, architecture=_arch(WIDE), role=Role.SQUEEZEBERT_RULE, ratio=None)
    run = fake_run_of(rule, fake_trial(1, architecture=_arch(NARROW)))

    ratio = gather(run).evidence[0].ratio

    assert ratio is not None
    assert (ratio.estimate, ratio.low, ratio.high) == (1.0, 1.0, 1.0)


def test_without_any_score_accuracy_is_not_compared_and_a_notice_says_so() -> None:
    gathered = gather(fake_run_of(fake_trial(0, accuracy=None)))

    assert gathered.objectives == (Objective.LATENCY,)
    assert gathered.notices == ("No trial has an accuracy yet, so accuracy is not compared.",)


def test_with_accuracy_alone_and_no_score_macs_are_compared() -> None:
    run = fake_run_of(fake_trial(0, accuracy=None), objectives=(Objective.ACCURACY,))

    assert gather(run).objectives == (Objective.MACS,)


def _measurement(*, ratio: float = 0.8, precision: str = "coarse", device: DeviceInfo = HOST) -> Measurement:
    generator = np.random.default_rng(1)
    made = fake_measurement(f"m-{ratio}", ratio=ratio, generator=generator, precision=precision)
    return replace(made, device=device)


def _arch(width: int) -> Architecture:
    return dense_encoder(hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=width)
