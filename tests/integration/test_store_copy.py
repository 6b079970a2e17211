"""Copies between SQLite and PostgreSQL: whole, verified, repeatable, and never over something else."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
import sqlalchemy as sa

from device_lab.qualification import Qualification
from nas import tables
from nas.errors import StoreError
from nas.profiles import find_profiles, save_profile
from nas.qualifications import find_qualification, save_qualification
from nas.records import LatencyMode, ModelProfile, OperatorCost
from nas.runs import SearchRequest, load_run
from nas.store import Store, sqlite_url
from nas.store_copy import CopiedKind, copy_store
from tests.fake_parts import SEQUENCE_LENGTH, make_search
from tests.many_processes import until_killed
from tests.postgresql_server import PostgresqlServer
from tests.store_contents import SCORE, SETTINGS, blocks, measurement

REQUEST = SearchRequest(space="grouped", sequence_length=SEQUENCE_LENGTH, latency=LatencyMode.MEASURED)
CERTIFICATE = Qualification(baseline_runs=(blocks(1)[0].candidate,), measurement=measurement())
PROFILE = ModelProfile(
    device=measurement().device,
    settings=SETTINGS,
    taken_at="now",
    num_runs=3,
    num_processes=1,
    pocketbert_version="0",
    operators=(OperatorCost(kind="Conv", position="query", num_calls=2.0, time_ns=7.5),),
)


@pytest.fixture(params=["to postgresql", "to sqlite"])
def places(request: pytest.FixtureRequest, tmp_path: Path, postgresql_server: PostgresqlServer) -> tuple[str, str]:
    """The URLs of two stores that do not exist yet, in two databases."""
    urls = (sqlite_url(tmp_path / "store.db"), postgresql_server.new_database())
    return urls if request.param == "to postgresql" else (urls[1], urls[0])


@pytest.fixture
def source(places: tuple[str, str]) -> Iterator[Store]:
    store = Store(places[0])
    store.save_score(SCORE, settings_id="settings", arch_id="arch")
    keep_measurement(store, "arch", 3)
    save_qualification(store, CERTIFICATE, settings=SETTINGS, reference_arch_id="rule")
    save_profile(store, PROFILE, arch_id="arch")
    add_study_with_everything(store)
    yield store
    store.close()


@pytest.fixture
def target(places: tuple[str, str]) -> Iterator[Store]:
    """A store in which something is already, so that the numbers of rows are others."""
    store = Store(places[1])
    study = optuna.create_study(storage=store.optuna_storage, study_name="before")
    for _ in range(3):
        study.add_trial(optuna.create_trial(value=1.0))
    store.save_score(SCORE, settings_id="before", arch_id="arch")
    store.begin_measurement(
        device_id="other", settings=SETTINGS, precision="coarse", arch_id="arch", reference_arch_id="rule"
    )
    yield store
    store.close()


def keep_measurement(store: Store, arch_id: str, count: int) -> None:
    measurement_id, _ = store.begin_measurement(
        device_id="phone", settings=SETTINGS, precision="coarse", arch_id=arch_id, reference_arch_id="rule"
    )
    for block in blocks(count):
        store.save_block(measurement_id, block)
    store.finish_measurement(measurement_id, measurement(count))


def add_study_with_everything(store: Store) -> None:
    """A study with each thing Optuna can keep, and generations of a genetic sampler."""
    sampler = optuna.samplers.NSGAIISampler(population_size=3, seed=5)
    study = optuna.create_study(
        storage=store.optuna_storage, study_name="all", directions=["minimize", "maximize"], sampler=sampler
    )
    study.set_user_attr("note", {"text": "\u00fcber \U0001f600", "numbers": [1, 2.5, None]})

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        trial.suggest_categorical("b", ["x", "y"])
        first = trial.suggest_float("a", 1e-9, 1.0, log=True)
        trial.set_user_attr("more", [trial.number])
        return first, float(trial.suggest_int("c", 1, 9, step=2))

    study.optimize(objective, n_trials=8)
    study.enqueue_trial({"a": 0.5})
    study.tell(study.ask(), state=optuna.trial.TrialState.FAIL)
    running = study.ask()
    running.suggest_float("a", 1e-9, 1.0, log=True)
    store.optuna_storage.record_heartbeat(running._trial_id)
    study.add_trial(optuna.create_trial(values=[float("inf"), float("-inf")]))
    pruned = optuna.create_trial(
        state=optuna.trial.TrialState.PRUNED, intermediate_values={1: 0.1, 2: float("nan"), 7: float("inf")}
    )
    study.add_trial(pruned)
    study.enqueue_trial({"a": 0.25})


def copy(places: tuple[str, str]) -> dict[str, CopiedKind]:
    copied = copy_store(*places, on_progress=lambda name, done, total: None)
    assert all(kind.from_sha256 == kind.to_sha256 for kind in copied)
    return {kind.name: kind for kind in copied}


def trials_without_ids(store: Store, name: str) -> list[str]:
    """The trials of a study as Optuna itself reads them."""
    trials = optuna.load_study(study_name=name, storage=store.optuna_storage).get_trials()
    return [repr({key: value for key, value in vars(trial).items() if key != "_trial_id"}) for trial in trials]


@pytest.mark.slow
def test_a_copy_has_everything_and_a_run_goes_on_in_it(
    source: Store, target: Store, places: tuple[str, str], tmp_path: Path
) -> None:
    make_search(source, tmp_path, run="found", request=REQUEST).run(3)

    copied = copy(places)

    # By other code than the copy's: Optuna's own, and that of the commands.
    assert sorted(target.run_names()) == ["all", "before", "found"]
    for name in ("all", "found"):
        here, there = (optuna.load_study(study_name=name, storage=each.optuna_storage) for each in (source, target))
        assert there.directions == here.directions
        assert there.user_attrs == here.user_attrs
        assert trials_without_ids(target, name) == trials_without_ids(source, name)
    assert load_run(target, "found") == load_run(source, "found")
    found = target.find_measurements(device_id="phone", settings=SETTINGS, reference_arch_id="rule")
    assert found == {"arch": (measurement(),)}
    certificate = find_qualification(target, device_id="phone", settings=SETTINGS, reference_arch_id="rule")
    assert certificate == CERTIFICATE
    assert find_profiles(target, device_id="phone", settings=SETTINGS) == {"arch": PROFILE}
    assert target.find_score("settings", "arch") == target.find_score("before", "arch") == SCORE
    assert (copied["runs"].num_records, copied["runs"].num_parts) == (2, 3 + len(trials_without_ids(source, "all")))
    assert copied["measurements"].num_records == count_rows(source, tables.measurements)
    assert copied["measurements"].num_parts == count_rows(source, tables.blocks)
    assert all(kind.num_copied == kind.num_records for kind in copied.values())
    for store in (source, target):
        make_search(store, tmp_path, run="found", request=REQUEST).run(6)
    assert [trial.architecture for trial in load_run(target, "found").trials] == [
        trial.architecture for trial in load_run(source, "found").trials
    ]


@pytest.mark.slow
def test_heartbeats_and_generations_of_a_genetic_sampler_are_kept(
    source: Store, target: Store, places: tuple[str, str]
) -> None:
    copy(places)

    parents = [generations(source, "all"), generations(target, "all")]
    assert parents[0] == parents[1]
    assert parents[0]
    for store in (source, target):
        assert count_rows(store, sa.table("trial_heartbeats")) == 1


def generations(store: Store, name: str) -> dict[str, list[int]]:
    """The trials a genetic sampler keeps as parents, by generation, as numbers of trials."""
    study = optuna.load_study(study_name=name, storage=store.optuna_storage)
    numbers = {trial._trial_id: trial.number for trial in study.get_trials()}
    attributes = store.optuna_storage.get_study_system_attrs(study._study_id)
    return {key: [numbers[each] for each in value] for key, value in attributes.items() if ":parent:" in key}


@pytest.mark.slow
def test_a_copy_is_repeated_and_brought_back_without_harm(
    source: Store, places: tuple[str, str], tmp_path: Path
) -> None:
    first, second = copy(places), copy(places)
    back = copy((places[1], f"sqlite:///{tmp_path}/back.db"))

    assert {kind.num_copied for kind in second.values()} == {0}
    sums = [{name: kind.to_sha256 for name, kind in copied.items()} for copied in (first, second, back)]
    assert sums[0] == sums[1] == sums[2]


@pytest.mark.slow
@pytest.mark.parametrize(("num_pieces", "num_runs"), [(1, 0), (6, 1)])
def test_a_copy_that_was_killed_goes_on(source: Store, places: tuple[str, str], num_pieces: int, num_runs: int) -> None:
    optuna.create_study(storage=source.optuna_storage, study_name="last")
    source.optuna_storage.engine.dispose()
    until_killed(copy_and_die, places, num_pieces)
    stopped = Store(places[1])
    names = stopped.run_names()
    stopped.close()
    # Runs come last, so that none is there without its measurements.
    assert len(names) == num_runs

    copied = copy(places)

    assert copied["process runs"].num_copied == 0
    assert sum(kind.num_copied for kind in copied.values()) > 0
    whole = Store(places[1])
    assert trials_without_ids(whole, "all") == trials_without_ids(source, "all")
    whole.close()


def copy_and_die(places: tuple[str, str], num_pieces: int) -> None:
    told: list[str] = []

    def die(name: str, done: int, total: int) -> None:
        told.append(name)
        if len(told) == num_pieces:
            os.kill(os.getpid(), signal.SIGKILL)

    copy_store(*places, on_progress=die)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["runs", "scores", "measurements", "process runs"])
def test_other_content_is_never_written_over(source: Store, target: Store, places: tuple[str, str], what: str) -> None:
    if what == "runs":
        optuna.create_study(storage=target.optuna_storage, study_name="all")
    elif what == "scores":
        target.save_score(replace(SCORE, num_examples=8), settings_id="settings", arch_id="arch")
    else:
        copy(places)
        table, column = (
            (tables.measurements, "arch_id") if what == "measurements" else (tables.process_runs, "document")
        )
        target.transaction(lambda connection: connection.execute(sa.update(table).values({column: "{}"})))
    before = {table.name: count_rows(target, table) for table in tables.METADATA.sorted_tables}

    with pytest.raises(StoreError, match=f"holds other content under {what} .*nothing was copied"):
        copy(places)

    assert {table.name: count_rows(target, table) for table in tables.METADATA.sorted_tables} == before


@pytest.mark.slow
def test_a_score_that_only_took_another_time_is_the_same(source: Store, target: Store, places: tuple[str, str]) -> None:
    target.save_score(replace(SCORE, duration_s=99.0), settings_id="settings", arch_id="arch")

    assert copy(places)["scores"].num_copied == count_rows(source, tables.scores) - 1
    found = target.find_score("settings", "arch")
    assert found is not None
    assert found.duration_s == 99.0


def test_the_newest_certificate_stays_the_newest_wherever_it_is_copied(tmp_path: Path) -> None:
    urls = [sqlite_url(tmp_path / f"{name}.db") for name in ("older", "newer", "both")]
    certificates = [replace(CERTIFICATE, baseline_runs=(run.candidate,)) for run in blocks(6)]
    keep_certificates(urls[0], certificates[:3], made_at="2026-01-01T00:00:00+00:00")
    keep_certificates(urls[1], certificates[3:], made_at="2026-01-02T00:00:00+00:00")

    # The older one comes last, and of three made in one second the last one counts.
    for url in reversed(urls[:2]):
        copy((url, urls[2]))

    both = Store(urls[2])
    assert count_rows(both, tables.qualifications) == 6
    found = find_qualification(both, device_id="phone", settings=SETTINGS, reference_arch_id="rule")
    assert found == certificates[5]
    both.close()


def keep_certificates(url: str, certificates: Sequence[Qualification], *, made_at: str) -> None:
    store = Store(url)
    for certificate in certificates:
        save_qualification(store, certificate, settings=SETTINGS, reference_arch_id="rule")
    change = sa.update(tables.qualifications).values(created_at=made_at)
    store.transaction(lambda connection: connection.execute(change))
    store.close()


def test_a_store_is_not_copied_to_itself_nor_from_nowhere(tmp_path: Path) -> None:
    url, other = sqlite_url(tmp_path / "store.db"), sqlite_url(tmp_path / "other.db")

    with pytest.raises(StoreError, match="there is no store at"):
        copy((url, other))
    assert not list(tmp_path.iterdir())
    Store(url).close()
    with pytest.raises(StoreError, match="cannot be copied to itself"):
        copy((url, sqlite_url(tmp_path / "." / "store.db")))


def count_rows(store: Store, table: sa.TableClause) -> int:
    return store.transaction(lambda each: each.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())
