"""``nas search``: start a run, or go on with it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas.cli.console import stderr
from nas.cli.defaults import from_file
from nas.cli.options import (
    DEFAULT_RUNS_FOLDER,
    Artifacts,
    AsJson,
    Runner,
    RunsFolder,
    Storage,
    Task,
    TaskFolder,
    TeacherName,
    TeacherSteps,
    TokensPerExample,
    TrainDevice,
    complete_run,
)

if TYPE_CHECKING:
    from nas.records import LatencyMode, Objective, Run
    from nas.runs import SearchRequest
    from nas.store import Store

DEFAULT_NUM_TRIALS = 40
DEFAULT_RESOLUTION = 0.02
# Fields of a request whose option is called otherwise.
_PARAMETERS = {"num_threads": "threads"}


def search(
    context: typer.Context,
    run: Annotated[
        str, typer.Argument(help="name of the run; one that exists is resumed", autocompletion=complete_run)
    ],
    *,
    trials: Annotated[
        int, typer.Option(min=1, help="distinct architectures the run shall have in all")
    ] = DEFAULT_NUM_TRIALS,
    space: Annotated[str | None, typer.Option(help="squeezebert, staged or grouped [default: grouped]")] = None,
    task: Task = None,
    task_dir: TaskFolder = None,
    tasks: Annotated[
        str | None, typer.Option(help="several tasks: scores are their mean; --task-dir then holds a folder for each")
    ] = None,
    teacher: TeacherName = None,
    teacher_steps: TeacherSteps = None,
    objectives: Annotated[
        str | None, typer.Option(help="of accuracy,latency,macs,parameters [default: accuracy,latency]")
    ] = None,
    sampler: Annotated[str | None, typer.Option(help="evolution, tpe, nsga2 or random [default: evolution]")] = None,
    fidelities: Annotated[
        str | None,
        typer.Option(help="how candidates are scored, of projected,distilled,full [default: projected,distilled]"),
    ] = None,
    promoted_share: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="share that goes on to the next fidelity [default: 0.3]")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="training steps of a distilled candidate")] = None,
    seed: Annotated[int | None, typer.Option(help="seed of the whole run [default: 0]")] = None,
    device: Annotated[
        str | None,
        typer.Option(
            help="where to time: host, a phone, or several with commas (or all), of which the slowest counts; see "
            "`nas devices` [default: host]"
        ),
    ] = None,
    runtime: Annotated[str | None, typer.Option(help="what executes the models [default: onnxruntime]")] = None,
    runner: Runner = None,
    threads: Annotated[int | None, typer.Option(min=1, help="threads of the runtime [default: 1]")] = None,
    sequence_length: TokensPerExample = None,
    latency: Annotated[
        str | None,
        typer.Option(
            help="measured, hybrid (predicted, and measured where the front depends on it) or predicted (only the "
            "front is measured, at the end) [default: hybrid]"
        ),
    ] = None,
    max_latency_ratio: Annotated[
        float | None, typer.Option(min=0.001, help="reject what is slower, as a ratio to SqueezeBERT's rule")
    ] = None,
    max_parameters: Annotated[int | None, typer.Option(min=1, help="reject what has more parameters")] = None,
    max_model_mb: Annotated[
        float | None, typer.Option(min=0.001, help="reject what has more megabytes of float32 weights")
    ] = None,
    min_accuracy: Annotated[
        float | None, typer.Option(min=0.001, max=1.0, help="leave out what scores less, as a fraction")
    ] = None,
    resolution: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="relative error of a predicted latency that is good enough")
    ] = DEFAULT_RESOLUTION,
    minutes: Annotated[float | None, typer.Option(min=0.0, help="propose nothing more after so many minutes")] = None,
    phone_minutes: Annotated[
        float | None, typer.Option(min=0.0, help="time on the device that may be spent on measuring")
    ] = None,
    train_device: TrainDevice = "cpu",
    unqualified: Annotated[bool, typer.Option("--unqualified", help="time on a phone that has no certificate")] = False,
    runs_folder: RunsFolder = DEFAULT_RUNS_FOLDER,
    storage: Storage = None,
    artifacts: Artifacts = None,
    as_json: AsJson = False,
) -> None:
    """Search the space for networks on the accuracy-latency front, or go on with a run.

    Ctrl-C stops it at any point; the same command goes on. Options left out of
    that command are the run's own.

    Example: nas search first --space grouped --trials 30
    """
    from nas.cli.front import print_front
    from nas.cli.places import device_names

    flags = {
        "space": space,
        "task": task,
        "task_dir": str(task_dir.resolve()) if task_dir else None,
        "tasks": tasks,
        "teacher": teacher,
        "teacher_steps": teacher_steps,
        "objectives": _objectives(objectives) if objectives else None,
        "sampler": sampler,
        "fidelities": tuple(name.strip() for name in fidelities.split(",")) if fidelities else None,
        "promoted_share": promoted_share,
        "steps": steps,
        "seed": seed,
        "device": ",".join(device_names(device)) if device else None,
        "runtime": runtime,
        "num_threads": threads,
        "sequence_length": sequence_length,
        "latency": _latency_mode(latency) if latency else None,
        "max_latency_ratio": max_latency_ratio,
        "max_parameters": max_parameters,
        "max_model_mb": max_model_mb,
        "min_accuracy": min_accuracy,
    }
    given = {name: value for name, value in flags.items() if value is not None}
    written = from_file(context)
    defaults = {name: given.pop(name) for name in list(given) if _PARAMETERS.get(name, name) in written}
    place = Place(
        runs_folder=runs_folder,
        storage=storage,
        artifacts=artifacts,
        train_device=train_device,
        unqualified=unqualified,
        runner=runner,
        total_budget_s=None if phone_minutes is None else 60 * phone_minutes,
        resolution=resolution,
        max_minutes=minutes,
    )
    finished = run_search(run, given, defaults=defaults, num_trials=trials, place=place)
    if not finished.trials:
        stderr.print(f"the run is made, and has no trials yet; next: nas worker --run {run}", markup=False)
        return
    print_front(finished, as_json=as_json)
    stderr.print(f"next: nas report {run}, nas show {run}, nas pick --help", markup=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a run is kept, what it trains on, and how long it and its timing may take; see `nas.timing.TimingPlan`.

    ``unqualified``: a phone needs no certificate. ``runner`` is a program of the
    user's own; a run is gone on with by the same one.
    """

    runs_folder: Path
    storage: str | None
    train_device: str
    artifacts: str | None = None
    unqualified: bool = False
    runner: Path | None = None
    batch_budget_s: float | None = None
    total_budget_s: float | None = None
    resolution: float = DEFAULT_RESOLUTION
    max_minutes: float | None = None


def run_search(
    run: str,
    given: dict[str, Any],
    *,
    num_trials: int,
    place: Place,
    defaults: Mapping[str, Any] = MappingProxyType({}),
) -> Run:
    """Search until the run has ``num_trials`` distinct architectures, and return it.

    Args:
        run: Name of the run.
        given: The fields of a request that were asked for, and perhaps the
            teacher's steps; the others are the run's own, or the defaults.
        num_trials: Distinct architectures the run shall have.
        place: Where.
        defaults: Fields for a run that is new, where ``given`` has none; one that exists keeps its own.

    Raises:
        typer.Exit: With 130 on Ctrl-C, after saying how to go on.
    """
    from nas.cli.assembly import Workplace, prepare_search
    from nas.cli.certificates import Shelf
    from nas.cli.log import run_log
    from nas.cli.progress import TerminalObserver, show_progress
    from nas.cli.run_devices import RunDevices, find_cold_baselines_ns, open_devices
    from nas.cli.stores import check_run_name, load_for_report, open_artifacts, open_store
    from nas.records import Objective
    from nas.run_folder import hold_run
    from nas.timing import TimingPlan

    check_run_name(run)
    artifacts = open_artifacts(runs_folder=place.runs_folder, shared=place.artifacts)
    try:
        with ExitStack() as stack:
            stack.enter_context(hold_run(place.runs_folder / run))
            log = stack.enter_context(run_log(place.runs_folder / run))
            store = stack.enter_context(open_store(run, runs_folder=place.runs_folder, storage=place.storage))
            request = _request(run, given, defaults, store)
            devices: RunDevices | None = None
            cold_baselines_ns: list[float | None] = []
            if Objective.LATENCY in request.objectives:
                devices = stack.enter_context(open_devices(request, runner=place.runner))
                cold_baselines_ns = find_cold_baselines_ns(
                    devices.devices,
                    request,
                    shelf=Shelf(runs_folder=place.runs_folder, storage=place.storage),
                    is_required=not place.unqualified,
                    runner=place.runner,
                )
            progress = stack.enter_context(show_progress())
            teacher_task = progress.add_task("teacher", total=None)
            prepared = prepare_search(
                run,
                request,
                workplace=Workplace(artifacts=artifacts, train_device=place.train_device),
                store=store,
                devices=devices,
                cold_baselines_ns=cold_baselines_ns,
                with_weights=place.runner is not None,
                observer=TerminalObserver(progress, num_trials=num_trials, log=log, known=_known_values(store, run)),
                timing_plan=TimingPlan(
                    batch_budget_s=place.batch_budget_s,
                    total_budget_s=place.total_budget_s,
                    resolution=place.resolution,
                ),
                on_teacher_step=lambda step, num_steps: progress.update(
                    teacher_task, description="training the teacher", completed=step, total=num_steps
                ),
            )
            progress.remove_task(teacher_task)
            prepared.run(num_trials, max_minutes=place.max_minutes)
            return load_for_report(store, run)
    except KeyboardInterrupt:
        again = f"nas search {run}" + (f" --runner {place.runner}" if place.runner else "")
        stderr.print(f"stopped; nothing is lost. To go on: {again}", markup=False)
        raise typer.Exit(130) from None


def _request(run: str, given: dict[str, Any], defaults: Mapping[str, Any], store: Any) -> SearchRequest:
    """Complete a request from the run's own, or from the defaults if the run is new."""
    from dataclasses import replace

    from nas.cli.requests import new_request, with_tasks, with_teacher_steps
    from nas.runs import find_settings, refuse_differences

    existing = find_settings(store, run)
    if existing is None:
        return new_request(given, defaults)
    wanted = replace(existing.request, **with_teacher_steps(with_tasks(given), existing.request))
    refuse_differences(run, existing.request, wanted)
    return existing.request


def _known_values(store: Store, run: str) -> dict[int, dict[Objective, float]]:
    """Return the values of the trials a run has already, by number, for the front that is shown while it goes on."""
    from nas.runs import find_settings, load_run
    from reports.analysis import analyse
    from reports.errors import ReportError

    if find_settings(store, run) is None:
        return {}
    try:
        analysis = analyse(load_run(store, run))
    except ReportError:
        return {}
    return {
        item.trial.number: {objective: item.value(objective) or 0.0 for objective in analysis.objectives}
        for item in analysis.compared
    }


def _latency_mode(text: str) -> LatencyMode:
    from nas.errors import SettingsError
    from nas.records import LatencyMode

    if text not in list(LatencyMode):
        raise SettingsError(f"unknown --latency {text!r} (known: {', '.join(LatencyMode)})")
    return LatencyMode(text)


def _objectives(text: str) -> tuple[Objective, ...]:
    from nas.errors import SettingsError
    from nas.records import Objective

    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in list(Objective):
            raise SettingsError(f"unknown objective {name!r} (known: {', '.join(Objective)})")
    if len(set(names)) < len(names):
        raise SettingsError(f"objectives {text!r} name one twice")
    return tuple(Objective(name) for name in names)
