"""Tables of a store in both databases: made by one process alone, refused when they are another release's, upgraded."""

from __future__ import annotations

import json
from typing import Any

import optuna
import pytest
import sqlalchemy as sa
from optuna.storages import RDBStorage

from device_lab.qualification import Qualification
from device_lab.timed import digest
from nas import store_migrations, tables
from nas.documents import to_document
from nas.errors import StoreError
from nas.qualifications import find_qualification
from nas.store import Store, settings_key
from nas.store_engine import make_folder
from nas.store_schema import upgrade_store
from nas.store_url import parse_store_url, sqlite_path
from tests.many_processes import at_once
from tests.old_stores import VERSION_1, make_version_1
from tests.store_contents import SCORE, SETTINGS, blocks, measurement

NUM_PROCESSES = 4
CERTIFICATE = Qualification(baseline_runs=(blocks(1)[0].candidate,), measurement=measurement())


def open_and_score(number: int, url: str) -> str:
    store = Store(url)
    try:
        store.save_score(SCORE, settings_id="settings", arch_id=f"arch{number}")
        optuna.create_study(storage=store.optuna_storage, study_name=f"study{number}")
    finally:
        store.close()
    return "opened"


@pytest.mark.slow
def test_processes_that_open_a_new_store_at_once_all_get_it_whole(store_url: str) -> None:
    assert at_once(open_and_score, NUM_PROCESSES, store_url) == ["opened"] * NUM_PROCESSES

    store = Store(store_url)
    assert len(store.find_scores("settings")) == NUM_PROCESSES
    assert sorted(store.run_names()) == [f"study{number}" for number in range(NUM_PROCESSES)]
    counts = [f"(SELECT count(*) FROM {table})" for table in ("nas_schema", "version_info", "alembic_version")]
    query = sa.text(f"SELECT {', '.join(counts)}")
    assert store.transaction(lambda each: tuple(each.execute(query).one())) == (1, 1, 1)
    store.close()


def test_a_store_that_was_half_made_is_completed(store_url: str) -> None:
    # A process that was killed after Optuna's tables and one of ours, before the version.
    make_folder(parse_store_url(store_url))
    storage = RDBStorage(store_url)
    tables.scores.create(storage.engine)
    storage.remove_session()
    storage.engine.dispose()

    store = Store(store_url)
    store.save_score(SCORE, settings_id="settings", arch_id="arch")

    assert store.find_score("settings", "arch") == SCORE
    store.close()


def test_an_older_store_is_refused_with_the_command_that_upgrades_it(old_store: str) -> None:
    with pytest.raises(StoreError, match=r"has schema version 1, this release reads 3; .*`nas store upgrade \S+`"):
        Store(old_store)


def test_an_upgraded_store_has_the_tables_of_a_new_one(old_store: str) -> None:
    upgraded = upgrade_store(parse_store_url(old_store))

    assert (upgraded.version_before, upgraded.version) == (1, 3)
    store = Store(old_store)
    engine = sa.create_engine(old_store)
    is_sqlite = engine.dialect.name == "sqlite"
    found = shape(engine, without_lengths=is_sqlite)
    # Made anew in the same database.
    tables.METADATA.drop_all(engine)
    tables.METADATA.create_all(engine)
    assert found == shape(engine, without_lengths=is_sqlite)
    engine.dispose()
    store.close()


def shape(engine: sa.Engine, *, without_lengths: bool) -> dict[str, Any]:
    """Our tables: columns with types and whether they may be empty, keys, indices. SQLite keeps to no length."""
    inspector = sa.inspect(engine)
    described: dict[str, Any] = {}
    for table in tables.METADATA.tables:
        columns = {
            column["name"]: (
                "text" if without_lengths and isinstance(column["type"], sa.String) else str(column["type"]),
                column["nullable"],
            )
            for column in inspector.get_columns(table)
        }
        indices = {
            index["name"]: (tuple(index["column_names"]), bool(index["unique"]))
            for index in inspector.get_indexes(table)
        }
        keys = inspector.get_pk_constraint(table)["constrained_columns"]
        foreign = sorted(key["referred_table"] for key in inspector.get_foreign_keys(table))
        described[table] = (columns, indices, keys, foreign)
    return described


def test_an_upgraded_store_has_everything_it_had(old_store: str) -> None:
    upgrade_store(parse_store_url(old_store))

    store = Store(old_store)
    found = store.find_measurements(device_id="phone", settings=SETTINGS, reference_arch_id="rule")
    assert found == {"arch": (measurement(),)}
    (without_samples,) = store.find_timed(device_id="phone", settings=SETTINGS, reference_arch_id="rule")["arch"]
    assert without_samples.digest == digest(measurement().blocks)
    assert store.find_score("settings", "arch") == SCORE
    certificate = find_qualification(store, device_id="phone", settings=SETTINGS, reference_arch_id="rule")
    assert certificate == CERTIFICATE
    assert store.run_names() == ["run"]
    # What comes next gets names of its own.
    measurement_id, none_yet = store.begin_measurement(
        device_id="phone", settings=SETTINGS, precision="coarse", arch_id="new", reference_arch_id="rule"
    )
    store.save_block(measurement_id, blocks(1)[0])
    assert none_yet == ()
    assert upgrade_store(parse_store_url(old_store)).version_before == 3
    store.close()


def test_a_step_that_fails_leaves_the_store_as_it_was(old_store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_connection: sa.Connection) -> None:
        store_migrations._to_version_2(_connection)
        raise sa.exc.OperationalError("", {}, Exception("the disk is full"))

    monkeypatch.setitem(store_migrations._STEPS, 1, fail)
    with pytest.raises(StoreError, match="the disk is full"):
        upgrade_store(parse_store_url(old_store))
    monkeypatch.undo()

    assert upgrade_store(parse_store_url(old_store)).version_before == 1
    test_an_upgraded_store_has_everything_it_had(old_store)


@pytest.mark.slow
def test_processes_that_upgrade_at_once_do_it_once(old_store: str) -> None:
    assert sorted(at_once(upgrade, 3, old_store)) == [1, 3, 3]

    test_an_upgraded_store_has_everything_it_had(old_store)


def upgrade(_number: int, url: str) -> int:
    return upgrade_store(parse_store_url(url)).version_before


def test_tables_of_an_older_optuna_are_refused_and_upgraded(store_url: str) -> None:
    Store(store_url).close()
    # What its next release added.
    execute(store_url, "DROP INDEX ix_trials_study_id", "UPDATE alembic_version SET version_num = 'v3.0.0.d'")

    with pytest.raises(StoreError, match=r"older version of Optuna; .*`nas store upgrade \S+`"):
        Store(store_url)
    upgraded = upgrade_store(parse_store_url(store_url))

    assert (upgraded.version_before, upgraded.version) == (3, 3)
    assert upgraded.optuna_version_before == "v3.0.0.d"
    assert upgraded.optuna_version != "v3.0.0.d"
    Store(store_url).close()


def test_tables_of_a_newer_optuna_are_refused_and_left_alone(store_url: str) -> None:
    Store(store_url).close()
    execute(store_url, "UPDATE alembic_version SET version_num = 'v99.0.0.a'")

    for opening in (Store, lambda url: upgrade_store(parse_store_url(url))):
        with pytest.raises(StoreError, match="newer version of Optuna; run `pip install --upgrade optuna`"):
            opening(store_url)


def test_a_place_without_a_store_is_not_upgraded_and_stays_empty(store_url: str) -> None:
    with pytest.raises(StoreError, match="there is no store at"):
        upgrade_store(parse_store_url(store_url))

    path = sqlite_path(parse_store_url(store_url))
    assert path is None or not path.exists()


def execute(url: str, *statements: str) -> None:
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))
    engine.dispose()


@pytest.fixture
def old_store(store_url: str) -> str:
    """A store of version 1 with a run, a score, a measurement and a certificate in it."""
    make_folder(parse_store_url(store_url))
    engine = make_version_1(store_url)
    subject = {"device_id": "phone", "settings": settings_key(SETTINGS), "reference_arch_id": "rule"}
    whole = to_document(measurement())
    runs = {run["run_id"]: run for block in whole["blocks"] for run in block.values() if isinstance(run, dict)}
    verdict = {name: value for name, value in whole.items() if name != "blocks"}
    made = {"created_at": "2026-01-01T00:00:00+00:00"}
    rows: dict[str, list[dict[str, Any]]] = {
        "nas_scores": [
            {"settings_id": "settings", "arch_id": "arch", "document": json.dumps(to_document(SCORE)), **made}
        ],
        "nas_process_runs": [{"run_id": run_id, "document": json.dumps(run)} for run_id, run in runs.items()],
        "nas_measurements": [
            {**subject, "arch_id": "arch", "precision": "coarse", "document": json.dumps(verdict), **made},
            {**subject, "arch_id": "other", "precision": "coarse", "document": None, **made},
        ],
        "nas_blocks": [
            {
                "measurement_id": 1,
                "index": block.index,
                "reference_before": block.reference_before.run_id,
                "candidate": block.candidate.run_id,
                "reference_after": block.reference_after.run_id,
            }
            for block in measurement().blocks
        ],
        "nas_qualifications": [{**subject, "document": json.dumps(to_document(CERTIFICATE)), **made}] * 2,
    }
    with engine.begin() as connection:
        for table, values in rows.items():
            connection.execute(sa.insert(VERSION_1.tables[table]), values)
    engine.dispose()
    storage = RDBStorage(store_url)
    optuna.create_study(storage=storage, study_name="run").add_trial(optuna.create_trial(value=1.0))
    storage.remove_session()
    storage.engine.dispose()
    return store_url
