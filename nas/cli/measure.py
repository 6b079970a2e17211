"""``nas measure``: time architectures against a reference, side by side."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from nas.cli.console import print_json, stderr, stdout
from nas.cli.models import read_architecture
from nas.cli.options import DEFAULT_RUNS_FOLDER, AsJson, RunsFolder, Storage

if TYPE_CHECKING:
    from device_lab.measurement import Measurement

STORE_NAME = "measurements"


def measure(
    models: Annotated[list[str], typer.Argument(help="squeezebert, bert-base, or architectures' JSON files")],
    *,
    against: Annotated[str, typer.Option(help="the reference: a name or a JSON file")] = "squeezebert",
    device: Annotated[str, typer.Option(help="where to time; see `nas devices`")] = "host",
    runtime: Annotated[str, typer.Option(help="what executes the models")] = "onnxruntime",
    threads: Annotated[int, typer.Option(min=1, help="threads of the runtime")] = 1,
    sequence_length: Annotated[int, typer.Option(min=1, max=512, help="tokens per sequence")] = 128,
    precision: Annotated[str, typer.Option(help="coarse (5 %), normal (2 %) or fine (1 %)")] = "normal",
    runs_folder: RunsFolder = DEFAULT_RUNS_FOLDER,
    storage: Storage = None,
    as_json: AsJson = False,
) -> None:
    """Time models against a reference in interleaved fresh processes, and print the ratios.

    Example: nas measure bert-base --against squeezebert
    """
    from device_lab.measurement import Measurement
    from nas.cli.assembly import find_precision, open_device
    from nas.cli.progress import show_progress
    from nas.cli.stores import open_store
    from nas.timing import Timer

    archs = {name: read_architecture(name) for name in models}
    wanted = find_precision(precision)
    with ExitStack() as stack:
        opened = stack.enter_context(open_device(device, runtime=runtime))
        store = stack.enter_context(open_store(STORE_NAME, runs_folder=runs_folder, storage=storage))
        timer = Timer(
            store=store,
            device=opened,
            num_threads=threads,
            reference=read_architecture(against),
            sequence_length=sequence_length,
            num_labels=2,
            models_folder=runs_folder / STORE_NAME / "models",
            seed=0,
        )
        progress = stack.enter_context(show_progress())
        task = progress.add_task("timing", total=wanted.looks[-1])
        outcomes = timer.measure(
            list(archs.values()),
            precision=wanted,
            on_progress=lambda each: progress.update(
                task, completed=each.num_kept, description=f"timing, ±{each.half_width:.1%}"
            ),
        )
    measured: dict[str, Measurement] = {}
    for name, arch in archs.items():
        outcome = outcomes[arch.arch_id]
        if isinstance(outcome, Measurement):
            measured[name] = outcome
        else:
            stderr.print(f"{name}: {outcome}", markup=False)
    if as_json:
        print_json({name: _document(measurement) for name, measurement in measured.items()})
    else:
        _print_table(measured, against=against, runtime=runtime, threads=threads)
    if len(measured) < len(archs):
        raise typer.Exit(1)


def _document(measurement: Measurement) -> dict[str, object]:
    import numpy as np

    from device_lab.statistics import kept_blocks, percentiles_ms, ratio_interval
    from nas.documents import to_document

    runs = [block.candidate for block in measurement.blocks]
    return {
        "ratio": to_document(ratio_interval(measurement.blocks)),
        "latency_ms": to_document(percentiles_ms(runs, generator=np.random.default_rng(0))),
        "num_blocks": len(measurement.blocks),
        "num_kept_blocks": len(kept_blocks(measurement.blocks)),
        "reason": measurement.reason.value,
        "backend": measurement.device.backend.value,
        "device": to_document(measurement.device),
        "settings": to_document(measurement.settings),
        "precision": measurement.precision.name,
    }


def _print_table(measured: dict[str, Measurement], *, against: str, runtime: str, threads: int) -> None:
    import numpy as np

    from device_lab.statistics import kept_blocks, percentiles_ms, ratio_interval

    table = Table(box=None, pad_edge=False)
    table.add_column("model")
    for column in (f"ratio to {Path(against).stem} (95 %)", "p50 ms", "p90 ms", "blocks", "ended"):
        table.add_column(column, justify="right")
    for name, measurement in measured.items():
        ratio = ratio_interval(measurement.blocks)
        milliseconds = percentiles_ms(
            [block.candidate for block in measurement.blocks], generator=np.random.default_rng(0)
        )
        table.add_row(
            name,
            f"{ratio.estimate:.3f} ({ratio.low:.3f}-{ratio.high:.3f})",
            f"{milliseconds.p50.estimate:.2f}",
            f"{milliseconds.p90.estimate:.2f}",
            f"{len(kept_blocks(measurement.blocks))} of {len(measurement.blocks)}",
            measurement.reason.value.replace("_", " "),
        )
    stdout.print(table)
    for measurement in list(measured.values())[:1]:
        device = measurement.device
        stdout.print(f"on {device.soc} ({device.backend}), {runtime}, {threads} thread(s)", markup=False)
