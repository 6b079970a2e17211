"""``nas reproduce``: a published comparison, measured here."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from nas.cli.console import print_json, print_sentence, stderr, stdout
from nas.cli.options import (
    DEFAULT_RUNS_FOLDER,
    AsJson,
    BudgetMinutes,
    NumVirtual,
    RunsFolder,
    Runtime,
    Storage,
    Threads,
)

if TYPE_CHECKING:
    from device_lab.measurement import Interval, Measurement
    from nas.cli.sessions import Session
    from nas.reproduction import Size

SEQUENCE_LENGTH = 128


class Paper(StrEnum):
    """What can be reproduced."""

    SQUEEZEBERT = "squeezebert"


def reproduce(
    paper: Annotated[Paper, typer.Argument(help="whose comparison")],
    *,
    device: Annotated[str, typer.Option(help="host, a phone's serial or HOST:PORT, or all phones")] = "host",
    virtual: NumVirtual = 0,
    runtime: Runtime = "onnxruntime",
    threads: Threads = 1,
    precision: Annotated[str, typer.Option(help="coarse (5 %), normal (2 %) or fine (1 %)")] = "normal",
    budget_minutes: BudgetMinutes = None,
    unqualified: Annotated[bool, typer.Option("--unqualified", help="time on phones that have no certificate")] = False,
    runs_folder: RunsFolder = DEFAULT_RUNS_FOLDER,
    storage: Storage = None,
    as_json: AsJson = False,
) -> None:
    """Build BERT-base and SqueezeBERT at full size, count and time both, and print what the paper says beside it.

    Example: nas reproduce squeezebert --precision coarse
    """
    from nas.cli.assembly import find_precision
    from nas.cli.certificates import Shelf, Subject, cold_baseline_ns
    from nas.cli.places import DeviceChoice
    from nas.cli.sessions import on_every_device
    from nas.cli.stores import STORE_NAME
    from nas.reproduction import NUM_LABELS, built_size
    from nas.timed_models import TimedModels
    from nas.timing import Timer
    from search_spaces.reference import BERT_BASE, SQUEEZEBERT

    wanted = find_precision(precision)
    shelf = Shelf(runs_folder=runs_folder, storage=storage)
    subject = Subject(
        reference_id=BERT_BASE.arch_id,
        words=("--against", "bert-base"),
        num_threads=threads,
        sequence_length=SEQUENCE_LENGTH,
    )
    with stderr.status(f"building both {paper.value} networks"):
        sizes = tuple(built_size(arch, sequence_length=SEQUENCE_LENGTH) for arch in (BERT_BASE, SQUEEZEBERT))
    models = TimedModels(
        runs_folder / STORE_NAME / "models", runtime=runtime, sequence_length=SEQUENCE_LENGTH, num_labels=NUM_LABELS
    )

    def measure_on(session: Session) -> Measurement:
        timer = Timer(
            store=session.store,
            device=session.device,
            num_threads=threads,
            reference=BERT_BASE,
            models=models,
            seed=0,
            cold_baseline_ns=cold_baseline_ns(session.device, subject, shelf=shelf, is_required=not unqualified),
            clock=session.clock,
        )
        outcomes = timer.measure(
            [SQUEEZEBERT],
            precision=wanted,
            budget_s=None if budget_minutes is None else 60 * budget_minutes,
            on_progress=lambda progress: session.progress.measured(progress, session.device),
        )
        outcome = outcomes[SQUEEZEBERT.arch_id]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    results = on_every_device(
        DeviceChoice(device=device, runtime=runtime, num_threads=threads, num_virtual=virtual),
        shelf=shelf,
        num_blocks=wanted.looks[-1],
        work=measure_on,
    )
    measured = {name: result for name, result in results.items() if not isinstance(result, Exception)}
    if as_json:
        print_json(_document(sizes, measured))
    else:
        _print_table(sizes, measured)
    for name, result in results.items():
        if isinstance(result, Exception):
            stderr.print(f"nas: error: {name}: {result}", markup=False, soft_wrap=True)
    if len(measured) < len(results):
        raise typer.Exit(1)


def _print_table(sizes: tuple[Size, ...], measured: dict[str, Measurement]) -> None:
    from nas.reproduction import SQUEEZEBERT_CLAIM, speedup

    dense, squeezed = sizes
    claim = SQUEEZEBERT_CLAIM
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for column in ("BERT-base", "SqueezeBERT", "ratio", "the paper"):
        table.add_column(column, justify="right")
    table.add_row(
        "M parameters",
        f"{dense.parameters / 1e6:.2f}",
        f"{squeezed.parameters / 1e6:.2f}",
        f"{dense.parameters / squeezed.parameters:.2f}x",
        f"{claim.parameters_millions:g} M",
    )
    ratio = f"{dense.macs / squeezed.macs:.2f}x"
    table.add_row("GMACs, by fvcore", f"{dense.macs / 1e9:.3f}", f"{squeezed.macs / 1e9:.3f}", ratio, "")
    table.add_row("GFLOPs, 2 per MAC", f"{2 * dense.macs / 1e9:.2f}", f"{2 * squeezed.macs / 1e9:.2f}", ratio, "")
    for name, measurement in measured.items():
        interval = _ratio(measurement)
        faster = speedup(interval) if interval else None
        table.add_row(
            f"ms, {name}",
            *(f"{value:.1f}" for value in _medians_ms(measurement)),
            f"{faster.estimate:.2f}x ({faster.low:.2f}-{faster.high:.2f})" if faster else "no interval",
            f"{claim.speedup:g}x, {claim.device}",
        )
    stdout.print(table)
    for name, measurement in measured.items():
        print_sentence(f"{name}: {_where(measurement)}")
    print_sentence(
        f"The paper ({claim.source}): BERT-base takes {claim.dense_s:g} s on a {claim.device}, SqueezeBERT is "
        f"{claim.speedup:g} times faster; runtime and threads are not stated there. Networks here have made up "
        f"weights, {dense.sequence_length} tokens, batch 1. The paper's GFLOPs could not be read at the source and "
        "are not quoted."
    )


def _ratio(measurement: Measurement) -> Interval | None:
    from device_lab.measurement import Backend
    from device_lab.statistics import MIN_KEPT_BLOCKS, kept_blocks, ratio_interval

    if measurement.device.backend is Backend.QEMU or len(kept_blocks(measurement.blocks)) < MIN_KEPT_BLOCKS:
        return None
    return ratio_interval(measurement.blocks)


def _medians_ms(measurement: Measurement) -> tuple[float, float]:
    """Return the median over processes of their medians, of BERT-base and of SqueezeBERT, in milliseconds."""
    from statistics import median

    from device_lab.statistics import candidate_runs, process_median_ns, reference_runs

    dense, squeezed = (
        median(process_median_ns(run) for run in runs) / 1e6
        for runs in (reference_runs(measurement.blocks), candidate_runs(measurement.blocks))
    )
    return dense, squeezed


def _where(measurement: Measurement) -> str:
    from device_lab.statistics import kept_blocks

    device, settings, blocks = measurement.device, measurement.settings, measurement.blocks
    return (
        f"{device.soc}, {device.os_version} ({device.backend}), {settings.runtime} {settings.runtime_version}, "
        f"{settings.num_threads} thread(s), {measurement.precision.name} precision, "
        f"{len(kept_blocks(blocks))} of {len(blocks)} blocks kept, {measurement.reason.value.replace('_', ' ')}, "
        f"{measurement.conditions_before.taken_at[:10]}"
    )


def _document(sizes: tuple[Size, ...], measured: dict[str, Measurement]) -> dict[str, object]:
    from nas.documents import to_document
    from nas.reproduction import SQUEEZEBERT_CLAIM, speedup

    devices = {}
    for name, measurement in measured.items():
        interval = _ratio(measurement)
        devices[name] = {
            "backend": measurement.device.backend.value,
            "device": to_document(measurement.device),
            "settings": to_document(measurement.settings),
            "medians_ms": _medians_ms(measurement),
            "speedup": to_document(speedup(interval)) if interval else None,
            "num_blocks": len(measurement.blocks),
            "reason": measurement.reason.value,
        }
    return {
        "bert-base": to_document(sizes[0]),
        "squeezebert": to_document(sizes[1]),
        "paper": to_document(SQUEEZEBERT_CLAIM),
        "measured": devices,
    }
