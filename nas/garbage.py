"""What no store refers to any more: artifacts of runs that are gone, and what stopped processes left behind.

Nothing is removed on a guess. All stores that ever used the artifacts have to
be read; what is young stays, for its score may not be told yet; and while a run
is worked on, all that it may be about to use stays, too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path, PurePosixPath

import sqlalchemy as sa
from optuna.artifacts.exceptions import ArtifactNotFound

from nas import tables
from nas.artifact_stores import ArtifactStore, Entry, FolderStore
from nas.artifacts import (
    CHECKPOINT_SUFFIX,
    QUARANTINE,
    STATISTICS,
    SUFFIX,
    TEACHERS,
    USERS,
    WEIGHTS,
    ArtifactFolder,
    user_id,
)
from nas.claims import find_claims
from nas.errors import StoreError
from nas.holders import show_holder
from nas.run_folder import is_held
from nas.runs import all_settings, task_settings
from nas.store import Store, sqlite_url
from nas.store_schema import require_store
from nas.store_url import file_of_identity, parse_store_url, store_identity

STORE_FILE, LOG_FILE, MODELS = "store.db", "log.txt", "models"
# As `device_lab.files` names what it has not finished.
_TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}(\.[^.]+)?")


# Object stores date an artifact to the second in one answer, and finer in another.
_CLOCK_STEP = timedelta(seconds=1)


class Kind(StrEnum):
    """What can be removed."""

    WEIGHTS = "weights"
    TEACHERS = "teachers"
    STATISTICS = "statistics"
    MODELS = "model files for timing"
    CHECKPOINTS = "checkpoints"
    TEMPORARY = "temporary files"
    QUARANTINE = "damaged files"
    USERS = "marks of stores that are gone"


# By folder and suffix; an empty one stands for all.
_KINDS = {
    (WEIGHTS, SUFFIX): Kind.WEIGHTS,
    (TEACHERS, SUFFIX): Kind.TEACHERS,
    (TEACHERS, CHECKPOINT_SUFFIX): Kind.CHECKPOINTS,
    (STATISTICS, SUFFIX): Kind.STATISTICS,
    (USERS, ".txt"): Kind.USERS,
    (MODELS, ""): Kind.MODELS,
    (QUARANTINE, ""): Kind.QUARANTINE,
}
# What a run that is worked on may be about to use, however old it is.
_KEPT_WHILE_LIVE = (Kind.TEACHERS, Kind.STATISTICS, Kind.MODELS, Kind.CHECKPOINTS)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Piece:
    """One file that nothing needs, where it is kept."""

    kind: Kind
    store: ArtifactStore
    entry: Entry


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Garbage:
    """All that nothing needs. ``live`` says what is being worked on, and so keeps teachers and the like."""

    pieces: tuple[Piece, ...]
    live: tuple[str, ...]
    num_stores: int


@dataclass(slots=True, kw_only=True)
class _Known:
    """What stores refer to, and who works on them."""

    weights: set[str] = field(default_factory=set)
    teachers: set[str] = field(default_factory=set)
    statistics: set[str] = field(default_factory=set)
    runs: set[str] = field(default_factory=set)
    users: set[str] = field(default_factory=set)
    live: list[str] = field(default_factory=list)


def find_garbage(
    artifacts: ArtifactFolder, *, runs_folder: Path, storage: str | None, grace: timedelta, now: datetime
) -> Garbage:
    """Find what neither a store nor a run that is worked on needs.

    Args:
        artifacts: The folder of the runs, and with it the place it is shared at.
        runs_folder: Where runs lie. All stores in it are read.
        storage: URL of a store that is read besides.
        grace: What is younger stays.
        now: The time to reckon ages from.

    Raises:
        StoreError: If a store that may refer to artifacts cannot be read, or is not known where it is.
        OSError: If the folder, or the place it is shared at, cannot be listed.
    """
    places: list[tuple[ArtifactStore, str]] = [(FolderStore(runs_folder), f"{artifacts.path.name}/")]
    if artifacts.shared is not None:
        places.append((artifacts.shared, ""))
    # Before the stores are read: what is kept, and told, meanwhile is not in the list.
    entries = [(store, prefix, entry) for store, prefix in places for entry in store.entries()]
    with _nothing_removed():
        known = _read_stores(artifacts, runs_folder=runs_folder, storage=storage)
    known.live += [str(path.parent) for path in sorted(runs_folder.glob("*/lock")) if is_held(path.parent)]
    pieces = []
    for store, prefix, entry in entries:
        kind = _kind(entry.artifact_id, prefix=prefix)
        if kind is None or now - entry.modified_at < grace or (known.live and kind in _KEPT_WHILE_LIVE):
            continue
        if not _is_needed(kind, PurePosixPath(entry.artifact_id).stem, known):
            pieces.append(Piece(kind=kind, store=store, entry=entry))
    return Garbage(pieces=tuple(pieces), live=tuple(known.live), num_stores=len(known.users))


def remove_garbage(garbage: Garbage) -> list[Piece]:
    """Remove what was found, and return it, less what was written again or removed by others meanwhile.

    Raises:
        OSError: If something cannot be removed; what was before it is.
    """
    removed = []
    for piece in garbage.pieces:
        entry = piece.store.find(piece.entry.artifact_id)
        if entry is None or entry.modified_at > piece.entry.modified_at + _CLOCK_STEP:
            continue
        try:
            piece.store.remove(piece.entry.artifact_id)
        except ArtifactNotFound:
            continue
        removed.append(piece)
    return removed


def _kind(artifact_id: str, *, prefix: str) -> Kind | None:
    """Return what a file is by where it lies, or ``None`` for what is never removed."""
    path = PurePosixPath(artifact_id)
    if any(_TEMPORARY.fullmatch(part) for part in path.parts):
        return Kind.TEMPORARY
    if not artifact_id.startswith(prefix):
        return Kind.MODELS if len(path.parts) == 3 and path.parts[1] == MODELS else None
    folder = artifact_id.removeprefix(prefix).partition("/")[0]
    return _KINDS.get((folder, path.suffix)) or _KINDS.get((folder, ""))


def _is_needed(kind: Kind, name: str, known: _Known) -> bool:
    if kind is Kind.STATISTICS:
        return "-".join(name.split("-")[:2]) in known.statistics
    needed = {Kind.WEIGHTS: known.weights, Kind.TEACHERS: known.teachers, Kind.USERS: known.users}
    return name in needed.get(kind, ())


def _read_stores(artifacts: ArtifactFolder, *, runs_folder: Path, storage: str | None) -> _Known:
    """Read all stores that may refer to artifacts."""
    known = _Known()
    files = [path for path in sorted(runs_folder.rglob(STORE_FILE)) if path.stat().st_size]
    urls = [sqlite_url(path) for path in files] + ([storage] if storage is not None else [])
    stores = {store_identity(parse_store_url(url)): url for url in urls}
    for identity in artifacts.users():
        path = file_of_identity(identity)
        if path is not None and path.exists():
            stores.setdefault(identity, sqlite_url(path))
        is_gone = path is not None and path.is_relative_to(runs_folder.resolve())
        if identity not in stores and not is_gone:
            raise StoreError(_unread(identity, artifacts))
    for identity, url in stores.items():
        known.users.add(PurePosixPath(user_id(identity)).stem)
        _read_store(url, known)
    for path in sorted(runs_folder.glob(f"*/{LOG_FILE}")):
        if not (path.parent / STORE_FILE).exists() and path.parent.name not in known.runs:
            raise StoreError(
                f"run folder {path.parent} has no store, and its run is in no store that was read; give the store by "
                "--storage, or delete the folder"
            )
    return known


def _read_store(url: str, known: _Known) -> None:
    # Opening a place that holds no store would make one there.
    require_store(parse_store_url(url))
    store = Store(url)
    try:
        rows = store.transaction(lambda connection: connection.execute(sa.select(tables.scores.c.document)).all())
        known.weights |= {json.loads(row.document).get("weights_sha256") for row in rows}
        known.runs |= set(store.run_names())
        for settings in all_settings(store):
            for task in task_settings(settings):
                known.teachers.add(task.teacher_id)
                known.statistics.add(f"{task.teacher_id}-{task.sha256[:12]}")
        known.live += sorted(
            {
                show_holder(state.holder)
                for state in find_claims(store, "")
                if state.holder is not None and state.is_live
            }
        )
    finally:
        store.close()


def _unread(identity: str, artifacts: ArtifactFolder) -> str:
    places = " and ".join(store.place for store in artifacts.stores)
    return (
        f"store {identity} uses these artifacts and was not read; give it by --storage, or run this where it is; if it "
        f"is gone, or another name of a store that was read, delete {user_id(identity)} from {places}"
    )


@contextmanager
def _nothing_removed() -> Iterator[None]:
    try:
        yield
    except StoreError as error:
        raise StoreError(f"{error}; nothing was removed") from error
