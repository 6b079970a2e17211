"""Is anything lost or done twice when workers, the server, the network and the disk fail all the time?

Eight worker processes on one run in a real PostgreSQL, each scoring with a
formula after a moment's work and keeping a file, and timing on a stand-in
device; everything between is the real thing. Every few seconds one of them is
killed; in between all connections are cut, the folder of files is full for a
while, and the server is started again. A worker that ended, however it did, is
started again, as systemd does. What a process had finished, it wrote down at
once; in the end the store must have all of it, once.

    python -m benchmarks.many_workers --minutes 2
    python -m benchmarks.many_workers --minutes 2 --trials 200 --sqlite
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy as sa
from optuna.trial import TrialState as OptunaState

from nas import tables
from nas.claims import find_claims
from nas.errors import NasError
from nas.holders import is_known_dead
from nas.records import LatencyMode, Objective, Score, TrialState
from nas.runs import SearchRequest, load_run
from nas.shared_run import WorkRole
from nas.store import Store, sqlite_url
from search_spaces.architecture import Architecture
from tests.fake_parts import SEQUENCE_LENGTH, FormulaEvaluator, Listener, SizeDevice, make_search
from tests.loopback_proxy import LoopbackProxy
from tests.many_processes import begin
from tests.postgresql_server import PostgresqlServer

SEED = 0
Events = list[tuple[float, Callable[[], object]]]
ROLES = [WorkRole.TRAIN] * 6 + [WorkRole.MEASURE] + [WorkRole.BOTH]
LOCAL_ROLES = [WorkRole.BOTH] * 2
KILL_EVERY_S = (1.5, 4.0)
# Of the time of trouble: when what happens.
CUTS, RESTART, FULL_DISK = (0.2, 0.4, 0.7), 0.5, (0.6, 0.65)
FOLDER_BYTES, FILE_BYTES = 32 << 20, 16 << 10
WORK_S = 0.4
MAX_END_MINUTES = 10.0
REQUEST = SearchRequest(space="grouped", sequence_length=SEQUENCE_LENGTH, latency=LatencyMode.MEASURED)


class Diary:
    """What processes finished, a line each, whole even where the process is killed while it writes."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def note(self, *words: object) -> None:
        """Keep a line."""
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(descriptor, (json.dumps(words) + "\n").encode())
        finally:
            os.close(descriptor)

    def read(self) -> list[list[Any]]:
        """Return all lines."""
        return [json.loads(line) for line in self._path.read_text().splitlines()] if self._path.exists() else []


class NotingListener(Listener):
    """Notes which trials were told."""

    def __init__(self, diary: Diary) -> None:
        super().__init__()
        self._diary = diary

    def finished(self, number: int, values: dict[Objective, float], *, is_predicted: bool) -> None:
        """Do it, and note it."""
        super().finished(number, values, is_predicted=is_predicted)
        self._diary.note("told", number)


class NotingStore(Store):
    """Notes which scores and blocks are kept."""

    def __init__(self, url: str, diary: Diary) -> None:
        super().__init__(url)
        self._diary = diary

    def save_score(self, score: Score, *, settings_id: str, arch_id: str) -> None:
        """Do it, and note it."""
        super().save_score(score, settings_id=settings_id, arch_id=arch_id)
        self._diary.note("scored", settings_id, arch_id)

    def save_block(self, measurement_id: int, block: Any) -> None:
        """Do it, and note it."""
        super().save_block(measurement_id, block)
        self._diary.note("block", measurement_id, block.index)


def keep_file(folder: Path) -> Callable[[Architecture], None]:
    """Return what a scoring does besides: some work, and a file that is whole or not there."""

    def work(arch: Architecture) -> None:
        time.sleep(WORK_S * random.random())
        content = hashlib.sha256(arch.arch_id.encode()).digest() * (FILE_BYTES // 32)
        partial = folder / f".{arch.arch_id}.{os.getpid()}"
        try:
            partial.write_bytes(content)
            partial.replace(folder / arch.arch_id)
        finally:
            partial.unlink(missing_ok=True)

    return work


def work(url: str, folder: Path, disk: Path, diary: Diary, role: WorkRole) -> None:
    """One worker's life."""
    logging.disable(logging.CRITICAL)
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123 - for as long as the process lives
    store = NotingStore(url, diary)
    evaluators = [FormulaEvaluator(keep_file(disk)), FormulaEvaluator(name="distilled", bonus=0.05)]
    search = make_search(
        store,
        folder / str(os.getpid()),
        request=REQUEST,
        evaluators=evaluators,
        device=SizeDevice(before=lambda _: time.sleep(0.002)),
        listener=NotingListener(diary),
        role=role,
    )
    try:
        search.run()
    except (NasError, OSError) as error:
        diary.note("ended", type(error).__name__)
        os._exit(1)
    os._exit(0)


class Crew:
    """Workers that are started again until they end by themselves, having nothing left to do."""

    def __init__(self, start: Callable[[WorkRole], BaseProcess], roles: Sequence[WorkRole]) -> None:
        self._start = start
        self._processes = [(role, start(role)) for role in roles]
        self.num_killed = 0

    def kill_one(self, generator: random.Random) -> None:
        """Kill a living worker, if there is one."""
        living = [process for _, process in self._processes if process.is_alive()]
        if living:
            os.kill(generator.choice(living).pid or 0, signal.SIGKILL)
            self.num_killed += 1

    def look_after(self) -> bool:
        """Start those again that did not end well; return whether any goes on."""
        for place, (role, process) in enumerate(self._processes):
            if not process.is_alive() and process.exitcode != 0:
                self._processes[place] = role, self._start(role)
        return any(process.is_alive() for _, process in self._processes)

    def end(self) -> None:
        """Kill whoever is left."""
        for _, process in self._processes:
            process.kill()
            process.join()


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Give a folder on a filesystem of its own that is soon full, where this user may mount one."""
    disk = folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={FOLDER_BYTES}", "tmpfs", str(disk)], check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def trouble(crew: Crew, events: Sequence[tuple[float, Callable[[], object]]], *, duration_s: float) -> None:
    """Make trouble for a while: what is to happen at shares of the time, and in between a worker is killed."""
    generator = random.Random(SEED)
    left = sorted(events, key=lambda event: event[0])
    start_s = time.monotonic()
    next_kill_s = generator.uniform(*KILL_EVERY_S)
    while (passed_s := time.monotonic() - start_s) < duration_s or left:
        if left and passed_s >= left[0][0] * duration_s:
            left.pop(0)[1]()
        if passed_s >= next_kill_s:
            crew.kill_one(generator)
            next_kill_s = passed_s + generator.uniform(*KILL_EVERY_S)
        crew.look_after()
        time.sleep(0.1)


def _restart(server: PostgresqlServer) -> None:
    server.stop()
    server.start()


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            pass


def check(url: str, diary: Diary) -> tuple[int, int]:
    """Print what became of everything that was finished; return how much was lost and how much is there twice."""
    store = Store(url)
    run = load_run(store, "run")
    study = optuna.load_study(storage=store.optuna_storage, study_name="run")
    ended = {trial.number for trial in study.trials if trial.state == OptunaState.COMPLETE}
    lines = diary.read()
    told = Counter(line[1] for line in lines if line[0] == "told")
    scored = {tuple(line[1:]) for line in lines if line[0] == "scored"}
    blocks = {tuple(line[1:]) for line in lines if line[0] == "block"}
    kept_scores = store.transaction(
        lambda each: {
            tuple(row) for row in each.execute(sa.select(tables.scores.c.settings_id, tables.scores.c.arch_id))
        }
    )
    kept_blocks = store.transaction(
        lambda each: {
            tuple(row) for row in each.execute(sa.select(tables.blocks.c.measurement_id, tables.blocks.c.index))
        }
    )
    lost = len(told.keys() - ended) + len(scored - kept_scores) + len(blocks - kept_blocks)
    firsts = Counter(trial.architecture for trial in run.trials if trial.same_as is None)
    measured = Counter(_rows(store, tables.measurements.c.arch_id, tables.measurements.c.precision))
    doubled = sum(count - 1 for counter in (told, firsts, measured) for count in counter.values())
    held = [claim for claim in find_claims(store, "") if claim.holder and not is_known_dead(claim.holder)]
    states = Counter(trial.state for trial in study.trials)
    failed = Counter(trial.failure for trial in run.trials if trial.state is TrialState.FAILED)
    print(f"{len(firsts)} architectures, {len(scored)} scores and {len(blocks)} blocks finished")
    print(f"trials: {', '.join(f'{count} {state.name}' for state, count in states.items())}; failed: {dict(failed)}")
    print(f"workers that ended by an error of their own: {Counter(line[1] for line in lines if line[0] == 'ended')}")
    print(f"claims still held: {len(held)}; trials under way: {states[OptunaState.RUNNING]}")
    store.close()
    return lost + len(held) + states[OptunaState.RUNNING], doubled


def _rows(store: Store, *columns: sa.Column[Any]) -> list[tuple[Any, ...]]:
    return store.transaction(lambda each: [tuple(row) for row in each.execute(sa.select(*columns))])


@contextmanager
def shared_store(
    folder: Path, *, is_sqlite: bool
) -> Iterator[tuple[str, str, list[tuple[float, Callable[[], object]]]]]:
    """Give the URL of a new store, the one workers use, and what happens to it meanwhile."""
    if is_sqlite:
        url = sqlite_url(folder / "store.db")
        yield url, url, []
        return
    server = PostgresqlServer(folder)
    proxy = LoopbackProxy(server.port)
    try:
        url = server.new_database()
        events: Events = [(share, proxy.drop) for share in CUTS]
        events.append((RESTART, lambda: _restart(server)))
        yield url, server.url(url.rpartition("/")[2], port=proxy.port), events
    finally:
        proxy.close()
        server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description="Workers that are killed all the time lose nothing, double nothing.")
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--sqlite", action="store_true", help="two workers on one file instead")
    arguments = parser.parse_args()
    logging.disable(logging.INFO)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    folder = Path(tempfile.mkdtemp(prefix="nas-many-workers-"))
    roles = LOCAL_ROLES if arguments.sqlite else ROLES
    try:
        with ExitStack() as stack:
            disk = stack.enter_context(small_disk(folder))
            own_url, url, events = stack.enter_context(shared_store(folder, is_sqlite=arguments.sqlite))
            filler = disk / "filler"
            events += [(FULL_DISK[0], lambda: _fill(filler)), (FULL_DISK[1], filler.unlink)]
            diary = Diary(folder / "diary")
            store = Store(own_url)
            evaluators = [FormulaEvaluator(), FormulaEvaluator(name="distilled", bonus=0.05)]
            make_search(store, folder, request=REQUEST, evaluators=evaluators).run(arguments.trials, max_minutes=0.0)
            store.close()

            def start(role: WorkRole) -> BaseProcess:
                return begin(work, url, folder, disk, diary, role)

            crew = Crew(start, roles)
            try:
                trouble(crew, events, duration_s=60 * arguments.minutes)
                deadline_s = time.monotonic() + 60 * MAX_END_MINUTES
                while crew.look_after() and time.monotonic() < deadline_s:
                    time.sleep(0.5)
            finally:
                crew.end()
            print(f"{len(roles)} workers, {crew.num_killed} killed, {len(events)} other troubles")
            lost, doubled = check(own_url, diary)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    name = "many_workers_sqlite" if arguments.sqlite else "many_workers"
    verdict = "met" if lost + doubled == 0 else "short"
    print(f"figure: {name} {lost + doubled} lost+doubled target=0 {verdict}")


if __name__ == "__main__":
    main()
