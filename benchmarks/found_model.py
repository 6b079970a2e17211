"""The result that matters: found networks against SqueezeBERT's rule, from one teacher, by one recipe.

Takes the front of a finished search, distils two of its members, the rule and
(as a check of the recipe) the dense shape with three seeds each, and prints
their dev accuracies beside the latency ratios that the search measured. The
first is the best with at most 0.75 of the rule's latency, the second the best
with at most all of it. Results are kept as they come.

    nas search sst2 --space staged --task sst2 --task-dir DATA/sst2 \
        --teacher minilm --teacher-steps 2105 --fidelities projected --trials 60 --runs-folder RUNS
    python -m benchmarks.found_model --data DATA --work WORK --task sst2 --runs-folder RUNS
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from benchmarks.ranking import Results
from benchmarks.teachers import TEACHER_STEPS, Bench, bench_arguments, open_bench
from nas.accuracy import ScoringContext, TrainedEvaluator
from nas.candidates import Candidates
from nas.records import Role, Run
from nas.runs import load_run
from nas.store import Store, sqlite_url
from reports.evidence import Evidence, gather
from search_spaces.architecture import Architecture

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
    fast, no_slower = chosen(run, at_most=FAST), chosen(run, at_most=NO_SLOWER)
    rule = next(item for item in gather(run).evidence if item.trial.role is Role.SQUEEZEBERT_RULE)
    results = Results(arguments.work / f"found_{arguments.task}.jsonl")
    candidates = Candidates(bench.data, bench.teacher, artifacts=bench.artifacts, seed=0, device="cpu")
    accuracies = {
        name: distilled(item.trial.architecture, bench, candidates, results)
        for name, item in (("rule", rule), ("fast", fast), ("no slower", no_slower))
    }
    show(bench, accuracies, fast, no_slower, arguments)


def chosen(run: Run, *, at_most: float) -> Evidence:
    """Return the candidate of the best score whose latency ratio is surely ``at_most``."""
    known = [
        item
        for item in gather(run).evidence
        if item.left_out is None and item.trial.role is Role.CANDIDATE and item.ratio and item.ratio.high <= at_most
    ]
    return max(known, key=lambda item: item.accuracy.estimate if item.accuracy else 0.0)


def distilled(arch: Architecture, bench: Bench, candidates: Candidates, results: Results) -> list[float]:
    """Return the dev accuracy with each seed, in percent, distilling what is not known yet."""
    for seed in SEEDS:
        if (arch.arch_id, seed) not in results.by_key:
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
    return [100 * results.by_key[arch.arch_id, seed]["accuracy"] for seed in SEEDS]


def show(
    bench: Bench,
    accuracies: dict[str, list[float]],
    fast: Evidence,
    no_slower: Evidence,
    arguments: argparse.Namespace,
) -> None:
    """Print the table and the figures."""
    teacher = 100 * dict(bench.teacher.dev_metrics)["accuracy"]
    print(f"{arguments.task}: teacher {bench.teacher.teacher_id}, dev accuracy {teacher:.1f} %, {NUM_STEPS} steps each")
    for name, values in accuracies.items():
        each = ", ".join(f"{value:.1f}" for value in values)
        print(f"{name:10s} {np.mean(values):.2f} % (seeds: {each})")
    for name, item in (("fast", fast), ("no slower", no_slower)):
        assert item.ratio is not None
        print(f"{name}: trial {item.trial.number}, {item.trial.architecture.to_json()}")
        print(f"{name}: ratio {item.ratio.estimate:.3f} ({item.ratio.low:.3f}-{item.ratio.high:.3f}) to the rule")
    gained = np.mean(accuracies["fast"]) - np.mean(accuracies["rule"])
    lost = teacher - np.mean(accuracies["no slower"])
    assert fast.ratio is not None
    assert no_slower.ratio is not None
    print(
        f"figure: found_model_{arguments.task}_fast {gained:+.2f} points to the rule at ratio "
        f"{fast.ratio.estimate:.3f} target=>=0 at <=0.75 {'met' if gained >= 0 else 'short'}"
    )
    print(
        f"figure: found_model_{arguments.task}_accurate -{lost:.2f} points to the teacher at ratio "
        f"{no_slower.ratio.estimate:.3f} target=>=-1 at <=1.0 {'met' if lost <= 1 else 'short'}"
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
