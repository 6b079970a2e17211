"""Puts the parts of a search together from what the command line asks for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch

from device_lab.files import lock_file
from device_lab.measurement import Precision
from device_lab.statistics import PRECISIONS
from nas.accuracy import Evaluator, ScoringContext, check_fidelities, make_evaluator
from nas.artifacts import ArtifactFolder
from nas.candidates import Candidates
from nas.cli.run_devices import RunDevices
from nas.errors import SettingsError
from nas.multi_task import MultiTaskEvaluator
from nas.observer import Observer
from nas.processes import ALONE, Processes
from nas.records import Objective
from nas.runs import (
    SearchRequest,
    SearchSettings,
    TaskSettings,
    load_requested_task,
    open_study,
    reference_architecture,
)
from nas.samplers import check_sampler
from nas.search import Search, check_space
from nas.side_by_side import SideBySide
from nas.store import Store
from nas.store_url import parse_store_url, store_identity
from nas.tasks import Task
from nas.teacher import Teacher, prepare_teacher
from nas.teacher_plans import teacher_plan
from nas.timed_models import TimedModels
from nas.timing import Timer, TimingPlan
from nas.tokens import TokenizedTask, tokenize_task
from nas.training import OnStep
from search_spaces.architecture import Architecture
from search_spaces.space import Space, make_space


def find_precision(name: str) -> Precision:
    """Return the precision level called ``name``.

    Raises:
        SettingsError: If there is none.
    """
    if name not in PRECISIONS:
        raise SettingsError(f"unknown precision {name!r} (known: {', '.join(PRECISIONS)})")
    return PRECISIONS[name]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workplace:
    """Where a search keeps things, and what it trains on: ``cpu`` or ``cuda``, a teacher ``compiled`` or not."""

    artifacts: ArtifactFolder
    train_device: str
    compiled: bool = False


def _check_train_device(device: str) -> None:
    if device not in ("cpu", "cuda"):
        raise SettingsError(f"--train-device {device}: must be cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise SettingsError("--train-device cuda: PyTorch finds no CUDA device here; leave the option out")


def prepare_teachers(
    request: SearchRequest, *, workplace: Workplace, processes: Processes = ALONE, on_step: OnStep
) -> Iterator[tuple[TokenizedTask, Teacher]]:
    """Load the tasks of a request; then prepare a teacher for each, one after the other, as they are asked for.

    Returns:
        Each task, tokenized as its teacher wants it, and the teacher.

    Raises:
        NasError: If a name is unknown, a task is not usable, or a teacher cannot be made.
        OSError: If a file cannot be read or written.
    """
    _check_train_device(workplace.train_device)
    tasks = [load_requested_task(request, task) for task in request.tasks or (request.task,)]
    plan = teacher_plan(request.teacher)
    if len(tasks) > 1 and plan.recipe.num_steps == 0:
        raise SettingsError(
            f"teacher {request.teacher!r} is fine-tuned for one task already, and there are {len(tasks)} tasks; "
            "give --teacher-steps"
        )

    def prepare(task: Task) -> tuple[TokenizedTask, Teacher]:
        data = tokenize_task(task, sequence_length=request.sequence_length, tokenizer=plan.tokenizer)
        # Workers that begin at once on one machine train one teacher, not one each; the first process holds for all.
        path = workplace.artifacts.path / "teachers" / "lock"
        # Whoever waits for that shows it, and ends when told to, as if it had trained.
        lock = lock_file(path, on_wait=lambda: on_step(0, plan.recipe.num_steps)) if processes.is_first else None
        with lock or nullcontext():
            teacher = prepare_teacher(
                data,
                plan,
                artifacts=workplace.artifacts,
                seed=request.seed,
                device=workplace.train_device,
                processes=processes,
                compiled=workplace.compiled,
                on_step=on_step,
            )
        return data, teacher

    return map(prepare, tasks)


def prepare_search(
    name: str,
    request: SearchRequest,
    *,
    workplace: Workplace,
    store: Store,
    devices: RunDevices | None,
    cold_baselines_ns: Sequence[float | None],
    with_weights: bool = False,
    observer: Observer,
    timing_plan: TimingPlan,
    on_teacher_step: OnStep,
) -> Search:
    """Make everything a search needs: tasks, a teacher for each, space, evaluators, timer and study.

    Raises:
        NasError: If a name is unknown, or the run exists with other settings.
        SearchSpaceError: If the teacher does not fit the space.
        OSError: If a file cannot be read or written.
    """
    scoring = prepare_scoring(request, workplace=workplace, store=store, on_teacher_step=on_teacher_step)
    settings = scoring.settings
    timing = None
    if devices is not None:
        timing = make_timing(
            settings,
            workplace=workplace,
            store=store,
            devices=devices,
            cold_baselines_ns=cold_baselines_ns,
            with_weights=with_weights,
        )
        infos = timing.devices
        several = infos if len(infos) > 1 else ()
        settings = replace(settings, device=infos[0], settings=timing.settings, devices=several)
    space = space_of(settings)
    check_space(space, settings)
    return Search(
        store=store,
        study=open_study(store, name, settings),
        space=space,
        settings=settings,
        evaluators=scoring.evaluators,
        timing=timing,
        observer=observer,
        timing_plan=timing_plan,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Scoring:
    """What scores the candidates of a run, and the settings it comes to, those of timing left out."""

    evaluators: list[Evaluator]
    settings: SearchSettings


def prepare_scoring(request: SearchRequest, *, workplace: Workplace, store: Store, on_teacher_step: OnStep) -> Scoring:
    """Load the tasks of a request, train a teacher for each or find it, and make the evaluators.

    Raises:
        NasError: If a name is unknown, a task is not usable, or a teacher cannot be trained.
        OSError: If a file cannot be read or written.
    """
    check_sampler(request.sampler)
    check_fidelities(request.fidelities)
    teachers = prepare_teachers(request, workplace=workplace, on_step=on_teacher_step)
    # Before anything is trained: it is also where a place that cannot be written is found out.
    workplace.artifacts.add_user(store_identity(parse_store_url(store.url)))
    benches = [
        _Bench(data=data, teacher=teacher, evaluators=_make_evaluators(request, data, teacher, workplace))
        for data, teacher in teachers
    ]
    evaluators = _over_tasks(benches, store)
    settings = SearchSettings(
        request=request,
        task=",".join(bench.data.task.name for bench in benches),
        task_sha256=",".join(bench.data.content_sha256 for bench in benches),
        # The teachers differ by their heads alone. What a head costs is told for the widest.
        num_labels=max(bench.data.task.num_labels for bench in benches),
        teacher_id=",".join(bench.teacher.teacher_id for bench in benches),
        teacher_architecture=benches[0].teacher.arch.to_json(),
        score_settings_ids=tuple(evaluator.settings_id for evaluator in evaluators),
        device=None,
        settings=None,
        tasks=tuple(bench.settings for bench in benches) if request.tasks else (),
    )
    return Scoring(evaluators=evaluators, settings=settings)


def space_of(settings: SearchSettings) -> Space:
    """Return the space of a run.

    Raises:
        SearchSpaceError: If there is no space of its name.
    """
    return make_space(settings.request.space, Architecture.from_json(settings.teacher_architecture))


def make_timing(
    settings: SearchSettings,
    *,
    workplace: Workplace,
    store: Store,
    devices: RunDevices,
    cold_baselines_ns: Sequence[float | None],
    with_weights: bool = False,
) -> SideBySide:
    """Return what times the candidates of a run on its devices, given the cold baseline of each.

    Raises:
        SettingsError: If the devices have different versions of the runtime.
    """
    request = settings.request
    models = TimedModels(
        workplace.artifacts.path / "models",
        runtime=request.runtime,
        sequence_length=request.sequence_length,
        num_labels=settings.num_labels,
        with_weights=with_weights,
    )
    timers = [
        Timer(
            store=store,
            device=device,
            num_threads=request.num_threads,
            reference=reference_architecture(settings),
            models=models,
            seed=request.seed,
            cold_baseline_ns=baseline_ns,
        )
        for device, baseline_ns in zip(devices.devices, cold_baselines_ns, strict=True)
    ]
    return SideBySide(timers, on_stop=devices.stop, is_part=len(timers) < len(settings.all_devices))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bench:
    """What scores candidates on one task, from the cheapest fidelity to the dearest."""

    data: TokenizedTask
    teacher: Teacher
    evaluators: list[Evaluator]

    @property
    def settings(self) -> TaskSettings:
        return TaskSettings(
            name=self.data.task.name,
            sha256=self.data.content_sha256,
            teacher_id=self.teacher.teacher_id,
            score_settings_ids=tuple(evaluator.settings_id for evaluator in self.evaluators),
        )


def _over_tasks(benches: Sequence[_Bench], store: Store) -> list[Evaluator]:
    """Return the evaluators of a run: those of its task, or one over its tasks for each fidelity."""
    if len(benches) == 1:
        return benches[0].evaluators
    names = [bench.data.task.name for bench in benches]
    return [
        MultiTaskEvaluator(dict(zip(names, of_fidelity, strict=True)), store=store)
        for of_fidelity in zip(*(bench.evaluators for bench in benches), strict=True)
    ]


def _make_evaluators(
    request: SearchRequest, data: TokenizedTask, teacher: Teacher, workplace: Workplace
) -> list[Evaluator]:
    if Objective.ACCURACY not in request.objectives:
        return []
    context = ScoringContext(
        candidates=Candidates(
            data, teacher, artifacts=workplace.artifacts, seed=request.seed, device=workplace.train_device
        ),
        artifacts=workplace.artifacts,
        seed=request.seed,
        device=workplace.train_device,
        num_steps=request.steps,
    )
    return [make_evaluator(name, context) for name in request.fidelities]
