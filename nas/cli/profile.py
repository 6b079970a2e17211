"""``nas profile``: where the time of a run's models goes, operator by operator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from nas.cli.console import print_json, stderr, stdout
from nas.cli.options import DEFAULT_RUNS_FOLDER, AsJson, RunName, Runner, RunsFolder, Storage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from device_lab.device import ProfilingDevice
    from device_lab.measurement import RunSettings
    from nas.records import ModelProfile, Run, Trial
    from nas.runs import SearchSettings
    from nas.store import Store
    from nas.timed_models import TimedModels
    from reports.profiles import Part


def profile(
    run: RunName,
    *,
    trial: Annotated[
        int | None, typer.Option(help="one trial by its number instead of the front and the references")
    ] = None,
    runner: Runner = None,
    runs_folder: RunsFolder = DEFAULT_RUNS_FOLDER,
    storage: Storage = None,
    as_json: AsJson = False,
) -> None:
    """Time every operator of the models of a run's front, on the device and runtime of the run, of several the first.

    Profiles are kept beside the run, and `nas report` shows them. They carry the
    overhead of the clock around every operator and are no latencies.

    Example: nas profile quickstart --trial 0
    """
    from nas.cli.run_devices import open_devices
    from nas.cli.stores import ARTIFACTS_FOLDER, open_existing_store
    from nas.runs import load_run
    from nas.timed_models import TimedModels

    try:
        with open_existing_store(run, runs_folder=runs_folder, storage=storage) as store:
            loaded = load_run(store, run)
            settings = _profilable_settings(store, run)
            chosen = _chosen(loaded, trial)
            models = TimedModels(
                runs_folder / ARTIFACTS_FOLDER / "models",
                runtime=settings.request.runtime,
                sequence_length=settings.request.sequence_length,
                num_labels=settings.num_labels,
                with_weights=runner is not None,
            )
            # Of several devices the first: shares of operators are of one.
            first = settings.device.device_id if settings.devices and settings.device else None
            with open_devices(settings.request, runner=runner, only=first) as opened:
                (device,) = opened.devices
                here = _checked_settings(device, settings, run=run)
                found = [(each, _profile(each, device, models, store, here)) for each in chosen]
    except KeyboardInterrupt:
        stderr.print("stopped; finished profiles are kept", markup=False)
        raise typer.Exit(130) from None
    if as_json:
        print_json([_document(each, taken) for each, taken in found])
        return
    _print(found, run=run)


def _profilable_settings(store: Store, name: str) -> SearchSettings:
    from nas.errors import SettingsError, StoreError
    from nas.runs import find_settings

    settings = find_settings(store, name)
    if settings is None:
        raise StoreError(f"no run {name!r} in the store (runs: {', '.join(store.run_names()) or 'none'})")
    if settings.device is None or settings.settings is None:
        raise SettingsError(f"run {name!r} times nothing, so it has no device to profile on; search for latency, too")
    if settings.request.runtime == "litert":
        raise SettingsError("runtime litert tells no times of operators; search with onnxruntime or executorch")
    return settings


def _chosen(run: Run, number: int | None) -> list[Trial]:
    """Return the trials to profile: the one asked for, or the front, cheapest first, then the references off it."""
    from nas.cli.stores import find_trial
    from nas.errors import StoreError
    from reports.analysis import analyse

    if number is not None:
        return [find_trial(run, number)]
    analysis = analyse(run)
    references = [item for item in (analysis.squeezebert, analysis.dense) if item is not None]
    if not analysis.front:
        raise StoreError(f"run {run.name!r} has no finished trial yet, and so no front; name a trial with --trial")
    return list({item.trial.number: item.trial for item in (*analysis.front, *references)}.values())


def _checked_settings(device: ProfilingDevice, settings: SearchSettings, *, run: str) -> RunSettings:
    """Return what is executed here and how, if it is what the run was timed with."""
    from device_lab.measurement import Backend
    from nas.errors import SettingsError
    from nas.timing import device_settings

    request = settings.request
    here = device_settings(device, num_threads=request.num_threads, sequence_length=request.sequence_length)
    if settings.device is not None and device.info.device_id != settings.device.device_id:
        raise SettingsError(
            f"run {run!r} was timed on {settings.device.device_id} ({settings.device.model}), this is "
            f"{device.info.device_id}; profile it there"
        )
    if settings.settings != here:
        version = settings.settings.runtime_version if settings.settings else "?"
        raise SettingsError(
            f"run {run!r} was timed with {here.runtime} {version}, here is {here.runtime_version}; profile it with "
            "what it was timed with"
        )
    if device.info.backend is Backend.QEMU:
        raise SettingsError(f"{device.info.device_id} is an emulated processor, whose times say nothing; take a phone")
    return here


def _profile(
    trial: Trial, device: ProfilingDevice, models: TimedModels, store: Store, settings: RunSettings
) -> ModelProfile:
    """Profile one trial and keep what came of it at once."""
    from nas.profiles import save_profile
    from nas.profiling import profile_model

    with stderr.status(f"profiling trial {trial.number}"):
        taken = profile_model(models.export(trial.architecture), device, settings)
    save_profile(store, taken, arch_id=trial.architecture.arch_id)
    return taken


def _print(found: Sequence[tuple[Trial, ModelProfile]], *, run: str) -> None:
    from reports.profiles import CAVEAT, by_kind, by_position, source, total_ms
    from reports.text import ROLE_NAMES

    for trial, taken in found:
        stdout.print(f"trial {trial.number} ({ROLE_NAMES[trial.role]}): {total_ms(taken):.3g} ms in operators")
        for title, parts in (("operator", by_kind(taken)), ("position", by_position(taken))):
            if parts:
                stdout.print(_table(title, parts))
        stdout.print()
    stdout.print(source(found[0][1]))
    stdout.print(CAVEAT)
    stderr.print(f"next: nas report {run}", markup=False)


def _table(title: str, parts: Sequence[Part]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(title, min_width=20, overflow="fold")
    for column in ("share", "ms", "count"):
        table.add_column(column, justify="right", min_width=7)
    for part in parts:
        table.add_row(part.name, f"{part.share:.1%}", f"{part.time_ms:.3f}", f"{part.num_calls:g}")
    return table


def _document(trial: Trial, taken: ModelProfile) -> dict[str, object]:
    from dataclasses import asdict

    from nas.documents import to_document
    from reports.profiles import by_kind, by_position

    return {
        "trial": trial.number,
        "role": trial.role.value,
        "arch_id": trial.architecture.arch_id,
        "is_latency": False,
        "kinds": [asdict(part) for part in by_kind(taken)],
        "positions": [asdict(part) for part in by_position(taken)],
        "profile": to_document(taken),
    }
