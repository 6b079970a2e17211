"""What we write beside Optuna's own record of a trial."""

from __future__ import annotations

import json
from dataclasses import dataclass

import optuna
from optuna.trial import TrialState

from nas.documents import from_document, to_document
from nas.optuna_rows import TrialRow
from nas.records import Role

NOTE_KEY = "nas:note"
# The failure of a trial whose process was stopped. Its architecture is proposed again, so reports leave it out.
INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialNote:
    """The architecture of a trial, and how it ended where it has no values of its own.

    ``is_device_lost``: it failed for the want of a device that was lost, and may be back later.
    """

    architecture: str
    role: Role
    same_as: int | None = None
    failure: str | None = None
    is_device_lost: bool = False


def write_note(trial: optuna.Trial, note: TrialNote) -> None:
    """Keep what is known of a trial."""
    trial.set_user_attr(NOTE_KEY, to_document(note))


def read_note(trial: optuna.trial.FrozenTrial) -> TrialNote:
    """Return what we wrote beside Optuna's record of a trial."""
    return from_document(TrialNote, trial.user_attrs[NOTE_KEY])


def is_interrupted(trial: optuna.trial.FrozenTrial) -> bool:
    """Tell whether the process of a trial was stopped, so that it says nothing of its architecture."""
    return trial.state == TrialState.FAIL and (
        NOTE_KEY not in trial.user_attrs or read_note(trial).failure == INTERRUPTED
    )


def says_something(row: TrialRow) -> bool:
    """Tell whether a trial says something of its architecture: it was neither rejected nor interrupted."""
    if row.attribute is None or row.state == TrialState.PRUNED:
        return False
    return row.state != TrialState.FAIL or read_row_note(row).failure != INTERRUPTED


def read_row_note(row: TrialRow) -> TrialNote:
    """Return what we wrote beside a trial."""
    return from_document(TrialNote, json.loads(row.attribute or "null"))


def is_rejected(trial: optuna.trial.FrozenTrial) -> bool:
    """Tell whether an architecture misses the run's constraints before anything was spent on it."""
    return trial.state == TrialState.PRUNED
