"""``nas qualify``: find out whether a device can tell a network from itself, and keep the certificate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from nas.cli.console import print_json, stderr, stdout
from nas.cli.models import read_timed_model
from nas.cli.options import (
    DEFAULT_RUNS_FOLDER,
    AsJson,
    BudgetMinutes,
    NumVirtual,
    Runner,
    RunsFolder,
    Runtime,
    SequenceLength,
    Storage,
    Threads,
)

if TYPE_CHECKING:
    from device_lab.measurement import ModelFile
    from device_lab.qualification import Qualification
    from nas.cli.sessions import Session
    from nas.timed_models import TimedModels


def qualify(
    *,
    device: Annotated[str, typer.Option(help="host, a phone's serial or HOST:PORT, or all phones")] = "host",
    virtual: NumVirtual = 0,
    against: Annotated[str, typer.Option(help="the reference: a name, a JSON file or an ONNX file")] = "squeezebert",
    teacher: Annotated[
        str | None, typer.Option(help="instead: the reference of a search with this teacher, see `nas search`")
    ] = None,
    runtime: Runtime = "onnxruntime",
    runner: Runner = None,
    threads: Threads = 1,
    sequence_length: SequenceLength = 128,
    precision: Annotated[str, typer.Option(help="coarse (5 %), normal (2 %) or fine (1 %)")] = "normal",
    budget_minutes: BudgetMinutes = None,
    runs_folder: RunsFolder = DEFAULT_RUNS_FOLDER,
    storage: Storage = None,
    as_json: AsJson = False,
) -> None:
    """Time a reference against itself on a cold, idle device; the ratio must be 1 within 2 %.

    The certificate is kept for the device, runtime and its version, threads,
    sequence length and reference, with the cold baseline later sessions are held
    against. Exit code 1 if a device does not qualify.

    Example: nas qualify --device all
    """
    import numpy as np

    from device_lab.qualification import Qualification
    from device_lab.qualification import qualify as qualify_device
    from nas.cli.assembly import find_precision
    from nas.cli.certificates import Shelf
    from nas.cli.places import DeviceChoice
    from nas.cli.sessions import on_every_device
    from nas.cli.stores import STORE_NAME
    from nas.qualifications import save_qualification
    from nas.timed_models import TimedModels
    from nas.timing import device_settings

    wanted = find_precision(precision)
    timed_models = TimedModels(
        runs_folder / STORE_NAME / "models",
        runtime=runtime,
        sequence_length=sequence_length,
        num_labels=2,
        with_weights=runner is not None,
    )
    reference_id, reference = _reference(against, teacher, runtime=runtime, made=timed_models)

    def qualify_one(session: Session) -> Qualification:
        session.progress.tell("measuring the cold baseline")
        certificate = qualify_device(
            reference,
            device=session.device,
            num_threads=threads,
            generator=np.random.default_rng(0),
            precision=wanted,
            budget_s=None if budget_minutes is None else 60 * budget_minutes,
            on_progress=lambda progress: session.progress.measured(progress, session.device),
            clock=session.clock,
        )
        save_qualification(
            session.store,
            certificate,
            settings=device_settings(session.device, num_threads=threads, sequence_length=reference.sequence_length),
            reference_arch_id=reference_id,
        )
        return certificate

    results = on_every_device(
        DeviceChoice(device=device, runtime=runtime, num_threads=threads, num_virtual=virtual, runner=runner),
        shelf=Shelf(runs_folder=runs_folder, storage=storage),
        num_blocks=wanted.looks[-1],
        work=qualify_one,
    )
    if as_json:
        print_json([_document(name, result) for name, result in results.items()])
    else:
        _print_table(results)
    if not all(isinstance(result, Qualification) and result.is_qualified for result in results.values()):
        raise typer.Exit(1)


def _reference(against: str, teacher: str | None, *, runtime: str, made: TimedModels) -> tuple[str, ModelFile]:
    """Return the id and the file of what a device is to be told from itself by."""
    from nas.errors import SettingsError

    if teacher is None:
        if against.endswith(".onnx") and runtime != "onnxruntime":
            raise SettingsError(f"--runtime {runtime} cannot execute {against}; an ONNX file needs onnxruntime")
        return read_timed_model(against, made=made)
    from nas.teacher_plans import teacher_plan
    from search_spaces.reference import squeezebert_rule

    arch = squeezebert_rule(teacher_plan(teacher).arch)
    return arch.arch_id, made.export(arch)


def _document(name: str, result: Qualification | Exception) -> dict[str, object]:
    from device_lab.measurement import Backend
    from device_lab.qualification import Qualification
    from device_lab.statistics import half_width, kept_blocks
    from nas.documents import to_document

    if not isinstance(result, Qualification):
        return {"name": name, "is_qualified": False, "error": str(result)}
    measurement = result.measurement
    is_timed = measurement.device.backend is not Backend.QEMU
    has_interval = len(kept_blocks(measurement.blocks)) > 1
    return {
        "name": name,
        "is_qualified": result.is_qualified,
        "error": None,
        "ratio": to_document(result.ratio) if has_interval else None,
        "half_width": half_width(measurement.blocks) if has_interval else None,
        "cold_baseline_ms": result.cold_baseline_ns / 1e6 if is_timed else None,
        "num_blocks": len(measurement.blocks),
        "reason": measurement.reason.value,
        "device": to_document(measurement.device),
        "settings": to_document(measurement.settings),
    }


def _print_table(results: Mapping[str, Qualification | Exception]) -> None:
    from device_lab.errors import DeviceLabError
    from device_lab.measurement import Backend
    from device_lab.qualification import Qualification

    table = Table(box=None, pad_edge=False)
    for column in ("device", "backend", "ratio to itself (95 %)", "cold baseline ms", "blocks", "verdict"):
        table.add_column(column)
    for name, result in results.items():
        if not isinstance(result, Qualification):
            stderr.print(f"{name}: {result}", markup=False, soft_wrap=True)
            continue
        try:
            result.require()
            ratio, verdict = result.ratio, "qualified"
        except DeviceLabError as error:
            stderr.print(str(error), markup=False, soft_wrap=True)
            continue
        device = result.measurement.device
        is_timed = device.backend is not Backend.QEMU
        table.add_row(
            name,
            device.backend,
            f"{ratio.estimate:.3f} ({ratio.low:.3f}-{ratio.high:.3f})",
            f"{result.cold_baseline_ns / 1e6:.2f}" if is_timed else "",
            str(len(result.measurement.blocks)),
            verdict,
        )
    if table.row_count:
        stdout.print(table)
