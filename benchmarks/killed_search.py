"""A search killed at any point ends, once resumed, with what one that was never stopped has.

One process on SQLite, with a formula for training and a stand-in device;
everything between is the real thing. The process is killed right before a
statement reaches the database, at points drawn from all the statements of the
whole run, and the run gone on with by another process. What must be the same:
the architectures in their order, their values, scores and samples.

    python -m benchmarks.killed_search --points 200
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy as sa

from device_lab.timed import Timed
from nas.records import LatencyMode
from nas.run_samples import with_samples
from nas.runs import SearchRequest, load_run
from nas.store import Store, sqlite_url
from tests.fake_parts import SEQUENCE_LENGTH, FormulaEvaluator, make_search
from tests.many_processes import begin

SEED = 0
NUM_TRIALS = 14
REQUEST = SearchRequest(space="grouped", sequence_length=SEQUENCE_LENGTH, latency=LatencyMode.MEASURED)


def do_nothing() -> None:
    """Let a statement pass."""


def search(url: str, folder: Path, *, before_statement: Callable[[], None] = do_nothing) -> None:
    """Search to the end, in a process of its own, if it is not killed before; tell how it ended by its exit status."""
    process = begin(_search, url, folder, before_statement)
    process.join()
    if process.exitcode not in (0, -signal.SIGKILL):
        raise RuntimeError(f"the search ended with exit status {process.exitcode}")


def _search(url: str, folder: Path, before_statement: Callable[[], None]) -> None:
    logging.disable(logging.INFO)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    store = Store(url)

    def count(*_: Any) -> None:
        before_statement()

    sa.event.listen(store.optuna_storage.engine, "before_cursor_execute", count)
    evaluators = [FormulaEvaluator(), FormulaEvaluator(name="distilled", bonus=0.05)]
    make_search(store, folder, request=REQUEST, evaluators=evaluators).run(NUM_TRIALS)


class DieAt:
    """Kills its process before a statement, the first being number 1."""

    def __init__(self, at: int) -> None:
        self._left = at

    def __call__(self) -> None:
        """Count a statement, or die."""
        self._left -= 1
        if not self._left:
            os.kill(os.getpid(), signal.SIGKILL)


class CountInto:
    """Counts statements as the bytes of a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self) -> None:
        """Count a statement."""
        with self._path.open("ab") as file:
            file.write(b".")


def content(url: str) -> list[tuple[Any, ...]]:
    """Return what a run found: architectures in order, with values, scores and samples."""
    store = Store(url)
    run = load_run(store, "run")
    run = with_samples(store, run, {trial.number for trial in run.trials})
    trials = [trial for trial in run.trials if trial.same_as is None]
    by_number = {trial.number: trial.values for trial in optuna.load_study(
        storage=store.optuna_storage, study_name="run"
    ).trials}  # fmt: skip
    store.close()
    return [
        (
            trial.architecture.arch_id,
            trial.state,
            by_number[trial.number],
            trial.score,
            [(each.precision.name, each.reason, _samples(each)) for each in trial.measurements],
        )
        for trial in trials
    ]


def _samples(measurement: Timed) -> list[tuple[int, ...]]:
    """Return the number of each block, and the samples in it."""
    return [
        (
            block.index,
            *block.reference_before.samples_ns,
            *block.candidate.samples_ns,
            *block.reference_after.samples_ns,
        )
        for block in measurement.blocks or ()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Kill a search at random points, and resume it.")
    parser.add_argument("--points", type=int, default=200)
    arguments = parser.parse_args()
    logging.disable(logging.INFO)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    folder = Path(tempfile.mkdtemp(prefix="nas-killed-search-"))
    try:
        counter = folder / "count"
        search(sqlite_url(folder / "whole.db"), folder, before_statement=CountInto(counter))
        whole = content(sqlite_url(folder / "whole.db"))
        num_statements = counter.stat().st_size
        generator = random.Random(SEED)
        different = []
        for number in range(arguments.points):
            at = generator.randrange(1, num_statements)
            url = sqlite_url(folder / f"killed{number}.db")
            search(url, folder, before_statement=DieAt(at))
            search(url, folder)
            if content(url) != whole:
                different.append(at)
            if number % 20 == 19:
                print(f"{number + 1} points, {len(different)} different", file=sys.stderr, flush=True)
        print(f"{len(whole)} architectures, {num_statements} statements; killed before {arguments.points} of them")
        print(f"ended otherwise when killed before statement: {different or 'none'}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    verdict = "met" if not different else "short"
    print(f"figure: killed_search_different {len(different)} of {arguments.points} target=0 {verdict}")


if __name__ == "__main__":
    main()
