"""Latencies of architectures on all devices of a run at once, a thread for each device."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait

from device_lab.errors import DeviceLabError, DeviceLostError
from device_lab.measurement import DeviceInfo, Measurement, Precision, Reason, RunSettings
from device_lab.protocol import Progress
from device_lab.statistics import MIN_KEPT_BLOCKS, kept_blocks
from nas.errors import SettingsError
from nas.timing import Timer, TimingOutcome
from search_spaces.architecture import Architecture

Outcomes = dict[str, Measurement | DeviceLabError]


class SideBySide:
    """Times architectures on one device or on several at once. See `nas.timing.Timing`.

    Args:
        timers: One for each device.
        on_stop: Called where one device ends a session for all, so that the others need not end their round.
        is_part: Whether the run has other devices, too, so that failures have to say which is to blame.

    Raises:
        SettingsError: If the devices have different versions of the runtime: no number is made of those.
    """

    def __init__(
        self, timers: Sequence[Timer], *, on_stop: Callable[[], None] = lambda: None, is_part: bool = False
    ) -> None:
        _require_one_bench(timers)
        self._is_named = is_part or len(timers) > 1
        self._timers = tuple(timers)
        self._on_stop = on_stop

    @property
    def devices(self) -> tuple[DeviceInfo, ...]:
        """What it measures on."""
        return tuple(timer.device.info for timer in self._timers)

    @property
    def settings(self) -> RunSettings:
        """What the latencies of all devices belong to."""
        return self._timers[0].settings

    @property
    def device_ids(self) -> tuple[str, ...]:
        """The devices. See `nas.timing.Timing.device_ids`."""
        return tuple(device.device_id for device in self.devices)

    def measure(
        self,
        archs: Sequence[Architecture],
        *,
        precision: Precision,
        budget_s: float | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> dict[str, TimingOutcome]:
        """Measure on every device what it lacks. See `nas.timing.Timing.measure`.

        A device that fails or vanishes leaves the others alone.

        Raises:
            StoreError: If the store cannot be read or written.
            OSError: If a model file cannot be written.
            KeyboardInterrupt: Passed on after every device has ended what it did.
        """
        if len(self._timers) == 1:
            (timer,) = self._timers
            everywhere = [timer.measure(archs, precision=precision, budget_s=budget_s, on_progress=on_progress)]
        else:
            everywhere = self._at_once(archs, precision, budget_s, on_progress)
        names = [f"{device_id}: " if self._is_named else "" for device_id in self.device_ids]
        return {
            arch.arch_id: outcome_on({name: each[arch.arch_id] for name, each in zip(names, everywhere, strict=True)})
            for arch in archs
        }

    def _at_once(
        self,
        archs: Sequence[Architecture],
        precision: Precision,
        budget_s: float | None,
        on_progress: Callable[[Progress], None] | None,
    ) -> list[Outcomes]:
        is_stopped = threading.Event()
        one_at_a_time = threading.Lock()

        def tell(progress: Progress) -> None:
            if is_stopped.is_set():
                raise InterruptedError("the session was ended on another device")
            if on_progress is not None:
                with one_at_a_time:
                    on_progress(progress)

        with ThreadPoolExecutor(max_workers=len(self._timers)) as executor:
            futures = [
                executor.submit(timer.measure, archs, precision=precision, budget_s=budget_s, on_progress=tell)
                for timer in self._timers
            ]
            try:
                return _results(futures)
            except BaseException:
                is_stopped.set()
                self._on_stop()
                raise


def _require_one_bench(timers: Sequence[Timer]) -> None:
    first = timers[0]
    for timer in timers[1:]:
        if timer.settings != first.settings:
            shown = " and ".join(
                f"{each.device.info.device_id} has {each.settings.runtime} {each.settings.runtime_version}"
                for each in (first, timer)
            )
            raise SettingsError(f"{shown}: one run times all its devices with the same; bring them to one version")


def _results(futures: Sequence[Future[Outcomes]]) -> list[Outcomes]:
    # The first that ends badly is heard at once, wherever it stands.
    for done in wait(futures, return_when=FIRST_EXCEPTION).done:
        done.result()
    return [future.result() for future in futures]


def outcome_on(outcomes: Mapping[str, Measurement | DeviceLabError]) -> TimingOutcome:
    """Return what came of one architecture on some devices, by what each is called at the head of a failure."""
    measurements, reasons, losses = [], [], []
    for name, outcome in outcomes.items():
        if isinstance(outcome, Measurement) and len(kept_blocks(outcome.blocks)) >= MIN_KEPT_BLOCKS:
            measurements.append(outcome)
            continue
        if isinstance(outcome, Measurement):
            seen = f"the measurement ended with {outcome.reason} after {len(outcome.blocks)} blocks"
            is_lost = outcome.reason is Reason.DISCONNECTED
        else:
            seen, is_lost = str(outcome), isinstance(outcome, DeviceLostError)
        reasons.append(seen if seen.startswith(name) else f"{name}{seen}")
        losses.append(is_lost)
    return TimingOutcome(
        measurements=tuple(measurements),
        failure="; ".join(reasons) or None,
        is_device_lost=bool(losses) and all(losses),
    )
