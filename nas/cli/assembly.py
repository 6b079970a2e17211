"""Puts the parts of a search together from what the command line asks for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from device_lab.device import Device
from device_lab.errors import DeviceNotFoundError
from device_lab.host import HostDevice
from device_lab.measurement import Precision
from device_lab.runtimes import find_runtime
from device_lab.statistics import PRECISIONS
from nas.accuracy import Evaluator, ScoringContext, check_evaluator, make_evaluator
from nas.artifacts import ArtifactFolder
from nas.cli.stores import ARTIFACTS_FOLDER
from nas.errors import SettingsError
from nas.records import Objective
from nas.runs import SearchRequest, SearchSettings, open_study
from nas.samplers import check_sampler
from nas.search import Observer, Search, check_space
from nas.store import Store
from nas.tasks import load_task
from nas.teacher import Teacher, prepare_teacher
from nas.teacher_plans import teacher_plan
from nas.timing import Timer
from nas.tokens import TokenizedTask, tokenize_task
from nas.training import OnStep
from search_spaces.reference import squeezebert_rule
from search_spaces.space import make_space


@contextmanager
def open_device(name: str, *, runtime: str) -> Iterator[Device]:
    """Open a device with a runtime, for as long as the block runs.

    Raises:
        DeviceNotFoundError: If there is no such device.
        UnknownRuntimeError: If there is no such runtime.
    """
    if name != "host":
        raise DeviceNotFoundError(serial=name, attached=["host"])
    yield HostDevice(find_runtime(runtime))


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
    """Where a search keeps things, and what it trains on. ``device`` is ``cpu`` or ``cuda``."""

    runs_folder: Path
    train_device: str

    @property
    def artifacts(self) -> ArtifactFolder:
        """Folder of teachers, weights and model files, shared by all runs."""
        return ArtifactFolder(self.runs_folder / ARTIFACTS_FOLDER)


def prepare_search(
    name: str,
    request: SearchRequest,
    *,
    workplace: Workplace,
    store: Store,
    device: Device | None,
    observer: Observer,
    on_teacher_step: OnStep,
) -> Search:
    """Make everything a search needs: task, teacher, space, evaluator, timer and study.

    Raises:
        NasError: If a name is unknown, or the run exists with other settings.
        SearchSpaceError: If the teacher does not fit the space.
        OSError: If a file cannot be read or written.
    """
    check_sampler(request.sampler)
    check_evaluator(request.evaluator)
    task_folder = Path(request.task_dir) if request.task_dir else None
    data = tokenize_task(load_task(request.task, folder=task_folder), sequence_length=request.sequence_length)
    teacher = prepare_teacher(
        data,
        teacher_plan(request.teacher),
        artifacts=workplace.artifacts,
        seed=request.seed,
        device=workplace.train_device,
        on_step=on_teacher_step,
    )
    space = make_space(request.space, teacher.arch)
    evaluator = _make_evaluator(request, data, teacher, workplace)
    timer = None
    if device is not None:
        timer = Timer(
            store=store,
            device=device,
            num_threads=request.num_threads,
            reference=squeezebert_rule(teacher.arch),
            sequence_length=request.sequence_length,
            num_labels=data.task.num_labels,
            models_folder=workplace.artifacts.path / "models",
            seed=request.seed,
        )
    settings = SearchSettings(
        request=request,
        task=data.task.name,
        task_sha256=data.content_sha256,
        num_labels=data.task.num_labels,
        teacher_id=teacher.teacher_id,
        teacher_architecture=teacher.arch.to_json(),
        evaluator_settings_id=evaluator.settings_id if evaluator else None,
        device=device.info if device else None,
        settings=timer.settings if timer else None,
    )
    check_space(space, settings)
    return Search(
        store=store,
        study=open_study(store, name, settings),
        space=space,
        settings=settings,
        evaluator=evaluator,
        timing=timer,
        observer=observer,
    )


def _make_evaluator(
    request: SearchRequest, data: TokenizedTask, teacher: Teacher, workplace: Workplace
) -> Evaluator | None:
    if Objective.ACCURACY not in request.objectives:
        return None
    context = ScoringContext(
        data=data,
        teacher=teacher,
        artifacts=workplace.artifacts,
        seed=request.seed,
        device=workplace.train_device,
        num_steps=request.steps,
    )
    return make_evaluator(request.evaluator, context)
