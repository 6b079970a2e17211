"""The devices of a run that are attached to other machines: asked of whoever has them, and read from the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from device_lab.measurement import Measurement, Precision
from nas.run_latencies import find_architectures
from nas.runs import SearchSettings, reference_architecture
from nas.shared_run import SharedRun
from nas.side_by_side import outcome_on
from nas.store import Store, is_unfinished
from nas.timing import TimingOutcome
from nas.wants import Want, Wants
from search_spaces.architecture import Architecture


class Elsewhere:
    """What a process asks of the devices it does not have, and what others ask of those it has.

    Args:
        store: What all share.
        settings: The run's.
        shared: This process's part in it.
        here: The devices that this process has.
    """

    def __init__(self, store: Store, settings: SearchSettings, *, shared: SharedRun, here: Sequence[str]) -> None:
        self._store = store
        self._settings = settings
        self._reference_id = reference_architecture(settings).arch_id
        self._wants = Wants(store, shared)
        self._here = tuple(here)
        self._all = tuple(device.device_id for device in settings.all_devices)
        self._there = tuple(device_id for device_id in self._all if device_id not in self._here)

    def begin(self) -> None:
        """Let others know what is here, and whether anything may be wanted of them."""
        if len(self._all) > 1:
            self._wants.serve(self._here)
        if self._there:
            self._wants.begin()

    def ask(self, archs: Sequence[Architecture], precision: Precision) -> list[Want]:
        """Ask for what the store lacks of some architectures on the devices that are not here."""
        wants: list[Want] = []
        for device_id in self._there:
            found = self._measured(device_id, archs)
            missing = [arch.arch_id for arch in archs if _best(found.get(arch.arch_id, ()), precision) is None]
            wants += self._wants.ask(device_id, missing, precision=precision.name)
        return wants

    def unanswered(self, wants: Sequence[Want]) -> list[Want]:
        """Return the wants that nobody has answered yet."""
        return self._wants.unanswered(wants)

    def unserved(self, wants: Sequence[Want]) -> list[str]:
        """Return the devices of some wants that nobody measures on."""
        return self._wants.unserved({want.device_id for want in wants}) if wants else []

    def withdraw(self, wants: Sequence[Want]) -> None:
        """Want it no more."""
        for want in self._wants.unanswered(wants):
            self._wants.answer(want)

    def everywhere(
        self, here: Mapping[str, TimingOutcome], archs: Sequence[Architecture], precision: Precision
    ) -> dict[str, TimingOutcome]:
        """Return what came of architectures on all devices: ``here``, by ``arch_id``, and elsewhere as it is stored."""
        if not self._there:
            return dict(here)
        found = {device_id: self._measured(device_id, archs) for device_id in self._there}
        outcomes = {}
        for arch in archs:
            parts = [here[arch.arch_id]]
            for device_id, measured in found.items():
                of_arch = measured.get(arch.arch_id, ())
                best = _best(of_arch, precision) or next(iter(reversed(of_arch)), None)
                parts.append(_absent(device_id) if best is None else outcome_on({f"{device_id}: ": best}))
            outcomes[arch.arch_id] = self._joined(parts)
        return outcomes

    def wanted(self) -> list[Want]:
        """Return what others want of the devices that are here."""
        return self._wants.of_others(self._here) if len(self._all) > 1 else []

    def architectures(self, wants: Sequence[Want]) -> dict[str, Architecture]:
        """Return the architectures of wants by ``arch_id``."""
        return find_architectures(self._store, {want.arch_id for want in wants})

    def answer(self, wants: Sequence[Want]) -> None:
        """Tell others that what they want is in the store, or will not be."""
        for want in wants:
            self._wants.answer(want)

    def end(self) -> None:
        """Want nothing any more."""
        self._wants.end()

    @property
    def is_wanted(self) -> bool:
        """Whether another process may still want what is here, and cannot have it from itself."""
        return bool(self._there) and self._wants.others_may_want()

    def _measured(self, device_id: str, archs: Sequence[Architecture]) -> dict[str, tuple[Measurement, ...]]:
        if self._settings.settings is None:
            return {}
        return self._store.find_measurements(
            device_id=device_id,
            settings=self._settings.settings,
            reference_arch_id=self._reference_id,
            arch_ids=[arch.arch_id for arch in archs],
        )

    def _joined(self, parts: Sequence[TimingOutcome]) -> TimingOutcome:
        """Return what came of one architecture on every device, given in parts, in the order of the devices."""
        measurements = [each for part in parts for each in part.measurements]
        failed = [part for part in parts if part.failure is not None]
        return TimingOutcome(
            measurements=tuple(sorted(measurements, key=lambda each: self._all.index(each.device.device_id))),
            failure="; ".join(str(part.failure) for part in failed) or None,
            is_device_lost=bool(failed) and all(part.is_device_lost for part in failed),
        )


def _best(measurements: Sequence[Measurement], precision: Precision) -> Measurement | None:
    """Return the finest measurement that is done and precise enough; see `nas.timing.Timer`."""
    fine = [each for each in measurements if each.precision.goal <= precision.goal and not is_unfinished(each)]
    return fine[-1] if fine else None


def _absent(device_id: str) -> TimingOutcome:
    failure = f"{device_id}: the worker it is attached to could not measure there, and says why"
    return TimingOutcome(measurements=(), failure=failure, is_device_lost=True)
