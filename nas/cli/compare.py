"""``nas compare``: two runs against each other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from nas.cli.console import print_json, print_sentence, stdout
from nas.cli.options import DEFAULT_RUNS_FOLDER, AsJson, RunsFolder, Storage, complete_run

MAX_ROWS = 20


def compare(
    first: Annotated[str, typer.Argument(help="name of a run", autocompletion=complete_run)],
    second: Annotated[str, typer.Argument(help="name of the run to hold against it", autocompletion=complete_run)],
    *,
    figure: Annotated[
        Path | None, typer.Option(help="draw both fronts into this file: .svg, .png or .pdf", dir_okay=False)
    ] = None,
    runs_folder: RunsFolder = DEFAULT_RUNS_FOLDER,
    storage: Storage = None,
    as_json: AsJson = False,
) -> None:
    """Compare two runs: hypervolumes with the interval of their difference, and the models that moved.

    Example: nas compare first second --figure fronts.svg
    """
    from nas.cli.stores import load_runs
    from reports.analysis import analyse
    from reports.compare import compare as compare_runs
    from reports.comparison_text import comparison_figure, document, move_table, sentences
    from reports.style import save

    loaded = load_runs((first, second), runs_folder=runs_folder, storage=storage)
    comparison = compare_runs(*(analyse(run) for run in loaded))
    if figure is not None:
        drawn = comparison_figure(comparison)
        if drawn is None:
            typer.echo("nas: note: one shared objective is no plane, so there is no figure", err=True)
        else:
            save(drawn, figure)
    if as_json:
        print_json(document(comparison))
        return
    for sentence in sentences(comparison):
        print_sentence(sentence)
    header, rows = move_table(comparison)
    if rows:
        table = Table(box=None, pad_edge=False)
        for name in header:
            table.add_column(name)
        for row in rows[:MAX_ROWS]:
            table.add_row(*row)
        stdout.print(table)
    if len(rows) > MAX_ROWS:
        stdout.print(f"{len(rows) - MAX_ROWS} more that did not move further: --json has them", markup=False)
