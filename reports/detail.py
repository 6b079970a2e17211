"""Which trials of a run a report has the samples of: all where there are few blocks, else those shown in detail."""

from __future__ import annotations

from nas.records import Role, Run, Trial
from reports.evidence import gather
from reports.resampling import feasible_front, losses_of

# A report with the samples of so many blocks takes seconds, and some ten megabytes of report.json.
MAX_BLOCKS_IN_FULL = 20_000
MAX_BLOCKS_IN_DETAIL = 5_000


def shown_in_detail(run: Run) -> frozenset[int]:
    """Return the numbers of the trials whose samples a report of ``run`` is to have.

    All, as long as their measurements have no more than `MAX_BLOCKS_IN_FULL`
    blocks together. Beyond that the references, the finest measurement of all,
    and of the front as many as `MAX_BLOCKS_IN_DETAIL` allows, the cheapest first.
    """
    timed = [trial for trial in run.trials if trial.all_measurements]
    if sum(map(_num_blocks, timed)) <= MAX_BLOCKS_IN_FULL:
        return frozenset(trial.number for trial in timed)
    gathered = gather(run)
    compared = tuple(item for item in gathered.evidence if item.left_out is None)
    on_front = feasible_front(run, compared, losses_of(compared, gathered.objectives))
    front = [item.trial for item, is_member in zip(compared, on_front, strict=True) if is_member]
    finest = max(gathered.evidence, key=lambda item: item.num_kept).trial
    references = (trial for trial in timed if trial.role is not Role.CANDIDATE)
    chosen: set[int] = set()
    left = MAX_BLOCKS_IN_DETAIL
    for trial in (*references, finest, *sorted(front, key=lambda trial: trial.cost.macs)):
        left -= 0 if trial.number in chosen else _num_blocks(trial)
        if left >= 0:
            chosen.add(trial.number)
    return frozenset(chosen)


def _num_blocks(trial: Trial) -> int:
    return sum(each.num_blocks for each in trial.all_measurements)
