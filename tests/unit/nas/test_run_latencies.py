"""What a run makes of measurements for those of its trials that were not timed."""

from __future__ import annotations

import numpy as np

from device_lab.measurement import Interval
from device_lab.timed import timed
from nas.cost import model_cost
from nas.latency_design import draw_pool
from nas.run_latencies import with_predictions
from reports.evidence import gather
from search_spaces.reference import dense_encoder, squeezebert_rule
from search_spaces.space import make_space
from tests.fake_run import SETTINGS, TEACHER, fake_measurement, fake_run_of, fake_trial

RULE = squeezebert_rule(TEACHER)


def test_a_prediction_beyond_what_was_measured_says_in_what() -> None:
    generator = np.random.default_rng(0)
    macs = {
        arch: model_cost(arch, sequence_length=SETTINGS.sequence_length, num_labels=2).encoder_macs
        for arch in (RULE, *draw_pool(make_space("grouped", TEACHER), seed=0, size=14))
    }
    measured = {
        arch: (timed(fake_measurement(arch.arch_id, ratio=count / macs[RULE], generator=generator)),)
        for arch, count in macs.items()
        if arch != RULE
    }
    deepest = max(arch.num_hidden_layers for arch in measured)
    inside = fake_trial(1, architecture=next(iter(measured)), ratio=None)
    deeper = dense_encoder(
        hidden_size=256, num_hidden_layers=deepest + 6, num_attention_heads=4, intermediate_size=1024
    )
    beyond = fake_trial(2, architecture=deeper, ratio=None)

    near, far = with_predictions([inside, beyond], measured, reference=RULE)

    assert isinstance(near.predicted, Interval)
    assert near.predicted_beyond == ""
    assert f"num_hidden_layers {deepest + 6} is outside of the measured" in far.predicted_beyond
    some_timed = fake_run_of(fake_trial(0, architecture=RULE, ratio=0.8), far, name="run")
    *_, shown = gather(some_timed).evidence
    assert f"less sure than it looks, for num_hidden_layers {deepest + 6} is outside" in str(shown.left_out)
