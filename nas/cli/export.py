"""``nas export``: the files of a model to ship."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.cli.console import print_json, stderr, stdout
from nas.cli.options import DEFAULT_RUNS_FOLDER, Artifacts, AsJson, RunName, RunsFolder, Storage

if TYPE_CHECKING:
    from nas.artifacts import ArtifactFolder
    from nas.records import Run, Score, Trial
    from nas.runs import SearchSettings, TaskSettings
    from nas.saved_model import SavedModel
    from nas.store import Store
    from nas.tokens import TokenizedTask

MODEL_SUFFIXES = (".safetensors", ".onnx", ".pte")


def export(
    run: RunName,
    trial: Annotated[int, typer.Argument(min=0, help="number of the trial")],
    *,
    to: Annotated[Path, typer.Option(help="folder to make")],
    runs_folder: RunsFolder = DEFAULT_RUNS_FOLDER,
    storage: Storage = None,
    artifacts: Artifacts = None,
    as_json: AsJson = False,
) -> None:
    """Write a trial's trained network as a folder: safetensors, ONNX, ExecuTorch, configuration, tokenizer.

    Each file must answer the dev examples as torch does and score on them what
    the trial scored, or nothing is written. The ExecuTorch program needs the
    extra `executorch`, and is left out without it. In a run with several tasks
    each has its own weights: the folder then holds one for each.

    Example: nas export first 2 --to my-model
    """
    from device_lab.files import atomic_folder, require_absent, sha256_of
    from nas.cli.progress import show_progress
    from nas.cli.stores import find_trial, open_artifacts, open_existing_store
    from nas.shipped_files import NUM_STEPPED_FILES, write_files

    require_absent(to)
    with open_existing_store(run, runs_folder=runs_folder, storage=storage) as store:
        loaded, settings = _load(run, store)
        chosen = find_trial(loaded, trial)
        found = _scores(chosen, loaded, settings, store)
    kept = open_artifacts(runs_folder=runs_folder, shared=artifacts)
    models = []
    for task, score, weights_sha256 in found:
        data = _data(task, loaded, settings, kept)
        model = _model(chosen, score, data, kept, weights_sha256=weights_sha256)
        models.append((to if len(found) == 1 else to / task.name, model, data, score))
    left_out: dict[str, str] = {}
    with atomic_folder(to) as temporary, show_progress() as progress:
        num_steps = NUM_STEPPED_FILES * sum(len(data.dev) for _, _, data, _ in models)
        bar = progress.add_task("writing and checking", total=num_steps)
        for target, model, data, _ in models:
            folder = temporary / target.relative_to(to)
            folder.mkdir(exist_ok=True)
            left_out |= write_files(model, data, folder, on_step=lambda _done, _total: progress.advance(bar))
    paths = {path.relative_to(to).as_posix(): path for path in sorted(to.rglob("*")) if path.is_file()}
    if as_json:
        metrics = chosen.score.metrics if chosen.score else ()
        files = {name: sha256_of(path) for name, path in paths.items()}
        print_json({"folder": str(to), "metrics": dict(metrics), "sha256": files, "left_out": left_out})
        return
    for target, _, _, score in models:
        shown = ", ".join(f"{name} {value:.4f}" for name, value in score.metrics)
        names = ", ".join(
            path.name for path in paths.values() if path.parent == target and path.suffix in MODEL_SUFFIXES
        )
        line = f"{target}: {shown} on {score.num_examples} dev examples, found again with {names}"
        stdout.print(line, markup=False)
    for name, reason in left_out.items():
        stderr.print(f"note: no {name}: {reason}", markup=False, soft_wrap=True)


def _load(name: str, store: Store) -> tuple[Run, SearchSettings]:
    from nas.errors import StoreError
    from nas.runs import find_settings, load_run

    settings = find_settings(store, name)
    if settings is None:
        raise StoreError(f"no run {name!r} in the store (runs: {', '.join(store.run_names()) or 'none'})")
    return load_run(store, name), settings


def _scores(trial: Trial, run: Run, settings: SearchSettings, store: Store) -> list[tuple[TaskSettings, Score, str]]:
    """Return the score of a trial on each task of its run, and the hash of the weights it kept."""
    from nas.errors import StoreError
    from nas.runs import task_settings

    if trial.score is None:
        raise StoreError(
            f"trial {trial.number} of run {run.name!r} has no score, and so no trained weights; choose one that has"
        )
    fidelity = settings.request.fidelities.index(trial.score.evaluator)
    found = []
    for task in task_settings(settings):
        score = store.find_score(task.score_settings_ids[fidelity], trial.architecture.arch_id)
        if score is None or score.weights_sha256 is None:
            raise StoreError(
                f"trial {trial.number} of run {run.name!r} was scored by {trial.score.evaluator!r}, which keeps no "
                "weights; choose one that was trained"
            )
        found.append((task, score, score.weights_sha256))
    return found


def _data(task: TaskSettings, run: Run, settings: SearchSettings, artifacts: ArtifactFolder) -> TokenizedTask:
    """Load a task of a run, tokenized as its teacher's was."""
    from nas.errors import TaskError
    from nas.runs import load_requested_task
    from nas.teacher import read_teacher
    from nas.tokens import tokenize_task

    loaded = load_requested_task(settings.request, task.name)
    if loaded.content_sha256() != task.sha256:
        raise TaskError(
            f"task {task.name!r} is not what run {run.name!r} was made with: its data changed; bring the old data back"
        )
    tokenizer = read_teacher(artifacts, task.teacher_id).tokenizer
    return tokenize_task(loaded, sequence_length=settings.request.sequence_length, tokenizer=tokenizer)


def _model(
    trial: Trial, score: Score, data: TokenizedTask, artifacts: ArtifactFolder, *, weights_sha256: str
) -> SavedModel:
    from nas.saved_model import SavedModel, network_from

    tensors, _ = artifacts.get_weights(weights_sha256)
    source = artifacts.weights_file(weights_sha256)
    return SavedModel(
        network=network_from(tensors, trial.architecture, num_labels=data.task.num_labels, source=source),
        tokenizer=data.tokenizer,
        task=data.task.name,
        kind=data.task.kind,
        label_names=data.task.label_names,
        sequence_length=data.sequence_length,
        evaluator=score.evaluator,
        dev_metrics=score.metrics,
    )
