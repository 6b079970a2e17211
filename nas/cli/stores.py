"""Where runs lie, and how their stores are opened."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import optuna

from nas.errors import SettingsError, StoreError
from nas.records import Run, Trial
from nas.run_samples import with_samples
from nas.runs import load_run
from nas.store import Store, sqlite_url
from nas.store_place import warn_of_place
from nas.store_url import parse_store_url

if TYPE_CHECKING:
    from nas.artifacts import ArtifactFolder

# Our own progress says what Optuna would log, in terms of architectures.
optuna.logging.set_verbosity(optuna.logging.WARNING)

STORE_FILE = "store.db"
# The store of `nas measure` and `nas qualify`, a run's neighbour.
STORE_NAME = "measurements"
# Beside the runs: what several of them share.
ARTIFACTS_FOLDER = "artifacts"
_RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@contextmanager
def open_store(name: str, *, runs_folder: Path, storage: str | None) -> Iterator[Store]:
    """Open the store of the run called ``name``, or the shared one at the URL ``storage``."""
    store = Store(storage or sqlite_url(runs_folder / name / STORE_FILE))
    warn_of_place(parse_store_url(store.url))
    try:
        yield store
    finally:
        store.close()


@contextmanager
def open_existing_store(name: str, *, runs_folder: Path, storage: str | None) -> Iterator[Store]:
    """Open the store of a run that must be there.

    Raises:
        StoreError: If there is no such run.
    """
    if storage is None and not (runs_folder / name / STORE_FILE).exists():
        found = sorted(path.parent.name for path in runs_folder.glob(f"*/{STORE_FILE}"))
        raise StoreError(f"no run {name!r} in folder {runs_folder} (runs: {', '.join(found) or 'none'})")
    with open_store(name, runs_folder=runs_folder, storage=storage) as store:
        yield store


def open_artifacts(*, runs_folder: Path, shared: str | None) -> ArtifactFolder:
    """Return the folder of teachers, weights and model files of all runs, and with it the place it is shared at.

    Raises:
        ArtifactError: If ``shared`` is no such place.
        MissingExtraError: If the driver for it is not installed.
        OSError: If it cannot be used.
    """
    # It brings torch along.
    from nas.artifact_stores import FolderStore, open_artifact_store
    from nas.artifacts import ArtifactFolder

    folder = runs_folder / ARTIFACTS_FOLDER
    store = None if shared is None else open_artifact_store(shared)
    if isinstance(store, FolderStore) and store.path.resolve() == folder.resolve():
        store = None
    return ArtifactFolder(folder, shared=store)


def load_runs(names: Sequence[str], *, runs_folder: Path, storage: str | None) -> list[Run]:
    """Read runs with all their trials, in the order of their names, for what is said of them in a report.

    Raises:
        StoreError: If there is no such run, or its store cannot be read.
    """
    runs = []
    for name in names:
        with open_existing_store(name, runs_folder=runs_folder, storage=storage) as store:
            runs.append(load_for_report(store, name))
    return runs


def load_for_report(store: Store, name: str) -> Run:
    """Read a run with all its trials, and with the samples of those that a report shows.

    Raises:
        StoreError: If there is no such run, or the store cannot be read.
    """
    from reports.detail import shown_in_detail

    run = load_run(store, name)
    return with_samples(store, run, shown_in_detail(run))


def find_trial(run: Run, number: int) -> Trial:
    """Return the trial of a run with this number.

    Raises:
        StoreError: If it has none.
    """
    for trial in run.trials:
        if trial.number == number:
            return trial
    numbers = ", ".join(str(trial.number) for trial in run.trials) or "none"
    raise StoreError(f"run {run.name!r} has no trial {number} (trials: {numbers})")


def check_run_name(name: str) -> None:
    """Refuse a run name that cannot be a folder beside the shared ones.

    Raises:
        SettingsError: If it is not letters, digits, dots, dashes and underscores, or is reserved.
    """
    if not _RUN_NAME.fullmatch(name) or name == ARTIFACTS_FOLDER:
        raise SettingsError(
            f"run name {name!r} must be up to 64 letters, digits, '.', '-' or '_', begin with a letter or digit, "
            f"and not be {ARTIFACTS_FOLDER!r}"
        )
