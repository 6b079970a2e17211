"""What the processes of a run ask of each other: to measure on devices that are attached to another machine.

A want is a claim of the process that waits for it, so it ends when that does.
Whoever has the device measures, or finds that it cannot, and takes the claim
away: that is the answer. What was measured is in the store.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from nas.claims import Claim, find_claims, forget
from nas.shared_run import SharedRun
from nas.store import Store

_WANTED, _SERVED, _MAY_WANT = "wanted", "served", "may-want"


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """One architecture to be measured on one device, as precisely as the level called ``precision``."""

    device_id: str
    precision: str
    arch_id: str
    claim: Claim


class Wants:
    """What one process wants of others on a run, and they of it."""

    def __init__(self, store: Store, shared: SharedRun) -> None:
        self._store = store
        self._shared = shared

    def serve(self, device_ids: Sequence[str]) -> None:
        """Let others know, until the process ends, on which devices it measures what they want."""
        for device_id in device_ids:
            self._shared.hold(_SERVED, f"{device_id}/{self._shared.holder}")

    def ask(self, device_id: str, arch_ids: Sequence[str], *, precision: str) -> list[Want]:
        """Want architectures measured on a device."""
        held = {
            arch_id: self._shared.hold(_WANTED, f"{device_id}/{precision}/{arch_id}/{self._shared.holder}")
            for arch_id in arch_ids
        }
        return [
            Want(device_id=device_id, precision=precision, arch_id=arch_id, claim=own)
            for arch_id, own in held.items()
            if own is not None
        ]

    def unanswered(self, wants: Sequence[Want]) -> list[Want]:
        """Return those that nobody has answered yet."""
        if not wants:
            return []
        left = {state.subject for state in find_claims(self._store, self._shared.prefix(_WANTED))}
        return [want for want in wants if want.claim.subject in left]

    def answer(self, want: Want) -> None:
        """Tell who waits for a want that no more comes of it than the store has; or withdraw an own one."""
        forget(self._store, want.claim)

    def of_others(self, device_ids: Collection[str]) -> list[Want]:
        """Return what other living processes want of some devices."""
        wants = []
        prefix = self._shared.prefix(_WANTED)
        for state in find_claims(self._store, prefix):
            device_id, precision, arch_id, _ = state.subject.removeprefix(prefix).split("/", maxsplit=3)
            if state.holder in (None, self._shared.holder) or not state.is_live or device_id not in device_ids:
                continue
            own = Claim(subject=state.subject, holder=state.holder or "", num_deaths=state.num_deaths)
            wants.append(Want(device_id=device_id, precision=precision, arch_id=arch_id, claim=own))
        return wants

    def unserved(self, device_ids: Collection[str]) -> list[str]:
        """Return those devices on which no other living process measures what is wanted."""
        served = {name.partition("/")[0] for name in self._shared.others(_SERVED)}
        return sorted(set(device_ids) - served)

    def begin(self) -> None:
        """Let `others_may_want` tell others that this process may still want something, until `end`."""
        self._shared.hold(_MAY_WANT, self._shared.holder)

    def end(self) -> None:
        """Want nothing any more."""
        self._shared.let_go(_MAY_WANT, self._shared.holder)

    def others_may_want(self) -> bool:
        """Tell whether another living process may still want something."""
        return bool(self._shared.others(_MAY_WANT))


def unserved_devices(store: Store, name: str) -> list[str]:
    """Return the devices that processes of a run wait for, and on which nobody measures.

    Raises:
        StoreError: If the store cannot be read.
    """
    with store.errors():
        run_id = store.optuna_storage.get_study_id_from_name(name)
    wanted, served = (
        {state.subject.removeprefix(prefix).partition("/")[0] for state in find_claims(store, prefix) if state.is_live}
        for prefix in (f"{_WANTED}/{run_id}/", f"{_SERVED}/{run_id}/")
    )
    return sorted(wanted - served)
