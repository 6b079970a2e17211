"""How far a run is, in a few counts: read from indices, whatever else the store holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

import sqlalchemy as sa
from optuna.trial import TrialState

from nas import tables
from nas.errors import StoreError
from nas.optuna_rows import count_attributes, count_states, newest_complete, study_names
from nas.store import Store
from nas.trial_notes import INTERRUPTED, NOTE_KEY

NUM_NEWEST = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceActivity:
    """What was measured on a device of late, by any run on the store: begun, and of those finished."""

    device_id: str
    num_begun: int
    num_finished: int
    newest_begun_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """How far a run is.

    ``num_trials`` are by Optuna's state, those without a trial left out. ``num_done``
    and ``num_failed`` are of distinct architectures: repetitions are left out, and
    what was interrupted, as it is proposed again. ``newest_complete`` are numbers of
    the trials that were completed last, and when, the newest first; ``devices`` what
    was measured since ``since``, by the device's id. Times are in UTC.
    """

    name: str
    num_trials: Mapping[TrialState, int]
    num_done: int
    num_failed: int
    newest_complete: tuple[tuple[int, datetime], ...]
    since: datetime
    devices: tuple[DeviceActivity, ...]


def read_status(store: Store, name: str, *, last_hours: float) -> RunStatus:
    """Return how far the run called ``name`` is, and what was measured in the last hours.

    Raises:
        StoreError: If there is no such run, or the store cannot be read.
    """
    since = datetime.now(UTC) - timedelta(hours=last_hours)

    def read(connection: sa.Connection) -> RunStatus:
        names = study_names(connection)
        if name not in names:
            raise StoreError(f"no run {name!r} in the store (runs: {', '.join(names) or 'none'})")
        count = partial(count_attributes, connection, study_name=name, key=NOTE_KEY)
        num_interrupted = count(state=TrialState.FAIL, containing=f'"failure": "{INTERRUPTED}"')
        return RunStatus(
            name=name,
            num_trials=count_states(connection, study_name=name),
            num_done=count(state=TrialState.COMPLETE, containing='"same_as": null'),
            num_failed=count(state=TrialState.FAIL, containing='"failure": "') - num_interrupted,
            newest_complete=tuple(newest_complete(connection, study_name=name, limit=NUM_NEWEST)),
            since=since,
            devices=_activity(connection, since),
        )

    return store.transaction(read)


def _activity(connection: sa.Connection, since: datetime) -> tuple[DeviceActivity, ...]:
    columns = tables.measurements.c
    query = (
        sa.select(
            columns.device_id,
            sa.func.count().label("num_begun"),
            sa.func.count(columns.document).label("num_finished"),
            sa.func.max(columns.created_at).label("newest"),
        )
        # Times are kept as text in one form, which sorts as they do.
        .where(columns.created_at >= since.isoformat(timespec="seconds"))
        .group_by(columns.device_id)
    )
    found = [
        DeviceActivity(
            device_id=row.device_id,
            num_begun=row.num_begun,
            num_finished=row.num_finished,
            newest_begun_at=datetime.fromisoformat(row.newest),
        )
        for row in connection.execute(query)
    ]
    # Databases sort text each in their own way.
    return tuple(sorted(found, key=lambda each: each.device_id))
