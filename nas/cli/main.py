"""The ``nas`` program: verbs, exit codes, and the one place that turns expected errors into a line.

Exit codes: 0 done, 1 an expected error, 2 a wrong command line, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import sys

import typer

from device_lab.errors import DeviceLabError
from nas.cli.compare import compare
from nas.cli.cost import cost
from nas.cli.devices import devices
from nas.cli.doctor import doctor
from nas.cli.export import export
from nas.cli.gate import gate
from nas.cli.measure import measure
from nas.cli.pick import pick
from nas.cli.predict import predict
from nas.cli.qualify import qualify
from nas.cli.quickstart import quickstart
from nas.cli.report import report
from nas.cli.reproduce import reproduce
from nas.cli.runner import runner
from nas.cli.search import search
from nas.cli.show import show
from nas.cli.spaces import spaces
from nas.errors import NasError
from reports.errors import ReportError
from search_spaces.errors import SearchSpaceError

EXPECTED_ERRORS = (NasError, SearchSpaceError, DeviceLabError, ReportError, OSError)

app = typer.Typer(
    name="nas",
    help="Search efficient BERT-family encoders with grouped convolutions, timed on real devices.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for verb in (
    quickstart,
    search,
    report,
    show,
    pick,
    export,
    predict,
    compare,
    gate,
    measure,
    qualify,
    reproduce,
    cost,
    spaces,
    devices,
    doctor,
):
    app.command()(verb)
app.add_typer(runner, name="runner")


def main() -> None:
    """Run the command line and exit."""
    try:
        app()
    except EXPECTED_ERRORS as error:
        message = " ".join(str(error).split())
        print(f"nas: error: {message}", file=sys.stderr)
        sys.exit(1)
