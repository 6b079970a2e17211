"""What a projected candidate costs, and how good it is without any training.

MiniLM fine-tuned on all of SST-2 (one pass), projected onto uniform groups and
narrower shapes. Side by side: the teacher's weights cut to the shape, least
squares on the teacher's inputs, and the sequential projection that is fidelity
0; the sequential one also without ordering heads and FFN channels, and with
half and twice the calibration tokens (channels are those of the default).

    python -m benchmarks.projection --data DATA --work WORK
"""

from __future__ import annotations

import statistics
import time
from dataclasses import replace

import torch
from torch import Tensor

from benchmarks.teachers import Bench, bench_arguments, open_bench
from nas.calibration import CALIBRATION_TOKENS, calibration_sample
from nas.channels import ChannelPlanner, LayerChannels, kept_layers
from nas.packed import pack_splits
from nas.pieces import CutProjector, TeacherInputProjector
from nas.projection import SequentialProjector
from nas.teacher_pass import TeacherStatistics, TeacherWeights, collect_statistics, trace_teacher
from nas.tokens import EncodedSplit
from nas.training import predict
from search_spaces.architecture import GROUP_POSITIONS, Architecture, Block
from search_spaces.bert import build
from search_spaces.reference import squeezebert_rule

SEED = 0
DENSE = dict.fromkeys(GROUP_POSITIONS, 1)
# Name -> points that may be lost to the teacher.
LIMITS = {"groups_2": 4.0, "squeezebert_rule": 7.0, "groups_8": 10.0}


class UnorderedPlanner(ChannelPlanner):
    """Keeps the same channels, in the teacher's own order whatever the groups."""

    def plan(self, layer: int, block: Block, arch: Architecture) -> LayerChannels:
        """See `ChannelPlanner.plan`."""
        return super().plan(layer, replace(block, **DENSE), _dense(arch))

    def hidden(self, arch: Architecture) -> Tensor:
        """See `ChannelPlanner.hidden`."""
        return super().hidden(_dense(arch))


def _dense(arch: Architecture) -> Architecture:
    return replace(arch, blocks=tuple(replace(block, **DENSE) for block in arch.blocks))


def shapes(teacher: Architecture) -> dict[str, Architecture]:
    """Return the candidates, all layers alike."""

    def uniform(**numbers: int) -> Architecture:
        return replace(teacher, blocks=tuple(replace(block, **numbers) for block in teacher.blocks))

    block = teacher.blocks[0]
    grouped = {f"groups_{g}": uniform(**dict.fromkeys(GROUP_POSITIONS, g)) for g in (2, 4, 8, 16)}
    return {
        **grouped,
        "squeezebert_rule": squeezebert_rule(teacher),
        "half_the_ffn": uniform(intermediate_size=block.intermediate_size // 2),
        "half_the_heads": uniform(num_attention_heads=block.num_attention_heads // 2),
        "half_the_layers": replace(teacher, blocks=teacher.blocks[: len(teacher.blocks) // 2]),
        "half_the_hidden": replace(teacher, hidden_size=teacher.hidden_size // 2),
    }


class Fitted:
    """The projectors of a teacher on one calibration sample, with the dev split behind it."""

    def __init__(self, bench: Bench, calibration: EncodedSplit, statistics: TeacherStatistics) -> None:
        teacher, network = bench.teacher, bench.teacher.network()
        weights = TeacherWeights(teacher, device="cpu")
        packed = pack_splits(network, [calibration, bench.data.dev], device="cpu")
        self.trace = trace_teacher(weights, packed)
        self.planner = ChannelPlanner(teacher, statistics)
        self.sequential = SequentialProjector(teacher, self.planner, self.trace)
        self.unordered = SequentialProjector(teacher, UnorderedPlanner(teacher, statistics), self.trace)
        alone = trace_teacher(weights, pack_splits(network, [calibration], device="cpu"))
        self.without_dev = SequentialProjector(teacher, self.planner, alone)
        self.from_teacher_inputs = TeacherInputProjector(teacher, self.planner, statistics)
        self.cut = CutProjector(teacher, self.planner)

    def accuracy(self, projector: SequentialProjector, arch: Architecture, labels: Tensor) -> float:
        """Return dev accuracy, in percent, of the logits that the projection itself comes to."""
        start = self.trace.packed.example_ends[0]
        predicted = projector.project_and_run(arch)[1][start:].argmax(dim=1)
        return percent(predicted == labels[self.trace.packed.examples[start:]])


def percent(hits: Tensor) -> float:
    return 100 * float(hits.double().mean())


def assembled_accuracy(bench: Bench, arch: Architecture, state: dict[str, Tensor]) -> float:
    network = build(arch, num_labels=bench.data.task.num_labels, dropout=0.0)
    network.load_state_dict(state)
    return percent(predict(network, bench.data.dev, device="cpu").argmax(dim=1) == bench.data.dev.labels)


def main() -> None:
    arguments = bench_arguments("Cost and quality of projected candidates.").parse_args()
    bench = open_bench("sst2", data=arguments.data, work=arguments.work)
    teacher_accuracy = 100 * dict(bench.teacher.dev_metrics)["accuracy"]
    labels = bench.data.dev.labels
    start_s = time.perf_counter()
    calibration = calibration_sample(bench.data.train, seed=SEED)
    statistics_of_teacher = collect_statistics(bench.teacher, calibration, device="cpu")
    collect_s = time.perf_counter() - start_s
    fitted = Fitted(bench, calibration, statistics_of_teacher)
    print(f"teacher {teacher_accuracy:.1f} %, {len(calibration)} sentences, {torch.get_num_threads()} threads")
    print(f"{'shape':18s} {'cut':>6s} {'inputs':>6s} {'sequential':>10s} {'unordered':>9s}  seconds")
    found: dict[str, float] = {}
    candidate_s, sequential_s, pieces_s = [], [], []
    for name, arch in shapes(bench.teacher.arch).items():
        # Channels are chosen once for all candidates.
        for source, block in zip(
            kept_layers(bench.teacher.arch.num_hidden_layers, arch.num_hidden_layers), arch.blocks, strict=True
        ):
            fitted.planner.plan(source, block, arch)
        start_s = time.perf_counter()
        found[name] = fitted.accuracy(fitted.sequential, arch, labels)
        candidate_s.append(time.perf_counter() - start_s)
        start_s = time.perf_counter()
        fitted.without_dev.project(arch)
        sequential_s.append(time.perf_counter() - start_s)
        fitted.from_teacher_inputs.project(arch)
        start_s = time.perf_counter()
        pieces = fitted.from_teacher_inputs.project(arch)
        pieces_s.append(time.perf_counter() - start_s)
        print(
            f"{name:18s} {assembled_accuracy(bench, arch, fitted.cut.project(arch)):6.1f} "
            f"{assembled_accuracy(bench, arch, pieces):6.1f} {found[name]:10.1f} "
            f"{fitted.accuracy(fitted.unordered, arch, labels):9.1f}  {candidate_s[-1]:.1f}",
            flush=True,
        )
    for num_tokens in (CALIBRATION_TOKENS // 2, 2 * CALIBRATION_TOKENS):
        other = Fitted(
            bench, calibration_sample(bench.data.train, seed=SEED, num_tokens=num_tokens), statistics_of_teacher
        )
        values = {name: other.accuracy(other.sequential, shapes(bench.teacher.arch)[name], labels) for name in LIMITS}
        print(f"{num_tokens} calibration tokens: " + ", ".join(f"{k} {v:.1f}" for k, v in values.items()), flush=True)
    for name, value, limit in (
        ("projection_collect", collect_s, 60.0),
        ("projection_candidate", statistics.median(candidate_s), 4.0),
        ("projection_assemble_pieces", statistics.median(pieces_s), 0.2),
        ("projection_assemble_sequential", statistics.median(sequential_s), 2.0),
    ):
        print(f"figure: {name} {value:.2f} s target=<={limit:g} {'met' if value <= limit else 'short'}")
    for name, points in LIMITS.items():
        lost = teacher_accuracy - found[name]
        state = "met" if lost <= points else "short"
        print(f"figure: projection_{name} -{lost:.1f} points to the teacher target=>=-{points:g} {state}")


if __name__ == "__main__":
    main()
