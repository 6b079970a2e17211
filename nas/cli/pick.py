"""``nas pick``: the model of a run to ship, by a limit."""

from __future__ import annotations

from typing import Annotated

import typer

from nas.cli.console import print_json, print_sentence
from nas.cli.options import DEFAULT_RUNS_FOLDER, AsJson, RunName, RunsFolder, Storage


def pick(
    run: RunName,
    *,
    max_latency_ratio: Annotated[
        float | None, typer.Option(help="the best score at most this many times as slow as SqueezeBERT's rule")
    ] = None,
    min_accuracy: Annotated[
        float | None, typer.Option(help="the cheapest model that scores this, a fraction: 0.9 for 90 %")
    ] = None,
    runs_folder: RunsFolder = DEFAULT_RUNS_FOLDER,
    storage: Storage = None,
    as_json: AsJson = False,
) -> None:
    """Pick the model to ship: why this one, how sure that is, its runner-up, and the command that exports it.

    Example: nas pick quickstart --max-latency-ratio 0.8
    """
    from nas.cli.stores import load_runs
    from nas.documents import to_document
    from reports.analysis import analyse
    from reports.pick import export_command, pick_by_accuracy, pick_within_latency, sentences

    _check_limits(max_latency_ratio, min_accuracy)
    (loaded,) = load_runs([run], runs_folder=runs_folder, storage=storage)
    analysis = analyse(loaded)
    if max_latency_ratio is not None:
        picked = pick_within_latency(analysis, max_ratio=max_latency_ratio)
    else:
        picked = pick_by_accuracy(analysis, min_accuracy=min_accuracy or 0.0)
    command = export_command(picked.model, analysis)
    if as_json:
        print_json(
            {
                "trial": picked.model.trial.number,
                "runner_up": picked.runner_up.trial.number if picked.runner_up else None,
                "rule": picked.rule,
                "probability_within_limit": picked.probability,
                "accuracy": to_document(picked.model.accuracy),
                "latency_ratio": to_document(picked.model.ratio),
                "backend": analysis.bench.device.backend.value if analysis.bench else None,
                "export": command,
            }
        )
        return
    for sentence in (*sentences(picked, analysis), *analysis.notices):
        print_sentence(sentence)
    print_sentence(f"Its files: {command}")


def _check_limits(max_latency_ratio: float | None, min_accuracy: float | None) -> None:
    from nas.errors import SettingsError

    if (max_latency_ratio is None) == (min_accuracy is None):
        raise SettingsError("a model is picked by one limit; give --max-latency-ratio or --min-accuracy")
    if max_latency_ratio is not None and not max_latency_ratio > 0:
        raise SettingsError(f"--max-latency-ratio {max_latency_ratio:g} must be above 0")
    if min_accuracy is not None and not 0 < min_accuracy <= 1:
        raise SettingsError(f"--min-accuracy {min_accuracy:g} must be a fraction above 0 and at most 1: 0.9 for 90 %")
