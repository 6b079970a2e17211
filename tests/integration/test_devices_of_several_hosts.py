"""One run's devices on several hosts, a process for each, in both databases; training and devices are stand-ins."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from device_lab.errors import DeviceLostError
from device_lab.measurement import ModelFile
from nas import tables
from nas.claims import find_claims
from nas.objectives import latency_ratio
from nas.records import LatencyMode, Run, TrialState
from nas.runs import SearchRequest, load_run
from nas.shared_run import MAX_DEATHS, WorkRole
from nas.store import Store, sqlite_url
from nas.wants import unserved_devices
from tests.fake_parts import SEQUENCE_LENGTH, FormulaEvaluator, Listener, SizeDevice, make_search
from tests.many_processes import at_once, begin, exit_of, until_killed

REQUEST = SearchRequest(
    space="grouped", sequence_length=SEQUENCE_LENGTH, latency=LatencyMode.MEASURED, sampler="random", seed=3
)
NUM_TRIALS = 10
# So much for every model that small networks have a worse ratio there, and large ones a better.
OVERHEAD_NS = 400_000
NOBODY, QUICK, SLOW = frozenset[str](), frozenset({"quick"}), frozenset({"slow"})


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    opened = Store(store_url)
    yield opened
    opened.close()


def nothing(model: ModelFile) -> None:
    pass


def two_devices(*, before_slow: Callable[[ModelFile], None] = nothing) -> list[SizeDevice]:
    return [SizeDevice(name="quick"), SizeDevice(before_slow, name="slow", overhead_ns=OVERHEAD_NS)]


def begin_run(url: str, folder: Path, request: SearchRequest = REQUEST, *, num_trials: int = NUM_TRIALS) -> None:
    """Make a run that has everything to be done still."""
    store = Store(url)
    make_search(store, folder / "begin", request=request, device=two_devices()).run(num_trials, max_minutes=0.0)
    store.close()


def work(number: int, url: str, folder: Path, request: SearchRequest, hosts: Sequence[frozenset[str]]) -> list[str]:
    """Take part as the host of some devices, or train where there are none; return what this process measured."""
    store = Store(url)
    names: list[str] = []
    devices = two_devices(before_slow=lambda model: names.append(model.path.name))
    search = make_search(
        store,
        folder / str(number),
        request=request,
        device=devices,
        role=WorkRole.MEASURE if hosts[number] else WorkRole.TRAIN,
        attached=hosts[number],
    )
    search.run()
    store.close()
    return [device.info.device_id for device in devices if device.num_runs]


def read(url: str) -> tuple[Run, Counter[tuple[str, str, str]], list[str]]:
    """Return the run, how often each network was measured on each device and how precisely, and living claims."""
    store = Store(url)
    try:
        columns = tables.measurements.c
        query = sa.select(columns.device_id, columns.arch_id, columns.precision)
        rows = store.transaction(lambda connection: connection.execute(query).all())
        claims = [each.subject for each in find_claims(store, "") if each.is_live]
        return load_run(store, "run"), Counter((row[0], row[1], row[2]) for row in rows), claims
    finally:
        store.close()


def ratios(run: Run) -> dict[str, float | None]:
    return {trial.architecture.arch_id: latency_ratio(trial) for trial in run.trials if trial.same_as is None}


@pytest.mark.slow
def test_hosts_with_a_device_each_do_together_what_one_with_both_does(store_url: str, tmp_path: Path) -> None:
    alone = sqlite_url(tmp_path / "alone.db")
    lone = Store(alone)
    make_search(lone, tmp_path / "alone", request=REQUEST, device=two_devices()).run(NUM_TRIALS)
    lone.close()
    begin_run(store_url, tmp_path)

    measured_on = at_once(work, 3, store_url, tmp_path, REQUEST, [NOBODY, QUICK, SLOW])

    assert measured_on == [[], ["quick"], ["slow"]]
    run, counts, claims = read(store_url)
    wanted, wanted_counts, _ = read(alone)
    assert ratios(run) == pytest.approx(ratios(wanted))
    assert all(trial.state is TrialState.COMPLETE for trial in run.trials)
    # Each once on each device, and the front finely on both: no more and no less than one host measures.
    assert counts == wanted_counts
    assert set(counts.values()) == {1}
    assert claims == []


@pytest.mark.slow
def test_hosts_that_predict_measure_what_the_front_depends_on_on_both(store_url: str, tmp_path: Path) -> None:
    request = replace(REQUEST, latency=LatencyMode.HYBRID)
    begin_run(store_url, tmp_path, request, num_trials=20)

    measured_on = at_once(work, 4, store_url, tmp_path, request, [NOBODY, QUICK, SLOW, SLOW])

    assert all(isinstance(each, list) for each in measured_on), measured_on
    run, counts, claims = read(store_url)
    assert all(trial.state is TrialState.COMPLETE for trial in run.trials)
    assert len({trial.architecture for trial in run.trials}) == 20
    assert set(counts.values()) == {1}
    # What is measured is measured on both.
    on_quick, on_slow = ({key[1:] for key in counts if key[0] == name} for name in ("quick", "slow"))
    assert on_quick == on_slow
    assert len({arch_id for arch_id, precision in on_quick if precision == "coarse"}) >= 12
    assert claims == []


class Deadly(Listener):
    """Kills the process it listens to once that waits for a device that nobody has."""

    def waiting(self, *, lacking: str | None = None, unserved: Sequence[str] = ()) -> None:
        super().waiting(lacking=lacking, unserved=unserved)
        if unserved:
            os.kill(os.getpid(), signal.SIGKILL)


def measure_and_die(url: str, folder: Path) -> None:
    search = make_search(
        Store(url),
        folder,
        request=REQUEST,
        device=two_devices(),
        role=WorkRole.MEASURE,
        attached=QUICK,
        listener=Deadly(),
    )
    search.run()


@pytest.mark.slow
def test_what_was_measured_by_a_worker_killed_between_two_devices_is_not_measured_again(
    store: Store, store_url: str, tmp_path: Path
) -> None:
    begin_run(store_url, tmp_path)
    trainer = begin(work, 0, store_url, tmp_path, REQUEST, [NOBODY])
    until_killed(measure_and_die, store_url, tmp_path / "killed")
    _, before, _ = read(store_url)
    assert {key[0] for key in before} == {"quick"}
    num_blocks = store.transaction(lambda connection: connection.execute(sa.select(tables.blocks)).all())

    at_once(work, 2, store_url, tmp_path, REQUEST, [QUICK, SLOW])
    assert exit_of(trainer) == 0

    run, counts, claims = read(store_url)
    assert all(trial.state is TrialState.COMPLETE for trial in run.trials)
    assert set(counts.values()) == {1}
    kept = store.transaction(lambda connection: connection.execute(sa.select(tables.blocks)).all())
    assert set(num_blocks) <= set(kept)
    assert claims == []


class Impatient(Listener):
    """Stops the process it listens to once that waits for a device that nobody has, and remembers which."""

    def __init__(self, look: Callable[[], list[str]]) -> None:
        super().__init__()
        self.unserved: list[str] = []
        self.seen: list[str] = []
        self._look = look

    def waiting(self, *, lacking: str | None = None, unserved: Sequence[str] = ()) -> None:
        super().waiting(lacking=lacking, unserved=unserved)
        self.unserved.extend(unserved)
        if unserved:
            self.seen = self._look()
            raise KeyboardInterrupt


def test_a_device_that_nobody_has_is_named_and_its_trials_are_given_back(store: Store, tmp_path: Path) -> None:
    listener = Impatient(lambda: unserved_devices(store, "run"))
    devices = two_devices()

    with pytest.raises(KeyboardInterrupt):
        make_search(store, tmp_path, request=REQUEST, device=devices, attached=QUICK, listener=listener).run(4)
    evaluator, whole = FormulaEvaluator(), two_devices()
    make_search(store, tmp_path, request=REQUEST, device=whole, evaluators=[evaluator]).run(4)

    assert listener.unserved == listener.seen == ["slow"]
    assert unserved_devices(store, "run") == []
    assert devices[1].num_runs == 0
    assert [trial.state for trial in load_run(store, "run").trials] == [TrialState.COMPLETE] * 4
    assert evaluator.scored == []
    # All that is left for the quick one is to time the front finely.
    assert whole[0].num_runs < whole[1].num_runs
    assert [each.subject for each in find_claims(store, "") if each.is_live] == []


def serve_and_die(url: str, folder: Path, deadly: str) -> None:
    """Measure what others want until one network kills the process."""

    def die(model: ModelFile) -> None:
        if deadly in model.path.name:
            os.kill(os.getpid(), signal.SIGKILL)

    devices = two_devices(before_slow=die)
    make_search(Store(url), folder, request=REQUEST, device=devices, role=WorkRole.MEASURE, attached=SLOW).run()


@pytest.mark.slow
def test_what_kills_whoever_measures_it_for_others_is_failed_and_the_rest_is_not(
    store: Store, store_url: str, tmp_path: Path
) -> None:
    seen = FormulaEvaluator()
    make_search(
        Store(sqlite_url(tmp_path / "seen.db")), tmp_path, request=REQUEST, device=two_devices(), evaluators=[seen]
    ).run(4)
    deadly = seen.scored[-1]
    begin_run(store_url, tmp_path, num_trials=4)

    workers = [begin(work, number, store_url, tmp_path, REQUEST, [NOBODY, QUICK]) for number in range(2)]
    # Beside others or by itself, for another process or as its own trial: two deaths of each are the most there may be.
    exits = [exit_of(begin(serve_and_die, store_url, tmp_path / "killed", deadly))]
    while exits[-1] != 0 and len(exits) <= 4 * MAX_DEATHS:
        assert exits[-1] == -signal.SIGKILL
        exits.append(exit_of(begin(serve_and_die, store_url, tmp_path / "killed", deadly)))

    assert exits[-1] == 0
    assert len(exits) > MAX_DEATHS
    assert [exit_of(process) for process in workers] == [0, 0]
    run, counts, _ = read(store_url)
    failed = [trial for trial in run.trials if trial.state is TrialState.FAILED]
    assert [trial.architecture.arch_id for trial in failed] == [deadly]
    # As whoever it was that the network killed last worked on it: for another, or as its own trial.
    assert any(text in str(failed[0].failure) for text in ("slow: ", "processes that worked on it were killed"))
    assert len({trial.architecture for trial in run.trials}) == 4
    assert set(counts.values()) == {1}


@pytest.mark.slow
def test_a_device_that_is_lost_elsewhere_fails_the_trial_by_its_name_and_stops_nobody(
    store: Store, store_url: str, tmp_path: Path
) -> None:
    begin_run(store_url, tmp_path, num_trials=4)

    def be_lost(_: ModelFile) -> None:
        raise DeviceLostError(serial="slow", command="run", seen="end of stream")

    def serve() -> None:
        own = Store(store_url)
        devices = two_devices(before_slow=be_lost)
        make_search(own, tmp_path, request=REQUEST, device=devices, role=WorkRole.MEASURE, attached=SLOW).run()
        own.close()

    def train() -> None:
        own = Store(store_url)
        make_search(own, tmp_path, request=REQUEST, device=two_devices(), role=WorkRole.TRAIN).run()
        own.close()

    threads = [threading.Thread(target=each) for each in (serve, train)]
    for thread in threads:
        thread.start()
    devices = two_devices()
    make_search(store, tmp_path, request=REQUEST, device=devices, role=WorkRole.MEASURE, attached=QUICK).run()
    for thread in threads:
        thread.join()

    trials = load_run(store, "run").trials
    assert {trial.state for trial in trials} == {TrialState.FAILED}
    assert all("slow: " in str(trial.failure) and "quick: " not in str(trial.failure) for trial in trials)
