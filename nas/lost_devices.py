"""Trials that failed because a device was lost: tried again by the next search, when it may be back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from nas.trial_notes import NOTE_KEY, read_note

# Where Optuna keeps the parameters of a trial that waits in its queue.
QUEUED_PARAMS_KEY = "fixed_params"


def lost_with_a_device(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return the trials that failed for the want of a device, and say nothing of their architectures."""
    failed = [trial for trial in trials if trial.state == TrialState.FAIL and NOTE_KEY in trial.user_attrs]
    return [trial for trial in failed if read_note(trial).is_device_lost]


def tried_again(trials: Sequence[FrozenTrial]) -> set[int]:
    """Return the numbers of those in whose place a later trial has come, one in the queue included."""
    return {
        lost.number
        for lost in lost_with_a_device(trials)
        if any(trial.number > lost.number and _params(trial) == lost.params for trial in trials)
    }


def _params(trial: FrozenTrial) -> dict[str, Any]:
    return trial.params or trial.system_attrs.get(QUEUED_PARAMS_KEY, {})
