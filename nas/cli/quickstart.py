"""``nas quickstart``: the main job on data and a machine everybody has."""

from __future__ import annotations

from typing import Annotated

import typer

from nas.cli.console import stderr
from nas.cli.options import DEFAULT_RUNS_FOLDER, AsJson, RunsFolder
from nas.cli.search import Place, run_search

RUN_NAME = "quickstart"
DEFAULT_NUM_TRIALS = 12
# A laptop with other work may never settle; a first try should end all the same. `nas search` has no such bounds.
BATCH_BUDGET_S = 25.0
TOTAL_BUDGET_S = 85.0


def quickstart(
    *,
    trials: Annotated[int, typer.Option(min=2, help="distinct architectures")] = DEFAULT_NUM_TRIALS,
    runs_folder: RunsFolder = DEFAULT_RUNS_FOLDER,
    as_json: AsJson = False,
) -> None:
    """Train a small teacher on the embedded SUBJ task, search around it, time on this machine, report.

    Takes under three minutes on two cores. No network, phone or GPU. The same
    command again goes on with the run, or only writes its report anew.

    Example: nas quickstart
    """
    from nas.cli.front import print_front
    from nas.records import LatencyMode
    from reports.write import write_report

    # Small networks train in seconds, so half of them may; and so few networks can all be timed.
    given = {
        "task": "embedded-subj",
        "sequence_length": 64,
        "promoted_share": 0.5,
        "latency": LatencyMode.MEASURED,
    }
    place = Place(
        runs_folder=runs_folder,
        storage=None,
        train_device="cpu",
        batch_budget_s=BATCH_BUDGET_S,
        total_budget_s=TOTAL_BUDGET_S,
    )
    run = run_search(RUN_NAME, given, defaults={}, num_trials=trials, place=place)
    with stderr.status("writing the report"):
        files = write_report(run, runs_folder / RUN_NAME / "report")
    print_front(run, as_json=as_json)
    stderr.print(f"report: {files.html}", markup=False)
    stderr.print(f"more trials: nas search {RUN_NAME} --trials {2 * trials}", markup=False)
