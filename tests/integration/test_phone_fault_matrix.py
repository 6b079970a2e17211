"""Every fault at every stage of a session, for every runtime: no block lost or counted twice, nothing left behind."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import cast

import pytest

from device_lab.adb import LAB_FOLDER, AdbDevice
from device_lab.adb_command import CommandResult
from device_lab.devices import find_phone
from device_lab.errors import DeviceLabError
from device_lab.held_phone import HeldPhone, hold_phone
from device_lab.measurement import Block, Measurement, ModelFile, Precision, Reason
from device_lab.phone import PhoneDevice
from device_lab.runner.bundle import Bundle
from device_lab.statistics import decide
from device_lab.virtual_phone.faults import Fault, Kind, Stage
from device_lab.virtual_phone.launch import VirtualPhone, start_virtual_phone
from nas.store import Store, sqlite_url
from nas.timed_models import TimedModels
from nas.timing import Timer
from search_spaces.architecture import Architecture
from search_spaces.reference import dense_encoder, squeezebert_rule
from tests.runner_bundles import require_bundle, tiny_program
from tests.virtual_phones import is_left_running, open_device

pytestmark = [pytest.mark.slow, pytest.mark.torch]

RUNTIMES = ("onnxruntime", "executorch")
ANY_TIME = (Kind.CLOSE, Kind.RESET, Kind.STALL, Kind.CORRUPT, Kind.REFUSE)
KINDS: dict[str, tuple[Kind, ...]] = {
    "connect": (Kind.CLOSE, Kind.RESET, Kind.STALL, Kind.CORRUPT),
    "push": (*ANY_TIME, Kind.FULL),
    "warm-up": ANY_TIME,
    "block": ANY_TIME,
    "pull": ANY_TIME,
    "restore": ANY_TIME,
}
DENSE = dense_encoder(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64)
RULE = squeezebert_rule(DENSE)
# What happens to the phone itself, between two commands, and how it is undone.
HAPPENINGS: dict[str, tuple[Callable[[VirtualPhone], None], Callable[[VirtualPhone], None]]] = {
    "reboot": (lambda phone: phone.reboot(), lambda phone: None),
    "heat": (
        lambda phone: phone.ramp_heat(status=3, start_celsius=31.0, end_celsius=55.0, duration_s=0.5),
        lambda phone: phone.heat(status=0, celsius=31.0),
    ),
    "clock": (lambda phone: phone.jump_clock(offset_s=-86_400), lambda phone: phone.jump_clock(offset_s=0)),
}
# Three blocks, however far apart: what is looked at here is not how well anything is timed.
QUICK = Precision(name="quick", goal=10.0, looks=(3,), min_timed_s=0.0, min_runs=3, max_warmup_s=0.0)
RUNNER_MARK, PUT_MARK = "--min-runs", "put a model"
# The mark of a command, and which with that mark is struck. The fourth process is in the second block.
WHEN = {
    "connect": ("", 0),
    "push": (PUT_MARK, 1),
    "warm-up": (RUNNER_MARK, 1),
    "block": (RUNNER_MARK, 4),
    "pull": ("sha256sum /data", 1),
    "restore": (" release ", 1),
}
AT_ONCE = (Kind.REFUSE, Kind.FULL)
# In the middle of the handshake or the file; in a command when its script has arrived and it runs.
AFTER_BYTES = {"connect": 30, "push": 2000, "warm-up": 70, "block": 70, "pull": 2000, "restore": 70}


@pytest.fixture(scope="module")
def phone() -> Iterator[VirtualPhone]:
    with start_virtual_phone() as running:
        yield running


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("device_lab.adb._BACKOFF_S", (0.01, 0.02))
    monkeypatch.setattr("device_lab.adb._GRACE_S", 0.3)
    monkeypatch.setattr("device_lab.devices._CONNECT_TIMEOUT_S", 1.0)
    monkeypatch.setattr("device_lab.phone_scripts._TIMEOUT_S", 2.0)


class OneProgram:
    """Stands in for `TimedModels` where nothing can be exported: every architecture is the stored program."""

    sequence_length = tiny_program().sequence_length

    def export(self, arch: Architecture) -> ModelFile:
        return tiny_program()


class RecordingStore(Store):
    """A store that remembers which blocks it was given."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.saved: list[Block] = []

    def save_block(self, measurement_id: int, block: Block) -> None:
        super().save_block(measurement_id, block)
        self.saved.append(block)


class FaultyRuns:
    """Orders a fault when a session has got as far as its stage, once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, phone: VirtualPhone) -> None:
        self._phone = phone
        self._order: Callable[[str], None] = lambda command: None
        run, put = AdbDevice.run, PhoneDevice._put

        def faulty_run(adb: AdbDevice, command: str, *, timeout_s: float, retry: bool = False) -> CommandResult:
            self._order(command)
            # A stalled runner is waited for as long as it may take.
            limit_s = min(timeout_s, 3.0) if RUNNER_MARK in command else timeout_s
            return run(adb, command, timeout_s=limit_s, retry=retry)

        def faulty_put(device: PhoneDevice, model: ModelFile) -> PurePosixPath:
            self._order(PUT_MARK)
            return put(device, model)

        monkeypatch.setattr(AdbDevice, "run", faulty_run)
        monkeypatch.setattr(PhoneDevice, "_put", faulty_put)

    def arm(self, stage: str, kind: Kind) -> None:
        """Have ``kind`` strike the next session in ``stage``."""
        at = {"connect": Stage.CONNECT, "push": Stage.PUSH, "pull": Stage.PULL}.get(stage, Stage.SHELL)
        fault = Fault(kind=kind, stage=at, after_bytes=0 if kind in AT_ONCE else AFTER_BYTES[stage])
        self.arm_with(stage, lambda: self._phone.inject(fault))

    def arm_with(self, stage: str, strike: Callable[[], None]) -> None:
        """Have ``strike`` called when the next session has got to ``stage``; at once for what begins with it."""
        mark, occasion = WHEN[stage]
        occasions = itertools.count(1)

        def order(command: str) -> None:
            if mark in command and next(occasions) == occasion:
                strike()

        self._order = order
        if not mark:
            self._order = lambda command: None
            strike()

    def disarm(self) -> None:
        """Forget what did not strike."""
        self._order = lambda command: None
        self._phone.clear_faults()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What all cells of one runtime share."""

    phone: VirtualPhone
    bundle: Bundle
    models: TimedModels
    folder: Path

    def session(self, store: Store) -> tuple[str, Measurement | None]:
        """Measure and pull a file, from finding the phone to giving it back; an error is told, not raised."""
        outcome, told = None, ""
        try:
            found = find_phone(self.phone.address, keys=())
            assert found.endpoint is not None
            attached = replace(found, endpoint=replace(found.endpoint, silence_s=1.0))
            with hold_phone(attached, announce=lambda line: None) as held:
                timer = Timer(
                    store=store,
                    device=PhoneDevice(held, self.bundle, num_threads=1),
                    num_threads=1,
                    reference=RULE,
                    models=self.models,
                    seed=0,
                )
                result = timer.measure([DENSE], precision=QUICK)[DENSE.arch_id]
                outcome = result if isinstance(result, Measurement) else None
                told = outcome.reason.value if outcome else type(result).__name__
                if outcome is not None and outcome.reason is not Reason.DISCONNECTED:
                    self._pull(held)
        except DeviceLabError as error:
            told = f"{told} {type(error).__name__}".strip()
        return told, outcome

    def _pull(self, held: HeldPhone) -> None:
        model = self.models.export(DENSE)
        copy = self.folder / "pulled"
        copy.unlink(missing_ok=True)
        held.adb.pull(LAB_FOLDER / "cache" / model.sha256, copy)
        assert copy.read_bytes() == model.path.read_bytes()
        assert [path.name for path in self.folder.iterdir() if ".part-" in path.name] == []

    def remove_models(self) -> None:
        """Have every model pushed again; the bundle stays."""
        with open_device(self.phone, silence_s=10.0) as device:
            device.run(f"rm -rf {LAB_FOLDER}/cache {LAB_FOLDER}/models", timeout_s=10)

    def require_order(self) -> None:
        """Nothing half-written under any name, no process left, every copy what its name says."""
        assert not is_left_running(self.phone, RUNNER_MARK)
        with open_device(self.phone, silence_s=10.0) as device:
            found = device.run(f"cd {LAB_FOLDER}/cache && sha256sum * && ls {LAB_FOLDER}/bundles", timeout_s=20).text
        *copies, bundle = found.splitlines()
        assert [line for line in copies if line.split()[0] != line.split()[1]] == []
        assert bundle == self.bundle.sha256


@pytest.fixture(params=RUNTIMES)
def bench(request: pytest.FixtureRequest, phone: VirtualPhone, tmp_path: Path) -> Bench:
    assert request.config.cache is not None
    folder = Path(request.config.cache.mkdir("bundles"))
    bundle = require_bundle(request.param, abi="x86_64", cache_folder=folder)
    exported = TimedModels(tmp_path / "models", runtime=request.param, sequence_length=8, num_labels=2)
    models = exported if request.param == "onnxruntime" else cast("TimedModels", OneProgram())
    (tmp_path / "pulled").mkdir()
    with open_device(phone, silence_s=10.0) as device:
        device.run(f"rm -rf {LAB_FOLDER}", timeout_s=10)
    return Bench(phone=phone, bundle=bundle, models=models, folder=tmp_path / "pulled")


def show(title: str, cells: dict[tuple[str, str], str], capsys: pytest.CaptureFixture[str]) -> None:
    lines = [f"\n{title}: blocks kept by the session with the fault, and how it ended"]
    lines += [f"  {stage:8} {kind:8} {told}" for (stage, kind), told in cells.items()]
    with capsys.disabled():
        sys.stdout.write("\n".join(lines) + "\n")


def test_no_fault_at_any_stage_loses_or_doubles_a_block(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    faults = FaultyRuns(monkeypatch, bench.phone)
    cells: dict[tuple[str, str], str] = {}
    for stage, kinds in KINDS.items():
        for kind in kinds:
            store = RecordingStore(sqlite_url(tmp_path / f"{stage}-{kind}.db"))
            cells[stage, kind] = _cell(bench, faults, store, stage=stage, kind=kind)
            store.close()
    show(bench.bundle.runtime, cells, capsys)


def test_a_reboot_heat_or_another_clock_at_any_stage_loses_or_doubles_no_block(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    faults = FaultyRuns(monkeypatch, bench.phone)
    cells: dict[tuple[str, str], str] = {}
    for stage, (name, (strike, undo)) in itertools.product(WHEN, HAPPENINGS.items()):
        store = RecordingStore(sqlite_url(tmp_path / f"{stage}-{name}.db"))
        if stage == "push":
            bench.remove_models()
        faults.arm_with(stage, partial(strike, bench.phone))
        told, _ = bench.session(store)
        faults.disarm()
        undo(bench.phone)
        kept = _finish(bench, store, where=f"{name} at {stage}", told=told)
        # Other work on this machine may spoil a block; neither heat nor a clock may end a session.
        assert name == "reboot" or told in ("goal_met", "noisy_reference"), f"{name} at {stage}: {told}"
        cells[stage, name] = f"{len(kept)} {told}"
        store.close()
    show(bench.bundle.runtime, cells, capsys)


def _cell(bench: Bench, faults: FaultyRuns, store: RecordingStore, *, stage: str, kind: Kind) -> str:
    where = f"{kind} at {stage}"
    if stage == "push":
        bench.remove_models()
    faults.arm(stage, kind)
    told, _ = bench.session(store)
    faults.disarm()
    kept = _finish(bench, store, where=where, told=told)
    if stage == "block":
        assert kept, f"{where}: {told}"
    assert kind is not Kind.FULL or told == "DeviceFullError", f"{where}: {told}"
    assert stage != "connect" or told == "DeviceUnreachableError", f"{where}: {told}"
    return f"{len(kept)} {told}"


def _finish(bench: Bench, store: RecordingStore, *, where: str, told: str) -> tuple[Block, ...]:
    """Measure again, hold everything that is kept against it, and return the blocks of the session before."""
    kept = tuple(store.saved)
    told_again, whole = bench.session(store)

    assert whole is not None, f"{where}: {told}, then {told_again}"
    assert decide(whole.blocks, precision=QUICK) is not None, where
    assert whole.blocks[: len(kept)] == kept, where
    assert list(whole.blocks) == store.saved, where
    assert [block.index for block in whole.blocks] == list(range(len(whole.blocks))), where
    assert len({block.candidate.run_id for block in whole.blocks}) == len(whole.blocks), where
    bench.require_order()
    return kept
