"""Runs by name, for notebooks: ``from nas.notebook import load``.

`reports` works on plain values and knows no store, so the way from a name to a
report is here.
"""

from __future__ import annotations

from pathlib import Path

import reports
from nas.cli.options import DEFAULT_RUNS_FOLDER
from nas.cli.stores import load_runs
from reports.notebook import Report


def load(run: str, *, runs_folder: Path | str = DEFAULT_RUNS_FOLDER, storage: str | None = None) -> Report:
    """Read a run from its store and return it as a report.

    Args:
        run: Name of the run.
        runs_folder: Folder that holds the runs.
        storage: SQLAlchemy URL of a shared store instead of the run's own file.

    Raises:
        StoreError: If there is no such run, or its store cannot be read.
    """
    (loaded,) = load_runs([run], runs_folder=Path(runs_folder), storage=storage)
    return reports.load(loaded)
