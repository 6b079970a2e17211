"""A virtual phone from end to end: how soon it times, and whether it agrees with this machine.

Both run the same release of ONNX Runtime on the same cores; what differs is
everything in between: adb, the bundle with its own glibc, the compiled runner.

Run from the project's root on an otherwise idle machine: ``python -m benchmarks.phone_end_to_end``.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from device_lab.device import Device
from device_lab.devices import AttachedPhone, find_phone
from device_lab.errors import DeviceLabError
from device_lab.held_phone import hold_phone
from device_lab.host import HostDevice
from device_lab.measurement import Interval, ModelFile
from device_lab.phone import PhoneDevice
from device_lab.protocol import Progress, measure
from device_lab.runner.bundle import Bundle, build_bundle, default_cache_folder
from device_lab.runner.contract import RunRequest
from device_lab.runtimes import find_runtime
from device_lab.statistics import PRECISIONS, ratio_interval
from nas.cli.places import virtual_phones
from nas.export import export_onnx, random_network
from nas.timed_models import TimedModels
from search_spaces.reference import dense_encoder, squeezebert_rule

SEQUENCE_LENGTH = 128
SEED = 0
NUM_STARTS = 5
# Ten megabytes with a table of 1000 rows.
SMALL = dense_encoder(hidden_size=256, num_hidden_layers=3, num_attention_heads=4, intermediate_size=1024)
TEN_MEGABYTES = replace(SMALL, vocab_size=1000)
DENSE = dense_encoder(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
BUDGET_S = 240.0
# The shortest process there is, so that what is seen is the way to it.
ONCE = RunRequest(num_threads=1, min_runs=1, min_timed_s=0.0, max_warmup_s=0.0)
MAX_START_S, MAX_DIFFERENCE = 3.0, 0.10


def _first_block_s(phone: AttachedPhone, bundle: Bundle, model: ModelFile) -> float:
    """Return the time from a file on this machine to the end of the first process that timed it."""
    started_s = time.perf_counter()
    with hold_phone(phone) as held:
        PhoneDevice(held, bundle, num_threads=1).run(model, ONCE)
        return time.perf_counter() - started_s


def _ratio(device: Device, models: TimedModels) -> Interval:
    def tell(progress: Progress) -> None:
        print(f"  {device.info.backend}: block {progress.num_blocks}, ±{progress.half_width:.1%}", flush=True)

    (outcome,) = measure(
        [models.export(DENSE)],
        reference=models.export(squeezebert_rule(DENSE)),
        device=device,
        num_threads=1,
        precision=PRECISIONS["normal"],
        generator=np.random.default_rng(SEED),
        budget_s=BUDGET_S,
        on_progress=tell,
    )
    if isinstance(outcome, DeviceLabError):
        raise outcome
    return ratio_interval(outcome.blocks)


def main() -> None:
    bundle = build_bundle("onnxruntime", abi="x86_64", cache_folder=default_cache_folder())
    with tempfile.TemporaryDirectory() as name, virtual_phones(1) as (started,):
        folder = Path(name)
        files = [
            export_onnx(
                random_network(TEN_MEGABYTES, num_labels=2, seed=SEED + i),
                folder / f"{i}.onnx",
                sequence_length=SEQUENCE_LENGTH,
            )
            for i in range(NUM_STARTS + 1)
        ]
        phone = find_phone(started.address)
        _first_block_s(phone, bundle, files[0])  # puts the bundle there
        starts_s = [_first_block_s(phone, bundle, file) for file in files[1:]]
        models = TimedModels(folder, runtime="onnxruntime", sequence_length=SEQUENCE_LENGTH, num_labels=2)
        with hold_phone(phone) as held:
            on_phone = _ratio(PhoneDevice(held, bundle, num_threads=1), models)
        on_host = _ratio(HostDevice(find_runtime("onnxruntime")), models)
        megabytes = files[0].path.stat().st_size / 1e6

    start_s, difference = statistics.median(starts_s), abs(on_phone.estimate / on_host.estimate - 1)
    listed = ", ".join(f"{each:.2f}" for each in sorted(starts_s))
    print(f"file of {megabytes:.1f} MB to its first timed run, bundle on the phone: {listed} s")
    for where, ratio in (("virtual phone", on_phone), ("this machine", on_host)):
        print(f"dense / SqueezeBERT's rule on {where:13}: {ratio.estimate:.3f} ({ratio.low:.3f} to {ratio.high:.3f})")
    verdicts = ["met" if good else "short" for good in (start_s <= MAX_START_S, difference <= MAX_DIFFERENCE)]
    print(f"figure: first_block_time {start_s:.2f} s target=<=3 {verdicts[0]}")
    print(f"figure: virtual_phone_agreement {100 * difference:.1f} % target=<=10 {verdicts[1]}")


if __name__ == "__main__":
    main()
