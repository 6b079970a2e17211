"""The ``nas`` program: verbs, exit codes, and the one place that turns expected errors into a line.

Exit codes stand in `EXIT_CODES`; defaults of options come from ``nas.toml``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import cast

import typer
from typer.core import TyperGroup

from device_lab.errors import DeviceLabError
from nas.cli.compare import compare
from nas.cli.console import our_warnings_as_lines
from nas.cli.cost import cost
from nas.cli.defaults import FILE_NAME, read_defaults
from nas.cli.devices import devices
from nas.cli.doctor import doctor
from nas.cli.export import export
from nas.cli.gate import gate
from nas.cli.gc import gc
from nas.cli.measure import measure
from nas.cli.options import Verb
from nas.cli.pick import pick
from nas.cli.predict import predict
from nas.cli.profile import profile
from nas.cli.qualify import qualify
from nas.cli.quickstart import quickstart
from nas.cli.report import report
from nas.cli.reproduce import reproduce
from nas.cli.runner import runner
from nas.cli.search import search
from nas.cli.show import show
from nas.cli.spaces import spaces
from nas.cli.status import status
from nas.cli.store_commands import store
from nas.cli.teach import teach
from nas.cli.torchrun import Started, ToldElsewhereError, await_end, quiet_unless_first
from nas.cli.worker import worker
from nas.errors import NasError, SettingsError
from nas.passwords import hide_passwords
from reports.errors import ReportError
from search_spaces.errors import SearchSpaceError

EXPECTED_ERRORS = (NasError, SearchSpaceError, DeviceLabError, ReportError, OSError)

EXIT_CODES = (
    "Exit codes: 0 done, 1 an error, said in one line (of `nas gate`: too slow), 2 a wrong command line, "
    "3 `nas gate` could not measure, 130 stopped by Ctrl-C. Defaults of options: nas.toml in this folder."
)

app = typer.Typer(
    name="nas",
    epilog=EXIT_CODES,
    help="Search efficient BERT-family encoders with grouped convolutions, timed on real devices.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for verb in (
    quickstart,
    search,
    worker,
    status,
    teach,
    report,
    show,
    pick,
    export,
    predict,
    compare,
    gate,
    measure,
    profile,
    qualify,
    reproduce,
    cost,
    spaces,
    devices,
    doctor,
    gc,
):
    app.command(cls=Verb)(verb)
app.add_typer(runner, name="runner")
app.add_typer(store, name="store")


@app.callback()
def refuse_several_processes(context: typer.Context) -> None:
    started, verb = Started.read(), context.invoked_subcommand
    if started.count > 1 and verb != teach.__name__:
        if started.rank > 0:
            raise ToldElsewhereError
        raise SettingsError(
            f"torchrun started {started.count} processes of `nas {verb}`, which works in one; run it without torchrun "
            "(several train a teacher together: `nas teach`)"
        )


def main() -> None:
    """Run the command line and exit."""
    try:
        with quiet_unless_first(), our_warnings_as_lines():
            app(default_map=read_defaults(Path(FILE_NAME), cast("TyperGroup", typer.main.get_command(app))))
    except EXPECTED_ERRORS as error:
        message = hide_passwords(" ".join(str(error).split()))
        print(f"nas: error: {Started.read().prefix}{message}", file=sys.stderr, flush=True)
        sys.exit(1)
    except ToldElsewhereError:
        await_end()
        sys.exit(1)
