r"""The result that matters: found networks against SqueezeBERT's rule, from one teacher, by one recipe.

Takes the front of a finished search by projected accuracy and MACs, times its
members on this machine beside the rule, and distils two of them and the rule
with three seeds each: the best with surely at most 0.75 of the rule's latency,
and the best with at most all of it. What is done is kept, so it goes on where
it was stopped; timing wants a quiet machine.

    nas search sst2 --space staged --task sst2 --task-dir DATA/sst2 --teacher minilm --teacher-steps 2105 \
        --fidelities projected --objectives accuracy,macs --trials 50 --runs-folder RUNS
    python -m benchmarks.found_model --data DATA --work WORK --task sst2 --runs-folder RUNS
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.ranking import Results, weights_sha256
from benchmarks.teachers import TEACHER_STEPS, Bench, bench_arguments, open_bench
from device_lab.measurement import Interval, Measurement
from device_lab.statistics import PRECISIONS, ratio_interval
from nas.accuracy import ScoringContext, TrainedEvaluator
from nas.candidates import Candidates
from nas.cli.run_devices import open_devices
from nas.records import Role, Run
from nas.runs import SearchRequest, load_run
from nas.store import Store, sqlite_url
from nas.timed_models import TimedModels
from nas.timing import Timer
from reports.front import non_dominated
from search_spaces.architecture import Architecture
from search_spaces.reference import squeezebert_rule

SEEDS = (0, 1, 2)
NUM_STEPS = 600
FAST, NO_SLOWER = 0.75, 1.0


def main() -> None:
    parser = bench_arguments("Found networks against SqueezeBERT's rule.")
    parser.add_argument("--task", choices=TEACHER_STEPS, required=True)
    parser.add_argument(
        "--runs-folder", type=Path, required=True, help="folder with a finished search named as the task"
    )
    arguments = parser.parse_args()
    bench = open_bench(arguments.task, data=arguments.data, work=arguments.work)
    run = load_run(Store(sqlite_url(arguments.runs_folder / arguments.task / "store.db")), arguments.task)
    rule = squeezebert_rule(bench.teacher.arch)
    timed = time_front(run, rule, arguments.work, num_labels=bench.data.task.num_labels)
    fast, no_slower = chosen(timed, at_most=FAST), chosen(timed, at_most=NO_SLOWER)
    recipe = weights_sha256(bench.teacher), NUM_STEPS, len(bench.data.dev)
    results = Results(arguments.work / f"found_{arguments.task}.jsonl", recipe=recipe)
    candidates = Candidates(bench.data, bench.teacher, artifacts=bench.artifacts, seed=0, device="cpu")
    accuracies = {
        name: distilled(arch, bench, candidates, results)
        for name, arch in (("rule", rule), ("fast", fast.architecture), ("no slower", no_slower.architecture))
    }
    show(bench, accuracies, fast, no_slower, arguments)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """A member of the front with its score and its latency ratio to the rule."""

    architecture: Architecture
    number: int
    accuracy: float
    ratio: Interval


def time_front(run: Run, rule: Architecture, work: Path, *, num_labels: int) -> list[Timed]:
    """Time the candidates on the front of accuracy and MACs on this machine."""
    scored = [trial for trial in run.trials if trial.score and trial.same_as is None and trial.role is Role.CANDIDATE]
    accuracies = {trial.number: trial.score.interval.estimate for trial in scored if trial.score}
    losses = np.array([[1 - accuracies[trial.number], trial.cost.macs] for trial in scored])
    front = [trial for trial, on_front in zip(scored, non_dominated(losses), strict=True) if on_front]
    request = SearchRequest()
    store = Store(sqlite_url(work / f"found_{run.name}.db"))
    models = TimedModels(
        work / "models", runtime=request.runtime, sequence_length=request.sequence_length, num_labels=num_labels
    )
    with open_devices(request) as opened:
        (device,) = opened.devices
        timer = Timer(store=store, device=device, num_threads=1, reference=rule, models=models, seed=0)
        archs = [trial.architecture for trial in front]
        outcomes = timer.measure(archs, precision=PRECISIONS["coarse"], budget_s=60.0 * len(front))
    return [
        Timed(
            architecture=trial.architecture,
            number=trial.number,
            accuracy=accuracies[trial.number],
            ratio=ratio_interval(outcome.blocks),
        )
        for trial in front
        if isinstance(outcome := outcomes[trial.architecture.arch_id], Measurement)
    ]


def chosen(timed: list[Timed], *, at_most: float) -> Timed:
    """Return the one of the best projected score whose latency ratio is surely ``at_most``."""
    known = [each for each in timed if each.ratio.high <= at_most]
    if not known:
        raise SystemExit(f"no network of the front is surely at most {at_most} of the rule's latency; search on")
    return max(known, key=lambda each: each.accuracy)


def distilled(arch: Architecture, bench: Bench, candidates: Candidates, results: Results) -> list[float]:
    """Return the dev accuracy with each seed, in percent, distilling what is not known yet."""
    for seed in SEEDS:
        if (arch.arch_id, seed) not in results.rows:
            context = ScoringContext(
                candidates=candidates, artifacts=bench.artifacts, seed=seed, device="cpu", num_steps=NUM_STEPS
            )
            score = TrainedEvaluator("distilled", context).evaluate(arch)
            results.add(
                {
                    "arch_id": arch.arch_id,
                    "seed": seed,
                    "accuracy": score.interval.estimate,
                    "low": score.interval.low,
                    "high": score.interval.high,
                    "weights_sha256": score.weights_sha256,
                }
            )
    return [100 * results.rows[arch.arch_id, seed]["accuracy"] for seed in SEEDS]


def show(
    bench: Bench, accuracies: dict[str, list[float]], fast: Timed, no_slower: Timed, arguments: argparse.Namespace
) -> None:
    """Print the table and the figures."""
    teacher = 100 * dict(bench.teacher.dev_metrics)["accuracy"]
    print(f"{arguments.task}: teacher {bench.teacher.teacher_id}, dev accuracy {teacher:.1f} %, {NUM_STEPS} steps each")
    for name, values in accuracies.items():
        each = ", ".join(f"{value:.1f}" for value in values)
        print(f"{name:10s} {np.mean(values):.2f} % (seeds: {each})")
    for name, item in (("fast", fast), ("no slower", no_slower)):
        bounds = f"({item.ratio.low:.3f}-{item.ratio.high:.3f})"
        print(f"{name}: trial {item.number}, ratio {item.ratio.estimate:.3f} {bounds} to the rule")
        print(f"{name}: {item.architecture.to_json()}")
    gained = np.mean(accuracies["fast"]) - np.mean(accuracies["rule"])
    lost = teacher - np.mean(accuracies["no slower"])
    print(
        f"figure: found_model_{arguments.task}_fast {gained:+.2f} points to the rule at ratio "
        f"{fast.ratio.estimate:.3f} target=>=0 at <=0.75 {'met' if gained >= 0 else 'short'}"
    )
    print(
        f"figure: found_model_{arguments.task}_accurate {-lost:+.2f} points to the teacher at ratio "
        f"{no_slower.ratio.estimate:.3f} target=>=-1 at <=1.0 {'met' if lost <= 1 else 'short'}"
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
