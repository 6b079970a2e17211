"""A teacher with random weights and sentences of random words: all that projections need."""

from __future__ import annotations

import torch

from nas.channels import ChannelPlanner
from nas.packed import pack_splits
from nas.pieces import CutProjector, TeacherInputProjector
from nas.projection import SequentialProjector
from nas.teacher import Teacher
from nas.teacher_pass import TeacherWeights, collect_statistics, trace_teacher
from nas.text_tokenizers import standard_tokenizer
from nas.tokens import EncodedSplit
from search_spaces.architecture import Architecture
from search_spaces.bert import Bert, build

VOCAB_SIZE = 60


def random_teacher(arch: Architecture, *, num_labels: int = 3, std: float = 0.2, seed: int = 0) -> Teacher:
    """A teacher of this shape whose weights are large enough for every layer to matter."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = build(arch, num_labels=num_labels, dropout=0.0)
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=std)
        for name, parameter in network.named_parameters():
            if name.endswith("layer_norm.weight"):
                torch.nn.init.normal_(parameter, mean=1.0, std=std)
    return Teacher(
        teacher_id="random",
        origin="random",
        arch=arch,
        tokenizer=standard_tokenizer(),
        task="random",
        label_names=tuple(f"label{i}" for i in range(num_labels)),
        state=network.state_dict(),
        dev_metrics=(),
    )


def random_split(num_examples: int, *, max_length: int = 9, seed: int = 0) -> EncodedSplit:
    """Sentences of random words, of two tokens or more."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(2, max_length + 1, (num_examples,), generator=generator)
    ids = torch.randint(1, VOCAB_SIZE, (num_examples, max_length), generator=generator)
    ids[torch.arange(max_length) >= lengths[:, None]] = 0
    return EncodedSplit(
        input_ids=ids.int(),
        token_type_ids=torch.zeros_like(ids).to(torch.int8),
        lengths=lengths,
        labels=torch.randint(0, 2, (num_examples,), generator=generator),
    )


class Projections:
    """All projectors of a teacher, fitted on one sample, with a second split to look at."""

    def __init__(self, teacher: Teacher, calibration: EncodedSplit, dev: EncodedSplit) -> None:
        self.teacher = teacher
        self.calibration = calibration
        self.dev = dev
        self.statistics = collect_statistics(teacher, calibration, device="cpu")
        self.planner = ChannelPlanner(teacher, self.statistics)
        packed = pack_splits(teacher.network(), [calibration, dev], device="cpu")
        self.trace = trace_teacher(TeacherWeights(teacher, device="cpu"), packed)
        self.sequential = SequentialProjector(teacher, self.planner, self.trace)
        self.from_teacher_inputs = TeacherInputProjector(teacher, self.planner, self.statistics)
        self.cut = CutProjector(teacher, self.planner)


def network_of(arch: Architecture, state: dict[str, torch.Tensor]) -> Bert:
    """The network of an architecture with these weights."""
    network = build(arch, num_labels=len(state["classifier.bias"]), dropout=0.0)
    network.load_state_dict(state)
    return network.eval()
