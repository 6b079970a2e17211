"""``nas export``: the files of a model to ship."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.cli.console import print_json, stdout
from nas.cli.options import DEFAULT_RUNS_FOLDER, AsJson, RunName, RunsFolder, Storage

if TYPE_CHECKING:
    from nas.artifacts import ArtifactFolder
    from nas.records import Run, Score, Trial
    from nas.runs import SearchSettings
    from nas.saved_model import SavedModel
    from nas.tokens import TokenizedTask

ONNX_FILE = "model.onnx"


def export(
    run: RunName,
    trial: Annotated[int, typer.Argument(min=0, help="number of the trial")],
    *,
    to: Annotated[Path, typer.Option(help="folder to make")],
    runs_folder: RunsFolder = DEFAULT_RUNS_FOLDER,
    storage: Storage = None,
    as_json: AsJson = False,
) -> None:
    """Write a trial's trained network as a folder: safetensors, ONNX, configuration, tokenizer.

    The ONNX file must score on the dev examples what the trial scored, or
    nothing is written.

    Example: nas export first 2 --to my-model
    """
    from device_lab.files import atomic_folder, require_absent, sha256_of
    from nas.artifacts import ArtifactFolder
    from nas.cli.progress import show_progress
    from nas.cli.stores import ARTIFACTS_FOLDER, find_trial
    from nas.export import export_onnx
    from nas.onnx_agreement import check_onnx
    from nas.saved_model import save

    require_absent(to)
    loaded, settings = _load(run, runs_folder=runs_folder, storage=storage)
    chosen = find_trial(loaded, trial)
    artifacts = ArtifactFolder(runs_folder / ARTIFACTS_FOLDER)
    score, weights_sha256 = _score(chosen, loaded)
    data = _task_of(loaded, settings, artifacts)
    model = _model(chosen, score, data, artifacts, weights_sha256=weights_sha256)
    with atomic_folder(to) as folder, show_progress() as progress:
        save(model, folder)
        onnx = export_onnx(model.network, folder / ONNX_FILE, sequence_length=data.sequence_length)
        bar = progress.add_task("checking", total=len(data.dev))
        check_onnx(
            onnx.path,
            model.network,
            data,
            metrics=score.metrics,
            on_step=lambda done, _: progress.update(bar, completed=done),
        )
    if as_json:
        files = {path.name: sha256_of(path) for path in sorted(to.iterdir())}
        print_json({"folder": str(to), "metrics": dict(score.metrics), "sha256": files})
        return
    metrics = ", ".join(f"{name} {value:.4f}" for name, value in score.metrics)
    stdout.print(f"{to}: {metrics} on {score.num_examples} dev examples, found again with {ONNX_FILE}", markup=False)


def _load(name: str, *, runs_folder: Path, storage: str | None) -> tuple[Run, SearchSettings]:
    from nas.cli.stores import open_existing_store
    from nas.errors import StoreError
    from nas.runs import find_settings, load_run

    with open_existing_store(name, runs_folder=runs_folder, storage=storage) as store:
        settings = find_settings(store, name)
        if settings is None:
            raise StoreError(f"no run {name!r} in the store (runs: {', '.join(store.run_names()) or 'none'})")
        return load_run(store, name), settings


def _score(trial: Trial, run: Run) -> tuple[Score, str]:
    """Return the score of a trial and the hash of the weights it kept."""
    from nas.errors import StoreError

    if trial.score is None:
        raise StoreError(
            f"trial {trial.number} of run {run.name!r} has no score, and so no trained weights; choose one that has"
        )
    if trial.score.weights_sha256 is None:
        raise StoreError(
            f"trial {trial.number} of run {run.name!r} was scored by {trial.score.evaluator!r}, which keeps no "
            "weights; choose one that was trained"
        )
    return trial.score, trial.score.weights_sha256


def _task_of(run: Run, settings: SearchSettings, artifacts: ArtifactFolder) -> TokenizedTask:
    """Load the task of a run, tokenized as its teacher's was."""
    from nas.errors import TaskError
    from nas.tasks import load_task
    from nas.teacher import read_teacher
    from nas.tokens import tokenize_task

    request = settings.request
    task = load_task(request.task, folder=Path(request.task_dir) if request.task_dir else None)
    if task.content_sha256() != settings.task_sha256:
        raise TaskError(
            f"task {task.name!r} is not what run {run.name!r} was made with: its data changed; bring the old data back"
        )
    tokenizer = read_teacher(artifacts, settings.teacher_id).tokenizer
    return tokenize_task(task, sequence_length=request.sequence_length, tokenizer=tokenizer)


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
