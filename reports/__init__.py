"""Reports: values of the store in, a folder with one HTML file and its exports out."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nas.records import Run
    from reports.notebook import Report


def load(run: Run) -> Report:
    """Return a run as a `reports.notebook.Report`; `nas.notebook.load` takes its name instead."""
    # Errors of this package are imported where nothing may be slow.
    from reports.notebook import Report

    return Report(run)
