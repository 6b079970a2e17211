"""``nas crosscheck``: what Google's ``benchmark_model`` says of the same networks, as a check from outside."""

from __future__ import annotations

import statistics
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas.cli.console import print_json, stderr, stdout
from nas.cli.models import read_architecture
from nas.cli.options import AsJson, SequenceLength, Threads

if TYPE_CHECKING:
    from device_lab.runtimes.litert import BenchmarkModelOutput

LABEL = "outside cross-check: LiteRT's benchmark_model, averages only, not a measurement"
NUM_ROUNDS = 3
_FIELDS = ("initialization_ns", "first_inference_ns", "warmup_average_ns", "inference_average_ns")


def crosscheck(
    models: Annotated[list[str], typer.Argument(help="squeezebert, bert-base, or architectures' JSON files")],
    *,
    device: Annotated[str, typer.Option(help="a phone's serial or HOST:PORT")],
    benchmark_model: Annotated[
        Path, typer.Option(exists=True, dir_okay=False, help="LiteRT's benchmark_model for the phone's processor")
    ],
    against: Annotated[str, typer.Option(help="the reference: a name or a JSON file")] = "squeezebert",
    threads: Threads = 1,
    sequence_length: SequenceLength = 128,
    as_json: AsJson = False,
) -> None:
    """Run LiteRT's own benchmark on models and a reference, to hold beside the ratios of `nas measure`.

    It prints averages, no samples and no answers: nothing of it is kept, and it is
    no measurement. Needs the extra litert. No phone has tried it yet.

    Example: nas crosscheck bert-base --device 8A3X1 --benchmark-model ./android_aarch64_benchmark_model
    """
    import tempfile

    from device_lab.crosscheck import crosscheck as run_rounds
    from device_lab.devices import find_phone
    from device_lab.held_phone import hold_phone
    from device_lab.runner.contract import RunRequest
    from nas.cli.places import announce
    from nas.export import random_network
    from nas.export_litert import export_litert
    from nas.timed_models import TIMED_VOCABULARY_SIZE

    archs = {name: read_architecture(name) for name in dict.fromkeys((against, *models))}
    phone = find_phone(device, announce=announce)
    request = RunRequest(num_threads=threads, min_runs=50, min_timed_s=1.0, max_warmup_s=0.0)
    with tempfile.TemporaryDirectory() as temporary:
        files = {}
        for number, (name, arch) in enumerate(archs.items()):
            stderr.print(f"exporting {name} for LiteRT", markup=False)
            timed = replace(arch, vocab_size=min(arch.vocab_size, TIMED_VOCABULARY_SIZE))
            files[name] = Path(temporary) / f"{number}.tflite"
            export_litert(random_network(timed, num_labels=2), files[name], sequence_length=sequence_length)
        with hold_phone(phone, announce=announce) as held:
            outputs = run_rounds(held, benchmark_model, files, request=request, num_rounds=NUM_ROUNDS)
            device_name = held.info.device_id
    rows = {name: _row(outputs[name], reference=outputs[against]) for name in archs}
    if as_json:
        print_json({"label": LABEL, "device": device_name, "against": against, "models": rows})
    else:
        _print_table(rows, device_name=device_name, against=against)


def _row(outputs: list[BenchmarkModelOutput], *, reference: list[BenchmarkModelOutput]) -> dict[str, Any]:
    """Return the medians over the rounds in milliseconds, and the median ratio to the reference of the same round."""
    row: dict[str, Any] = {
        f"{field.removesuffix('_ns')}_ms": statistics.median(getattr(output, field) for output in outputs) / 1e6
        for field in _FIELDS
    }
    pairs = zip(outputs, reference, strict=True)
    row["ratio"] = statistics.median(own.inference_average_ns / its.inference_average_ns for own, its in pairs)
    return row


def _print_table(rows: dict[str, dict[str, Any]], *, device_name: str, against: str) -> None:
    from rich.table import Table

    table = Table(title=f"{device_name}: {LABEL}", title_justify="left")
    for heading in ("model", "init ms", "first ms", "warm-up ms", "average ms", f"ratio to {Path(against).stem}"):
        table.add_column(heading)
    for name, row in rows.items():
        *milliseconds, ratio = row.values()
        table.add_row(Path(name).stem, *(f"{value:.2f}" for value in milliseconds), f"{ratio:.3f}")
    stdout.print(table)
    stdout.print(f"medians of {NUM_ROUNDS} rounds; hold the ratio beside that of `nas measure`", markup=False)
