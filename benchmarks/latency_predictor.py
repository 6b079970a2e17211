"""How well a handful of measurements foretell other latencies, beside other ways to foretell them.

On the recorded latencies of `benchmarks.search_samples`: some are drawn (half of
them near the front), the rest is foretold. All ways see the same samples, over
several draws. What is compared: our predictor; a line in multiply-accumulates;
a sum of looked up operators, each kind's time per multiply-accumulate fitted by
non-negative least squares; gradient boosting on the numbers of the architecture.

    python -m benchmarks.latency_predictor
"""

from __future__ import annotations

import argparse
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls
from sklearn.ensemble import HistGradientBoostingRegressor

from benchmarks.recordings import LATENCIES, SEQUENCE_LENGTH, interval_error, latency_sample, read_rows
from nas.cost import model_cost
from nas.latency import LatencyPredictor, LatencySample
from nas.latency_design import most_informative
from search_spaces.architecture import GROUP_POSITIONS, Architecture

NUM_DRAWS = 20
SIZES = (10, 20, 50)
MAX_MAPE = {10: 2.5, 20: 1.5, 50: 1.2}
MAX_FRONT_ERROR = 6.0
NUM_LARGE = 5
MAX_LARGE_MAPE = 3.0

Floats = NDArray[np.float64]
Foretell = Callable[[Sequence[LatencySample], Sequence[LatencySample]], Floats]


@dataclass(frozen=True, slots=True)
class Recorded:
    """A recorded latency, and whether its architecture lies near the front."""

    sample: LatencySample
    is_front: bool
    error: float


def main() -> None:
    parser = argparse.ArgumentParser(description="Errors of latency predictions from few measurements.")
    parser.add_argument("--latencies", type=Path, default=LATENCIES)
    small, large = read(parser.parse_args().latencies)
    noise = 100 * float(np.mean([each.error for each in small])) * math.sqrt(2 / math.pi)
    print(f"{len(small)} architectures at MiniLM scale, {len(large)} at BERT-base scale")
    print(f"mean absolute error that the measurements' own intervals leave: {noise:.2f} %")
    for size in SIZES:
        report(small, size)
    report_large(small, large)


def read(path: Path) -> tuple[list[Recorded], list[Recorded]]:
    """Return what was recorded at both scales."""
    by_scale: dict[str, list[Recorded]] = {"minilm": [], "bert-base": []}
    for row in read_rows(path):
        sample = latency_sample(row)
        if sample.arch != sample.reference:
            by_scale[row["scale"]].append(Recorded(sample, row["kind"] == "front", interval_error(row)))
    return by_scale["minilm"], by_scale["bert-base"]


def report(recorded: Sequence[Recorded], size: int) -> None:
    """Print the errors of all ways from ``size`` samples, and the figures."""
    errors: dict[str, list[float]] = {name: [] for name in WAYS}
    covered, front_errors = [], []
    for draw in range(NUM_DRAWS):
        order = np.random.default_rng(draw).permutation(len(recorded))
        train = [recorded[i].sample for i in order[:size]]
        held_out = [recorded[i] for i in order[size:]]
        test = [each.sample for each in held_out]
        for name, foretell in WAYS.items():
            errors[name].append(mape(foretell(train, test), test))
        predictions = LatencyPredictor(train, sequence_length=SEQUENCE_LENGTH).predict(
            [each.arch for each in test], reference=test[0].reference
        )
        for each, predicted in zip(held_out, predictions, strict=True):
            covered.append(predicted.low <= each.sample.ratio <= predicted.high)
            if each.is_front:
                front_errors.append(100 * abs(predicted.estimate / each.sample.ratio - 1))
    print(f"from {size} samples, {NUM_DRAWS} draws: mean absolute error (least and greatest of a draw)")
    for name, values in errors.items():
        print(f"  {name:40s} {np.mean(values):6.2f} % ({min(values):.2f}-{max(values):.2f})")
    designed = mape_of_design(recorded, size)
    print(f"  {'the predictor, from a chosen design':40s} {designed:6.2f} %")
    value = float(np.mean(errors["the predictor"]))
    figure(f"latency_predictor_mape_{size}", value, "%", f"<={MAX_MAPE[size]}", value <= MAX_MAPE[size])
    share = 100 * float(np.mean(covered))
    figure(f"latency_predictor_coverage_{size}", share, "%", "85-95", 85 <= share <= 95)
    if size == SIZES[-1]:
        worst = max(front_errors)
        within = 100 * float(np.mean(np.array(front_errors) <= MAX_FRONT_ERROR))
        print(f"  front candidates held out: {within:.2f} % within {MAX_FRONT_ERROR:g} %")
        figure("latency_predictor_worst_front_error", worst, "%", f"<={MAX_FRONT_ERROR}", worst <= MAX_FRONT_ERROR)


def report_large(small: Sequence[Recorded], large: Sequence[Recorded]) -> None:
    """Print what all of the smaller scale and a few samples of the larger one foretell there."""
    errors: dict[str, list[float]] = {"both scales": [], f"its {NUM_LARGE} samples alone": []}
    for draw in range(NUM_DRAWS):
        order = np.random.default_rng(draw).permutation(len(large))
        few = [large[i].sample for i in order[:NUM_LARGE]]
        test = [large[i].sample for i in order[NUM_LARGE:]]
        # As many of the smaller scale as a search would have.
        some = np.random.default_rng(draw).permutation(len(small))[:100]
        both = [small[i].sample for i in some] + few
        errors["both scales"].append(mape(by_predictor(both, test), test))
        errors[f"its {NUM_LARGE} samples alone"].append(mape(by_predictor(few, test), test))
    print(f"at BERT-base scale from 100 samples at MiniLM scale and {NUM_LARGE} there, {NUM_DRAWS} draws")
    for name, values in errors.items():
        print(f"  {name:40s} {np.mean(values):6.2f} % ({min(values):.2f}-{max(values):.2f})")
    value = float(np.mean(errors["both scales"]))
    figure("latency_predictor_other_scale", value, "%", f"<={MAX_LARGE_MAPE:g}", value <= MAX_LARGE_MAPE)


def by_predictor(train: Sequence[LatencySample], test: Sequence[LatencySample]) -> Floats:
    predictor = LatencyPredictor(train, sequence_length=SEQUENCE_LENGTH)
    predictions = predictor.predict([each.arch for each in test], reference=test[0].reference)
    return np.array([each.estimate for each in predictions])


def by_macs(train: Sequence[LatencySample], test: Sequence[LatencySample]) -> Floats:
    """Fit a line in multiply-accumulates to relative errors."""
    rows = np.array([[1.0, macs(each.arch) / macs(each.reference)] for each in train])
    ratios = ratios_of(train)
    coefficients, *_ = np.linalg.lstsq(rows / ratios[:, None], np.ones(len(train)), rcond=None)
    predicted: Floats = np.array([[1.0, macs(each.arch) / macs(each.reference)] for each in test]) @ coefficients
    return predicted


def by_operators(train: Sequence[LatencySample], test: Sequence[LatencySample]) -> Floats:
    """Add up operators, each kind (a position at its number of groups) at a time per multiply-accumulate of its own."""
    rows, ratios = np.array([operators(each.arch) for each in train]), ratios_of(train)
    coefficients, _ = nnls(rows / ratios[:, None], np.ones(len(train)))
    predicted: Floats = np.array([operators(each.arch) for each in test]) @ coefficients
    return predicted


def by_boosting(train: Sequence[LatencySample], test: Sequence[LatencySample]) -> Floats:
    """Boost trees on the numbers of the architecture, on log ratios."""
    model = HistGradientBoostingRegressor(min_samples_leaf=3, max_iter=200, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(np.array([numbers(each.arch) for each in train]), np.log(ratios_of(train)))
    predicted: Floats = np.exp(model.predict(np.array([numbers(each.arch) for each in test])))
    return predicted


WAYS: dict[str, Foretell] = {
    "the predictor": by_predictor,
    "a line in multiply-accumulates": by_macs,
    "a sum of looked up operators": by_operators,
    "gradient boosting": by_boosting,
}


def mape_of_design(recorded: Sequence[Recorded], size: int) -> float:
    """Return the error where the samples are chosen for what they tell instead of drawn."""
    pool = {each.sample.arch: each.sample for each in recorded}
    reference = recorded[0].sample.reference
    chosen: list[Architecture] = []
    while len(chosen) < size:
        left = [arch for arch in pool if arch not in chosen]
        chosen.append(most_informative(left, known=chosen, reference=reference, sequence_length=SEQUENCE_LENGTH))
    test = [sample for arch, sample in pool.items() if arch not in chosen]
    return mape(by_predictor([pool[arch] for arch in chosen], test), test)


def operators(arch: Architecture) -> list[float]:
    """Return multiply-accumulates of each kind of operator, in millions, and the number of layers."""
    amounts = dict.fromkeys([(name, groups) for name in GROUP_POSITIONS for groups in (1, 2, 4, 8, 16)], 0.0)
    attention = 0.0
    for block in arch.blocks:
        for name in GROUP_POSITIONS:
            width = block.intermediate_size if name in GROUP_POSITIONS[4:] else arch.all_head_size(block)
            groups = getattr(block, name)
            amounts[name, groups] += SEQUENCE_LENGTH * arch.hidden_size * width / groups / 1e6
        attention += 2 * SEQUENCE_LENGTH**2 * arch.all_head_size(block) / 1e6
    return [1.0, float(arch.num_hidden_layers), attention, *amounts.values()]


def numbers(arch: Architecture) -> list[float]:
    """Return what trees may split on."""
    means = [float(np.mean([getattr(block, name) for block in arch.blocks])) for name in GROUP_POSITIONS]
    widths = [float(np.mean([getattr(block, name) for block in arch.blocks])) for name in WIDTHS]
    return [macs(arch), float(arch.num_hidden_layers), float(arch.hidden_size), *widths, *means]


WIDTHS = ("num_attention_heads", "intermediate_size")


def macs(arch: Architecture) -> float:
    return float(model_cost(arch, sequence_length=SEQUENCE_LENGTH, num_labels=2).macs)


def ratios_of(samples: Sequence[LatencySample]) -> Floats:
    return np.array([each.ratio for each in samples])


def mape(predicted: Floats, test: Sequence[LatencySample]) -> float:
    """Return the mean absolute error, in percent."""
    return 100 * float(np.mean(np.abs(predicted / ratios_of(test) - 1)))


def figure(name: str, value: float, unit: str, target: str, is_met: bool) -> None:
    print(f"figure: {name} {value:.2f} {unit} target={target} {'met' if is_met else 'short'}", flush=True)


if __name__ == "__main__":
    main()
