"""Text tasks: what to classify or to regress, and how it is scored.

A task is plain values. It comes from the data that ships with the package,
from a folder with two tab-separated files, or from GLUE on the Hugging Face
Hub.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import as_file, files
from pathlib import Path

from nas.errors import TaskError
from nas.glue import GLUE, GlueTask
from nas.task_files import Row, read_glue, read_split, read_tsv

EMBEDDED_SUBJ = "embedded-subj"


class TaskKind(StrEnum):
    """What the network's head has to do."""

    CLASSIFICATION = "classification"
    REGRESSION = "regression"


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One sentence or pair of sentences. ``label`` is a position in the task's ``label_names``, or a number."""

    sentence: str
    sentence2: str | None
    label: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A text task with its training and dev examples.

    ``label_names`` is empty for regression. ``metrics`` are names of
    `nas.metrics`; the first is the one a search maximises.
    """

    name: str
    kind: TaskKind
    label_names: tuple[str, ...]
    metrics: tuple[str, ...]
    train: tuple[Example, ...]
    dev: tuple[Example, ...]

    @property
    def num_labels(self) -> int:
        """Outputs of the head: one per class, or one for regression."""
        return max(1, len(self.label_names))

    def content_sha256(self) -> str:
        """Hash everything that defines the task, its examples in order included. Its name is left out."""
        digest = hashlib.sha256(json.dumps([self.kind, self.label_names, self.metrics]).encode())
        for split in (self.train, self.dev):
            rows = [(example.sentence, example.sentence2, example.label) for example in split]
            digest.update(json.dumps(rows, separators=(",", ":")).encode())
        return digest.hexdigest()


KNOWN_TASKS = (EMBEDDED_SUBJ, *GLUE)


def load_task(name: str, *, folder: Path | None) -> Task:
    """Load the task called ``name``.

    Args:
        name: With ``folder`` any name; without, one of `KNOWN_TASKS`.
        folder: Where to find ``train.tsv`` and ``dev.tsv`` (MNLI in GLUE's own
            layout: ``dev_matched.tsv``), or None for the data that ships with
            the package and for the Hub.

    Raises:
        TaskError: If no task has that name, or its data is not usable.
        MissingExtraError: If the task is on the Hub and the extra ``hub`` is not installed.
    """
    if folder is not None:
        train_rows = read_split(folder / "train.tsv", task=name)
        return _make_task(name, train_rows, read_split(_dev_file(name, folder), task=name), source=str(folder))
    if name == EMBEDDED_SUBJ:
        embedded = files("nas.data") / "embedded_subj"
        with as_file(embedded / "train.tsv") as train, as_file(embedded / "dev.tsv") as dev:
            return _make_task(name, read_tsv(train), read_tsv(dev), source=name)
    if name not in GLUE:
        raise TaskError(
            f"unknown task {name!r} (known: {', '.join(KNOWN_TASKS)}); "
            "for a task of your own give a folder with train.tsv and dev.tsv"
        )
    glue = GLUE[name]
    train_rows, dev_rows, label_names = read_glue(name, columns=glue.hub_columns, dev_split=glue.dev_split)
    return _make_task(name, train_rows, dev_rows, source=f"hub:{name}", label_names=label_names)


def load_task_folder(folder: Path) -> Task:
    """Load the task in ``folder``, named after it; see `task_name`.

    A folder named after a GLUE task has that task's kind and metrics. Any other
    is regression if every label is a number and at least one is not whole, and
    classification scored by accuracy otherwise: whole numbers are taken as
    names of classes, because that is what they are in nearly every file.

    Raises:
        TaskError: If the data is not usable.
    """
    return load_task(task_name(folder), folder=folder)


def task_name(folder: Path) -> str:
    """Return a folder's name, or the GLUE task's that it is named after, as the folders of its download are."""
    return _plain_name(folder.resolve().name)


def task_names(text: str) -> tuple[str, ...]:
    """Split names of several tasks at their commas; GLUE's may be written as the folders of its download are.

    Raises:
        TaskError: If a name is empty, or a task is named twice.
    """
    names = tuple(_plain_name(name.strip()) for name in text.split(","))
    if "" in names or len(set(names)) < len(names):
        raise TaskError(f"tasks {text!r} must be names with a comma between two, each once")
    return names


def find_task_folder(parent: Path, name: str) -> Path:
    """Return the folder of the task called ``name`` among the folders of ``parent``.

    Raises:
        TaskError: If there is none, or no such parent.
    """
    if not parent.is_dir():
        raise TaskError(f"{parent}: no such folder; several tasks are read from a folder that holds one for each")
    folders = sorted(path for path in parent.iterdir() if path.is_dir())
    named = {_plain_name(path.name): path for path in folders} | {path.name: path for path in folders}
    if name not in named:
        known = ", ".join(path.name for path in folders) or "none"
        raise TaskError(f"{parent} has no folder for task {name!r} (folders: {known})")
    return named[name]


def _plain_name(name: str) -> str:
    plain = name.casefold().replace("-", "")
    return plain if plain in GLUE else name


def _make_task(
    name: str, train: Sequence[Row], dev: Sequence[Row], *, source: str, label_names: tuple[str, ...] = ()
) -> Task:
    for split, rows in (("train", train), ("dev", dev)):
        if not rows:
            raise TaskError(f"{source}: split {split!r} has no rows; a split needs at least one")
    if (train[0].sentence2 is None) != (dev[0].sentence2 is None):
        having, lacking = ("train", "dev") if dev[0].sentence2 is None else ("dev", "train")
        raise TaskError(f"{source}: {having}.tsv has a column 'sentence2' and {lacking}.tsv has none")
    glue = GLUE.get(name)
    kind = _guess_kind([row.label for row in train])
    if glue is not None:
        kind = TaskKind.REGRESSION if glue.is_regression else TaskKind.CLASSIFICATION
    if kind is TaskKind.REGRESSION:
        metrics = glue.metrics if glue is not None else ("pearson", "spearman")
        return Task(
            name=name,
            kind=kind,
            label_names=(),
            metrics=metrics,
            train=_regression_examples(train, f"{source}/train.tsv"),
            dev=_regression_examples(dev, f"{source}/dev.tsv"),
        )
    names = label_names or _order_labels({row.label for row in train}, glue)
    if len(names) < 2:
        raise TaskError(f"{source}/train.tsv: every label is {names[0]!r}; a classification task has at least two")
    positions = {label: position for position, label in enumerate(names)}
    return Task(
        name=name,
        kind=kind,
        label_names=names,
        metrics=glue.metrics if glue is not None else ("accuracy",),
        train=_classification_examples(train, positions, f"{source}/train.tsv"),
        dev=_classification_examples(dev, positions, f"{source}/dev.tsv"),
    )


def _guess_kind(labels: Sequence[str]) -> TaskKind:
    numbers = [_number(label) for label in labels]
    if all(map(math.isfinite, numbers)) and not all(map(float.is_integer, numbers)):
        return TaskKind.REGRESSION
    return TaskKind.CLASSIFICATION


def _dev_file(name: str, folder: Path) -> Path:
    glue_file = folder / GLUE[name].dev_file if name in GLUE else folder / "dev.tsv"
    return glue_file if glue_file.exists() else folder / "dev.tsv"


def _order_labels(labels: set[str], glue: GlueTask | None) -> tuple[str, ...]:
    """Order as GLUE does, else by value if all are numbers, so that "10" follows "9", else by spelling."""
    for known in (glue.labels, glue.hub_labels) if glue is not None else ():
        if labels == set(known):
            return known
    if all(math.isfinite(_number(label)) for label in labels):
        return tuple(sorted(labels, key=lambda label: (float(label), label)))
    return tuple(sorted(labels))


def _number(label: str) -> float:
    try:
        return float(label)
    except ValueError:
        return math.nan


def _classification_examples(rows: Sequence[Row], positions: dict[str, int], source: str) -> tuple[Example, ...]:
    for row in rows:
        if row.label not in positions:
            raise TaskError(
                f"{source}:{row.line}: label {row.label!r} does not occur in training (known: {', '.join(positions)})"
            )
    return tuple(Example(sentence=row.sentence, sentence2=row.sentence2, label=positions[row.label]) for row in rows)


def _regression_examples(rows: Sequence[Row], source: str) -> tuple[Example, ...]:
    for row in rows:
        if not math.isfinite(_number(row.label)):
            raise TaskError(f"{source}:{row.line}: label {row.label!r} of a regression task must be a finite number")
    return tuple(Example(sentence=row.sentence, sentence2=row.sentence2, label=float(row.label)) for row in rows)
