"""Would one set of shared weights rank candidates better than projections do, at equal cost?

A supernet of the teacher's size is trained by the sandwich rule (Yu and Huang,
arXiv 1903.05134): every step the largest network, the smallest and two drawn
ones, all learning in place from the teacher. A candidate takes from it what a
candidate cut from the teacher takes: the channels, heads and layers that the
planner keeps, and inside groups the diagonal blocks. So it inherits its weights
at no cost, and is scored without a step of its own.

The shared weights begin as the teacher's, or as what projections of drawn
candidates have on average in every place that some of them have (the teacher's
elsewhere), whichever is better before training. Afterwards every candidate of
`benchmarks.ranking` whose distilled accuracy is known is scored, on the same
rows, and Kendall's tau is set beside that of the projected accuracy.

    python -m benchmarks.supernet --data DATA --work WORK --minutes 25
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from scipy.stats import kendalltau
from torch import Tensor, nn
from torch.func import functional_call

from benchmarks.ranking import (
    NUM_STEPS,
    SEED,
    Results,
    accuracy,
    draw_samples,
    held_back,
    tau_within_bins,
    weights_sha256,
)
from benchmarks.recordings import RANKING, RANKING_SAMPLES
from benchmarks.teachers import Bench, bench_arguments, open_bench
from nas.accuracy import LOSS_WEIGHTS, PRETRAINED_RECIPES
from nas.candidates import Candidates
from nas.channels import ChannelPlanner
from nas.distillation import DistillationLoss
from nas.latency_design import draw_leaning
from nas.pieces import CutProjector
from nas.teacher import Teacher
from nas.tokens import Batch, EncodedSplit, training_batches
from nas.training import MAX_GRADIENT_NORM, learning_rate_factor
from search_spaces.architecture import Architecture
from search_spaces.bert import build
from search_spaces.space import Space, make_space

NUM_DRAWN = 2
NUM_AVERAGED = 12
# Steps of the schedule are planned from the time that the first few take.
NUM_TIMED_STEPS = 5
NUM_PREVIEWED = 6
NUM_PREVIEW_ROWS = 872


class Supernet:
    """Shared weights in the teacher's coordinates, from which every candidate is cut."""

    def __init__(self, teacher: Teacher, planner: ChannelPlanner, state: Mapping[str, Tensor]) -> None:
        self.weights = {name: tensor.clone().requires_grad_() for name, tensor in state.items()}
        self._cut = CutProjector(replace(teacher, state=self.weights), planner)

    def state(self, arch: Architecture) -> dict[str, Tensor]:
        """Return a candidate's weights; a gradient flows back into the shared ones."""
        return self._cut.project(arch)

    def inherited(self, arch: Architecture) -> dict[str, Tensor]:
        """Return a candidate's weights by themselves."""
        with torch.no_grad():
            return self.state(arch)


class _Candidate(nn.Module):
    """A candidate with the loss that it learns by, for a call with weights from elsewhere."""

    def __init__(self, arch: Architecture, bench: Bench, candidates: Candidates) -> None:
        super().__init__()
        self.network = build(arch, num_labels=bench.data.task.num_labels, dropout=0.0)
        self._loss = DistillationLoss(
            candidates.teacher_states,
            candidates.correspondence(arch),
            kind=bench.data.task.kind,
            weights=LOSS_WEIGHTS,
        )

    def forward(self, batch: Batch) -> Tensor:
        return self._loss(self.network, batch)


def averaged_projections(
    teacher: Teacher, planner: ChannelPlanner, candidates: Candidates, archs: Sequence[Architecture]
) -> dict[str, Tensor]:
    """Return the teacher's weights, replaced by the mean over the projections that have a weight in a place."""
    shared = Supernet(teacher, planner, teacher.state)
    sums = {name: torch.zeros_like(tensor) for name, tensor in teacher.state.items()}
    counts = {name: torch.zeros_like(tensor) for name, tensor in teacher.state.items()}
    for arch in archs:
        projected, cut = candidates.project(arch).state, shared.state(arch)
        # Cutting copies weights; its gradient puts weights back to where they were copied from.
        for total, wanted in ((sums, projected), (counts, {name: torch.ones_like(t) for name, t in projected.items()})):
            value = torch.stack([(cut[name] * wanted[name]).sum() for name in cut]).sum()
            gradients = torch.autograd.grad(
                value, list(shared.weights.values()), retain_graph=total is sums, materialize_grads=True
            )
            for name, gradient in zip(shared.weights, gradients, strict=True):
                total[name] += gradient
    return {
        name: torch.where(counts[name] > 0, sums[name] / counts[name].clamp_min(1), tensor)
        for name, tensor in teacher.state.items()
    }


def train(supernet: Supernet, bench: Bench, candidates: Candidates, space: Space, *, budget_s: float) -> int:
    """Train for ``budget_s`` of this process's CPU time by the sandwich rule, and return the number of steps."""
    generator = np.random.default_rng(SEED)
    recipe = PRETRAINED_RECIPES["distilled"]
    parameters = list(supernet.weights.values())
    optimizer = torch.optim.AdamW(parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True)
    known = {name: _Candidate(arch, bench, candidates) for name, arch in extremes(space).items()}
    batches = training_batches(
        bench.data.train.lengths, batch_size=recipe.batch_size, seed=SEED, first_step=0, num_steps=10**6
    )
    start_s, num_steps = time.process_time(), NUM_TIMED_STEPS
    for step, rows in enumerate(batches):
        spent_s = time.process_time() - start_s
        if step >= NUM_TIMED_STEPS:
            num_steps = max(step + 1, int(step * budget_s / spent_s))
        if step and spent_s >= budget_s:
            return step
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * learning_rate_factor(
                min(step, num_steps - 1), num_steps=num_steps, warmup=recipe.warmup
            )
        batch = bench.data.train.batch(rows)
        drawn = [_Candidate(draw_leaning(space, generator), bench, candidates) for _ in range(NUM_DRAWN)]
        losses = []
        for candidate in (*known.values(), *drawn):
            state = supernet.state(candidate.network.arch)
            loss = functional_call(candidate, {f"network.{name}": each for name, each in state.items()}, (batch,))
            (loss / (len(known) + NUM_DRAWN)).backward()
            losses.append(float(loss.detach()))
        nn.utils.clip_grad_norm_(parameters, MAX_GRADIENT_NORM)
        optimizer.step()
        optimizer.zero_grad()
        if step % 50 == 0:
            shown = ", ".join(f"{value:.2f}" for value in losses)
            print(f"step {step} of about {num_steps}, {spent_s:.0f} CPU s: losses {shown}", flush=True)
    return num_steps


def extremes(space: Space) -> dict[str, Architecture]:
    """Return the largest and the smallest network of a space."""
    return {
        name: space.sample(
            lambda question, options: options[-1 if question.endswith("_groups") is (name == "smallest") else 0]  # noqa: B023
        )
        for name in ("largest", "smallest")
    }


def preview(supernet: Supernet, archs: Sequence[Architecture], rows: EncodedSplit) -> float:
    """Return the mean accuracy, in percent, of some candidates with the weights that they inherit."""
    return float(np.mean([100 * accuracy(arch, supernet.inherited(arch), rows) for arch in archs]))


def main() -> None:
    parser = bench_arguments("Ranking by shared weights, beside ranking by projections.")
    parser.add_argument("--minutes", type=float, default=25.0, help="CPU time of the supernet's training")
    arguments = parser.parse_args()
    bench = open_bench("sst2", data=arguments.data, work=arguments.work)
    candidates = Candidates(bench.data, bench.teacher, artifacts=bench.artifacts, seed=SEED, device="cpu")
    planner = candidates.planner
    space = make_space("grouped", bench.teacher.arch)
    judged_on = held_back(bench)
    generator = np.random.default_rng(SEED + 1)
    archs = [draw_leaning(space, generator) for _ in range(NUM_AVERAGED)]
    start_s = time.process_time()
    averaged = averaged_projections(bench.teacher, planner, candidates, [*extremes(space).values(), *archs])
    averaging_s = time.process_time() - start_s
    starts = {
        "teacher": Supernet(bench.teacher, planner, bench.teacher.state),
        "averaged projections": Supernet(bench.teacher, planner, averaged),
    }
    rows = judged_on.select(torch.arange(NUM_PREVIEW_ROWS))
    previews = {name: preview(supernet, archs[:NUM_PREVIEWED], rows) for name, supernet in starts.items()}
    print(", ".join(f"{name}: {value:.1f} % before training" for name, value in previews.items()), flush=True)
    best = max(previews, key=lambda name: previews[name])
    num_steps = train(starts[best], bench, candidates, space, budget_s=60 * arguments.minutes)
    print(f"from {best}: {num_steps} steps in {arguments.minutes:g} CPU minutes and {averaging_s:.0f} s of averaging")
    report(starts[best], bench, judged_on, arguments)


def report(supernet: Supernet, bench: Bench, judged_on: EncodedSplit, arguments: argparse.Namespace) -> None:
    """Score what is known of the two samples, and print both ways' tau and accuracy."""
    recipe = weights_sha256(bench.teacher), NUM_STEPS, len(judged_on)
    results = Results(arguments.work / "ranking.jsonl", recipe=recipe, recorded=RANKING).rows
    pairs = {
        name: [(arch, ratio) for arch, ratio in of_sample if (arch.arch_id, SEED) in results]
        for name, of_sample in draw_samples(bench, RANKING_SAMPLES).items()
    }
    path = arguments.work / "supernet.jsonl"
    path.unlink(missing_ok=True)
    scored: dict[str, dict[str, float]] = {}
    for arch, _ in (pair for of_sample in pairs.values() for pair in of_sample):
        row = {**results[arch.arch_id, SEED], "supernet": accuracy(arch, supernet.inherited(arch), judged_on)}
        scored[arch.arch_id] = row
        with path.open("a") as file:
            file.write(json.dumps(row) + "\n")
    whole = [scored[arch.arch_id] for arch, _ in pairs["whole"]]
    within = [(scored[arch.arch_id], ratio) for of_sample in pairs.values() for arch, ratio in of_sample]
    truth = [row["distilled"] for row in whole]
    print(f"candidates: {len(whole)} of the whole space, {len(within)} in all")
    found = {}
    for name in ("supernet", "projected"):
        over_all = float(kendalltau([row[name] for row in whole], truth).statistic)
        found[name] = (over_all, tau_within_bins(within, lambda row: row[name]))  # noqa: B023 - called at once
        mean = 100 * np.mean([row[name] for row, _ in within])
        print(
            f"{name:10s} tau {over_all:.3f} over the space, {found[name][1]:.3f} inside +-10 % of latency; {mean:.1f} %"
        )
    print(f"{'distilled':10s} {100 * np.mean([row['distilled'] for row, _ in within]):.1f} %")
    for place, label in enumerate(("supernet_whole_space", "supernet_inside_latency_bins")):
        ours, theirs = found["supernet"][place], found["projected"][place]
        state = "met" if ours > theirs else "short"
        print(f"figure: {label} {ours:.3f} tau target=>{theirs:.3f}, the projected accuracy's {state}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
