"""Training in several processes that ``torchrun`` started: each takes its rows of every batch, all make the same step.

They compute what one process computes, but for rounding: a batch is padded as a
whole before it is shared out, each process's loss counts by its rows, gradients
are averaged before they are clipped, and dropout is drawn for the whole batch
by all alike, from generators that therefore stay equal. So a checkpoint of any
number of processes goes on with any other.

Shape legend: b batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from nas.errors import SettingsError
from nas.tokens import Batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Rows of a batch of ``num_rows``, and what their mean loss counts for in the mean over all processes."""

    first: int
    stop: int
    num_rows: int
    weight: float


def share_of(num_rows: int, *, rank: int, count: int) -> Share:
    """Return the rows of one process: as many as any other's, or one more.

    A process without a row of its own takes the first one, for nothing: it has
    to make the step with the others.
    """
    first, stop = (num_rows * edge // count for edge in (rank, rank + 1))
    if first == stop:
        return Share(first=0, stop=1, num_rows=num_rows, weight=0.0)
    return Share(first=first, stop=stop, num_rows=num_rows, weight=(stop - first) * count / num_rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Processes:
    """The processes of one training, as one of them sees them: it is the ``rank``-th of ``count``."""

    rank: int
    count: int

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes files."""
        return self.rank == 0

    def read(self, path: Path) -> bytes | None:
        """Return the content of a file of the first process's machine to all, or None if there is no such file.

        Raises:
            OSError: In the first process, if the file cannot be read.
        """
        content = path.read_bytes() if self.is_first and path.exists() else None
        return content if self.count == 1 else self._from_first(content)

    def _from_first(self, content: bytes | None) -> bytes | None:
        """Return to all what the first process gives."""
        size = torch.tensor(-1 if content is None else len(content), device=_collective_device())
        dist.broadcast(size, src=0)
        if size < 0:
            return None
        data = torch.empty(int(size), dtype=torch.uint8, device=_collective_device())
        if self.is_first and content:
            data.copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8))
        dist.broadcast(data, src=0)
        return data.cpu().numpy().tobytes()

    def require_same(self, value: str, *, what: str) -> None:
        """Check that all processes have the value of the first one.

        Raises:
            SettingsError: In each process that has another.
        """
        if self.count == 1:
            return
        first = (self._from_first(value.encode()) or b"").decode()
        if value != first:
            raise SettingsError(
                f"{what} is {value} here and {first} in the first process; give all machines the same files"
            )

    def require_rows(self, num_rows: int) -> None:
        """Check that there is a row of a batch for each process.

        Raises:
            SettingsError: If not.
        """
        if self.count > num_rows:
            raise SettingsError(
                f"{self.count} processes share out batches of {num_rows} examples, and each needs one; "
                f"start at most {num_rows}"
            )

    def mean(self, value: Tensor) -> float:
        """Return the mean of a number over all processes, the same to the last bit in each."""
        value = value.detach()
        if self.count > 1:
            # gloo has no mean.
            value = value.clone()
            dist.all_reduce(value)
        return float(value) / self.count

    @contextmanager
    def replica(self, network: nn.Module) -> Iterator[Replica]:
        """Make the copies of a network in all processes one for training, for as long as the block runs."""
        if self.count == 1:
            yield Replica(self, network)
            return
        drawn_alone = {
            (parent, name): child
            for parent in network.modules()
            for name, child in parent.named_children()
            if isinstance(child, nn.Dropout)
        }
        device_ids = [torch.cuda.current_device()] if dist.get_backend() == "nccl" else None
        replica = Replica(self, network)
        for (parent, name), child in drawn_alone.items():
            setattr(parent, name, _SharedDropout(child.p, replica))
        replica.network = DistributedDataParallel(network, device_ids=device_ids)
        try:
            yield replica
        finally:
            for (parent, name), child in drawn_alone.items():
                setattr(parent, name, child)


ALONE = Processes(rank=0, count=1)


class Replica:
    """One process's copy of a network; ``share`` are its rows of the batch that `part` saw last."""

    def __init__(self, processes: Processes, network: nn.Module) -> None:
        self.network = network
        self.share = share_of(1, rank=0, count=1)
        self._processes = processes

    def part(self, batch: Batch) -> Batch:
        """Return this process's examples of a batch, padded as the whole batch is."""
        self.share = share_of(len(batch.rows), rank=self._processes.rank, count=self._processes.count)
        return batch.part(self.share.first, self.share.stop) if self._processes.count > 1 else batch


class _SharedDropout(nn.Module):
    """Dropout that draws for the whole batch, as a single process does, and takes this process's rows of it."""

    def __init__(self, probability: float, replica: Replica) -> None:
        super().__init__()
        self._probability = probability
        self._replica = replica

    def forward(self, hidden: Tensor) -> Tensor:
        """Drop numbers of ``hidden`` (rows of this process, ...)."""
        if not self.training or self._probability == 0:
            return hidden
        share = self._replica.share
        # Laid out in memory as the whole batch would be: that is the order in which numbers are drawn.
        whole = torch.empty_strided(
            (share.num_rows, *hidden.shape[1:]),
            (hidden[0].numel(), *hidden.stride()[1:]),
            dtype=hidden.dtype,
            device=hidden.device,
        )
        drawn = nn.functional.dropout(whole.fill_(1.0), self._probability, training=True)
        # A copy, or the backward pass would keep what was drawn for all.
        return hidden * drawn[share.first : share.stop].clone()


def _collective_device() -> torch.device:
    return torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")
