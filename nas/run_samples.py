"""The samples of a few trials of a run, for what shows them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from device_lab.timed import Timed
from nas.records import Run
from nas.store import Store


def with_samples(store: Store, run: Run, numbers: Collection[int]) -> Run:
    """Return a run of which the trials of these numbers have their measurements with all samples.

    Raises:
        StoreError: If the store cannot be read.
    """
    wanted = [trial for trial in run.trials if trial.number in numbers]
    blocks = store.read_blocks(sorted({each.key for trial in wanted for each in trial.all_measurements}))

    def read(measurements: Sequence[Timed]) -> tuple[Timed, ...]:
        return tuple(replace(each, blocks=blocks[each.key]) for each in measurements)

    trials = (
        replace(
            trial,
            measurements=read(trial.measurements),
            on_devices=tuple(replace(each, measurements=read(each.measurements)) for each in trial.on_devices),
        )
        if trial.number in numbers
        else trial
        for trial in run.trials
    )
    return replace(run, trials=tuple(trials))
