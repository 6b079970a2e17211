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
    from device_lab.measurement import Interval, Measurement
    from nas.cli.sessions import Session

TOO_SLOW, NOT_MEASURED = 1, 3
RUNTIME = "onnxruntime"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gated:
    """What a gate found on one device. ``checked`` says where, and against whose, the answers were held."""

    ratio: Interval
    verdict: Verdict
    measurement: Measurement
    checked: str


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
    unqualified: Annotated[bool, typer.Option("--unqualified", help="time on phones that have no certificate")] = False,
    runs_folder: RunsFolder = DEFAULT_RUNS_FOLDER,
    storage: Storage = None,
    as_json: AsJson = False,
) -> None:
    """Time a model against a reference, and fail only if it is shown to be slower than it may be.

    A phone needs a certificate for the reference, by `nas qualify --against`, and is
    paused while it is warmer than that says. Every run has to give the right answer:
    of an ONNX file the one ONNX Runtime gives here without any optimisation, else torch's.

    Exit codes: 0 not shown to be too slow, 1 the lower bound of the ratio's 95 %
    interval exceeds --max-ratio on a device, 3 not measured.

    Example: nas gate new.onnx --against released.onnx --max-ratio 1.05
    """
    import numpy as np

    from device_lab.caveats import where_checked
    from device_lab.errors import DeviceUnfitError
    from device_lab.gate import Verdict, judge
    from device_lab.measurement import Reason
    from device_lab.protocol import MAX_HEAT, measure
    from device_lab.statistics import MIN_KEPT_BLOCKS, kept_blocks, ratio_interval
    from nas.cli.assembly import find_precision
    from nas.cli.certificates import Shelf, Subject, cold_baseline_ns
    from nas.cli.main import EXPECTED_ERRORS
    from nas.cli.models import read_timed_model
    from nas.cli.places import DeviceChoice
    from nas.cli.sessions import on_every_device
    from nas.cli.stores import STORE_NAME
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
            cold_baseline_ns=cold_baseline_ns(session.device, subject, shelf=shelf, is_required=not unqualified),
            budget_s=None if budget_minutes is None else 60 * budget_minutes,
            on_progress=lambda progress: session.progress.measured(progress, session.device),
            clock=session.clock,
        )
        if isinstance(outcome, Exception):
            raise outcome
        if outcome.reason is Reason.THERMAL and len(kept_blocks(outcome.blocks)) < MIN_KEPT_BLOCKS:
            warm = f"the reference stayed more than {MAX_HEAT - 1:.0%} slower than on the cold device; let it cool"
            raise DeviceUnfitError(serial=session.device.info.device_id, reasons=(warm,))
        ratio = ratio_interval(outcome.blocks)
        return Gated(
            ratio=ratio,
            verdict=judge(ratio, max_ratio=max_ratio),
            measurement=outcome,
            checked=f"{where_checked(outcome)} against {answered_by}",
        )

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
        _, candidate = read_timed_model(model, made=models)
        reference_id, reference = read_timed_model(against, made=models)
        answered_by = " and ".join(dict.fromkeys((candidate.answered_by, reference.answered_by)))
        subject = Subject(
            reference_id=reference_id,
            words=() if against == "squeezebert" else ("--against", against),
            num_threads=threads,
            sequence_length=reference.sequence_length,
            num_virtual=virtual,
            runner=runner,
        )
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


def _print(
    results: Mapping[str, Gated | Exception], *, as_json: bool, max_ratio: float, names: tuple[str, str]
) -> None:
    from device_lab.caveats import caveats

    if as_json:
        print_json([_document(name, result, max_ratio=max_ratio) for name, result in results.items()])
    for name, result in results.items():
        if isinstance(result, Exception):
            stderr.print(f"nas: error: {name}: {result}", markup=False, soft_wrap=True)
        elif not as_json:
            print_sentence(f"{name}: {_sentence(result, max_ratio=max_ratio, names=names)}")
            for caveat in caveats(result.measurement):
                stderr.print(f"{name}: note: {caveat}", markup=False, soft_wrap=True)


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
        f"{gated.measurement.reason.value.replace('_', ' ')}; {gated.checked}). {said}."
    )


def _document(name: str, result: Gated | Exception, *, max_ratio: float) -> dict[str, object]:
    from device_lab.caveats import caveats
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
        "num_cooldowns": result.measurement.num_cooldowns,
        "outputs": result.checked,
        "flags": caveats(result.measurement),
        "settings": to_document(result.measurement.settings),
    }
