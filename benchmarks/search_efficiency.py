"""How good a front each sampler has found after so many evaluations, in the ``grouped`` space around MiniLM.

Whole searches are replayed on stand-ins learnt from recorded data: projected
accuracies of SST-2 (`benchmarks.surrogate`) and latency ratios to SqueezeBERT's
rule measured on one machine (`nas.latency`). Proposals come as in a search: the
references and dense designs first, then batches, each told when it is complete;
repeated architectures are answered and not counted.

Hypervolume is normalised by that of the union of everything found, by all
samplers and by a long evolution on the stand-ins; its reference point lies a
tenth of that front's range beyond its worst. In the second table what a search
is told of an accuracy is off by as much as the stand-in is off from real
ones, the same for the same network; its fronts are judged without that.

    python -m benchmarks.search_efficiency            # about 40 minutes of one core
"""

from __future__ import annotations

import argparse
import math
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, TPESampler
from optuna.trial import TrialState

from benchmarks.recordings import ACCURACIES, LATENCIES, MINILM, SEQUENCE_LENGTH, latency_sample, read_rows
from benchmarks.surrogate import AccuracySurrogate
from nas.latency import LatencyPredictor
from nas.runs import SearchRequest
from nas.samplers import make_sampler
from nas.search import BATCH_SIZE
from reports.front import hypervolume, hypervolume_history, non_dominated
from search_spaces.architecture import Architecture
from search_spaces.reference import squeezebert_rule
from search_spaces.space import Space, make_space

Floats = NDArray[np.float64]
MakeSampler = Callable[[int, Mapping[str, BaseDistribution]], BaseSampler]

RULE = squeezebert_rule(MINILM)
SCALE = "minilm"
GROUPED = make_space("grouped", MINILM)
DEFAULT = SearchRequest().sampler
MOMENTS = (25, 50, 100, 150, 200, 300)
MAX_REPEATS = 500
# Of the long evolution.
NUM_GENERATIONS = 100
NUM_CHILDREN = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A sampler: how it is made from a seed, on which space, and how many seeds and evaluations it is given."""

    make: MakeSampler
    space: Space = GROUPED
    num_seeds: int = 10
    num_evaluations: int = MOMENTS[-1]


def _ours(name: str) -> MakeSampler:
    # Every proposal has a seed of its own, so there are no trials before.
    return lambda seed, distributions: make_sampler(name, seed=seed, num_trials_before=0, distributions=distributions)


def _tpe(**arguments: Any) -> MakeSampler:
    return lambda seed, _: TPESampler(seed=seed, **arguments)


def _few(num_trials: int) -> int:
    return math.ceil(0.25 * num_trials)


def _variant(**arguments: Any) -> Contender:
    return Contender(make=_tpe(multivariate=True, constant_liar=True, **arguments), num_seeds=3, num_evaluations=150)


CONTENDERS = {
    "random": Contender(make=_ours("random")),
    "NSGA-II, population 50": Contender(make=lambda seed, _: NSGAIISampler(population_size=50, seed=seed)),
    "NSGA-II, population 20": Contender(make=_ours("nsga2")),
    "TPE, default arguments": Contender(make=_tpe(), num_evaluations=150),
    "TPE, multivariate, constant liar": Contender(make=_ours("tpe")),
    "the same, group": _variant(group=True),
    "the same, gamma a quarter": _variant(gamma=_few),
    "the same, 96 candidates": _variant(n_ei_candidates=96),
    "the same, 28 trials to start with": _variant(n_startup_trials=28),
    "GP, on the staged space": Contender(
        make=lambda seed, _: GPSampler(seed=seed, n_startup_trials=8),
        space=make_space("staged", MINILM),
        num_seeds=2,
        num_evaluations=50,
    ),
    "evolution": Contender(make=_ours("evolution")),
}
TOLD_ROUGHLY = ("random", "NSGA-II, population 50", "TPE, multivariate, constant liar", "evolution")


class StandIn:
    """Losses (1 - accuracy, latency ratio) of architectures, each predicted once."""

    def __init__(self, accuracies: Path, latencies: Path) -> None:
        rows = read_rows(accuracies)
        archs = [Architecture.from_json(row["architecture"]) for row in rows]
        self._accuracy = AccuracySurrogate(archs, [row["accuracy"] for row in rows], teacher=MINILM)
        samples = [latency_sample(row) for row in read_rows(latencies) if row["scale"] == SCALE]
        self._latency = LatencyPredictor(samples, sequence_length=SEQUENCE_LENGTH)
        self._known: dict[Architecture, tuple[float, float]] = {}
        self.roughness = self._accuracy.left_out_error
        print(
            f"accuracies: {len(rows)}, left-out error {100 * self.roughness:.2f} points; latencies: {len(samples)}, "
            f"left-out error {100 * float(np.median(self._latency.left_out_errors)):.1f} % in the median"
        )

    def __call__(self, archs: Sequence[Architecture]) -> Floats:
        """Return losses, (n, 2)."""
        missing = [arch for arch in dict.fromkeys(archs) if arch not in self._known]
        if missing:
            ratios = [each.estimate for each in self._latency.predict(missing, reference=RULE)]
            errors = (1 - self._accuracy(missing)).tolist()
            self._known |= dict(zip(missing, zip(errors, ratios, strict=True), strict=True))
        return np.array([self._known[arch] for arch in archs])

    def told(self, arch: Architecture, *, rough: bool) -> list[float]:
        """Return what a search is told of ``arch``."""
        error, ratio = self._known[arch]
        if rough:
            error += self.roughness * float(np.random.default_rng(int(arch.arch_id, 16)).standard_normal())
        return [error, ratio]


def replay(contender: Contender, stand_in: StandIn, *, seed: int, rough: bool = False) -> list[Architecture]:
    """Search as `nas.search` does; return the distinct architectures in the order of their evaluation."""
    options = contender.space.parameters
    distributions: dict[str, BaseDistribution] = {
        name: IntDistribution(0, len(its) - 1) for name, its in options.items()
    }
    study = optuna.create_study(directions=["minimize", "minimize"])
    designs = [RULE, MINILM, *contender.space.dense_designs]
    first: dict[Architecture, int] = {}
    told: list[Architecture] = []
    num_repeats = num_asked = 0
    while len(told) < contender.num_evaluations and num_repeats < MAX_REPEATS:
        batch: list[tuple[optuna.Trial, Architecture]] = []
        while len(batch) < min(BATCH_SIZE, contender.num_evaluations - len(told)) and num_repeats < MAX_REPEATS:
            if missing := [arch for arch in designs if arch not in first]:
                answers = contender.space.answers_for(missing[0])
                study.enqueue_trial({name: its.index(answers[name]) for name, its in options.items()})
            draw_seed = int(np.random.SeedSequence([seed, num_asked]).generate_state(1)[0])
            study.sampler = contender.make(draw_seed, distributions)
            trial = study.ask(distributions)
            num_asked += 1
            places = trial.params
            arch = contender.space.build({name: its[places[name]] for name, its in options.items()})
            if arch not in first:
                first[arch] = trial.number
                batch.append((trial, arch))
                continue
            num_repeats += 1
            known = study.get_trials(deepcopy=False)[first[arch]]
            if known.state == TrialState.COMPLETE:
                study.tell(trial, known.values)
            else:
                study.tell(trial, state=TrialState.FAIL)
        stand_in([arch for _, arch in batch])
        for trial, arch in batch:
            study.tell(trial, stand_in.told(arch, rough=rough))
            told.append(arch)
    return told


def evolve(stand_in: StandIn, found: Sequence[Architecture]) -> list[Architecture]:
    """Mutate and cross members of the front for long, directly on the stand-ins; return the last front."""
    generator = np.random.default_rng(0)
    names = list(GROUPED.parameters)
    sizes = np.array([len(GROUPED.parameters[name]) for name in names])
    question = np.unique([name.rpartition(".")[2] for name in names], return_inverse=True)[1]
    front = _front(stand_in, found)
    for _ in range(NUM_GENERATIONS):
        children = []
        for one, other in generator.integers(len(front), size=(NUM_CHILDREN, 2)):
            mine, its = (_places(front[i]) for i in (one, other))
            if generator.random() < 0.5:
                mine = np.where(generator.random(len(names)) < 0.5, mine, its)
            alike = question == generator.choice(question)
            few = generator.random(len(names)) < generator.integers(1, 5) / len(names)
            mine = mine + np.where(alike if generator.random() < 0.5 else few, generator.choice((-1, 1)), 0)
            children.append(_build(np.clip(mine, 0, sizes - 1)))
        front = _front(stand_in, [*front, *children])
    return front


def _front(stand_in: StandIn, archs: Sequence[Architecture]) -> list[Architecture]:
    # Of those with equal losses one is enough.
    distinct = list(dict.fromkeys(archs))
    losses, first = np.unique(stand_in(distinct), axis=0, return_index=True)
    return [distinct[i] for i in first[non_dominated(losses)]]


def _places(arch: Architecture) -> NDArray[np.int64]:
    answers = GROUPED.answers_for(arch)
    return np.array([options.index(answers[name]) for name, options in GROUPED.parameters.items()])


def _build(places: NDArray[np.int64]) -> Architecture:
    chosen = zip(GROUPED.parameters.items(), places.tolist(), strict=True)
    return GROUPED.build({name: options[place] for (name, options), place in chosen})


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare samplers by the fronts they find.")
    parser.add_argument("--accuracies", type=Path, default=ACCURACIES)
    parser.add_argument("--latencies", type=Path, default=LATENCIES)
    parser.add_argument("--seeds", type=int, default=10, help="at most so many for each sampler")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # That some of TPE's settings are experimental, or will not be settings for ever.
    warnings.filterwarnings("ignore", module="optuna")
    stand_in = StandIn(arguments.accuracies, arguments.latencies)
    runs = _replay_all(list(CONTENDERS), stand_in, most_seeds=arguments.seeds, rough=False)
    rough = _replay_all(TOLD_ROUGHLY, stand_in, most_seeds=arguments.seeds, rough=True)
    everything = [arch for found in (*runs.values(), *rough.values()) for run in found for arch in run]
    front = stand_in(evolve(stand_in, everything))
    low, high = front.min(axis=0), front.max(axis=0)
    print(f"the union's front: accuracy {1 - high[0]:.3f} to {1 - low[0]:.3f}, ratio {low[1]:.3f} to {high[1]:.3f}")
    reference = np.full(2, 1.1)
    ideal = hypervolume((front - low) / (high - low), reference=reference)

    def histories_of(name: str, found: Sequence[Sequence[Architecture]]) -> list[Floats]:
        histories = []
        for run in found:
            history = hypervolume_history((stand_in(run) - low) / (high - low), reference=reference) / ideal
            # One that only repeats itself stays where it is.
            missing = CONTENDERS[name].num_evaluations - len(run)
            histories.append(np.concatenate([history, np.full(missing, history[-1])]))
        return histories

    histories = {name: histories_of(name, found) for name, found in runs.items()}
    _show("told exactly", histories)
    _show("told roughly", {name: histories_of(name, found) for name, found in rough.items()})
    _figure("search_efficiency_50", histories, rival="NSGA-II, population 50", moment=300)
    _figure("search_efficiency_150", histories, rival="TPE, default arguments", moment=150)


def _replay_all(
    names: Sequence[str], stand_in: StandIn, *, most_seeds: int, rough: bool
) -> dict[str, list[list[Architecture]]]:
    runs: dict[str, list[list[Architecture]]] = {name: [] for name in names}
    for name in names:
        contender = CONTENDERS[name]
        start_s = time.process_time()
        for seed in range(min(contender.num_seeds, most_seeds)):
            runs[name].append(replay(contender, stand_in, seed=seed, rough=rough))
        for seed, run in enumerate(runs[name]):
            if len(run) < contender.num_evaluations:
                print(f"{name}, seed {seed}: repeats itself after {len(run)} architectures")
        cost_s = (time.process_time() - start_s) / sum(map(len, runs[name]))
        print(f"{name}: {1000 * cost_s:.0f} ms of CPU time an evaluation", file=sys.stderr, flush=True)
    return runs


def _show(title: str, histories: Mapping[str, Sequence[Floats]]) -> None:
    print(f"\nnormalised hypervolume, {title}: mean (standard deviation over seeds) after so many evaluations")
    print(f"{'':34}seeds" + "".join(f"{moment:>15}" for moment in MOMENTS))
    for name, each in histories.items():
        cells = [_at(each, moment) for moment in MOMENTS if all(len(one) >= moment for one in each)]
        shown = "".join(f"{cell.mean():>7.3f} ({cell.std():.3f})" for cell in cells)
        print(f"{name:34}{len(each):>5}{shown}")


def _at(histories: Sequence[Floats], moment: int) -> Floats:
    return np.array([history[moment - 1] for history in histories])


def _figure(name: str, histories: Mapping[str, Sequence[Floats]], *, rival: str, moment: int) -> None:
    own, its = _at(histories[DEFAULT], 50), _at(histories[rival], moment)
    verdict = "met" if own.mean() >= its.mean() else "short"
    print(
        f"{DEFAULT} at 50: {own.min():.3f} to {own.max():.3f}; {rival} at {moment}: {its.min():.3f} to {its.max():.3f}"
    )
    print(f"figure: {name} {own.mean():.3f} target=>={its.mean():.3f} {verdict}")


if __name__ == "__main__":
    main()
