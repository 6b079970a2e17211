"""``nas gate``: is a model slower than it may be? For a CI, by its exit code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.cli.console import print_json, print_sentence, stderr
from nas.cli.options import (
    DEFAULT_RUNS_FOLDER,
    AsJson,
    NumVirtual,
    Runner,
    RunsFolder,
    SequenceLength,
    Storage,
    Threads,
)

if TYPE_CHECKING:
    from device_lab.gate import Verdict
    from device_lab.measurement import Interval, Measurement, ModelFile
    from nas.cli.sessions import Session
    from nas.timed_models import TimedModels

TOO_SLOW, NOT_MEASURED = 1, 3
RUNTIME = "onnxruntime"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gated:
    """What a gate found on one device."""

    ratio: Interval
    verdict: Verdict
    measurement: Measurement


def gate(
    model: Annotated[str, typer.Argument(help="an ONNX file, squeezebert, bert-base, or an architecture's JSON file")],
    *,
    against: Annotated[str, typer.Option(help="what it is held against: a file or a name, like the model")],
    max_ratio: Annotated[float, typer.Option(help="how many times as slow as that the model may be")] = 1.05,
    device: Annotated[str, typer.Option(help="host, a phone's serial or HOST:PORT, or all phones")] = "host",
    virtual: NumVirtual = 0,
    runner: Runner = None,
    threads: Threads = 1,
    sequence_length: SequenceLength = 128,
    precision: Annotated[str, typer.Option(help="coarse (5 %), normal (2 %) or fine (1 %)")] = "normal",
    budget_minutes: Annotated[
        float | None, typer.Option(min=0, help="answer after this long with what is known")
    ] = None,
    runs_folder: RunsFolder = DEFAULT_RUNS_FOLDER,
    storage: Storage = None,
    as_json: AsJson = False,
) -> None:
    """Time a model against a reference, and fail only if it is shown to be slower than it may be.

    Exit codes: 0 not shown to be too slow, 1 the lower bound of the ratio's 95 %
    interval exceeds --max-ratio on a device, 3 not measured.

    Example: nas gate new.onnx --against released.onnx --max-ratio 1.05
    """
    import numpy as np

    from device_lab.gate import Verdict, judge
    from device_lab.protocol import measure
    from device_lab.statistics import ratio_interval
    from nas.cli.assembly import find_precision
    from nas.cli.certificates import STORE_NAME, Shelf
    from nas.cli.main import EXPECTED_ERRORS
    from nas.cli.places import DeviceChoice
    from nas.cli.sessions import on_every_device
    from nas.timed_models import TimedModels

    shelf = Shelf(runs_folder=runs_folder, storage=storage)

    def gate_on(session: Session) -> Gated:
        (outcome,) = measure(
            [candidate],
            reference=reference,
            device=session.device,
            num_threads=threads,
            precision=wanted,
            generator=np.random.default_rng(0),
            budget_s=None if budget_minutes is None else 60 * budget_minutes,
            on_progress=lambda progress: session.progress.measured(progress, session.device),
            clock=session.clock,
        )
        if isinstance(outcome, Exception):
            raise outcome
        ratio = ratio_interval(outcome.blocks)
        return Gated(ratio=ratio, verdict=judge(ratio, max_ratio=max_ratio), measurement=outcome)

    try:
        _check_limit(max_ratio)
        wanted = find_precision(precision)
        models = TimedModels(
            runs_folder / STORE_NAME / "models",
            runtime=RUNTIME,
            sequence_length=sequence_length,
            num_labels=2,
            with_weights=runner is not None,
        )
        candidate, reference = _read_models(model, against, made=models)
        results = on_every_device(
            DeviceChoice(device=device, runtime=RUNTIME, num_threads=threads, num_virtual=virtual, runner=runner),
            shelf=shelf,
            num_blocks=wanted.looks[-1],
            work=gate_on,
        )
    except EXPECTED_ERRORS as error:
        stderr.print(f"nas: error: {' '.join(str(error).split())}", markup=False, soft_wrap=True)
        raise typer.Exit(NOT_MEASURED) from None
    _print(results, as_json=as_json, max_ratio=max_ratio, names=(Path(model).name, Path(against).name))
    if any(isinstance(result, Gated) and result.verdict is Verdict.ABOVE for result in results.values()):
        raise typer.Exit(TOO_SLOW)
    if any(isinstance(result, Exception) for result in results.values()):
        raise typer.Exit(NOT_MEASURED)


def _check_limit(max_ratio: float) -> None:
    from nas.errors import SettingsError

    if not max_ratio > 0:
        raise SettingsError(f"--max-ratio {max_ratio:g} must be above 0")


def _read_models(model: str, against: str, *, made: TimedModels) -> tuple[ModelFile, ModelFile]:
    """Return the model and the reference: files that are given, or what ``made`` makes of their names."""
    from nas.cli.models import read_architecture
    from nas.model_files import read_onnx_model

    first, second = (
        read_onnx_model(Path(name), sequence_length=made.sequence_length)
        if name.endswith(".onnx")
        else made.export(read_architecture(name))
        for name in (model, against)
    )
    return first, second


def _print(
    results: Mapping[str, Gated | Exception], *, as_json: bool, max_ratio: float, names: tuple[str, str]
) -> None:
    if as_json:
        print_json([_document(name, result, max_ratio=max_ratio) for name, result in results.items()])
    for name, result in results.items():
        if isinstance(result, Exception):
            stderr.print(f"nas: error: {name}: {result}", markup=False, soft_wrap=True)
        elif not as_json:
            print_sentence(f"{name}: {_sentence(result, max_ratio=max_ratio, names=names)}")


def _sentence(gated: Gated, *, max_ratio: float, names: tuple[str, str]) -> str:
    from device_lab.gate import Verdict
    from device_lab.statistics import kept_blocks

    ratio, blocks = gated.ratio, gated.measurement.blocks
    said = {
        Verdict.ABOVE: f"TOO SLOW: the whole interval lies above {max_ratio:g}",
        Verdict.UNDECIDED: f"passed, undecided: the limit {max_ratio:g} lies in the interval; try --precision fine",
        Verdict.WITHIN: f"passed: the whole interval lies below {max_ratio:g}",
    }[gated.verdict]
    return (
        f"{names[0]} takes {ratio.estimate:.3f} ({ratio.low:.3f} to {ratio.high:.3f}) times as long as {names[1]} "
        f"({gated.measurement.device.backend}, {len(kept_blocks(blocks))} of {len(blocks)} blocks, "
        f"{gated.measurement.reason.value.replace('_', ' ')}). {said}."
    )


def _document(name: str, result: Gated | Exception, *, max_ratio: float) -> dict[str, object]:
    from nas.documents import to_document

    if isinstance(result, Exception):
        return {"name": name, "error": str(result), "verdict": None, "ratio": None, "max_ratio": max_ratio}
    return {
        "name": name,
        "error": None,
        "verdict": result.verdict.value,
        "ratio": to_document(result.ratio),
        "max_ratio": max_ratio,
        "backend": result.measurement.device.backend.value,
        "num_blocks": len(result.measurement.blocks),
        "reason": result.measurement.reason.value,
        "settings": to_document(result.measurement.settings),
    }
