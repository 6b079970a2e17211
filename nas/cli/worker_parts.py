"""Puts the parts of a worker together from what its run says."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import optuna
from rich.progress import Progress

from device_lab.measurement import DeviceInfo
from device_lab.protocol import Progress as MeasuringProgress
from nas.accuracy import Evaluator, KnownScores
from nas.artifacts import ArtifactFolder
from nas.cli.assembly import (
    Workplace,
    make_timing,
    prepare_scoring,
    space_of,
)
from nas.cli.certificates import Shelf
from nas.cli.log import Log
from nas.cli.progress import TerminalObserver
from nas.cli.run_devices import RunDevices, find_cold_baselines_ns, open_devices
from nas.errors import SettingsError, StoreError
from nas.observer import Observer
from nas.records import Objective
from nas.runs import SearchSettings, find_settings, read_resolution, refuse_differences
from nas.search import Search
from nas.shared_run import WorkRole
from nas.store import Store
from nas.timing import TimingPlan
from nas.training import OnStep


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerPlace:
    """Where a worker keeps things, and what it works on. See `nas.cli.search.Place`."""

    runs_folder: Path
    storage: str | None
    artifacts: ArtifactFolder
    train_device: str
    runner: Path | None
    unqualified: bool
    total_budget_s: float | None

    @property
    def workplace(self) -> Workplace:
        """The folder of artifacts, and what trains."""
        return Workplace(artifacts=self.artifacts, train_device=self.train_device)


def read_run(store: Store, name: str) -> SearchSettings:
    """Return the settings of a run that must be there.

    Raises:
        StoreError: If there is no such run.
    """
    settings = find_settings(store, name)
    if settings is None:
        known = ", ".join(store.run_names()) or "none"
        raise StoreError(f"no run {name!r} in the store (runs: {known}); `nas search {name}` makes it")
    return settings


@contextmanager
def open_run_devices(settings: SearchSettings, role: WorkRole, *, place: WorkerPlace) -> Iterator[RunDevices | None]:
    """Open the devices of a run, unless the worker does not measure, or the run has none.

    One that only measures needs no more than one of several: the others are asked of those who have them.

    Raises:
        SettingsError: If there is nothing to measure for a worker that only measures, or the devices are others.
        DeviceLabError: If a device cannot be used.
    """
    is_timed = Objective.LATENCY in settings.request.objectives
    if role is WorkRole.MEASURE and not is_timed:
        raise SettingsError("the run has no latencies to measure; take --role train")
    if role is WorkRole.TRAIN or not is_timed:
        yield None
        return
    wanted = settings.all_devices
    is_part_enough = role is WorkRole.MEASURE and len(wanted) > 1
    with open_devices(settings.request, runner=place.runner, are_all_needed=not is_part_enough) as opened:
        here = tuple(device.info for device in opened.devices)
        ids, wanted_ids = ({device.device_id for device in each} for each in (here, wanted))
        if not ids <= wanted_ids or (ids != wanted_ids and not is_part_enough):
            raise SettingsError(
                f"the run is timed on {_names(wanted)}, and this is {_names(here)}; measure where that device is, or "
                "take --role train"
            )
        yield opened


def _names(devices: Sequence[DeviceInfo]) -> str:
    return " with ".join(f"{device.model} ({device.device_id})" for device in devices)


def prepare_worker(
    name: str,
    settings: SearchSettings,
    *,
    role: WorkRole,
    place: WorkerPlace,
    store: Store,
    devices: RunDevices | None,
    observer: Observer,
    on_teacher_step: OnStep,
) -> Search:
    """Make what a worker needs for its role.

    Raises:
        SettingsError: If its task, teacher or device is not the run's; the message shows the difference.
        NasError: If a task or a teacher is not usable.
        DeviceLabError: If the device has no certificate and needs one.
        OSError: If a file cannot be read or written.
    """
    request = settings.request
    if role is WorkRole.MEASURE:
        pairs = zip(request.fidelities, settings.score_settings_ids, strict=False)
        evaluators: list[Evaluator] = [KnownScores(name=fidelity, settings_id=each) for fidelity, each in pairs]
    else:
        scoring = prepare_scoring(request, workplace=place.workplace, store=store, on_teacher_step=on_teacher_step)
        own = replace(scoring.settings, device=settings.device, settings=settings.settings, devices=settings.devices)
        refuse_differences(name, settings, own)
        evaluators = scoring.evaluators
    timing = None
    if devices is not None:
        timing = make_timing(
            settings,
            workplace=place.workplace,
            store=store,
            devices=devices,
            cold_baselines_ns=find_cold_baselines_ns(
                devices.devices,
                request,
                shelf=Shelf(runs_folder=place.runs_folder, storage=place.storage),
                is_required=not place.unqualified,
                runner=place.runner,
            ),
            with_weights=place.runner is not None,
        )
        refuse_differences(name, settings, replace(settings, settings=timing.settings))
    with store.errors():
        study = optuna.load_study(storage=store.optuna_storage, study_name=name)
        resolution = read_resolution(study)
    plan = TimingPlan(total_budget_s=place.total_budget_s)
    return Search(
        store=store,
        study=study,
        space=space_of(settings),
        settings=settings,
        evaluators=evaluators,
        timing=timing,
        observer=observer,
        timing_plan=plan if resolution is None else replace(plan, resolution=resolution),
        role=role,
    )


class WorkerObserver(TerminalObserver):
    """Shows what a worker does; once ``stop`` is set, it ends at the step it is in, as Ctrl-C would end it."""

    def __init__(self, progress: Progress, *, log: Log, stop: threading.Event) -> None:
        # How many trials there shall be, and what others found, changes meanwhile: `nas status` tells.
        super().__init__(progress, num_trials=None, log=log, known={})
        self._stop = stop

    def trained(self, number: int, step: int, num_steps: int) -> None:
        """Show a training step."""
        super().trained(number, step, num_steps)
        self.end_if_stopped()

    def measured(self, progress: MeasuringProgress) -> None:
        """Show a round of measuring."""
        super().measured(progress)
        self.end_if_stopped()

    def finished(self, number: int, values: dict[Objective, float], *, is_predicted: bool) -> None:
        """Print a trial's values."""
        super().finished(number, values, is_predicted=is_predicted)
        self.end_if_stopped()

    def handed_over(self, number: int) -> None:
        """Say that another process times a trial."""
        super().handed_over(number)
        self.end_if_stopped()

    def waiting(self, *, lacking: str | None = None, unserved: Sequence[str] = ()) -> None:
        """Show that others work on the rest."""
        super().waiting(lacking=lacking, unserved=unserved)
        self.end_if_stopped()

    def end_if_stopped(self) -> None:
        """Raise `KeyboardInterrupt` if the worker is to stop."""
        if self._stop.is_set():
            raise KeyboardInterrupt
