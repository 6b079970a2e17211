"""Optuna's trials read off its tables: row by row, which takes a tenth of the time and memory that its objects take."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

import sqlalchemy as sa
from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.trial import FrozenTrial, TrialState

from nas.store_engine import insert_new

# Rows held at once while a server sends many.
_NUM_AT_ONCE = 10_000
_INFINITE = {"INF_POS": float("inf"), "INF_NEG": float("-inf"), "NAN": float("nan")}


def _table(name: str, *columns: str) -> sa.TableClause:
    return sa.table(name, *(sa.column(column) for column in columns))


_studies = _table("studies", "study_id", "study_name")
_trials = sa.table(
    "trials",
    *map(sa.column, ("trial_id", "number", "study_id", "state")),
    sa.column("datetime_start", sa.DateTime),
    sa.column("datetime_complete", sa.DateTime),
)
_user_attributes = _table("trial_user_attributes", "trial_id", "key", "value_json")
_system_attributes = _table("trial_system_attributes", "trial_id", "key", "value_json")
_study_attributes = _table("study_user_attributes", "study_id", "key", "value_json")
_params = _table("trial_params", "param_id", "trial_id", "param_name", "param_value", "distribution_json")
_values = _table("trial_values", "trial_id", "objective", "value", "value_type")
_steps = _table("trial_intermediate_values", "trial_id", "step", "intermediate_value", "intermediate_value_type")


_is_of_study = _studies.c.study_id == _trials.c.study_id


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRow:
    """A trial without its parameters: one of its user attributes, as the JSON text it is kept as. Times are in UTC."""

    number: int
    state: TrialState
    began_at: datetime | None
    ended_at: datetime | None
    attribute: str | None


def study_names(connection: sa.Connection) -> list[str]:
    """Return the names of all studies, in order of creation."""
    return list(connection.execute(sa.select(_studies.c.study_name).order_by(_studies.c.study_id)).scalars())


def read_rows(connection: sa.Connection, *, study_name: str, key: str) -> list[TrialRow]:
    """Return the trials of a study in order, each with its user attribute ``key``."""
    joined = _trials.join(_studies, _is_of_study).outerjoin(
        _user_attributes, sa.and_(_user_attributes.c.trial_id == _trials.c.trial_id, _user_attributes.c.key == key)
    )
    query = sa.select(_trials, _user_attributes.c.value_json).select_from(joined)
    query = query.where(_studies.c.study_name == study_name).order_by(_trials.c.number)
    return [
        TrialRow(
            number=row.number,
            state=TrialState[row.state],
            began_at=_in_utc(row.datetime_start),
            ended_at=_in_utc(row.datetime_complete),
            attribute=row.value_json,
        )
        for row in connection.execute(query)
    ]


def count_states(connection: sa.Connection, *, study_name: str) -> dict[TrialState, int]:
    """Return how many trials of a study are in each state that any is in."""
    query = sa.select(_trials.c.state, sa.func.count().label("num_trials")).join_from(_trials, _studies, _is_of_study)
    query = query.where(_studies.c.study_name == study_name).group_by(_trials.c.state)
    counts = {TrialState[row.state]: row.num_trials for row in connection.execute(query)}
    return dict(sorted(counts.items()))


def count_attributes(
    connection: sa.Connection, *, study_name: str, state: TrialState, key: str, containing: str
) -> int:
    """Return how many trials of a study are in a state and have a text in the JSON of their user attribute ``key``."""
    joined = _trials.join(_studies, _is_of_study).join(
        _user_attributes, _user_attributes.c.trial_id == _trials.c.trial_id
    )
    query = sa.select(sa.func.count()).select_from(joined)
    query = query.where(_studies.c.study_name == study_name, _is_in(state))
    query = query.where(
        _user_attributes.c.key == key, _user_attributes.c.value_json.contains(containing, autoescape=True)
    )
    return int(connection.execute(query).scalar_one())


def newest_complete(connection: sa.Connection, *, study_name: str, limit: int) -> list[tuple[int, datetime]]:
    """Return the trials of a study that were completed last, the newest first: numbers, and when, in UTC."""
    query = sa.select(_trials.c.number, _trials.c.datetime_complete).join_from(_trials, _studies, _is_of_study)
    query = query.where(_studies.c.study_name == study_name, _is_in(TrialState.COMPLETE))
    query = query.order_by(_trials.c.datetime_complete.desc(), _trials.c.number.desc()).limit(limit)
    return [(row.number, row.datetime_complete.replace(tzinfo=UTC)) for row in connection.execute(query)]


def add_study_attributes(connection: sa.Connection, study_id: int, attributes: Mapping[str, Any]) -> None:
    """Keep user attributes of a study, those together that it does not have; what it has stays as it is."""
    rows = [{"study_id": study_id, "key": key, "value_json": json.dumps(value)} for key, value in attributes.items()]
    insert_new(connection, _study_attributes, rows)


def read_attributes(connection: sa.Connection, *, key: str) -> Iterator[str]:
    """Return the user attribute ``key`` of the trials of all studies, as JSON texts."""
    query = sa.select(_user_attributes.c.value_json).where(_user_attributes.c.key == key)
    yield from connection.execute(query, execution_options={"yield_per": _NUM_AT_ONCE}).scalars()


def read_trials(connection: sa.Connection, *, study_id: int, after: int, also: Collection[int]) -> list[FrozenTrial]:
    """Return a study's trials as Optuna builds them, in order: those of greater ids than ``after``, and ``also``."""
    wanted = _trials.c.trial_id > after
    if earlier := [trial_id for trial_id in also if trial_id <= after]:
        wanted = sa.or_(wanted, _trials.c.trial_id.in_(earlier))
    wanted = sa.and_(wanted, _trials.c.study_id == study_id)
    trials = connection.execute(sa.select(_trials).where(wanted).order_by(_trials.c.trial_id)).all()
    if not trials:
        return []

    def rows(table: sa.TableClause, order: str) -> Iterator[Any]:
        joined = table.join(_trials, table.c.trial_id == _trials.c.trial_id)
        query = sa.select(table).select_from(joined).where(wanted).order_by(table.c[order])
        return iter(connection.execute(query, execution_options={"yield_per": _NUM_AT_ONCE}))

    user, system, steps, values, params, kinds = (defaultdict[int, dict[Any, Any]](dict) for _ in range(6))
    for row in rows(_user_attributes, "trial_id"):
        user[row.trial_id][row.key] = json.loads(row.value_json)
    for row in rows(_system_attributes, "trial_id"):
        system[row.trial_id][row.key] = json.loads(row.value_json)
    for row in rows(_steps, "trial_id"):
        step = _number(row.intermediate_value, row.intermediate_value_type)
        steps[row.trial_id][row.step] = step
    for row in rows(_values, "objective"):
        values[row.trial_id][row.objective] = _number(row.value, row.value_type)
    for _, trial_id, name, value, text in rows(_params, "param_id"):
        kinds[trial_id][name] = kind = _distribution(text)
        params[trial_id][name] = kind.to_external_repr(value)
    return [
        FrozenTrial(
            number=row.number,
            state=TrialState[row.state],
            value=None,
            values=list(values[row.trial_id].values()) or None,
            datetime_start=_in_local_time(row.datetime_start),
            datetime_complete=_in_local_time(row.datetime_complete),
            params=params[row.trial_id],
            distributions=kinds[row.trial_id],
            user_attrs=user[row.trial_id],
            system_attrs=system[row.trial_id],
            intermediate_values=steps[row.trial_id],
            trial_id=row.trial_id,
        )
        for row in trials
    ]


def _is_in(state: TrialState) -> sa.ColumnElement[bool]:
    # PostgreSQL has a type of its own for states.
    return sa.cast(_trials.c.state, sa.String) == state.name


@cache
def _distribution(text: str) -> BaseDistribution:
    """Return a distribution; trials of one study share them, as they are never changed."""
    return json_to_distribution(text)


def _number(value: float | None, kind: str) -> float:
    return _INFINITE[kind] if value is None else value


def _in_utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.replace(tzinfo=UTC)


def _in_local_time(moment: datetime | None) -> datetime | None:
    """Return what Optuna's trials have: local time that does not say so."""
    return None if moment is None else moment.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)
