"""What a proposal costs: ask and tell on a SQLite store, in the ``grouped`` space of a 12-layer encoder.

The loop is the search's own, with objectives that cost nothing (MACs and
parameters), so all that is left is drawing, storing and telling. Beside it,
the same where every parameter is written by itself, as Optuna does, and Optuna's
TPE as far as the first trials. Run from the project's root: ``python -m benchmarks.sampler_overhead``.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

import optuna
from optuna.distributions import BaseDistribution, IntDistribution

from nas.cost import model_cost
from nas.documents import to_document
from nas.records import Role
from nas.runs import SearchRequest
from nas.samplers import make_sampler
from nas.store import Store, sqlite_url
from nas.trial_notes import NOTE_KEY, TrialNote
from search_spaces.reference import BERT_BASE
from search_spaces.space import make_space

NUM_TRIALS = 500
NUM_TPE = 150
NUM_PLAIN = 12
SEED = 0
SPACE = make_space("grouped", BERT_BASE)
DISTRIBUTIONS: dict[str, BaseDistribution] = {
    name: IntDistribution(0, len(options) - 1) for name, options in SPACE.parameters.items()
}


def _one_trial(study: optuna.Study, store: Store, *, sampler: str, number: int, is_batched: bool = True) -> float:
    """Ask for one architecture and tell its values; return the seconds both took."""
    start_s = time.perf_counter()
    study.sampler = make_sampler(sampler, seed=SEED, num_trials_before=number, distributions=DISTRIBUTIONS)
    with store.optuna_storage.one_write_per_trial() if is_batched else nullcontext():
        trial = study.ask(DISTRIBUTIONS)
    positions = trial.params
    arch = SPACE.sample(lambda name, options: options[positions[name]])
    note = TrialNote(architecture=arch.to_json(), role=Role.CANDIDATE)
    trial.set_user_attr(NOTE_KEY, to_document(note))
    cost = model_cost(arch, sequence_length=128, num_labels=2)
    # Two objectives that contradict each other, as accuracy and latency do.
    study.tell(trial, [cost.macs, -cost.parameters])
    return time.perf_counter() - start_s


def main() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    default = SearchRequest().sampler
    with tempfile.TemporaryDirectory() as folder:
        store = Store(sqlite_url(Path(folder) / "store.db"))

        def new_study() -> optuna.Study:
            return optuna.create_study(storage=store.optuna_storage, directions=["minimize", "minimize"])

        study, other = new_study(), new_study()
        cpu_start_s = time.process_time()
        times_s = [_one_trial(study, store, sampler=default, number=number) for number in range(NUM_TRIALS)]
        cpu_ms = 1000 * (time.process_time() - cpu_start_s) / NUM_TRIALS
        plain_s = [
            _one_trial(study, store, sampler=default, number=NUM_TRIALS + number, is_batched=False)
            for number in range(NUM_PLAIN)
        ]
        tpe_s = [_one_trial(other, store, sampler="tpe", number=number) for number in range(NUM_TPE)]
        store.close()
    median_ms = 1000 * statistics.median(times_s)
    last_ms = 1000 * statistics.median(times_s[-30:])
    print(f"{len(SPACE.parameters)} parameters, {NUM_TRIALS} trials, sampler {default}")
    print(f"ask + tell: median {median_ms:.1f} ms, of the last 30 {last_ms:.1f} ms, most {1000 * max(times_s):.0f} ms")
    print(f"CPU time: {cpu_ms:.1f} ms in the mean")
    print(f"the same with a write for each parameter: median {1000 * statistics.median(plain_s):.1f} ms")
    print(f"tpe, {NUM_TPE} trials: median {1000 * statistics.median(tpe_s):.1f} ms")
    print(f"figure: sampler_overhead {median_ms:.1f} ms target=<=100 {'met' if median_ms <= 100 else 'short'}")
    print(f"figure: sampler_overhead_at_500 {last_ms:.1f} ms target=<=100 {'met' if last_ms <= 100 else 'short'}")


if __name__ == "__main__":
    main()
