"""Measurements as the samples of a latency predictor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import NormalDist

from device_lab.measurement import Measurement, RunSettings
from device_lab.statistics import half_width, ratio_interval
from nas.errors import PredictionError
from nas.latency import LatencySample
from search_spaces.architecture import Architecture

_DEVIATIONS_OF_INTERVAL = NormalDist().inv_cdf(0.975)
# What no device repeats to: a narrower interval is luck.
MIN_STANDARD_ERROR = 0.002


def latency_samples(
    measured: Mapping[Architecture, Sequence[Measurement]], *, reference: Architecture
) -> list[LatencySample]:
    """Return one sample for each architecture, from its finest measurement that has an interval.

    The reference gives none: its ratio to itself says nothing but how well it was measured.

    Args:
        measured: Measurements against ``reference``, from coarse to fine.
        reference: What the ratios are to.

    Raises:
        PredictionError: If they are of several devices, runtimes, numbers of threads or input shapes.
    """
    _require_one_bench(each for measurements in measured.values() for each in measurements)
    samples = []
    for arch, measurements in measured.items():
        widths = [(half_width(each.blocks), each) for each in measurements]
        width, finest = min(widths, key=lambda pair: pair[0], default=(float("inf"), None))
        if arch != reference and finest is not None and width < float("inf"):
            samples.append(
                LatencySample(
                    arch=arch,
                    reference=reference,
                    ratio=ratio_interval(finest.blocks).estimate,
                    standard_error=max(width / _DEVIATIONS_OF_INTERVAL, MIN_STANDARD_ERROR),
                )
            )
    return samples


def _require_one_bench(measurements: Iterable[Measurement]) -> None:
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
