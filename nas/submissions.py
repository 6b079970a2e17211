"""Predictions as GLUE's server takes them: which file, and how a label is spelled."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nas.errors import TaskError
from nas.glue import GLUE, STSB_RANGE
from nas.task_files import UnlabelledRow


def submission_files(task: str, folder: Path) -> list[tuple[Path, str]]:
    """Return the files without labels in a task's folder, each with the name of the file that answers it.

    Raises:
        TaskError: If there is none.
    """
    wanted = (*(GLUE[task].submissions if task in GLUE else ()), ("test.tsv", f"{task}.tsv"))
    found = {folder / test: name for test, name in reversed(wanted) if (folder / test).exists()}
    if not found:
        raise TaskError(f"{folder}: no {' or '.join(dict(wanted))}; name the file to predict with --test")
    return sorted(found.items())


def submission_name(task: str, test: Path) -> str:
    """Return the name of the file that answers the one at ``test``."""
    names = dict(GLUE[task].submissions) if task in GLUE else {}
    return names.get(test.name) or (next(iter(names.values())) if len(names) == 1 else f"{task}.tsv")


def submission(task: str, rows: Sequence[UnlabelledRow], predictions: Sequence[str | float]) -> str:
    """Return a file with the columns ``index`` and ``prediction``.

    Labels of a GLUE task are spelled as GLUE's own files do. Its similarities
    lie between 0 and 5 and have three decimals.

    Raises:
        TaskError: If a label is none of the GLUE task's.
    """
    lines = ["index\tprediction"]
    for row, prediction in zip(rows, predictions, strict=True):
        lines.append(f"{row.row_id}\t{_answer(task, prediction)}")
    return "\n".join(lines) + "\n"


def _answer(task: str, prediction: str | float) -> str:
    glue = GLUE.get(task)
    if isinstance(prediction, str):
        if glue is None or prediction in glue.labels:
            return prediction
        if prediction in glue.hub_labels:
            return glue.labels[glue.hub_labels.index(prediction)]
        raise TaskError(
            f"label {prediction!r} is none of GLUE's for {task!r} ({', '.join(glue.labels)}); "
            "train on data with GLUE's labels, or call the task otherwise"
        )
    if glue is None:
        return f"{prediction:.6g}"
    low, high = STSB_RANGE
    return f"{min(high, max(low, prediction)):.3f}"
