"""The ``nas`` program: verbs, exit codes, and the one place that turns expected errors into a line.

Exit codes: 0 done, 1 an expected error, 2 a wrong command line, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import os
import sys

import click
import typer

from device_lab.errors import DeviceLabError
from nas.cli.cost import cost
from nas.cli.devices import devices
from nas.cli.doctor import doctor
from nas.cli.measure import measure
from nas.cli.quickstart import quickstart
from nas.cli.report import report
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
for verb in (quickstart, search, report, show, measure, cost, spaces, devices, doctor):
    app.command()(verb)


def main() -> None:
    """Run the command line and exit."""
    try:
        code = app(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        code = 130
    except BrokenPipeError:
        # The reader of our output went away, as `head` does. Python would complain again while closing it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except EXPECTED_ERRORS as error:
        print(f"nas: error: {_one_line(error)}", file=sys.stderr)
        code = 1
    sys.exit(code or 0)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
