"""Spaces of architectures, written once and drawn from by anything.

A space asks for one named choice at a time. It does not know who answers: an
Optuna trial, a random generator, or Hypothesis. Options are ordered and depend
on the space only, never on an earlier answer, because Optuna refuses a
parameter whose options change between trials. A space that offers fewer layers
therefore still asks about all of them; answers about layers that were left out
do not reach the architecture, so its ``arch_id`` stays canonical.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from search_spaces.architecture import GROUP_POSITIONS, Architecture, Block
from search_spaces.errors import InvalidArchitectureError, UnknownSpaceError

GROUP_COUNTS = (1, 2, 4, 8, 16)
WIDTH_FRACTIONS = (0.25, 0.5, 0.75, 1.0)
HIDDEN_FRACTIONS = (0.5, 0.625, 0.75, 0.875, 1.0)
HEAD_FRACTIONS = (0.25, 0.5, 0.75, 1.0)
# Fields of `Space.dense_designs` that are not the teacher's, and where among their options they stand: 0 is the least.
DENSE_DESIGNS: tuple[dict[str, float], ...] = (
    {"intermediate_size": 0.0},
    {"intermediate_size": 0.0, "num_attention_heads": 0.25},
    {"intermediate_size": 0.25, "num_attention_heads": 0.25},
    {"intermediate_size": 0.0, "num_attention_heads": 0.0},
    {"hidden_size": 0.0},
    {"num_hidden_layers": 0.0},
)
# Every width is a multiple of this, so that up to 16 groups divide it.
WIDTH_MULTIPLE = 16


class Choose(Protocol):
    """Answers the questions of a space, one named ordered choice at a time."""

    def __call__(self, name: str, options: Sequence[int], /) -> int:
        """Pick one of ``options`` for the parameter called ``name``."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """Architectures around one dense teacher, with layers tied together in stages.

    ``stages`` names the stage of every teacher layer; layers of one stage share
    their answers. One stage gives uniform networks, as many stages as layers
    give every layer its own widths and groups.
    """

    name: str
    teacher: Architecture
    stages: tuple[str, ...]
    depths: tuple[int, ...]
    hidden_sizes: tuple[int, ...]
    num_attention_heads: tuple[int, ...]
    intermediate_sizes: tuple[int, ...]
    groups: tuple[int, ...]

    @property
    def parameters(self) -> dict[str, tuple[int, ...]]:
        """The questions of this space: parameter name to its options in ascending order."""
        questions = {"num_hidden_layers": self.depths, "hidden_size": self.hidden_sizes}
        for stage in dict.fromkeys(self.stages):
            questions[f"{stage}.num_attention_heads"] = self.num_attention_heads
            questions[f"{stage}.intermediate_size"] = self.intermediate_sizes
            questions |= {f"{stage}.{position}": self.groups for position in GROUP_POSITIONS}
        return questions

    @property
    def num_architectures(self) -> int:
        """Number of distinct architectures in the space."""
        per_stage: int = len(self.num_attention_heads) * len(self.intermediate_sizes) * len(self.groups) ** 6
        used_stages = (len(set(self.stages[:depth])) for depth in self.depths)
        widths: int = sum(per_stage**used for used in used_stages)
        return len(self.hidden_sizes) * widths

    @property
    def dense_designs(self) -> tuple[Architecture, ...]:
        """Narrower and shallower dense networks of the space: good first guesses, since one group is fast for its MACs.

        Narrow FFNs, alone and with few heads, the smallest hidden size and the
        least depth; those that the space does not have are left out.
        """
        full = self.answers_for(self.teacher)
        designs = []
        for change in DENSE_DESIGNS:
            answers = dict(full)
            for name, options in self.parameters.items():
                # Which of a layer's stages it is does not matter: all are changed alike.
                place = change.get(name.rpartition(".")[2], 1.0)
                if place < 1.0:
                    answers[name] = options[int(place * len(options))]
            designs.append(self.build(answers))
        return tuple(dict.fromkeys(design for design in designs if design != self.teacher))

    def sample(self, choose: Choose) -> Architecture:
        """Build one architecture from the answers of ``choose``."""
        return self.build({name: choose(name, options) for name, options in self.parameters.items()})

    def build(self, answers: Mapping[str, int]) -> Architecture:
        """Build the architecture that ``answers`` (parameter name to option) describe."""
        blocks = tuple(
            Block(
                num_attention_heads=answers[f"{stage}.num_attention_heads"],
                intermediate_size=answers[f"{stage}.intermediate_size"],
                **{position: answers[f"{stage}.{position}"] for position in GROUP_POSITIONS},
            )
            for stage in self.stages[: answers["num_hidden_layers"]]
        )
        return replace(self.teacher, hidden_size=answers["hidden_size"], blocks=blocks)

    def answers_for(self, arch: Architecture) -> dict[str, int]:
        """Return answers that make `build` return ``arch``.

        Raises:
            InvalidArchitectureError: If no answers of this space do.
        """
        answers = {"num_hidden_layers": arch.num_hidden_layers, "hidden_size": arch.hidden_size}
        for i, stage in enumerate(self.stages):
            # A layer that ``arch`` does not have may answer anything; its last layer's answers will do.
            block = arch.blocks[min(i, arch.num_hidden_layers - 1)]
            for field in ("num_attention_heads", "intermediate_size", *GROUP_POSITIONS):
                answers.setdefault(f"{stage}.{field}", getattr(block, field))
        for name, options in self.parameters.items():
            if answers[name] not in options:
                raise InvalidArchitectureError(
                    f"{name}={answers[name]} is not an option of space {self.name!r}: {options}"
                )
        if self.build(answers) != arch:
            raise InvalidArchitectureError(f"space {self.name!r} ties layers together that differ in {arch.arch_id}")
        return answers


def make_space(name: str, teacher: Architecture) -> Space:
    """Build the space called ``name`` around a dense ``teacher``.

    ``squeezebert`` gives all layers the same groups and widths, at the
    teacher's hidden size and head count; ``staged`` has three stages of layers;
    ``grouped`` chooses everything layer by layer.

    Raises:
        UnknownSpaceError: If no space has that name.
    """
    if name not in SPACES:
        raise UnknownSpaceError(kind="space", name=name, known=SPACES)
    depth, first = teacher.num_hidden_layers, teacher.blocks[0]
    hidden_sizes = _widths(teacher.hidden_size, HIDDEN_FRACTIONS)
    heads = tuple(sorted({max(1, round(first.num_attention_heads * fraction)) for fraction in HEAD_FRACTIONS}))
    if name == "squeezebert":
        stages = ("all",) * depth
        hidden_sizes, heads = hidden_sizes[-1:], heads[-1:]
    elif name == "staged":
        stages = tuple(f"stage{3 * i // depth}" for i in range(depth))
    else:
        stages = tuple(f"layer{i}" for i in range(depth))
    intermediate_sizes = _widths(first.intermediate_size, WIDTH_FRACTIONS)
    head_widths = tuple(count * teacher.attention_head_size for count in heads)
    return Space(
        name=name,
        teacher=teacher,
        stages=stages,
        depths=tuple(range(math.ceil(depth / 2), depth + 1)),
        hidden_sizes=hidden_sizes,
        num_attention_heads=heads,
        intermediate_sizes=intermediate_sizes,
        groups=_common_divisors((*hidden_sizes, *head_widths, *intermediate_sizes)),
    )


SPACES = ("squeezebert", "staged", "grouped")


def _widths(full: int, fractions: Iterable[float]) -> tuple[int, ...]:
    """Fractions of ``full`` as multiples of `WIDTH_MULTIPLE`, with ``full`` itself always among them."""
    rounded = {max(1, round(full * fraction / WIDTH_MULTIPLE)) * WIDTH_MULTIPLE for fraction in fractions}
    return tuple(sorted({width for width in rounded if width < full} | {full}))


def _common_divisors(widths: Sequence[int]) -> tuple[int, ...]:
    """Group counts that divide every width, so that no combination of answers is invalid."""
    return tuple(groups for groups in GROUP_COUNTS if all(width % groups == 0 for width in widths))
