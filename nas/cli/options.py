"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RunsFolder = Annotated[Path, typer.Option(help="folder that holds the runs")]
Storage = Annotated[str | None, typer.Option(help="SQLAlchemy URL of a shared store instead of the run's own file")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]
DEFAULT_RUNS_FOLDER = Path("runs")
