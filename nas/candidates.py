"""A teacher's candidates: projected from it, and shown where they correspond to it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from nas.artifacts import ArtifactFolder
from nas.calibration import CALIBRATION_TOKENS, calibration_sample
from nas.channels import ChannelPlanner, kept_layers
from nas.distillation import Correspondence
from nas.moments import RIDGE
from nas.packed import pack_splits
from nas.pieces import CutProjector
from nas.projection import SequentialProjector
from nas.teacher import Teacher
from nas.teacher_pass import TeacherTrace, TeacherWeights, load_or_collect, trace_teacher
from nas.teacher_states import TeacherStates
from nas.tokens import EncodedSplit, TokenizedTask
from nas.training import predict
from search_spaces.architecture import Architecture
from search_spaces.bert import Bert, build

# Part of every settings_id: raise it when a change to the projection makes other weights of the same settings.
PROJECTION_VERSION = 3
# Of the dev split. A token of BERT-base takes some 30 kB on the way through a layer.
MAX_PACKED_TOKENS = 131_072


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Projected:
    """A candidate's weights, and its logits for the dev split, (examples, labels) in its order."""

    state: dict[str, Tensor]
    logits: Tensor


class Candidates:
    """Projects architectures from one teacher on one task.

    The teacher runs over the data once, when the first candidate is asked for.
    """

    def __init__(
        self, data: TokenizedTask, teacher: Teacher, *, artifacts: ArtifactFolder, seed: int, device: str
    ) -> None:
        self.data = data
        self.teacher = teacher
        self._artifacts = artifacts
        self._seed = seed
        self._device = device

    @property
    def settings(self) -> dict[str, object]:
        """All that defines a projection besides the architecture, as JSON values."""
        return {
            "projection_version": PROJECTION_VERSION,
            "task": self.data.content_sha256,
            "sequence_length": self.data.sequence_length,
            "teacher": self.teacher.teacher_id,
            "calibration_tokens": CALIBRATION_TOKENS,
            "ridge": RIDGE,
            "seed": self._seed,
        }

    def project(self, arch: Architecture) -> Projected:
        """Project one architecture.

        Raises:
            SettingsError: If it does not fit into the teacher.
            ArtifactError: If the teacher's kept statistics are not of this release.
            OSError: If they cannot be read or written.
        """
        state, logits = self._projector.project_and_run(arch)
        if self._is_dev_packed:
            return Projected(state=state, logits=self._in_order(logits))
        network = self._network_of(arch, state)
        return Projected(state=state, logits=predict(network, self.data.dev, device=self._device))

    @cached_property
    def teacher_logits(self) -> Tensor:
        """The teacher's logits for the dev split, (examples, labels) in its order."""
        if self._is_dev_packed:
            return self._in_order(self._trace.logits.cpu())
        return predict(self.teacher.network(), self.data.dev, device=self._device)

    def cut(self, arch: Architecture) -> dict[str, Tensor]:
        """Return the teacher's own weights inside the candidate's shape, for comparison. Raises as `project` does."""
        return CutProjector(self.teacher, self.planner).project(arch)

    def network(self, arch: Architecture) -> Bert:
        """Build the projected network of ``arch``, without dropout. Raises as `project` does."""
        return self._network_of(arch, self._projector.project(arch))

    def _network_of(self, arch: Architecture, state: dict[str, Tensor]) -> Bert:
        with torch.random.fork_rng(devices=[]):
            network = build(arch, num_labels=self.data.task.num_labels, dropout=0.0)
        network.load_state_dict(state)
        return network

    def correspondence(self, arch: Architecture) -> Correspondence:
        """Return where the states of a candidate are found in the teacher."""
        layers = kept_layers(self.teacher.arch.num_hidden_layers, arch.num_hidden_layers)
        channels = self.planner.plan(layers[-1], arch.blocks[-1], arch)
        return Correspondence(layers=layers, hidden=channels.hidden, heads=channels.heads)

    @cached_property
    def teacher_states(self) -> TeacherStates:
        """The teacher as distillations of several candidates see it."""
        folder = self._artifacts.path if self._device == "cpu" else None
        return TeacherStates(self.teacher.network(), device=self._device, folder=folder)

    @cached_property
    def _calibration(self) -> EncodedSplit:
        return calibration_sample(self.data.train, seed=self._seed)

    @cached_property
    def planner(self) -> ChannelPlanner:
        """The choice of channels, common to all candidates."""
        statistics_id = (
            f"{self.teacher.teacher_id}-{self.data.content_sha256[:12]}-{CALIBRATION_TOKENS}-{self._seed}"
            f"-{PROJECTION_VERSION}"
        )
        statistics = load_or_collect(
            self._artifacts, statistics_id, self.teacher, self._calibration, device=self._device
        )
        return ChannelPlanner(self.teacher, statistics)

    @cached_property
    def _trace(self) -> TeacherTrace:
        splits = [self._calibration, self.data.dev] if self._is_dev_packed else [self._calibration]
        packed = pack_splits(self.teacher.network(), splits, device=self._device)
        return trace_teacher(TeacherWeights(self.teacher, device=self._device), packed)

    @cached_property
    def _projector(self) -> SequentialProjector:
        return SequentialProjector(self.teacher, self.planner, self._trace)

    @property
    def _is_dev_packed(self) -> bool:
        """Whether the dev split goes through the projection's own pass: faster, but it is in memory at once."""
        return int(self.data.dev.lengths.sum()) <= MAX_PACKED_TOKENS

    def _in_order(self, logits: Tensor) -> Tensor:
        """Return the dev split's rows of logits in packed order, in the order of the split."""
        packed = self._trace.packed
        start = packed.example_ends[0]
        ordered = torch.empty_like(logits[start:])
        ordered[packed.examples[start:]] = logits[start:]
        return ordered
