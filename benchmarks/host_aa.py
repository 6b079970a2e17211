"""A/A on this machine: SqueezeBERT's rule against itself, at the size of MiniLM, in alternating fresh processes.

Of BERT-base size, one block takes 15 seconds; a shared machine whose cores change speed every few seconds then
has next to no block whose two references agree.

Run from the project's root on an otherwise idle machine: ``python -m benchmarks.host_aa``.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from device_lab.errors import DeviceLabError
from device_lab.host import HostDevice
from device_lab.measurement import Measurement
from device_lab.protocol import Progress, measure
from device_lab.runtimes import find_runtime
from device_lab.statistics import (
    PRECISIONS,
    busy_cores,
    candidate_runs,
    half_width,
    heat_slope,
    kept_blocks,
    percentiles_ms,
    ratio_interval,
    reference_runs,
)
from nas.export import export_onnx, random_network
from search_spaces.reference import dense_encoder, squeezebert_rule

SEQUENCE_LENGTH = 128
NUM_THREADS = 1
SEED = 0
TEACHER = dense_encoder(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)


def _tell(progress: Progress) -> None:
    print(
        f"  block {progress.num_blocks:2} ({progress.num_kept} kept), half-width {progress.half_width:.2%}, "
        f"{progress.elapsed_s:.0f} s",
        flush=True,
    )


def _print_table(measurement: Measurement) -> None:
    blocks = measurement.blocks
    ratio = ratio_interval(blocks)
    generator = np.random.default_rng(SEED)
    print(f"device      {measurement.device.device_id}: {measurement.device.soc}, {measurement.device.num_cores} cores")
    print(f"runtime     {measurement.settings.runtime} {measurement.settings.runtime_version}, {NUM_THREADS} thread")
    print(f"ratio       {ratio.estimate:.4f} ({ratio.low:.4f} to {ratio.high:.4f})")
    for name, runs in (("candidate", candidate_runs(blocks)), ("reference", reference_runs(blocks))):
        result = percentiles_ms(runs, generator=generator)
        cells = [f"{p.estimate:.1f} ({p.low:.1f}-{p.high:.1f})" for p in (result.p50, result.p90, result.p99)]
        print(f"{name:11} p50 {cells[0]}  p90 {cells[1]}  p99 {cells[2]} ms, cpu/wall {busy_cores(runs):.2f}")
    print(f"blocks      {len(blocks)}, {len(blocks) - len(kept_blocks(blocks))} dropped; ended: {measurement.reason}")
    print(f"heat slope  {heat_slope(blocks):+.3%} for each block")
    print(f"load        {measurement.conditions_before['load_1min']} to {measurement.conditions_after['load_1min']}")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        network = random_network(squeezebert_rule(TEACHER), num_labels=2, seed=SEED)
        model = export_onnx(network, Path(folder) / "rule.onnx", sequence_length=SEQUENCE_LENGTH)
        (outcome,) = measure(
            [model],
            reference=model,
            device=HostDevice(find_runtime("onnxruntime")),
            num_threads=NUM_THREADS,
            precision=PRECISIONS["normal"],
            generator=np.random.default_rng(SEED),
            on_progress=_tell,
        )
    if isinstance(outcome, DeviceLabError):
        raise outcome
    _print_table(outcome)
    ratio, width = ratio_interval(outcome.blocks), half_width(outcome.blocks)
    is_one = ratio.low <= 1 <= ratio.high
    print(f"figure: host_aa_half_width {100 * width:.2f} % target=<=2 {'met' if width <= 0.02 else 'short'}")
    print(f"figure: host_aa_ratio {ratio.estimate:.4f} ratio target=contains_1.00 {'met' if is_one else 'short'}")


if __name__ == "__main__":
    main()
