"""``nas measure``: time architectures against a reference, side by side, on one device or on several at once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.cli.console import print_json
from nas.cli.models import read_architecture
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
    from nas.cli.sessions import Session


def measure(
    models: Annotated[list[str], typer.Argument(help="squeezebert, bert-base, or architectures' JSON files")],
    *,
    against: Annotated[str, typer.Option(help="the reference: a name or a JSON file")] = "squeezebert",
    device: Annotated[str, typer.Option(help="host, a phone's serial or HOST:PORT, or all phones")] = "host",
    virtual: NumVirtual = 0,
    runtime: Runtime = "onnxruntime",
    runner: Runner = None,
    threads: Threads = 1,
    sequence_length: SequenceLength = 128,
    precision: Annotated[str, typer.Option(help="coarse (5 %), normal (2 %) or fine (1 %)")] = "normal",
    budget_minutes: BudgetMinutes = None,
    unqualified: Annotated[bool, typer.Option("--unqualified", help="time on phones that have no certificate")] = False,
    runs_folder: RunsFolder = DEFAULT_RUNS_FOLDER,
    storage: Storage = None,
    as_json: AsJson = False,
) -> None:
    """Time models against a reference in interleaved fresh processes, and print the ratios.

    Every finished block is kept: after Ctrl-C, a lost phone or a spent budget the
    same command goes on at the next block.

    Example: nas measure bert-base --against squeezebert --device all
    """
    from nas.cli.assembly import find_precision
    from nas.cli.certificates import Shelf, Subject, cold_baseline_ns
    from nas.cli.measured import Measured, documents, print_tables
    from nas.cli.places import DeviceChoice
    from nas.cli.sessions import on_every_device
    from nas.cli.stores import STORE_NAME
    from nas.timed_models import TimedModels
    from nas.timing import Timer

    archs = {name: read_architecture(name) for name in models}
    wanted = find_precision(precision)
    reference = read_architecture(against)
    subject = Subject(
        reference_id=reference.arch_id,
        words=() if against == "squeezebert" else ("--against", against),
        num_threads=threads,
        sequence_length=sequence_length,
        num_virtual=virtual,
        runner=runner,
    )
    shelf = Shelf(runs_folder=runs_folder, storage=storage)
    timed_models = TimedModels(
        runs_folder / STORE_NAME / "models",
        runtime=runtime,
        sequence_length=sequence_length,
        num_labels=2,
        with_weights=runner is not None,
    )

    def measure_on(session: Session) -> Measured:
        timer = Timer(
            store=session.store,
            device=session.device,
            num_threads=threads,
            reference=reference,
            models=timed_models,
            seed=0,
            cold_baseline_ns=cold_baseline_ns(session.device, subject, shelf=shelf, is_required=not unqualified),
            clock=session.clock,
        )
        outcomes = timer.measure(
            list(archs.values()),
            precision=wanted,
            budget_s=None if budget_minutes is None else 60 * budget_minutes,
            on_progress=lambda progress: session.progress.measured(progress, session.device),
        )
        by_name = {model: outcomes[arch.arch_id] for model, arch in archs.items()}
        return Measured(device=session.device.info, outcomes=by_name)

    results = on_every_device(
        DeviceChoice(device=device, runtime=runtime, num_threads=threads, num_virtual=virtual, runner=runner),
        shelf=shelf,
        num_blocks=wanted.looks[-1],
        work=measure_on,
    )
    if as_json:
        print_json(documents(results))
    else:
        print_tables(results, against=Path(against).stem)
    if not all(isinstance(result, Measured) and result.is_whole for result in results.values()):
        raise typer.Exit(1)
