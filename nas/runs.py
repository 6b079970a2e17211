"""Runs: created once with their settings, opened again with the same, read with all that is known of them."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import optuna
from optuna.study import StudyDirection

from device_lab.measurement import DeviceInfo, RunSettings
from nas.constraints import Constraints
from nas.cost import model_cost
from nas.documents import from_document, to_document
from nas.errors import SettingsError, StoreError
from nas.optuna_rows import TrialRow, add_study_attributes, read_rows
from nas.profiles import find_profiles
from nas.records import LatencyMode, ModelProfile, Objective, Role, Run, Score, Trial, TrialState
from nas.run_latencies import find_measured
from nas.store import Store
from nas.tasks import Task, find_task_folder, load_task
from nas.trial_latencies import with_latencies
from nas.trial_notes import NOTE_KEY, TrialNote, read_row_note, says_something
from search_spaces.architecture import Architecture
from search_spaces.reference import squeezebert_rule

_SETTINGS_KEY = "nas:settings"
_CREATED_WITH_KEY = "nas:created_with"
_GOAL_KEY = "nas:num_trials"
_RESOLUTION_KEY = "nas:resolution"
VERSIONED_PACKAGES = ("pocketbert", "torch", "optuna", "fvcore", "onnx", "onnxruntime")


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRequest:
    """What a user asks of a run. A run keeps its request, so resuming it needs only its name.

    ``fidelities`` are evaluators by name, from the cheapest to the dearest;
    ``promoted_share`` of the candidates go from each to the next. The four
    bounds are those of `nas.constraints.Constraints`. ``tasks`` is
    empty unless there are several; then ``task`` is their names with commas,
    and ``task_dir`` holds a folder for each.
    """

    space: str = "grouped"
    task: str = "embedded-subj"
    task_dir: str | None = None
    tasks: tuple[str, ...] = ()
    teacher: str = "small"
    objectives: tuple[Objective, ...] = (Objective.ACCURACY, Objective.LATENCY)
    sampler: str = "evolution"
    fidelities: tuple[str, ...] = ("projected", "distilled")
    promoted_share: float = 0.3
    steps: int | None = None
    seed: int = 0
    device: str = "host"
    runtime: str = "onnxruntime"
    num_threads: int = 1
    sequence_length: int = 128
    latency: LatencyMode = LatencyMode.HYBRID
    max_latency_ratio: float | None = None
    max_parameters: int | None = None
    max_model_mb: float | None = None
    min_accuracy: float | None = None

    @property
    def constraints(self) -> Constraints:
        """What every candidate has to keep."""
        return Constraints(**{field.name: getattr(self, field.name) for field in fields(Constraints)})


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSettings:
    """One task of a run: its data, its teacher, and what its own scores are kept under, one for each fidelity."""

    name: str
    sha256: str
    teacher_id: str
    score_settings_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSettings:
    """What a request came to on this machine: the run is resumed with the same or not at all.

    ``score_settings_ids`` key the scores of the run, one for each fidelity, ``settings`` and
    ``device`` its measurements; each is empty or ``None`` where no objective needs it.
    ``tasks`` is empty unless there are several; then ``task``, ``task_sha256`` and ``teacher_id``
    are theirs with commas, and ``num_labels`` is that of the widest head.
    ``devices`` is empty unless there are several; ``device`` is then their first.
    """

    request: SearchRequest
    task: str
    task_sha256: str
    num_labels: int
    teacher_id: str
    teacher_architecture: str
    score_settings_ids: tuple[str, ...]
    device: DeviceInfo | None
    settings: RunSettings | None
    tasks: tuple[TaskSettings, ...] = ()
    devices: tuple[DeviceInfo, ...] = ()

    @property
    def all_devices(self) -> tuple[DeviceInfo, ...]:
        """What the run is timed on: nothing, its device, or its several."""
        return self.devices or ((self.device,) if self.device is not None else ())


def open_study(store: Store, name: str, settings: SearchSettings) -> optuna.Study:
    """Create the run called ``name``, or open it again with the settings it has.

    Raises:
        SettingsError: If the run exists with other settings; the message shows the difference.
        StoreError: If the store cannot be read.
    """
    with store.errors():
        directions = [
            StudyDirection.MAXIMIZE if objective == Objective.ACCURACY else StudyDirection.MINIMIZE
            for objective in settings.request.objectives
        ]
        study = optuna.create_study(
            storage=store.optuna_storage, study_name=name, directions=directions, load_if_exists=True
        )
        if study.directions == directions and _is_half_made(study):
            created_with = {"python": platform.python_version()} | {each: version(each) for each in VERSIONED_PACKAGES}
            attributes = {_CREATED_WITH_KEY: created_with, _SETTINGS_KEY: to_document(settings)}
            # Of several that make it at once, the settings of one count for all.
            store.transaction(lambda connection: add_study_attributes(connection, study._study_id, attributes))
        existing = read_settings(study)
    refuse_differences(name, existing, settings)
    return study


def _is_half_made(study: optuna.Study) -> bool:
    """Tell whether a run is so new that it has no settings, or whoever made it was killed before it had."""
    return study.user_attrs.keys() <= {_CREATED_WITH_KEY} and not study.get_trials(deepcopy=False)


def refuse_differences(name: str, existing: Any, wanted: Any) -> None:
    """Refuse to go on with a run under other settings than it was made with.

    Args:
        name: The run.
        existing: Its request or settings.
        wanted: A value of the same dataclass.

    Raises:
        SettingsError: If they differ; the message shows where.
    """
    differences = [
        f"{field.name} is {_show(getattr(existing, field.name))}, asked for {_show(getattr(wanted, field.name))}"
        for field in fields(existing)
        if getattr(existing, field.name) != getattr(wanted, field.name)
    ]
    if differences:
        raise SettingsError(
            f"run {name!r} has other settings: {'; '.join(differences)}; leave them out to resume it, "
            "or choose another run name"
        )


def load_requested_task(request: SearchRequest, name: str) -> Task:
    """Load one task of a request.

    Raises:
        TaskError: If it is not there, or its data is not usable.
        MissingExtraError: If it is on the Hub and the extra ``hub`` is not installed.
    """
    folder = Path(request.task_dir) if request.task_dir else None
    if request.tasks and folder is not None:
        folder = find_task_folder(folder, name)
    return load_task(name, folder=folder)


def task_settings(settings: SearchSettings) -> tuple[TaskSettings, ...]:
    """Return the tasks of a run, one or several."""
    only = TaskSettings(
        name=settings.task,
        sha256=settings.task_sha256,
        teacher_id=settings.teacher_id,
        score_settings_ids=settings.score_settings_ids,
    )
    return settings.tasks or (only,)


def read_settings(study: optuna.Study) -> SearchSettings:
    """Return the settings a run was created with.

    Raises:
        StoreError: If the study is not a run of ours.
    """
    document = study.user_attrs.get(_SETTINGS_KEY)
    if document is None:
        raise StoreError(f"study {study.study_name!r} was not made by `nas search`; choose another run name")
    return from_document(SearchSettings, document)


def keep_goal(study: optuna.Study, num_trials: int) -> None:
    """Let every process that works on a run know how many distinct architectures it shall have."""
    if read_goal(study) != num_trials:
        study.set_user_attr(_GOAL_KEY, num_trials)


def read_goal(study: optuna.Study) -> int | None:
    """Return how many distinct architectures a run shall have, or ``None`` if nobody said."""
    goal: int | None = study.user_attrs.get(_GOAL_KEY)
    return goal


def keep_resolution(study: optuna.Study, resolution: float) -> None:
    """Let every process that works on a run know how good a prediction has to be; see `nas.timing.TimingPlan`."""
    if read_resolution(study) != resolution:
        study.set_user_attr(_RESOLUTION_KEY, resolution)


def read_resolution(study: optuna.Study) -> float | None:
    """Return how good a prediction has to be, or ``None`` if nobody said."""
    resolution: float | None = study.user_attrs.get(_RESOLUTION_KEY)
    return resolution


def find_goal(store: Store, name: str) -> int | None:
    """Return how many distinct architectures the run called ``name`` shall have, or ``None`` if nobody said."""
    with store.errors():
        return read_goal(optuna.load_study(storage=store.optuna_storage, study_name=name))


def find_settings(store: Store, name: str) -> SearchSettings | None:
    """Return the settings of the run called ``name``, or ``None`` if there is no such run."""
    with store.errors():
        if name not in store.run_names():
            return None
        study = optuna.load_study(storage=store.optuna_storage, study_name=name)
        return None if _is_half_made(study) else read_settings(study)


def all_settings(store: Store) -> list[SearchSettings]:
    """Return the settings of all runs in a store; studies that are not ours are left out.

    Raises:
        StoreError: If the store cannot be read, or another release wrote a run.
    """
    with store.errors():
        studies = [optuna.load_study(storage=store.optuna_storage, study_name=name) for name in store.run_names()]
        return [read_settings(study) for study in studies if _SETTINGS_KEY in study.user_attrs]


def load_run(store: Store, name: str) -> Run:
    """Read a run with all its trials, scores and measurements, these without samples; see `nas.run_samples`.

    Raises:
        StoreError: If there is no such run, or the store cannot be read.
    """
    known = store.run_names()
    if name not in known:
        raise StoreError(f"no run {name!r} in the store (runs: {', '.join(known) or 'none'}); `nas search` makes one")
    with store.errors():
        study = optuna.load_study(storage=store.optuna_storage, study_name=name)
        settings, created_with = read_settings(study), study.user_attrs[_CREATED_WITH_KEY]
    by_fidelity = [store.find_scores(settings_id) for settings_id in settings.score_settings_ids]
    rows = store.transaction(lambda connection: read_rows(connection, study_name=name, key=NOTE_KEY))
    notes = [(row, read_row_note(row)) for row in rows if says_something(row)]
    archs = {text: Architecture.from_json(text) for text in {note.architecture for _, note in notes}}
    unscored = tuple(_read_trial(row, note, archs[note.architecture], settings) for row, note in notes)
    profiles: dict[str, ModelProfile] = {}
    if settings.device is not None and settings.settings is not None:
        unscored = with_latencies(
            unscored,
            settings.all_devices,
            partial(
                find_measured,
                store,
                settings=settings.settings,
                reference=reference_architecture(settings),
                among={arch.arch_id: arch for arch in archs.values()},
            ),
            reference=reference_architecture(settings),
            is_predicting=settings.request.latency is not LatencyMode.MEASURED,
        )
        profiles = find_profiles(store, device_id=settings.device.device_id, settings=settings.settings)
    created = next((row.began_at for row in rows), None)
    level = _front_level(by_fidelity, unscored)
    # Of an architecture that was promoted, the score of the front's fidelity; nobody has one above it.
    scores: dict[str, Score] = {}
    for known_scores in by_fidelity[: level + 1]:
        scores |= known_scores
    trials = tuple(replace(trial, score=scores.get(trial.architecture.arch_id)) for trial in unscored)
    return Run(
        name=name,
        space=settings.request.space,
        task=_shown_task(settings),
        objectives=settings.request.objectives,
        sampler=settings.request.sampler,
        evaluator=settings.request.fidelities[level],
        seed=settings.request.seed,
        teacher=settings.request.teacher,
        created_at=created.astimezone().isoformat(timespec="seconds") if created else "?",
        versions=tuple(created_with.items()),
        device=settings.device,
        settings=settings.settings,
        trials=trials,
        profiles=profiles,
        constraints=settings.request.constraints,
        task_sha256=settings.task_sha256,
        devices=settings.devices,
    )


def _shown_task(settings: SearchSettings) -> str:
    """Return what a run's task is called: a folder is what it is called by, whatever name its loader went by."""
    request = settings.request
    return Path(request.task_dir).name if request.task_dir and not request.tasks else settings.task


def _front_level(by_fidelity: Sequence[Mapping[str, Score]], trials: Sequence[Trial]) -> int:
    """Return the place of the highest fidelity that a candidate has reached: a front never mixes two.

    References are promoted first and always, so they say nothing of a front,
    unless a run has nothing else.
    """
    candidates = {trial.architecture.arch_id for trial in trials if trial.role is Role.CANDIDATE}
    wanted = candidates or {trial.architecture.arch_id for trial in trials}
    return max((level for level, scores in enumerate(by_fidelity) if wanted & scores.keys()), default=0)


def reference_architecture(settings: SearchSettings) -> Architecture:
    """Return the architecture all ratios of a run are to: SqueezeBERT's rule on its teacher."""
    return squeezebert_rule(Architecture.from_json(settings.teacher_architecture))


def _read_trial(
    row: TrialRow,
    note: TrialNote,
    arch: Architecture,
    settings: SearchSettings,
) -> Trial:
    """Return a trial without its score and its latency."""
    duration = row.ended_at - row.began_at if row.began_at and row.ended_at else None
    return Trial(
        number=row.number,
        state=_STATES[row.state],
        role=note.role,
        architecture=arch,
        cost=model_cost(arch, sequence_length=settings.request.sequence_length, num_labels=settings.num_labels),
        score=None,
        measurements=(),
        same_as=note.same_as,
        failure=note.failure,
        duration_s=duration.total_seconds() if duration else None,
    )


_STATES = {
    optuna.trial.TrialState.RUNNING: TrialState.RUNNING,
    optuna.trial.TrialState.WAITING: TrialState.RUNNING,
    optuna.trial.TrialState.COMPLETE: TrialState.COMPLETE,
    optuna.trial.TrialState.FAIL: TrialState.FAILED,
}


def _show(value: object) -> str:
    if isinstance(value, tuple) and value and isinstance(value[0], DeviceInfo):
        # All of them, as one may be all that differs, and with what a phone changes now and then.
        return ", ".join(f"{device.device_id} ({device.os_version})" for device in value)
    text = json.dumps(to_document(value))
    return text if len(text) <= 80 else f"{text[:77]}..."
