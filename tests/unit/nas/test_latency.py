"""The latency predictor on made up devices whose prices are known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.errors import PredictionError
from nas.latency import LEVEL, LatencyPredictor, LatencySample
from nas.latency_design import draw_pool, most_informative
from nas.latency_features import GUESSED_PRICES, describe
from search_spaces.architecture import Architecture
from search_spaces.reference import dense_encoder, squeezebert_rule
from search_spaces.space import make_space

TEACHER = dense_encoder(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
REFERENCE = squeezebert_rule(TEACHER)
SPACE = make_space("grouped", TEACHER)
SEQUENCE_LENGTH = 128
POOL = draw_pool(SPACE, seed=3, size=120)
ERROR = 0.006


class Prices:
    """A device that charges its own prices for each kind of work, up to four times the guessed ones."""

    def __init__(self, seed: int) -> None:
        self._generator = np.random.default_rng(seed)
        guessed = np.array(list(GUESSED_PRICES.values()))
        self._prices = guessed * np.exp(self._generator.uniform(-1.4, 1.4, len(guessed)))

    def ratio(self, arch: Architecture, reference: Architecture = REFERENCE) -> float:
        ours, theirs = describe([arch, reference], sequence_length=SEQUENCE_LENGTH) @ self._prices
        return float(ours / theirs)

    def sample(self, arch: Architecture, reference: Architecture = REFERENCE) -> LatencySample:
        error = self._generator.normal(0.0, ERROR)
        ratio = self.ratio(arch, reference) * math.exp(error)
        return LatencySample(arch=arch, reference=reference, ratio=ratio, standard_error=ERROR)


def fit(samples: list[LatencySample]) -> LatencyPredictor:
    return LatencyPredictor(samples, sequence_length=SEQUENCE_LENGTH)


def errors(predictor: LatencyPredictor, device: Prices, archs: list[Architecture]) -> np.ndarray:
    predictions = predictor.predict(archs, reference=REFERENCE)
    return np.array([p.estimate / device.ratio(arch) - 1 for p, arch in zip(predictions, archs, strict=True)])


def test_few_samples_foretell_the_rest_of_the_space() -> None:
    mean_errors = []
    for seed in range(4):
        device = Prices(seed)
        predictor = fit([device.sample(arch) for arch in POOL[:20]])
        mean_errors.append(np.abs(errors(predictor, device, POOL[20:])).mean())

    assert np.mean(mean_errors) < 0.02


def test_more_samples_foretell_better() -> None:
    device = Prices(1)
    samples = [device.sample(arch) for arch in POOL[:60]]

    few, many = (np.abs(errors(fit(samples[:count]), device, POOL[60:])).mean() for count in (8, 60))

    assert many < few / 2


def test_intervals_hold_as_many_measurements_as_they_say() -> None:
    inside = []
    for seed in range(6):
        device = Prices(seed)
        predictor = fit([device.sample(arch) for arch in POOL[:16]])
        for predicted, arch in zip(predictor.predict(POOL[20:], reference=REFERENCE), POOL[20:], strict=True):
            inside.append(predicted.low <= device.sample(arch).ratio <= predicted.high)

    # Real devices are not as simple as these, and intervals are stretched for them.
    assert LEVEL - 0.06 < np.mean(inside) < 0.995


def test_a_wild_measurement_does_not_bend_the_fit() -> None:
    device = Prices(2)
    samples = [device.sample(arch) for arch in POOL[:20]]
    wild = [replace(samples[0], ratio=5 * samples[0].ratio), *samples[1:]]

    calm_error, wild_error = (np.abs(errors(fit(each), device, POOL[20:])).mean() for each in (samples, wild))

    assert wild_error < calm_error + 0.01


def test_the_reference_takes_exactly_as_long_as_itself() -> None:
    device = Prices(0)
    (predicted,) = fit([device.sample(arch) for arch in POOL[:8]]).predict([REFERENCE], reference=REFERENCE)

    assert predicted.low == predicted.estimate == predicted.high == pytest.approx(1.0)


@settings(max_examples=5, deadline=None)
@given(st.integers(min_value=0, max_value=1000))
def test_ratios_to_different_references_agree(seed: int) -> None:
    device = Prices(seed)
    predictor = fit([device.sample(arch) for arch in POOL[:10]])
    one, other = POOL[30], POOL[31]

    (directly,) = predictor.predict([one], reference=other)
    over_reference = [each.estimate for each in predictor.predict([one, other], reference=REFERENCE)]

    assert directly.estimate == pytest.approx(over_reference[0] / over_reference[1])


def test_samples_against_another_reference_help() -> None:
    large = dense_encoder(hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072)
    device, rule = Prices(4), squeezebert_rule(large)
    wide = draw_pool(make_space("grouped", large), seed=1, size=30)
    samples = [device.sample(arch) for arch in POOL[:30]] + [device.sample(arch, rule) for arch in wide[:5]]

    predictions = fit(samples).predict(wide[5:], reference=rule)

    deviations = [
        each.estimate / device.ratio(arch, rule) - 1 for each, arch in zip(predictions, wide[5:], strict=True)
    ]
    assert np.abs(deviations).mean() < 0.03


def test_what_lies_beyond_the_samples_is_named() -> None:
    device = Prices(0)
    shallow = [arch for arch in POOL if arch.num_hidden_layers < 6][:10]
    predictor = fit([device.sample(arch) for arch in shallow])
    wider = replace(TEACHER, hidden_size=416, blocks=(replace(TEACHER.blocks[0], intermediate_size=1536),) * 4)

    inside, outside = predictor.predict([shallow[0], wider], reference=REFERENCE)

    assert inside.outside == ""
    assert outside.outside == "hidden_size 416 is outside of the measured 192 to 384"
    assert outside.high / outside.low > inside.high / inside.low


def test_too_few_samples_are_refused() -> None:
    device = Prices(0)

    with pytest.raises(PredictionError, match=r"4 measured architectures are too few .* measure 5 at least"):
        fit([device.sample(arch) for arch in POOL[:4]])


def test_equal_latencies_are_refused() -> None:
    samples = [LatencySample(arch=arch, reference=REFERENCE, ratio=1.0, standard_error=ERROR) for arch in POOL[:6]]

    with pytest.raises(PredictionError, match=r"all 6 measured latencies are equal .* different sizes"):
        fit(samples)


@pytest.mark.parametrize("ratio", [0.0, -1.0, math.nan, math.inf])
def test_what_is_not_a_latency_is_refused(ratio: float) -> None:
    samples = [Prices(0).sample(arch) for arch in POOL[:6]]

    with pytest.raises(PredictionError, match="not a positive number"):
        fit([*samples, replace(samples[0], ratio=ratio)])


def test_fewer_samples_than_prices_still_give_finite_intervals() -> None:
    predictor = fit([Prices(0).sample(arch) for arch in POOL[:5]])

    predictions = predictor.predict(POOL, reference=REFERENCE)

    assert all(0 < each.low < each.estimate < each.high < math.inf for each in predictions)


def test_one_architecture_measured_again_and_again_teaches_the_others_little() -> None:
    device = Prices(0)
    samples = [device.sample(arch) for arch in (POOL[0], POOL[1]) for _ in range(5)]
    once, other = fit(samples).predict([POOL[0], POOL[5]], reference=REFERENCE)

    assert other.high / other.low > once.high / once.low


def test_a_chosen_design_teaches_more_than_a_drawn_one() -> None:
    drawn_errors: list[float] = []
    chosen_errors: list[float] = []
    for seed in range(5):
        device = Prices(seed)
        chosen = [TEACHER]
        while len(chosen) < 8:
            pool = [arch for arch in POOL[:80] if arch not in chosen]
            chosen.append(most_informative(pool, known=chosen, reference=REFERENCE, sequence_length=SEQUENCE_LENGTH))
        drawn = [TEACHER, *POOL[10 * seed : 10 * seed + 7]]
        for archs, found in ((drawn, drawn_errors), (chosen, chosen_errors)):
            found.append(np.abs(errors(fit([device.sample(arch) for arch in archs]), device, POOL[80:])).mean())

    assert np.mean(chosen_errors) < np.mean(drawn_errors)


def test_a_pool_holds_all_sizes_and_no_architecture_twice() -> None:
    work = describe(POOL, sequence_length=SEQUENCE_LENGTH).sum(axis=1)

    assert len(set(POOL)) == len(POOL) == 120
    assert work.max() > 5 * work.min()
    assert draw_pool(SPACE, seed=3, size=120) == POOL


def test_a_small_space_gives_as_many_as_it_has() -> None:
    tiny = dense_encoder(hidden_size=16, num_hidden_layers=1, num_attention_heads=1, intermediate_size=16)
    space = make_space("squeezebert", tiny)

    assert len(draw_pool(space, seed=0, size=10**6 // 100)) <= space.num_architectures
