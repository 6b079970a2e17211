"""What the names of a space's parameters say of their kinship.

``layer3.q_groups`` is layer 3's answer to the question ``q_groups``. Where there
are ``layer0.`` to ``layerN.`` and ``num_hidden_layers``, the last option of the
latter has all layers and each place below it one less; what layers that are
left out would answer does not matter.

Shapes: n = rows of answers (places in the ordered options), p = parameters, q = questions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from nas.evolution_model import Features

Ints = NDArray[np.int64]

DEPTH = "num_hidden_layers"
LAYER = re.compile(r"layer(\d+)")


class Questions:
    """Parameters and how many ordered options each has.

    ``names`` are those of the columns. ``units`` (p,) numbers what is inherited
    together: the answers of one owner, such as a layer, or a single one that has
    none. ``question`` (p,) numbers which question each answers. ``owners`` are the
    columns of each owner, in the same order of questions, (owners, questions of one).
    """

    def __init__(self, num_options: Mapping[str, int]) -> None:
        self.names = tuple(sorted(num_options))
        self.num_options: Ints = np.array([num_options[name] for name in self.names])
        owners = [name.rpartition(".")[0] for name in self.names]
        self.question = _numbered([name.rpartition(".")[2] for name in self.names])
        self.units = _numbered([owner or name for owner, name in zip(owners, self.names, strict=True)])
        columns = [
            [column for column, its in enumerate(owners) if its == owner] for owner in dict.fromkeys(owners) if owner
        ]
        asked = {tuple(self.question[its]) for its in columns}
        self.owners: Ints = np.array(columns if len(asked) == 1 else [], dtype=np.int64)
        self._asking = self.question == np.arange(self.question.max() + 1)[:, None]
        matches = [LAYER.fullmatch(owner) for owner in dict.fromkeys(owners) if owner]
        numbers = [int(match[1]) for match in matches if match]
        self._layer = np.full(len(self.names), -1)
        is_layered = len(asked) == 1 and sorted(numbers) == list(range(len(columns)))
        if is_layered and 0 < num_options.get(DEPTH, 0) <= len(columns):
            for number, its in zip(numbers, self.owners, strict=True):
                self._layer[its] = number
        # For each place of the depth: whose answer stands in each column.
        self._sources: Ints = np.array([self._source(depth) for depth in range(1, self._layer.max() + 2)])

    def canonical(self, rows: Ints) -> Ints:
        """Return ``rows`` (n, p) with the last kept layer's answers in place of those of layers that are left out."""
        if not len(self._sources):
            return rows
        return np.take_along_axis(rows, self._sources[self._depths(rows) - 1], axis=1)

    def features(self, rows: Ints) -> Features:
        """Return what a model sees of ``rows`` (n, p), each answer running from 0 to 1."""
        places = rows / np.maximum(self.num_options - 1, 1)
        used = np.ones(rows.shape)
        if len(self._sources):
            used = (self._layer < self._depths(rows)[:, None]).astype(float)
        averages = ((places * used) @ self._asking.T) / (used @ self._asking.T)
        return Features(averages=averages, own=(places - averages[:, self.question]) * used)

    def _depths(self, rows: Ints) -> Ints:
        column = self.names.index(DEPTH)
        depths: Ints = rows[:, column] - self.num_options[column] + len(self.owners) + 1
        return depths

    def _source(self, depth: int) -> Ints:
        """Return whose answer stands in each column where ``depth`` layers are kept, (p,)."""
        source = np.arange(len(self.names))
        last = np.flatnonzero(self._layer == depth - 1)
        for number in range(depth, len(self.owners)):
            source[self._layer == number] = last
        return source


def _numbered(labels: Sequence[str]) -> Ints:
    numbers = {label: i for i, label in enumerate(dict.fromkeys(labels))}
    return np.array([numbers[label] for label in labels])
