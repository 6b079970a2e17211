"""How long it takes to read a store with 10,000 trials and 1,000,000 blocks, and how much memory.

The store is made up by `benchmarks.big_store`: one run of all trials, or twenty
that share the store. Beside the wall-clock times stand CPU times. Run from the
project's root: ``python -m benchmarks.scale --database sqlite --runs 1``. With
``--url`` a store that was made before is read again.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import optuna
import sqlalchemy as sa
from optuna.distributions import BaseDistribution, IntDistribution

from benchmarks.big_store import SPACE, Shape, fill
from nas.run_status import read_status
from nas.samplers import make_sampler
from nas.store import Store, sqlite_url
from tests.postgresql_server import PostgresqlServer

NUM_TRIALS = 10_000
NUM_BLOCKS = 100
NUM_ASKS = 15
MAX_REPORT_S, MAX_STATUS_S, MAX_ASK_MS, MAX_MIB = 10.0, 1.0, 150.0, 1024.0
DISTRIBUTIONS: dict[str, BaseDistribution] = {
    name: IntDistribution(0, len(options) - 1) for name, options in SPACE.parameters.items()
}


def main() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    parser = argparse.ArgumentParser(description="Time the reading of a big store.")
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--runs", type=int, default=1, help="how many runs share the trials")
    parser.add_argument("--url", help="a store that was made before")
    arguments = parser.parse_args()
    name = f"{arguments.database}, {arguments.runs} runs"
    with tempfile.TemporaryDirectory() as folder:
        server = None
        url = arguments.url or sqlite_url(Path(folder, "store.db"))
        if arguments.database == "postgresql" and arguments.url is None:
            data = Path(folder, "server")
            data.mkdir()
            # The server has an account of its own.
            Path(folder).chmod(0o755)
            server = PostgresqlServer(data)
            url = server.new_database()
        try:
            if arguments.url is None:
                store = Store(url)
                shape = Shape(num_runs=arguments.runs, num_trials=NUM_TRIALS // arguments.runs, num_blocks=NUM_BLOCKS)
                fill(store, shape)
                if arguments.database == "postgresql":
                    _settle(store)
                store.close()
            _time_report(url, Path(folder), name)
            _time_status(url, name)
            if arguments.runs == 1:
                _time_ask(url, name)
        finally:
            if server is not None:
                server.stop()


def _settle(store: Store) -> None:
    """Do at once what the server does in time, and did long ago where a store grew to this size by being worked on."""
    engine = store.optuna_storage.engine.execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in ("VACUUM ANALYZE", "CHECKPOINT"):
            connection.execute(sa.text(statement))


def _time_report(url: str, folder: Path, name: str) -> None:
    """Time the command in a process of its own, as a user runs it."""
    command = [sys.executable, "-c", "from nas.cli.main import main; main()", "report", "run0", "--storage", url]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start_s = time.perf_counter()
    subprocess.run(
        [*command, "--runs-folder", str(folder), "--output", str(folder / "report")], check=True, capture_output=True
    )
    wall_s = time.perf_counter() - start_s
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    sizes = {each.name: each.stat().st_size / 1e6 for each in (folder / "report").iterdir() if each.is_file()}
    print(f"{name}: nas report took {cpu_s:.1f} s of CPU time; MB: {sizes}")
    _figure("scale_report", wall_s, "s", target=MAX_REPORT_S)
    _figure("scale_report_cpu", cpu_s, "s", target=MAX_REPORT_S)
    # Of the largest child: a server that was started here is the child of another process.
    _figure("scale_report_memory", after.ru_maxrss / 1024, "MiB", target=MAX_MIB)


def _time_status(url: str, name: str) -> None:
    store = Store(url)
    start_s, cpu_start_s = time.perf_counter(), time.process_time()
    status = read_status(store, "run0", last_hours=24 * 365 * 10)
    wall_s, cpu_s = time.perf_counter() - start_s, time.process_time() - cpu_start_s
    store.close()
    print(f"{name}: status {dict(status.num_trials)}, {len(status.devices)} devices, {cpu_s:.2f} s of CPU time")
    _figure("scale_status", wall_s, "s", target=MAX_STATUS_S)


def _time_ask(url: str, name: str) -> None:
    store = Store(url)
    start_s, cpu_start_s = time.perf_counter(), time.process_time()
    study = optuna.load_study(study_name="run0", storage=store.optuna_storage)
    trials = study.get_trials(deepcopy=False)
    print(
        f"{name}: trials read once in {time.perf_counter() - start_s:.1f} s "
        f"({time.process_time() - cpu_start_s:.1f} s of CPU time)"
    )
    walls_ms, cpus_ms = [], []
    for number in range(NUM_ASKS):
        start_s, cpu_start_s = time.perf_counter(), time.process_time()
        study.sampler = make_sampler(
            "evolution",
            seed=0,
            num_trials_before=len(trials) + number,
            distributions=DISTRIBUTIONS,
            earlier=study.sampler,
        )
        with store.optuna_storage.one_write_per_trial():
            trial = study.ask(DISTRIBUTIONS)
        walls_ms.append(1000 * (time.perf_counter() - start_s))
        cpus_ms.append(1000 * (time.process_time() - cpu_start_s))
        study.tell(trial, [0.9, 1.0 + 0.001 * number])
    store.close()
    print(f"{name}: the first ask, which reads what all trials say, took {cpus_ms[0]:.0f} ms of CPU time")
    _figure("scale_ask", statistics.median(walls_ms), "ms", target=MAX_ASK_MS)
    _figure("scale_ask_cpu", statistics.median(cpus_ms), "ms", target=MAX_ASK_MS)
    own_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    _figure("scale_ask_memory", own_mib, "MiB", target=MAX_MIB)


def _figure(name: str, value: float, unit: str, *, target: float) -> None:
    print(f"figure: {name} {value:.3f} {unit} target=<={target:g} {'met' if value <= target else 'short'}", flush=True)


if __name__ == "__main__":
    main()
