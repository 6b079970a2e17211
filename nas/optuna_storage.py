"""Optuna's storage with the reads and writes a search needs."""

from __future__ import annotations

from collections.abc import Container, Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from nas.optuna_rows import read_trials
from nas.store_engine import insert_new, missing_driver, reconnect_patiently, transact, without_password

# Optuna's own table, as far as we write it.
_trial_params = sa.table(
    "trial_params",
    sa.column("trial_id"),
    sa.column("param_name"),
    sa.column("param_value"),
    sa.column("distribution_json"),
)


class OptunaStorage(RDBStorage):
    """Optuna's storage, able to write all parameters of a trial in one transaction, and quick to read them.

    Optuna writes each parameter in a transaction of its own, and reads each as
    an object of its own. A 12-layer space with free widths and groups has about
    a hundred, which would cost more than drawing them.

    Args:
        url: Where the store is.
        makes_tables: Make Optuna's tables where they are missing. Two processes
            that do so at once disturb each other, so `nas.store_schema` lets one at a time.

    Raises:
        MissingExtraError: If the driver of the database is not installed.
    """

    def __init__(self, url: sa.URL, *, makes_tables: bool = False) -> None:
        bare, arguments = without_password(url)
        # Optuna fills in a template, and keeps what it is given.
        template = bare.render_as_string().replace("{", "{{").replace("}", "}}")
        try:
            super().__init__(
                template,
                engine_kwargs=arguments,
                skip_table_creation=not makes_tables,
                # `nas.store_schema` does it.
                skip_compatibility_check=True,
            )
        except ImportError as error:
            raise missing_driver(url) from error
        except (sa.exc.SQLAlchemyError, StorageInternalError):
            self.engine.dispose()
            raise
        reconnect_patiently(self.engine, url)
        self._held: dict[int, list[dict[str, object]]] | None = None

    def close(self) -> None:
        """Close all connections."""
        self.remove_session()
        self.engine.dispose()

    @contextmanager
    def one_write_per_trial(self) -> Iterator[None]:
        """Hold the parameters suggested inside the block, and write them together at its end."""
        self._held = {}
        try:
            yield
            rows = [row for rows in self._held.values() for row in rows]
            if rows:
                transact(self.engine, lambda connection: insert_new(connection, _trial_params, rows))
        finally:
            self._held = None

    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        # Those up to the last finished one are known to who asks, but for those under way.
        found = transact(
            self.engine,
            lambda connection: read_trials(
                connection, study_id=study_id, after=trial_id_greater_than, also=included_trial_ids
            ),
        )
        if not found:
            # Tells a study without trials from one that is gone.
            self.get_study_name_from_id(study_id)
        return found if states is None else [trial for trial in found if trial.state in states]

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
