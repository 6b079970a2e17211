"""``nas report``: the pages and tables of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.console import print_json, stderr, stdout
from nas.cli.options import DEFAULT_RUNS_FOLDER, AsJson, RunsFolder, Storage


def report(
    run: Annotated[str, typer.Argument(help="name of the run")],
    *,
    output: Annotated[Path | None, typer.Option(help="folder to write to; the run's report folder if left out")] = None,
    runs_folder: RunsFolder = DEFAULT_RUNS_FOLDER,
    storage: Storage = None,
    as_json: AsJson = False,
) -> None:
    """Write the report of a run: one HTML file, figures, CSV, Markdown, LaTeX and JSON.

    Example: nas report quickstart
    """
    from nas.cli.stores import open_existing_store
    from nas.runs import load_run
    from reports.write import write_report

    with open_existing_store(run, runs_folder=runs_folder, storage=storage) as store:
        loaded = load_run(store, run)
    with stderr.status("writing the report"):
        files = write_report(loaded, output or runs_folder / run / "report")
    if as_json:
        print_json({"html": str(files.html), "folder": str(files.folder)})
    else:
        stdout.print(f"report: {files.html}", markup=False)
