"""``nas worker``: take part in a run, on this machine or another one."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas.cli.console import stderr
from nas.cli.options import DEFAULT_RUNS_FOLDER, Artifacts, Runner, RunsFolder, Storage, TrainDevice, complete_run

if TYPE_CHECKING:
    from nas.cli.worker_parts import WorkerPlace
    from nas.run_workers import RunWorker
    from nas.shared_run import WorkRole


def worker(
    run: Annotated[str, typer.Option("--run", help="the run; `nas search` makes one", autocompletion=complete_run)],
    *,
    role: Annotated[str, typer.Option(help="train (propose and score), measure, or both")] = "both",
    train_device: TrainDevice = "cpu",
    runner: Runner = None,
    phone_minutes: Annotated[
        float | None, typer.Option(min=0.0, help="time on the device that this worker may spend on measuring")
    ] = None,
    unqualified: Annotated[bool, typer.Option("--unqualified", help="time on a phone that has no certificate")] = False,
    runs_folder: RunsFolder = DEFAULT_RUNS_FOLDER,
    storage: Storage = None,
    artifacts: Artifacts = None,
) -> None:
    """Work on a run together with others, until it has the trials that `nas search --trials` asked for.

    Any number may work on one run, on any machine that reaches the store; what
    one of them leaves undone, however it ends, the others do. SIGTERM ends it
    after the step it is in, Ctrl-C at once; nothing is lost either way.

    Example: nas worker --run first --role train --storage postgresql+psycopg://me@db/nas
    """
    from nas.cli.stores import check_run_name, open_artifacts
    from nas.cli.worker_parts import WorkerPlace

    check_run_name(run)
    own_role = _role(role)
    place = WorkerPlace(
        runs_folder=runs_folder,
        storage=storage,
        artifacts=open_artifacts(runs_folder=runs_folder, shared=artifacts),
        train_device=train_device,
        runner=runner,
        unqualified=unqualified,
        total_budget_s=None if phone_minutes is None else 60 * phone_minutes,
    )
    with _stop_on_sigterm() as stop:
        try:
            others = _work(run, own_role, place=place, stop=stop)
        except KeyboardInterrupt:
            stderr.print("stopped; what it had begun is given back. To go on: the same command", markup=False)
            raise typer.Exit(0 if stop.is_set() else 130) from None
    following = f"who still works: nas status {run}" if others else f"next: nas report {run}"
    stderr.print(f"nothing is left to do for this worker; {following}", markup=False)


def _work(run: str, role: WorkRole, *, place: WorkerPlace, stop: threading.Event) -> list[RunWorker]:
    """Work on the run until nothing is left to do here, and return who has something to do still."""
    from nas.cli.log import run_log
    from nas.cli.progress import show_progress
    from nas.cli.stores import open_existing_store
    from nas.cli.worker_parts import WorkerObserver, open_run_devices, prepare_worker, read_run
    from nas.run_workers import find_workers
    from nas.shared_run import refuse_wrong_clock

    with ExitStack() as stack:
        store = stack.enter_context(open_existing_store(run, runs_folder=place.runs_folder, storage=place.storage))
        refuse_wrong_clock(store)
        settings = read_run(store, run)
        folder = place.runs_folder / run
        folder.mkdir(parents=True, exist_ok=True)
        log = stack.enter_context(run_log(folder, file_name=f"worker-{socket.gethostname()}-{os.getpid()}.txt"))
        devices = stack.enter_context(open_run_devices(settings, role, place=place))
        progress = stack.enter_context(show_progress())
        observer = WorkerObserver(progress, log=log, stop=stop)
        task = progress.add_task("teacher", total=None)

        def on_teacher_step(step: int, num_steps: int) -> None:
            observer.end_if_stopped()
            progress.update(task, description="training the teacher", completed=step, total=num_steps)

        search = prepare_worker(
            run,
            settings,
            role=role,
            place=place,
            store=store,
            devices=devices,
            observer=observer,
            on_teacher_step=on_teacher_step,
        )
        progress.remove_task(task)
        search.run()
        return [worker for worker in find_workers(store, run) if worker.is_alive]


@contextmanager
def _stop_on_sigterm() -> Iterator[threading.Event]:
    """Give an event that SIGTERM sets; a second one, for whoever cannot wait, stops at once."""
    stop = threading.Event()

    def handle(*_: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, before)


def _role(text: str) -> WorkRole:
    from nas.errors import SettingsError
    from nas.shared_run import WorkRole

    if text not in list(WorkRole):
        raise SettingsError(f"unknown --role {text!r} (known: {', '.join(WorkRole)})")
    return WorkRole(text)
