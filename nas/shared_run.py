"""One process's part in a run that several may work on: what it has claimed, and what others have.

Proposals are made by one process at a time, so that none proposes what another
has. A trial is its process's from its proposal until it is told, or handed over
to be timed. What is scored or timed is claimed besides, while it is: of which
work a process died is counted there.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from typing import Self

from nas.claims import Claim, claim, clock_s, end_leases, find_claims, forget, forget_all, release, renew_all
from nas.errors import StoreError, WorkerLostError
from nas.holders import is_known_dead, new_holder
from nas.store import Store

# A machine that vanished keeps its work for so long; a process that ended on this machine is found out at once.
LEASE_S = 90.0
# Work that so many processes died of is left alone.
MAX_DEATHS = 2
POLL_S = 1.0
MAX_CLOCK_SKEW_S = 30.0
_PROPOSING_POLL_S = 0.05


class WorkRole(StrEnum):
    """What a process does for a run: propose and score, time, or all of it."""

    TRAIN = "train"
    MEASURE = "measure"
    BOTH = "both"


class SharedRun:
    """Claims of one process on one run, renewed in the background for as long as it is entered.

    Args:
        store: What all workers share.
        run_id: Number of the run in the store.
        role: What this process does for it.
        lease_s: How long a claim outlives a process that nobody can see.
    """

    def __init__(self, store: Store, run_id: int, *, role: WorkRole, lease_s: float = LEASE_S) -> None:
        self.role = role
        self._store = store
        self._run_id = run_id
        self._lease_s = lease_s
        self.holder = new_holder()
        self._trials: dict[int, Claim] = {}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="leases", daemon=True)

    def __enter__(self) -> Self:
        self.hold("worker", f"{self.role}/{self.holder}")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        for number in self.own_trials:
            self.end_trial(number)
        forget_all(self._store, self.holder)

    @contextmanager
    def proposing(self) -> Iterator[None]:
        """Keep others from proposing for as long as the block runs; wait for one who does."""
        with self._alone(f"propose/{self._run_id}", poll_s=_PROPOSING_POLL_S):
            yield

    @contextmanager
    def using(self, device_id: str, *, on_wait: Callable[[], None]) -> Iterator[None]:
        """Keep others from timing on a device for as long as the block runs; wait for one who does."""
        with self._alone(f"device/{device_id}", on_wait=on_wait):
            yield

    def own_trial(self, number: int) -> bool:
        """Make a trial this process's, and tell whether it is."""
        held = self._claim(self._trial(number))
        if held is not None:
            self._trials[number] = held
        return held is not None

    def end_trial(self, number: int) -> None:
        """Forget about a trial that was told."""
        held = self._trials.pop(number, None)
        if held is not None:
            forget(self._store, held)

    def hand_over(self, number: int) -> None:
        """Leave a trial to a process that can time it."""
        release(self._store, self._trials.pop(number))

    @property
    def own_trials(self) -> set[int]:
        """Numbers of the trials that are this process's."""
        return set(self._trials)

    def held_trials(self) -> tuple[set[int], set[int]]:
        """Return the numbers of trials that living processes have, and of those handed over."""
        living, handed_over = set(), set()
        prefix = self._trial("")
        for state in find_claims(self._store, prefix):
            number = int(state.subject.removeprefix(prefix))
            if state.holder is None:
                handed_over.add(number)
            elif state.is_live:
                living.add(number)
        return living, handed_over

    def has_company(self, *, of_roles: Collection[WorkRole] = tuple(WorkRole)) -> bool:
        """Tell whether other living processes work on the run, any of some roles."""
        return any(WorkRole(name.partition("/")[0]) in of_roles for name in self.others("worker"))

    @contextmanager
    def settling(self) -> Iterator[None]:
        """Let `is_settled` tell others that this process decides by measuring who goes on, while the block runs."""
        self.hold("settling", self.holder)
        try:
            yield
        finally:
            self.let_go("settling", self.holder)

    def is_settled(self) -> bool:
        """Tell whether no other living process is about to measure what decides who goes on."""
        return not self.others("settling")

    def prefix(self, kind: str) -> str:
        """Return what the subjects of a kind of claims begin with, on this run."""
        return f"{kind}/{self._run_id}/"

    def hold(self, kind: str, name: str) -> Claim | None:
        """Claim something of a kind on this run; ``None`` while another process holds it."""
        return self._claim(self.prefix(kind) + name)

    def let_go(self, kind: str, name: str) -> None:
        """Give back what `hold` gave, for good."""
        forget(self._store, Claim(subject=self.prefix(kind) + name, holder=self.holder, num_deaths=0))

    def others(self, kind: str) -> list[str]:
        """Return the names of what other living processes hold of a kind on this run."""
        prefix = self.prefix(kind)
        states = find_claims(self._store, prefix)
        return [state.subject.removeprefix(prefix) for state in states if state.is_live and state.holder != self.holder]

    def begin(self, work: str) -> Claim | None:
        """Claim a piece of work, such as the scoring of one architecture; ``None`` while another process does it."""
        return self.hold("work", work)

    def end(self, held: Claim | None, *, is_done: bool) -> None:
        """Give a piece of work back: done for good, or tried in vain, which `tried` then tells."""
        if held is None:
            return
        if is_done:
            forget(self._store, held)
        else:
            release(self._store, held)

    def tried(self) -> set[str]:
        """Return the pieces of work that a process gave back undone."""
        prefix = self.prefix("work")
        return {state.subject.removeprefix(prefix) for state in find_claims(self._store, prefix) if not state.holder}

    @contextmanager
    def _alone(
        self, subject: str, *, poll_s: float = POLL_S, on_wait: Callable[[], None] = lambda: None
    ) -> Iterator[None]:
        while (held := self._claim(subject)) is None:
            on_wait()
            time.sleep(poll_s)
        try:
            yield
        finally:
            forget(self._store, held)

    def _claim(self, subject: str) -> Claim | None:
        held = claim(self._store, subject, holder=self.holder, lease_s=self._lease_s)
        if held is None:
            for state in find_claims(self._store, subject):
                if state.subject == subject and state.holder is not None and is_known_dead(state.holder):
                    end_leases(self._store, state.holder)
                    held = claim(self._store, subject, holder=self.holder, lease_s=self._lease_s)
        return held

    def _trial(self, number: int | str) -> str:
        return f"trial/{self._run_id}/{number}"

    def _renew(self) -> None:
        while not self._end.wait(self._lease_s / 6):
            try:
                renew_all(self._store, self.holder, lease_s=self._lease_s)
            except StoreError:
                # What the process itself does next on the store fails as well, and says so.
                continue


def refuse_wrong_clock(store: Store) -> None:
    """Refuse a machine whose clock is not the store's: what it keeps would seem older or newer than it is.

    Raises:
        StoreError: If it is more than `MAX_CLOCK_SKEW_S` off, or the store cannot be read.
    """
    ahead_s = datetime.now(UTC).timestamp() - clock_s(store)
    if abs(ahead_s) > MAX_CLOCK_SKEW_S:
        raise StoreError(
            f"this machine's clock is {abs(ahead_s):.0f} s {'ahead of' if ahead_s > 0 else 'behind'} the store's, "
            f"more than {MAX_CLOCK_SKEW_S:.0f} s; set it by NTP (`timedatectl set-ntp true`)"
        )


def refuse_deadly(held: Claim | None) -> None:
    """Refuse work that kills whoever does it.

    Raises:
        WorkerLostError: If two processes died of it.
    """
    if held is not None and is_deadly(held):
        raise WorkerLostError(num_deaths=held.num_deaths)


def is_deadly(held: Claim | None) -> bool:
    """Tell whether work kills whoever does it: so many processes died of it."""
    return held is not None and held.num_deaths >= MAX_DEATHS
