"""Optuna's storage with the write pattern a search needs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.storages import RDBStorage

from nas.errors import MissingExtraError

# Optuna's own table, as far as we write it.
_trial_params = sa.table(
    "trial_params",
    sa.column("trial_id"),
    sa.column("param_name"),
    sa.column("param_value"),
    sa.column("distribution_json"),
)


class OptunaStorage(RDBStorage):
    """Optuna's storage, able to write all parameters of a trial in one transaction.

    Optuna writes each parameter in a transaction of its own. A 12-layer space
    with free widths and groups has about a hundred, which would cost more than
    drawing them.
    """

    def __init__(self, url: str) -> None:
        kwargs: dict[str, Any] = {"pool_pre_ping": True}
        if url.startswith("sqlite"):
            kwargs = {"connect_args": {"timeout": 60}}
            _make_folder(url)
        try:
            super().__init__(url, engine_kwargs=kwargs)
        except ImportError as error:
            raise MissingExtraError(feature=f"a store at {sa.make_url(url).drivername}://", extra="postgres") from error
        self._held: dict[int, list[dict[str, object]]] | None = None
        if url.startswith("sqlite"):
            # Optuna connects before a listener can be set; start the connections again with it.
            sa.event.listen(self.engine, "connect", _set_pragmas)
            self.engine.dispose()

    @contextmanager
    def one_write_per_trial(self) -> Iterator[None]:
        """Hold the parameters suggested inside the block, and write them together at its end."""
        self._held = {}
        try:
            yield
            rows = [row for rows in self._held.values() for row in rows]
            if rows:
                with self.engine.begin() as connection:
                    connection.execute(sa.insert(_trial_params), rows)
        finally:
            self._held = None

    def _set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
        previous_distribution: BaseDistribution | None,
    ) -> None:
        if self._held is None:
            super()._set_trial_param(trial_id, param_name, param_value_internal, distribution, previous_distribution)
            return
        self._held.setdefault(trial_id, []).append(
            {
                "trial_id": trial_id,
                "param_name": param_name,
                "param_value": param_value_internal,
                "distribution_json": distribution_to_json(distribution),
            }
        )


def _make_folder(url: str) -> None:
    database = sa.make_url(url).database
    if database and database != ":memory:":
        Path(database).parent.mkdir(parents=True, exist_ok=True)


def _set_pragmas(connection: Any, _record: object) -> None:
    # Write-ahead logging survives a killed process at any point and needs no disk flush per commit.
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
