"""Who works on a run, and on what, as the claims in its store tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nas.claims import ClaimState, find_claims
from nas.shared_run import LEASE_S, WorkRole
from nas.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class RunWorker:
    """One process that works on a run, or was lost while it did.

    ``does`` are what it works on at this moment: what is done, a fidelity, ``score``, ``time``, ``alone`` (timed by
    itself) or ``serve`` (timed for another worker), and the ``arch_id``; ``device_ids`` what it measures on,
    ``num_trials`` how many trials are its own. ``silent_s`` is how long it has not been heard of.
    """

    holder: str
    role: WorkRole
    is_alive: bool
    silent_s: float
    does: tuple[tuple[str, str], ...]
    device_ids: tuple[str, ...]
    num_trials: int


def find_workers(store: Store, name: str) -> list[RunWorker]:
    """Return the workers of a run; those that were lost as long as nobody has taken up their work.

    Raises:
        StoreError: If the store cannot be read.
    """
    with store.errors():
        run_id = store.optuna_storage.get_study_id_from_name(name)
    prefix = f"worker/{run_id}/"
    workers = [state for state in find_claims(store, prefix) if state.holder is not None]
    work = _by_holder(find_claims(store, f"work/{run_id}/"))
    trials = _by_holder(find_claims(store, f"trial/{run_id}/"))
    devices = _by_holder(find_claims(store, "device/"))
    found = [
        RunWorker(
            holder=state.holder or "",
            role=WorkRole(state.subject.removeprefix(prefix).partition("/")[0]),
            is_alive=state.is_live,
            silent_s=LEASE_S - state.left_s,
            does=tuple(_work(subject) for subject in work.get(state.holder, ())),
            device_ids=tuple(subject.partition("/")[2] for subject in devices.get(state.holder, ())),
            num_trials=len(trials.get(state.holder, ())),
        )
        for state in workers
    ]
    return [worker for worker in found if worker.is_alive or worker.does or worker.device_ids or worker.num_trials]


def _by_holder(states: Sequence[ClaimState]) -> dict[str | None, list[str]]:
    found: dict[str | None, list[str]] = {}
    for state in states:
        found.setdefault(state.holder, []).append(state.subject)
    return found


def _work(subject: str) -> tuple[str, str]:
    _, _, kind, arch_id = subject.split("/")
    return kind, arch_id
