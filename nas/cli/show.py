"""``nas show``: what a run found so far, or one of its trials."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from nas.cli.console import print_json, stdout
from nas.cli.options import DEFAULT_RUNS_FOLDER, AsJson, RunName, RunsFolder, Storage

if TYPE_CHECKING:
    from nas.records import Run, Trial


def show(
    run: RunName,
    *,
    trial: Annotated[int | None, typer.Option(help="one trial by its number")] = None,
    runs_folder: RunsFolder = DEFAULT_RUNS_FOLDER,
    storage: Storage = None,
    as_json: AsJson = False,
) -> None:
    """Print the trials of a run, or the architecture of one of them.

    Example: nas show quickstart --trial 0 --json > model.json
    """
    from nas.cli.stores import find_trial, open_existing_store
    from nas.runs import load_run

    with open_existing_store(run, runs_folder=runs_folder, storage=storage) as store:
        loaded = load_run(store, run)
    if trial is not None:
        _show_trial(find_trial(loaded, trial), as_json=as_json)
    elif as_json:
        print_json([_document(each) for each in loaded.trials])
    else:
        _show_run(loaded)


def _show_trial(trial: Trial, *, as_json: bool) -> None:
    if as_json:
        stdout.print(trial.architecture.to_json(), markup=False)
        return
    for name, value in _document(trial).items():
        if value is not None:
            stdout.print(f"{name:<16} {_interval_text(value) or value}", markup=False)
    stdout.print(_layer_table(trial))


def _layer_table(trial: Trial) -> Table:
    from search_spaces.architecture import GROUP_POSITIONS

    table = Table(box=None, pad_edge=False)
    for column in ("layer", "heads", "FFN", *(name.removesuffix("_groups") for name in GROUP_POSITIONS)):
        table.add_column(column, justify="right")
    for i, block in enumerate(trial.architecture.blocks):
        numbers = (block.num_attention_heads, block.intermediate_size, *(getattr(block, p) for p in GROUP_POSITIONS))
        table.add_row(str(i), *map(str, numbers))
    return table


def _show_run(run: Run) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("trial", "role", "score", "by", "latency ratio", "MMACs", "M params", "state"):
        table.add_column(column, justify="left" if column in ("role", "by", "state") else "right", overflow="fold")
    for trial in run.trials:
        document = _document(trial)
        table.add_row(
            str(trial.number),
            # "squeezebert-rule" would take a fifth of the line.
            trial.role.rpartition("-")[2],
            f"{trial.score.interval.estimate:.1%}" if trial.score else "",
            trial.score.evaluator if trial.score else "",
            _interval_text(document["latency_ratio"]),
            f"{trial.cost.macs / 1e6:.1f}",
            f"{trial.cost.parameters / 1e6:.2f}",
            trial.failure or (f"same as {trial.same_as}" if trial.same_as is not None else trial.state),
        )
    stdout.print(table)


def _interval_text(ratio: object) -> str:
    if not isinstance(ratio, dict):
        return ""
    return f"{ratio['estimate']:.3f} ({ratio['low']:.3f}-{ratio['high']:.3f})"


def _document(trial: Trial) -> dict[str, object]:
    from device_lab.worst import worst_of
    from nas.documents import to_document

    measurement = trial.measurements[-1] if trial.measurements else None
    timed = {each.device.device_id: each.measurements[-1] for each in trial.on_devices if each.measurements}
    ratio = None
    if measurement is not None:
        ratio = worst_of([each.findings for each in timed.values() or [measurement]])
    own = {f"ratio_on_{name}": to_document(each.ratio) for name, each in timed.items()}
    return {
        "number": trial.number,
        "role": trial.role.value,
        "state": trial.state.value,
        "arch_id": trial.architecture.arch_id,
        "metric": trial.score.metric if trial.score else None,
        "score": to_document(trial.score.interval) if trial.score else None,
        "fidelity": trial.score.evaluator if trial.score else None,
        "latency_ratio": to_document(ratio),
        **own,
        "precision": measurement.precision.name if measurement else None,
        "macs": trial.cost.macs,
        "parameters": trial.cost.parameters,
        "same_as": trial.same_as,
        "failure": trial.failure,
    }
