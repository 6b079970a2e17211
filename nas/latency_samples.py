"""Measurements as the samples of a latency predictor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import NormalDist

from device_lab.measurement import RunSettings
from device_lab.timed import Timed
from nas.errors import PredictionError
from nas.latency import LatencySample
from search_spaces.architecture import Architecture

_DEVIATIONS_OF_INTERVAL = NormalDist().inv_cdf(0.975)
# What no device repeats to: a narrower interval is luck.
MIN_STANDARD_ERROR = 0.002
# A fit takes time by the cube of their number, and more of them say next to nothing new.
MAX_SAMPLES = 400


def latency_samples(
    measured: Mapping[Architecture, Sequence[Timed]], *, reference: Architecture
) -> list[LatencySample]:
    """Return one sample for each architecture, from its finest measurement that has an interval.

    Of very many, `MAX_SAMPLES` that spread evenly over the ratios. The reference
    gives none: its ratio to itself says nothing but how well it was measured.

    Args:
        measured: Measurements against ``reference``, from coarse to fine.
        reference: What the ratios are to.

    Raises:
        PredictionError: If they are of several devices, runtimes, numbers of threads or input shapes.
    """
    _require_one_bench(each for measurements in measured.values() for each in measurements)
    samples = []
    for arch, measurements in measured.items():
        finest = min(measurements, key=lambda each: each.findings.half_width, default=None)
        if arch != reference and finest is not None and finest.ratio is not None:
            samples.append(
                LatencySample(
                    arch=arch,
                    reference=reference,
                    ratio=finest.ratio.estimate,
                    standard_error=max(finest.findings.half_width / _DEVIATIONS_OF_INTERVAL, MIN_STANDARD_ERROR),
                )
            )
    return _thinned(samples)


def _thinned(samples: list[LatencySample]) -> list[LatencySample]:
    """Return no more than `MAX_SAMPLES`, which spread evenly over all by their ratio, in the order given."""
    if len(samples) <= MAX_SAMPLES:
        return samples
    order = sorted(range(len(samples)), key=lambda i: samples[i].ratio)
    last = len(samples) - 1
    return [samples[i] for i in sorted(order[n * last // (MAX_SAMPLES - 1)] for n in range(MAX_SAMPLES))]


def _require_one_bench(measurements: Iterable[Timed]) -> None:
    benches: dict[tuple[str, RunSettings], None] = {}
    for each in measurements:
        benches[each.device.device_id, each.settings] = None
    if len(benches) > 1:
        (one, its), (other, others) = list(benches)[:2]
        raise PredictionError(
            f"measurements of {one} ({_show(its)}) and {other} ({_show(others)}) say nothing of each other; "
            "predict for one device, runtime and number of threads at a time"
        )


def _show(settings: RunSettings) -> str:
    return (
        f"{settings.runtime} {settings.runtime_version}, threads {settings.num_threads}, "
        f"{settings.sequence_length} tokens"
    )
