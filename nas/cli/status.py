"""``nas status``: how far a run is, who works on it, and what is measured where."""

from __future__ import annotations

import time
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from nas.cli.console import print_json, stdout
from nas.cli.options import DEFAULT_RUNS_FOLDER, AsJson, RunName, RunsFolder, Storage

if TYPE_CHECKING:
    from nas.run_status import RunStatus
    from nas.run_workers import RunWorker
    from nas.store import Store

LAST_HOURS = 24.0
# A batch of four is told at once, which says nothing of how long one takes.
MIN_FOR_RATE = 5
REFRESH_S = 2.0


def status(
    run: RunName,
    *,
    watch: Annotated[bool, typer.Option("--watch", help="show it anew until Ctrl-C")] = False,
    runs_folder: RunsFolder = DEFAULT_RUNS_FOLDER,
    storage: Storage = None,
    as_json: AsJson = False,
) -> None:
    """Show how far a run is, which processes work on it, and what is measured on which device.

    Example: nas status first --watch
    """
    from nas.cli.stores import open_existing_store
    from nas.errors import SettingsError

    if watch and as_json:
        raise SettingsError("--watch shows a run until Ctrl-C, --json prints it once; leave one of them out")
    with open_existing_store(run, runs_folder=runs_folder, storage=storage) as store:
        if as_json:
            print_json(_document(_Snapshot(store, run)))
            return
        if not watch:
            stdout.print(_shown(_Snapshot(store, run)))
            return
        try:
            with Live(_shown(_Snapshot(store, run)), console=stdout, auto_refresh=False) as live:
                while True:
                    time.sleep(REFRESH_S)
                    live.update(_shown(_Snapshot(store, run)), refresh=True)
        except KeyboardInterrupt:
            raise typer.Exit(130) from None


class _Snapshot:
    """What is known of a run at one moment."""

    def __init__(self, store: Store, name: str) -> None:
        from optuna.trial import TrialState

        from nas.run_status import read_status
        from nas.run_workers import find_workers
        from nas.runs import find_goal
        from nas.wants import unserved_devices

        self.at = datetime.now(UTC)
        self.status: RunStatus = read_status(store, name, last_hours=LAST_HOURS)
        self.workers: list[RunWorker] = find_workers(store, name)
        self.unserved: list[str] = unserved_devices(store, name)
        counts = self.status.num_trials
        self.num_done = self.status.num_done
        self.num_failed = self.status.num_failed
        self.num_rejected = counts.get(TrialState.PRUNED, 0)
        self.num_under_way = counts.get(TrialState.RUNNING, 0)
        self.num_waiting = counts.get(TrialState.WAITING, 0)
        self.goal = find_goal(store, name)

    @property
    def num_missing(self) -> int | None:
        """How many trials are to come before the front is chosen; ``None`` if nobody said how many there shall be."""
        return None if self.goal is None else max(self.goal - self.num_done - self.num_failed, 0)

    @property
    def per_hour(self) -> float | None:
        """Trials done an hour, of late; ``None`` where too few are, none is for long, or none is to come."""
        times = [ended_at for _, ended_at in self.status.newest_complete]
        if len(times) < MIN_FOR_RATE or self.num_missing == 0 or self.at - times[0] > timedelta(hours=LAST_HOURS):
            return None
        # What is under way counts as time without a trial.
        passed = max(self.at, times[0]) - times[-1]
        return (len(times) - 1) / max(passed.total_seconds(), 1.0) * 3600

    @property
    def left(self) -> timedelta | None:
        """How long the rest takes at this rate."""
        if self.num_missing is None or not self.per_hour or not any(worker.is_alive for worker in self.workers):
            return None
        return timedelta(hours=self.num_missing / self.per_hour)


def _shown(snapshot: _Snapshot) -> RenderableType:
    parts: list[RenderableType] = [Text(_summary(snapshot))]
    if snapshot.workers:
        parts.append(_worker_table(snapshot.workers))
    else:
        name = snapshot.status.name
        next_step = f"nas report {name}" if snapshot.num_missing == 0 else f"nas worker --run {name}"
        parts.append(Text(f"nobody works on it; next: {next_step}"))
    if snapshot.unserved:
        parts.append(
            Text(
                f"they wait for {', '.join(snapshot.unserved)}, where nobody measures; next: nas worker --run "
                f"{snapshot.status.name} --role measure where that is attached"
            )
        )
    if snapshot.status.devices:
        parts.append(_device_table(snapshot))
    return Group(*parts)


def _summary(snapshot: _Snapshot) -> str:
    goal = "" if snapshot.goal is None else f" of {snapshot.goal}"
    counts = {
        "under way": snapshot.num_under_way,
        "waiting": snapshot.num_waiting,
        "failed": snapshot.num_failed,
        "rejected": snapshot.num_rejected,
    }
    words = [f"run {snapshot.status.name}: {snapshot.num_done}{goal} trials done"]
    words += [f"{count} {what}" for what, count in counts.items() if count]
    if snapshot.per_hour is not None:
        words.append(f"{snapshot.per_hour:.0f} an hour")
    if snapshot.left is not None and snapshot.left:
        words.append(f"about {_duration(snapshot.left)} left")
    return ", ".join(words)


def _worker_table(workers: list[RunWorker]) -> Table:
    from nas.holders import show_holder

    table = Table(box=None, pad_edge=False)
    for header in ("worker", "role", "does"):
        table.add_column(header, overflow="fold")
    for worker in workers:
        table.add_row(Text(show_holder(worker.holder)), worker.role.value, Text(_does(worker)))
    return table


def _does(worker: RunWorker) -> str:
    if not worker.is_alive:
        return f"lost, not heard of for {_duration(timedelta(seconds=worker.silent_s))}"
    timed = [arch_id for kind, arch_id in worker.does if kind in ("time", "serve")]
    if worker.device_ids:
        return f"measures {len(timed) or 'the front'} on {', '.join(worker.device_ids)}"
    if timed:
        return f"waits to measure {len(timed)}"
    if worker.does:
        return ", ".join(f"{kind} {arch_id}" for kind, arch_id in worker.does)
    return f"has {worker.num_trials} trials" if worker.num_trials else "waits"


def _device_table(snapshot: _Snapshot) -> Table:
    table = Table(box=None, pad_edge=False)
    for header in ("device", f"measured in {LAST_HOURS:.0f} h", "last begun", "in use"):
        table.add_column(header, overflow="fold")
    used = {device_id for worker in snapshot.workers if worker.is_alive for device_id in worker.device_ids}
    for device in snapshot.status.devices:
        table.add_row(
            Text(device.device_id),
            str(device.num_finished),
            f"{_duration(snapshot.at - device.newest_begun_at)} ago",
            "yes" if device.device_id in used else "no",
        )
    return table


def _duration(span: timedelta) -> str:
    seconds = max(span.total_seconds(), 0.0)
    for unit, length_s in (("h", 3600), ("min", 60)):
        if seconds >= length_s:
            return f"{seconds / length_s:.1f} {unit}" if seconds < 10 * length_s else f"{seconds / length_s:.0f} {unit}"
    return f"{seconds:.0f} s"


def _document(snapshot: _Snapshot) -> dict[str, Any]:
    return {
        "run": snapshot.status.name,
        "at": snapshot.at.isoformat(timespec="seconds"),
        "num_trials_wanted": snapshot.goal,
        "num_trials": {state.name.lower(): count for state, count in snapshot.status.num_trials.items()},
        "num_done": snapshot.num_done,
        "num_failed": snapshot.num_failed,
        "trials_per_hour": snapshot.per_hour,
        "left_s": None if snapshot.left is None else snapshot.left.total_seconds(),
        "workers": [asdict(worker) for worker in snapshot.workers],
        "unserved_devices": snapshot.unserved,
        "devices": [
            asdict(device) | {"newest_begun_at": device.newest_begun_at.isoformat()}
            for device in snapshot.status.devices
        ],
    }
