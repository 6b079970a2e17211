"""A store in PostgreSQL whose server is started again, and whose connections are lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import optuna
import pytest
import sqlalchemy as sa

from nas import store_engine, tables
from nas.errors import StoreError, StoreWarning
from nas.store import Store
from tests.loopback_proxy import LoopbackProxy, loopback_proxy
from tests.postgresql_server import PostgresqlServer
from tests.store_contents import SCORE, SETTINGS, blocks


@pytest.fixture
def proxy(postgresql_server: PostgresqlServer) -> Iterator[LoopbackProxy]:
    with loopback_proxy(postgresql_server.port) as started:
        yield started


@pytest.fixture
def store(postgresql_server: PostgresqlServer, proxy: LoopbackProxy) -> Iterator[Store]:
    """A store whose connections go through the proxy."""
    database = postgresql_server.new_database().rpartition("/")[2]
    opened = Store(postgresql_server.url(database, port=proxy.port))
    yield opened
    opened.close()


def begin(store: Store) -> int:
    measurement_id, _ = store.begin_measurement(
        device_id="phone", settings=SETTINGS, precision="coarse", arch_id="arch", reference_arch_id="rule"
    )
    return measurement_id


def num_rows(store: Store, table: sa.Table) -> int:
    return store.transaction(lambda each: each.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())


@pytest.mark.slow
def test_a_server_that_was_started_again_is_not_noticed(store: Store, postgresql_server: PostgresqlServer) -> None:
    study = optuna.create_study(storage=store.optuna_storage, study_name="study")
    trial = study.ask()
    measurement_id = begin(store)

    postgresql_server.stop()
    postgresql_server.start()

    store.save_block(measurement_id, blocks(1)[0])
    with store.optuna_storage.one_write_per_trial():
        trial.suggest_int("a", 1, 3)
    postgresql_server.stop()
    postgresql_server.start()
    study.tell(trial, 1.0)
    assert study.best_value == 1.0
    assert list(study.best_params) == ["a"]
    assert num_rows(store, tables.blocks) == 1


@pytest.mark.slow
def test_a_server_that_is_away_for_a_while_is_waited_for(store: Store, postgresql_server: PostgresqlServer) -> None:
    postgresql_server.stop()
    starting = threading.Timer(2.5, postgresql_server.start)
    starting.start()

    with pytest.warns(StoreWarning, match=r"store postgresql\S+ does not answer; trying for 60 s"):
        store.save_score(SCORE, settings_id="settings", arch_id="arch")

    starting.join()
    assert store.find_score("settings", "arch") == SCORE


@pytest.mark.slow
def test_a_server_that_stays_away_is_one_line(
    store: Store, postgresql_server: PostgresqlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_engine, "RECONNECT_S", 0.3)
    study = optuna.create_study(storage=store.optuna_storage)
    postgresql_server.stop()
    try:
        with pytest.raises(StoreError, match=r"cannot be used: .*; check the host and the port, and that the server"):
            store.save_score(SCORE, settings_id="settings", arch_id="arch")
        with pytest.raises(StoreError, match="check the host and the port"), store.errors():
            study.ask()
    finally:
        postgresql_server.start()


def test_a_transaction_whose_connection_is_lost_is_done_again_and_once(store: Store, proxy: LoopbackProxy) -> None:
    attempts: list[int] = []

    def work(connection: sa.Connection) -> str:
        attempts.append(len(attempts))
        row = {"run_id": f"attempt{len(attempts)}", "document": "{}"}
        connection.execute(sa.insert(tables.process_runs), [row])
        if len(attempts) < 3:
            proxy.drop()
            # Whatever is lost is noticed where it is used.
            time.sleep(0.05)
        return str(row["run_id"])

    assert store.transaction(work) == "attempt3"
    assert num_rows(store, tables.process_runs) == 1


@pytest.mark.parametrize("what", ["score", "block", "measurement"])
def test_what_was_committed_without_an_answer_is_there_once(store: Store, proxy: LoopbackProxy, what: str) -> None:
    measurement_id = begin(store) if what == "block" else 0
    proxy.lose_answer_to(b"COMMIT")

    if what == "score":
        store.save_score(SCORE, settings_id="settings", arch_id="arch")
    elif what == "block":
        store.save_block(measurement_id, blocks(1)[0])
    else:
        begin(store)

    table = {"score": tables.scores, "block": tables.blocks, "measurement": tables.measurements}[what]
    assert num_rows(store, table) == 1


def test_an_error_that_would_come_again_is_not_tried_again(store: Store) -> None:
    attempts: list[int] = []

    def work(connection: sa.Connection) -> None:
        attempts.append(1)
        connection.execute(sa.text("SELECT 1 FROM nowhere"))

    with pytest.raises(StoreError, match='relation "nowhere" does not exist'):
        store.transaction(work)
    assert len(attempts) == 1


def test_a_deadlock_is_tried_again(store: Store) -> None:
    for name in ("first", "second"):
        store.save_score(SCORE, settings_id=name, arch_id="arch")
    together = threading.Barrier(2)
    waited: set[int] = set()

    def lock_both(*names: str) -> None:
        def work(connection: sa.Connection) -> None:
            for name in names:
                change = sa.update(tables.scores).filter_by(settings_id=name).values(created_at="now")
                connection.execute(change)
                if threading.get_ident() not in waited:
                    waited.add(threading.get_ident())
                    together.wait(10)

        store.transaction(work)

    threads = [threading.Thread(target=lock_both, args=names) for names in (("first", "second"), ("second", "first"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    changed = sa.select(sa.func.count()).select_from(tables.scores).filter_by(created_at="now")
    assert store.transaction(lambda connection: connection.execute(changed).scalar()) == 2
