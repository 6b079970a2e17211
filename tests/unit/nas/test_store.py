from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
import sqlalchemy as sa
from optuna.distributions import IntDistribution

from device_lab.measurement import Block, Measurement
from nas.errors import StoreError
from nas.store import Store, sqlite_url
from tests.store_contents import SCORE, SETTINGS, blocks, measurement


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    opened = Store(store_url)
    yield opened
    opened.close()


@pytest.fixture
def again(store: Store) -> Iterator[Store]:
    """The same store, as another process opens it."""
    opened = Store(store.url)
    yield opened
    opened.close()


def begin(store: Store, precision: str = "coarse") -> tuple[int, tuple[Block, ...]]:
    return store.begin_measurement(
        device_id="phone", settings=SETTINGS, precision=precision, arch_id="arch", reference_arch_id="rule"
    )


def keep(store: Store, finished: Measurement) -> None:
    measurement_id, _ = begin(store, finished.precision.name)
    for block in finished.blocks:
        store.save_block(measurement_id, block)
    store.finish_measurement(measurement_id, finished)


def test_a_measurement_comes_back_with_every_sample(store: Store, again: Store) -> None:
    keep(store, measurement())

    found = again.find_measurements(device_id="phone", settings=SETTINGS, reference_arch_id="rule")

    assert found == {"arch": (measurement(),)}


def test_measurements_come_from_coarse_to_fine(store: Store) -> None:
    keep(store, measurement(2, "normal"))
    keep(store, measurement(3, "coarse"))

    found = store.find_measurements(device_id="phone", settings=SETTINGS, reference_arch_id="rule")

    assert [each.precision.name for each in found["arch"]] == ["coarse", "normal"]


def test_an_interrupted_measurement_goes_on_with_its_blocks(store: Store, again: Store) -> None:
    measurement_id, none_yet = begin(store)
    for block in blocks(2):
        store.save_block(measurement_id, block)

    same_id, kept = begin(again)

    assert none_yet == ()
    assert (same_id, kept) == (measurement_id, blocks(2))
    assert store.find_measurements(device_id="phone", settings=SETTINGS, reference_arch_id="rule") == {}


def test_a_measurement_belongs_to_its_device_settings_and_reference(store: Store) -> None:
    keep(store, measurement())

    assert store.find_measurements(device_id="other", settings=SETTINGS, reference_arch_id="rule") == {}
    assert store.find_measurements(device_id="phone", settings=SETTINGS, reference_arch_id="dense") == {}
    for change in ({"num_threads": 1}, {"runtime": "x"}, {"runtime_version": "2"}, {"sequence_length": 9}):
        settings = replace(SETTINGS, **change)
        assert store.find_measurements(device_id="phone", settings=settings, reference_arch_id="rule") == {}


def test_the_first_score_of_an_architecture_stays(store: Store) -> None:
    store.save_score(SCORE, settings_id="settings", arch_id="arch")
    store.save_score(replace(SCORE, metric="f1"), settings_id="settings", arch_id="arch")

    assert store.find_score("settings", "arch") == SCORE
    assert store.find_scores("settings") == {"arch": SCORE}
    assert store.find_score("settings", "other") is None
    assert store.find_score("other", "arch") is None


def test_all_parameters_of_a_trial_are_written_together(store: Store, again: Store) -> None:
    study = optuna.create_study(storage=store.optuna_storage, study_name="s", directions=["minimize", "maximize"])
    names = [f"layer{i}" for i in range(50)]

    with store.optuna_storage.one_write_per_trial():
        trial = study.ask()
        for i, name in enumerate(names):
            trial.suggest_int(name, 0, 50 + i)
        seen_inside = optuna.load_study(study_name="s", storage=again.optuna_storage).get_trials()[0].params
    seen_after = optuna.load_study(study_name="s", storage=again.optuna_storage).get_trials()[0]

    assert seen_inside == {}
    assert seen_after.params == trial.params
    assert seen_after.distributions["layer7"] == IntDistribution(0, 57)
    assert len(seen_after.params) == 50


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_text("not a database, whatever its name says " * 20)

    with pytest.raises(StoreError, match=r"store sqlite:///.*store\.db cannot be used: file is not a database"):
        Store(sqlite_url(path))


def test_a_store_of_a_newer_release_is_refused(store: Store) -> None:
    store.transaction(lambda connection: connection.execute(sa.text("UPDATE nas_schema SET version = 99")))

    with pytest.raises(StoreError, match="has schema version 99, this release reads 3; use the release that wrote it"):
        Store(store.url)


def test_a_full_disk_is_an_error_of_ours_and_loses_nothing(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "store.db")
    limited = Store(url)
    limited.save_score(SCORE, settings_id="settings", arch_id="arch")
    with limited.optuna_storage.engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")

    def fill() -> None:
        for i in range(500):
            limited.save_score(SCORE, settings_id="x" * 60, arch_id=f"arch{i}")

    with pytest.raises(StoreError, match=r"database or disk is full.*free disk space"):
        fill()

    limited.close()
    assert Store(url).find_score("settings", "arch") == SCORE


def test_two_processes_worth_of_writers_do_not_lose_a_block(store: Store) -> None:
    measurement_id, _ = begin(store)
    errors: list[Exception] = []

    def write(part: tuple[Block, ...]) -> None:
        own = Store(store.url)
        try:
            for block in part:
                own.save_block(measurement_id, block)
        except StoreError as error:
            errors.append(error)
        finally:
            own.close()

    everything = blocks(24)
    threads = [threading.Thread(target=write, args=(everything[i::3],)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    _, kept = begin(store)
    assert errors == []
    assert kept == everything


def test_a_block_is_saved_twice_without_harm_and_never_replaced(store: Store) -> None:
    measurement_id, _ = begin(store)
    first, second = blocks(2)
    for _ in range(2):
        store.save_block(measurement_id, first)

    with pytest.raises(StoreError, match=r"block 0 of measurement \d+ is there with other runs: another process"):
        store.save_block(measurement_id, replace(second, index=0))

    assert begin(store)[1] == (first,)
