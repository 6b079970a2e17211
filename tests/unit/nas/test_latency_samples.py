from __future__ import annotations

import math
from dataclasses import replace

import pytest

from device_lab.measurement import RunSettings
from device_lab.timed import Timed, timed
from nas.errors import PredictionError
from nas.latency_samples import MIN_STANDARD_ERROR, latency_samples
from search_spaces.reference import dense_encoder, squeezebert_rule
from tests.fake_parts import TEACHER
from tests.lab_blocks import chain, measured

RULE = squeezebert_rule(TEACHER)
WIDER = dense_encoder(hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)


def around(ratio: float, *, spread: float) -> Timed:
    """Six blocks whose ratios scatter by ``spread``."""
    candidates = [round(1_000_000 * ratio * (1 + sign * spread)) for sign in (-1, 1, -1, 1, -1, 1)]
    return timed(measured(chain([1_000_000] * 7, candidates)))


SETTINGS = around(0.7, spread=0.01).settings


def test_the_finest_measurement_of_an_architecture_is_its_sample() -> None:
    measurements = [around(0.70, spread=0.03), around(0.75, spread=0.01), around(0.80, spread=0.02)]

    (sample,) = latency_samples({TEACHER: measurements}, reference=RULE)

    assert (sample.arch, sample.reference) == (TEACHER, RULE)
    assert sample.ratio == pytest.approx(0.75, rel=1e-3)
    assert 0.004 < sample.standard_error < 0.01


def test_a_measurement_without_spread_is_not_taken_for_perfect() -> None:
    (sample,) = latency_samples({TEACHER: [around(0.5, spread=0.0)]}, reference=RULE)

    assert sample.standard_error == MIN_STANDARD_ERROR


def test_what_has_no_interval_gives_no_sample() -> None:
    single = timed(measured(chain([1_000_000] * 2, [900_000])))

    assert latency_samples({TEACHER: [single], WIDER: []}, reference=RULE) == []
    assert math.isfinite(latency_samples({TEACHER: [single, around(0.9, spread=0.01)]}, reference=RULE)[0].ratio)


@pytest.mark.parametrize(
    ("other_settings", "shown"),
    [
        (replace(SETTINGS, runtime="other"), "other 1"),
        (replace(SETTINGS, num_threads=2), "threads 2"),
        (replace(SETTINGS, sequence_length=32), "32 tokens"),
    ],
)
def test_other_settings_are_not_mixed_in(other_settings: RunSettings, shown: str) -> None:
    one = around(0.7, spread=0.01)
    other = replace(one, settings=other_settings)

    with pytest.raises(PredictionError, match=rf"{shown}.* say nothing of each other; predict for one device"):
        latency_samples({TEACHER: [one], WIDER: [other]}, reference=RULE)


def test_another_device_is_not_mixed_in() -> None:
    one = around(0.7, spread=0.01)
    other = replace(one, device=replace(one.device, device_id="another phone"))

    with pytest.raises(PredictionError, match="another phone"):
        latency_samples({TEACHER: [one], WIDER: [other]}, reference=RULE)


def test_the_reference_teaches_nothing_of_the_others() -> None:
    assert latency_samples({RULE: [around(1.0, spread=0.01)]}, reference=RULE) == []
