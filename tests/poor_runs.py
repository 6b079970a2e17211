"""Runs that lack what a report would like to have."""

from __future__ import annotations

from dataclasses import replace

from device_lab.measurement import Backend
from nas.records import Objective, Role, Run
from search_spaces.reference import dense_encoder, squeezebert_rule
from tests.fake_run import HOST, TEACHER, failed, fake_run, fake_run_of, fake_trial


def poor_runs() -> dict[str, Run]:
    """Return runs that lack something a report would like to have, by what they lack."""
    lone = fake_trial(0)
    rule = fake_trial(0, architecture=squeezebert_rule(TEACHER), role=Role.SQUEEZEBERT_RULE, ratio=None)
    small = dense_encoder(hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128)
    phone = replace(HOST, device_id="phone-7", backend=Backend.DEVICE, model="A phone")
    on_a_phone = fake_trial(2, architecture=small, accuracy=0.8, ratio=0.5)
    return {
        "all failed": fake_run_of(failed(lone, failure="out of memory")),
        "nothing timed": fake_run_of(
            fake_trial(0, ratio=None), fake_trial(1, architecture=rule.architecture, ratio=None)
        ),
        "nothing scored": fake_run_of(fake_trial(0, accuracy=None)),
        "one trial": fake_run_of(lone),
        "no reference": fake_run_of(lone, fake_trial(1, architecture=rule.architecture)),
        "one objective": replace(fake_run(8), objectives=(Objective.LATENCY,)),
        "accuracy alone": replace(fake_run(8), objectives=(Objective.ACCURACY,)),
        "no latency": replace(fake_run(8), objectives=(Objective.ACCURACY, Objective.MACS)),
        "no accuracy": replace(fake_run(8), objectives=(Objective.LATENCY, Objective.MACS)),
        "four objectives": replace(fake_run(8), objectives=tuple(Objective)),
        "all dominated": fake_run_of(
            replace(rule, score=fake_trial(0, accuracy=0.99).score),
            fake_trial(1, architecture=TEACHER, role=Role.DENSE_TEACHER, accuracy=0.8, ratio=2.0),
            fake_trial(2, architecture=small, accuracy=0.7, ratio=1.5),
        ),
        "mixed backends": fake_run_of(
            rule,
            fake_trial(1, accuracy=0.9, ratio=2.0),
            replace(
                on_a_phone,
                measurements=tuple(replace(each, device=phone) for each in on_a_phone.measurements),
            ),
        ),
        "all alike": fake_run_of(*(replace(fake_trial(i), same_as=0 if i else None) for i in range(3))),
    }
