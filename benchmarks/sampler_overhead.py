"""What a proposal costs: ask and tell on a SQLite store, in the ``grouped`` space of a 12-layer encoder.

The loop is the search's own, with objectives that cost nothing (MACs and
parameters), so all that is left is drawing, storing and telling. Beside it,
Optuna alone with the same sampler, which writes every parameter by itself.
Run from the project's root: ``python -m benchmarks.sampler_overhead``.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

import optuna
from optuna.distributions import IntDistribution

from nas.cost import model_cost
from nas.documents import to_document
from nas.records import Role
from nas.trial_notes import NOTE_KEY, TrialNote
from nas.samplers import make_sampler
from nas.store import Store, sqlite_url
from search_spaces.reference import BERT_BASE
from search_spaces.space import make_space

NUM_TRIALS = 300
NUM_PLAIN = 12
SEED = 0
SPACE = make_space("grouped", BERT_BASE)
DISTRIBUTIONS = {name: IntDistribution(0, len(options) - 1) for name, options in SPACE.parameters.items()}


def _one_trial(study: optuna.Study, store: Store, *, number: int, is_batched: bool) -> float:
    """Ask for one architecture and tell its values; return the seconds both took."""
    start_s = time.perf_counter()
    study.sampler = make_sampler("tpe", seed=SEED, num_trials_before=number, distributions=DISTRIBUTIONS)
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
    with tempfile.TemporaryDirectory() as folder:
        store = Store(sqlite_url(Path(folder) / "store.db"))
        study = optuna.create_study(storage=store.optuna_storage, directions=["minimize", "minimize"])
        times_s = [_one_trial(study, store, number=number, is_batched=True) for number in range(NUM_TRIALS)]
        plain_s = [
            _one_trial(study, store, number=NUM_TRIALS + number, is_batched=False) for number in range(NUM_PLAIN)
        ]
        store.close()
    median_ms = 1000 * statistics.median(times_s)
    last_ms = 1000 * statistics.median(times_s[-30:])
    print(f"{len(SPACE.parameters)} parameters, {NUM_TRIALS} trials")
    print(f"ask + tell: median {median_ms:.1f} ms, of the last 30 {last_ms:.1f} ms, most {1000 * max(times_s):.0f} ms")
    print(f"the same with a write for each parameter: median {1000 * statistics.median(plain_s):.1f} ms")
    print(f"figure: sampler_overhead {median_ms:.1f} ms target=<=100 {'met' if median_ms <= 100 else 'short'}")
    print(f"figure: sampler_overhead_at_300 {last_ms:.1f} ms target=<=100 {'met' if last_ms <= 100 else 'short'}")


if __name__ == "__main__":
    main()
