"""``nas gc``: what no store refers to any more, and what it would free."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from nas.cli.console import print_json, print_sentence, stderr, stdout
from nas.cli.options import DEFAULT_RUNS_FOLDER, Artifacts, AsJson, RunsFolder, Storage

if TYPE_CHECKING:
    from nas.garbage import Piece

DEFAULT_GRACE_HOURS = 24.0


def gc(
    *,
    delete: Annotated[bool, typer.Option("--delete", help="remove it, instead of only saying what it is")] = False,
    grace_hours: Annotated[float, typer.Option(min=1.0, help="what is younger stays")] = DEFAULT_GRACE_HOURS,
    runs_folder: RunsFolder = DEFAULT_RUNS_FOLDER,
    storage: Storage = None,
    artifacts: Artifacts = None,
    as_json: AsJson = False,
) -> None:
    """Say what nothing needs any more, and with --delete remove it.

    That is weights no score refers to, teachers and statistics of no run, model
    files for timing, checkpoints, temporary and damaged files. All stores in the
    runs folder are read, and the one at --storage; if one that used the
    artifacts cannot be, nothing is removed. While a run is worked on, its
    teachers, statistics and model files stay.

    Example: nas gc --delete --grace-hours 48
    """
    from datetime import UTC, datetime, timedelta

    from nas.cli.stores import open_artifacts
    from nas.garbage import find_garbage, remove_garbage

    with stderr.status("reading the stores"):
        garbage = find_garbage(
            open_artifacts(runs_folder=runs_folder, shared=artifacts),
            runs_folder=runs_folder,
            storage=storage,
            grace=timedelta(hours=grace_hours),
            now=datetime.now(UTC),
        )
    pieces = remove_garbage(garbage) if delete else list(garbage.pieces)
    size_bytes = sum(piece.entry.size_bytes for piece in pieces)
    if as_json:
        files = [
            {
                "kind": piece.kind.value,
                "place": piece.store.place,
                "file": piece.entry.artifact_id,
                "size_bytes": piece.entry.size_bytes,
            }
            for piece in pieces
        ]
        document = {"deleted": delete, "stores_read": garbage.num_stores, "in_use": list(garbage.live)}
        print_json({**document, "size_bytes": size_bytes, "files": files})
        return
    if pieces:
        stdout.print(_table(pieces))
    if garbage.live:
        print_sentence(
            f"in use: {', '.join(garbage.live)}; teachers, statistics, model files and checkpoints stay until that ends"
        )
    done = "freed" if delete else "would free"
    print_sentence(f"{done} {size_bytes / 1e6:.1f} MB in {len(pieces)} files; {garbage.num_stores} stores were read")
    if pieces and not delete:
        stderr.print("to remove them: the same command with --delete", markup=False)


def _table(pieces: Iterable[Piece]) -> Table:
    sizes: dict[tuple[str, str], list[int]] = {}
    for piece in pieces:
        sizes.setdefault((piece.kind.value, piece.store.place), []).append(piece.entry.size_bytes)
    table = Table(box=None, pad_edge=False)
    table.add_column("what")
    table.add_column("where", overflow="fold")
    for column in ("files", "MB"):
        table.add_column(column, justify="right")
    for (kind, place), of_kind in sorted(sizes.items()):
        table.add_row(kind, place, str(len(of_kind)), f"{sum(of_kind) / 1e6:.1f}")
    return table
