"""``nas store``: copy a store between SQLite and PostgreSQL, and bring an older one to this release."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from nas.cli.console import print_json, stderr, stdout
from nas.cli.options import AsJson

if TYPE_CHECKING:
    from nas.store_copy import CopiedKind

store = typer.Typer(help="Copy stores between SQLite and PostgreSQL; upgrade older ones.", no_args_is_help=True)


@store.command()
def copy(
    source: Annotated[str, typer.Argument(metavar="FROM", help="URL of a store, or the path of its SQLite file")],
    target: Annotated[str, typer.Argument(metavar="TO", help="the same; a store that is not there is made")],
    *,
    as_json: AsJson = False,
) -> None:
    """Copy all runs, scores and measurements into another store, and verify the copy.

    What is in TO stays; where it holds one of the same name with other content,
    nothing is copied. A copy that was stopped goes on with the same command.
    Trained weights are files beside the runs, and not in a store.

    Example: nas store copy runs/first/store.db postgresql+psycopg://me@db/nas
    """
    from nas.cli.progress import show_progress
    from nas.store_copy import copy_store

    try:
        with show_progress() as progress:
            task = progress.add_task("comparing", total=None)
            copied = copy_store(
                _url(source),
                _url(target),
                on_progress=lambda name, done, total: progress.update(
                    task, description=f"copying {name}", completed=done, total=total
                ),
            )
    except KeyboardInterrupt:
        stderr.print("stopped; what was copied is whole. To go on: the same command", markup=False, soft_wrap=True)
        raise typer.Exit(130) from None
    if as_json:
        print_json([asdict(kind) for kind in copied])
    else:
        stdout.print(_table(copied))
        stdout.print("verified: every record was read again from both stores")


@store.command()
def upgrade(
    place: Annotated[str, typer.Argument(metavar="STORE", help="URL of a store, or the path of its SQLite file")],
    *,
    as_json: AsJson = False,
) -> None:
    """Bring a store of an older release to this one's tables, and Optuna's tables in it to the installed Optuna's.

    End what uses it first. Each step is done whole or not at all.

    Example: nas store upgrade runs/first/store.db
    """
    from nas.store_schema import upgrade_store
    from nas.store_url import parse_store_url

    upgraded = upgrade_store(parse_store_url(_url(place)))
    if as_json:
        print_json(asdict(upgraded))
        return
    for what, before, after in (
        ("schema version", upgraded.version_before, upgraded.version),
        ("Optuna's tables", upgraded.optuna_version_before, upgraded.optuna_version),
    ):
        stdout.print(f"{what}: {after}" + (", as before" if before == after else f", was {before}"))


def _table(copied: Sequence[CopiedKind]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("what", "in FROM", "copied now", "sha256 in FROM", "sha256 in TO"):
        table.add_column(column, overflow="fold")
    for kind in copied:
        parts = f" ({kind.num_parts} {kind.part_name})" if kind.part_name else ""
        hashes = (kind.from_sha256[:16], kind.to_sha256[:16])
        table.add_row(kind.name, f"{kind.num_records}{parts}", str(kind.num_copied), *hashes)
    return table


def _url(place: str) -> str:
    from nas.store import sqlite_url

    return place if "://" in place else sqlite_url(Path(place))
