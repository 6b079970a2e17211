"""``nas report``: the pages and tables of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.console import print_json, stderr, stdout, uncollected
from nas.cli.options import DEFAULT_RUNS_FOLDER, AsJson, RunName, RunsFolder, Storage


def report(
    run: RunName,
    *,
    output: Annotated[Path | None, typer.Option(help="folder to write to; the run's report folder if left out")] = None,
    runs_folder: RunsFolder = DEFAULT_RUNS_FOLDER,
    storage: Storage = None,
    as_json: AsJson = False,
) -> None:
    """Write the report of a run: one HTML file, figures, CSV, Markdown, LaTeX and JSON, and a page for each device.

    What `nas measure` and `nas qualify` found has no run: `nas report measurements`
    writes the pages of their devices.

    Example: nas report quickstart
    """
    folder = output or runs_folder / run / "report"
    with uncollected():
        html, pages = _write(run, folder, runs_folder=runs_folder, storage=storage)
    if as_json:
        document = {"html": str(html or pages[0]), "folder": str(folder), "devices": [str(page) for page in pages[1:]]}
        print_json(document)
        return
    for title, page in (("report", html), ("devices", pages[0] if pages else None)):
        if page is not None:
            stdout.print(f"{title}: {page}", markup=False)


def _write(run: str, folder: Path, *, runs_folder: Path, storage: str | None) -> tuple[Path | None, list[Path]]:
    """Write what there is to report; return the page of the run, if it is one, and those of the devices."""
    from nas.cli.stores import STORE_NAME, load_for_report, open_existing_store
    from nas.device_results import find_device_results
    from nas.records import Role
    from reports.device_pages import write_device_pages
    from reports.text import ROLE_NAMES
    from reports.write import write_report

    with open_existing_store(run, runs_folder=runs_folder, storage=storage) as store:
        is_search = run != STORE_NAME or run in store.run_names()
        loaded = load_for_report(store, run) if is_search else None
        names: dict[str, str] = {}
        for trial in loaded.trials if loaded else ():
            role = "" if trial.role is Role.CANDIDATE else f" ({ROLE_NAMES[trial.role]})"
            names.setdefault(trial.architecture.arch_id, f"trial {trial.number}{role}")
        results = find_device_results(store, names=names)
    with stderr.status("writing the report"):
        html = write_report(loaded, folder).html if loaded else None
        pages = write_device_pages(results, folder / "devices" if loaded else folder) if results or not loaded else []
    return html, pages
