"""The front of a run as a search leaves it: a short table, or JSON."""

from __future__ import annotations

from rich.table import Table

from device_lab.measurement import Interval
from nas.cli.console import print_json, stdout
from nas.documents import to_document
from nas.records import Objective, Role, Run
from reports.analysis import Analysis, analyse
from reports.evidence import Evidence

_MARKS = {Role.CANDIDATE: "", Role.SQUEEZEBERT_RULE: "SqueezeBERT's rule", Role.DENSE_TEACHER: "dense teacher"}


def print_front(run: Run, *, as_json: bool) -> None:
    """Print the members of the front and the references, cheapest first.

    Raises:
        EmptyRunError: If the run has no trial.
    """
    analysis = analyse(run)
    if as_json:
        members = [_document(item, analysis) for item in analysis.front]
        print_json({"run": run.name, "num_trials": len(run.trials), "front": members})
        return
    references = [item for item in (analysis.squeezebert, analysis.dense) if item and item not in analysis.front]
    table = Table(box=None, pad_edge=False)
    table.add_column("front")
    for objective in analysis.objectives:
        table.add_column(f"{objective} (95 %)" if objective in _WITH_INTERVAL else objective, justify="right")
    table.add_column("")
    for item in (*analysis.front, *references):
        cells = (_text(objective, item.interval(objective)) for objective in analysis.objectives)
        name = f"trial {item.trial.number}" if item not in references else f"(trial {item.trial.number})"
        table.add_row(name, *cells, _MARKS[item.trial.role])
    stdout.print(table)
    behind = {trial.architecture for trial in run.trials if trial.score and trial.score.evaluator != run.evaluator}
    if behind:
        lower = f"{len(behind)} networks stayed at a lower fidelity and are not compared"
        stdout.print(f"accuracy: {run.evaluator}; {lower}", markup=False)
    if analysis.bench is not None:
        where = analysis.bench.label
        stdout.print(f"latency: ratio to SqueezeBERT's rule on {where}; in brackets: not on the front", markup=False)


_WITH_INTERVAL = (Objective.ACCURACY, Objective.LATENCY)


def _text(objective: Objective, interval: Interval | None) -> str:
    if interval is None:
        return "?"
    match objective:
        case Objective.ACCURACY:
            return f"{interval.estimate:.1%} ({interval.low:.1%}-{interval.high:.1%})"
        case Objective.LATENCY:
            return f"{interval.estimate:.3f}x ({interval.low:.3f}-{interval.high:.3f})"
        case Objective.MACS | Objective.PARAMETERS:
            return f"{interval.estimate / 1e6:.2f} M"


def _document(item: Evidence, analysis: Analysis) -> dict[str, object]:
    values = {objective.value: to_document(item.interval(objective)) for objective in analysis.objectives}
    return {
        "trial": item.trial.number,
        "role": item.trial.role.value,
        "arch_id": item.trial.architecture.arch_id,
        "probability_on_front": analysis.probabilities[item.trial.number],
        "backend": analysis.bench.device.backend.value if analysis.bench else None,
    } | values
