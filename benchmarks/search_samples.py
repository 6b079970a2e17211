"""Architectures with real projected accuracies and measured latencies, from which other benchmarks learn.

Three kinds. ``drawn``: the ``grouped`` space around MiniLM, all sizes.
``front``: what an evolution from those finds best by a surrogate of their
accuracies and a rough price. ``large``: BERT-base scale, latency only. Projected
accuracies are of SST-2; latencies are of this machine, ONNX Runtime, one
thread, candidate and reference by turns within one process: neighbours on this
shared processor change its speed more often than the protocol's processes last.
Everything is kept as it comes, so a stopped run goes on, and the result is
one compressed file of JSON lines.

    python -m benchmarks.search_samples accuracies --data DATA --work WORK
    chrt -f 50 taskset -c 0 python -m benchmarks.search_samples latencies --work WORK

As root, `chrt` keeps everything else off the core that measures; otherwise the
machine has to be idle.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.alternation import MIN_SESSIONS, Quickest, half_width, log_ratios_to, ratio_interval
from benchmarks.recordings import MINILM, SEQUENCE_LENGTH, read_rows
from benchmarks.surrogate import AccuracySurrogate
from benchmarks.teachers import open_bench
from nas.accuracy import score_logits
from nas.candidates import Candidates
from nas.latency_design import draw_leaning
from nas.promotion import survivors
from nas.timed_models import TimedModels
from search_spaces.architecture import FFN_POSITIONS, GROUP_POSITIONS, Architecture
from search_spaces.reference import BERT_BASE, squeezebert_rule
from search_spaces.space import Space, make_space

Floats = NDArray[np.float64]

SEED = 0
NUM_OF_KIND = {"drawn": 150, "front": 150, "large": 80}
KINDS = ("drawn", "front")
NUM_SCORED = {"drawn": 80, "front": 40}
# A guess to start the evolution with: a doubling of groups makes a multiplication this share dearer.
PRICE_OF_DOUBLING = 0.25
MAX_SESSIONS = 40
NUM_GENERATIONS = 40
POPULATION_SIZE = 60


def main() -> None:
    parser = argparse.ArgumentParser(description="Collect architectures with accuracies and latencies.")
    parser.add_argument("stage", choices=("accuracies", "latencies"))
    parser.add_argument("--data", type=Path, help="folder with one subfolder a task; for accuracies")
    parser.add_argument("--work", type=Path, required=True, help="folder for teachers and results")
    parser.add_argument("--minutes", type=float, default=600.0, help="how long to go on collecting")
    arguments = parser.parse_args()
    deadline = time.monotonic() + 60 * arguments.minutes
    if arguments.stage == "accuracies":
        torch.set_num_threads(1)
        collect_accuracies(arguments.data, arguments.work, deadline=deadline)
    else:
        collect_latencies(arguments.work, deadline=deadline)


def collect_accuracies(data: Path, work: Path, *, deadline: float) -> None:
    """Project the drawn architectures, then those near their front."""
    bench = open_bench("sst2", data=data, work=work)
    candidates = Candidates(bench.data, bench.teacher, artifacts=bench.artifacts, seed=SEED, device="cpu")
    lines = Lines(work / "search_accuracies.jsonl")
    space = make_space("grouped", bench.teacher.arch)

    def accuracies_of(kind: str, archs: Sequence[Architecture]) -> list[float]:
        for arch in archs:
            if arch.arch_id not in lines.rows and time.monotonic() < deadline:
                start_s = time.process_time()
                logits = candidates.project(arch).logits
                score = score_logits(
                    logits,
                    bench.data,
                    evaluator="projected",
                    seed=SEED,
                    duration_s=time.process_time() - start_s,
                    weights_sha256=None,
                    teacher_logits=candidates.teacher_logits,
                )
                lines.add({
                    "kind": kind,
                    "arch_id": arch.arch_id,
                    "architecture": arch.to_json(),
                    "accuracy": score.interval.estimate,
                    "divergence": score.teacher_divergence,
                    "cpu_s": round(score.duration_s, 2),
                })  # fmt: skip
        return [lines.rows[arch.arch_id]["accuracy"] for arch in archs if arch.arch_id in lines.rows]

    drawn = draw(space, NUM_SCORED["drawn"])
    accuracies = accuracies_of("drawn", drawn)
    if len(accuracies) == len(drawn):
        accuracies_of("front", evolve(space, drawn, accuracies)[: NUM_SCORED["front"]])


def draw(space: Space, count: int) -> list[Architecture]:
    """Draw distinct architectures of all sizes, the space's dense designs among them."""
    generator = np.random.default_rng(SEED)
    archs = dict.fromkeys(space.dense_designs)
    while len(archs) < count:
        archs[draw_leaning(space, generator)] = None
    return list(archs)


def evolve(space: Space, drawn: Sequence[Architecture], accuracies: Sequence[float]) -> list[Architecture]:
    """Return the best that mutation of the drawn architectures finds, by surrogate accuracy and a rough price."""
    generator = np.random.default_rng(SEED + 1)
    surrogate = AccuracySurrogate(drawn, accuracies, teacher=space.teacher)
    seen: dict[Architecture, None] = dict.fromkeys(drawn)

    def best(archs: list[Architecture], count: int) -> list[Architecture]:
        losses = np.column_stack([-surrogate(archs), [rough_price(arch) for arch in archs]])
        return [archs[i] for i in survivors(losses, share=min(1.0, count / len(archs)))]

    parents = best(list(drawn), POPULATION_SIZE)
    for _ in range(NUM_GENERATIONS):
        children = [mutate(space, parent, generator) for parent in parents]
        seen |= dict.fromkeys(children)
        parents = best(list(dict.fromkeys([*parents, *children])), POPULATION_SIZE)
    chosen = best([arch for arch in seen if arch not in set(drawn)], NUM_OF_KIND["front"])
    return [chosen[i] for i in generator.permutation(len(chosen))]


def mutate(space: Space, arch: Architecture, generator: np.random.Generator) -> Architecture:
    """Move one to four answers by one place."""
    answers = space.answers_for(arch)
    for name in generator.choice(list(space.parameters), size=generator.integers(1, 5), replace=False).tolist():
        options = space.parameters[name]
        place = options.index(answers[name]) + int(generator.choice((-1, 1)))
        answers[name] = options[min(max(place, 0), len(options) - 1)]
    return space.build(answers)


def rough_price(arch: Architecture) -> float:
    """Return multiply-accumulates a token of all convolutions, dearer the more groups they have."""
    price = 0.0
    for block in arch.blocks:
        for position in GROUP_POSITIONS:
            width = block.intermediate_size if position in FFN_POSITIONS else arch.all_head_size(block)
            groups = getattr(block, position)
            price += arch.hidden_size * width / groups * (1 + PRICE_OF_DOUBLING * np.log2(groups))
    return price


@dataclass(frozen=True, slots=True)
class Scale:
    """Architectures of one size with their kinds, what they are timed against, and to how much to each side."""

    name: str
    archs: dict[Architecture, str]
    reference: Architecture
    goal: float


def scales(work: Path) -> Iterator[Scale]:
    """Return what is to be timed."""
    rows = Lines(work / "search_accuracies.jsonl").rows
    space = make_space("grouped", MINILM)
    drawn = draw(space, NUM_OF_KIND["drawn"])
    scored = drawn[: NUM_SCORED["drawn"]]
    front = evolve(space, scored, [rows[arch.arch_id]["accuracy"] for arch in scored])
    # By turns from both kinds, so that a run that was stopped has some of each.
    small = {arch: kind for pair in zip(drawn, front, strict=True) for arch, kind in zip(pair, KINDS, strict=True)}
    yield Scale("minilm", small, squeezebert_rule(MINILM), goal=0.01)
    large = dict.fromkeys(draw(make_space("grouped", BERT_BASE), NUM_OF_KIND["large"]), "large")
    yield Scale("bert-base", large, squeezebert_rule(BERT_BASE), goal=0.02)


def collect_latencies(work: Path, *, deadline: float) -> None:
    """Time everything against its scale's SqueezeBERT rule."""
    lines = Lines(work / "search_latencies.jsonl")
    for scale in scales(work):
        quickest = Quickest()
        for arch, kind in scale.archs.items():
            if time.monotonic() > deadline:
                return
            known = lines.rows[arch.arch_id]["log_ratios"] if arch.arch_id in lines.rows else []
            if len(known) < MIN_SESSIONS or (len(known) < MAX_SESSIONS and half_width(np.array(known)) > scale.goal):
                with tempfile.TemporaryDirectory() as folder:
                    ours, theirs = (model_file(each, Path(folder)) for each in (arch, scale.reference))
                    sessions = log_ratios_to(scale.goal, ours, theirs, quickest, known=known, max_sessions=MAX_SESSIONS)
                if len(sessions) < MIN_SESSIONS:
                    print(f"{arch.arch_id}: the machine is too busy; run again", file=sys.stderr, flush=True)
                    continue
                estimate, low, high = ratio_interval(sessions)
                lines.add({
                    "scale": scale.name,
                    "kind": kind,
                    "arch_id": arch.arch_id,
                    "architecture": arch.to_json(),
                    "reference": scale.reference.to_json(),
                    "ratio": round(estimate, 6),
                    "ratio_low": round(low, 6),
                    "ratio_high": round(high, 6),
                    "log_ratios": [round(each, 5) for each in sessions.tolist()],
                })  # fmt: skip


def model_file(arch: Architecture, folder: Path) -> Path:
    """Write what a search times of an architecture."""
    models = TimedModels(folder, runtime="onnxruntime", sequence_length=SEQUENCE_LENGTH, num_labels=2)
    return models.export(arch).path


class Lines:
    """Rows by ``arch_id``, one JSON line each, kept as they come."""

    def __init__(self, path: Path) -> None:
        self._path = path
        rows = read_rows(path) if path.exists() else []
        self.rows: dict[str, dict[str, Any]] = {row["arch_id"]: row for row in rows}

    def add(self, row: dict[str, Any]) -> None:
        """Keep one more row."""
        self.rows[row["arch_id"]] = row
        with self._path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        shown = {name: value for name, value in row.items() if name not in ("architecture", "reference", "log_ratios")}
        print(f"{len(self.rows)}: {shown}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
