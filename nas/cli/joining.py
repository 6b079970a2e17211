"""Joins the processes torchrun started for one training, and has one of them say how it ended."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import FrameType

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from nas.cli.torchrun import STOPPED_EXIT_CODE, Started, ToldElsewhereError
from nas.errors import LostProcessError, SettingsError
from nas.processes import ALONE, Processes

_NUM_FAILED = "nas/num_failed"
# The first process may wait for a search that trains the same teacher, or download first weights.
_PATIENCE = timedelta(days=1)


@contextmanager
def joined_processes(train_device: str) -> Iterator[Processes]:
    """Join the processes torchrun started, for as long as the block runs; without torchrun there is but this one.

    An error that ends one of them ends all, and one of them raises it.

    Args:
        train_device: ``cpu``, where they talk by gloo, or ``cuda``, by NCCL, where each has a GPU of its own.

    Raises:
        SettingsError: If there are more processes than GPUs on this machine.
        LostProcessError: If another one is gone.
        ToldElsewhereError: If another one tells what is wrong.
        KeyboardInterrupt: At SIGINT, and at SIGTERM, by which torchrun ends the others.
    """
    started = Started.read()
    if started.count == 1:
        yield ALONE
        return
    if started.local_count == started.count and sys.platform == "linux":
        # On one machine nobody else needs to reach the processes, and gloo knows no passwords.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    store, _, _ = next(rendezvous("env://"))
    with _signals_as_interrupts() as stop:
        try:
            backend = "nccl" if train_device == "cuda" else "gloo"
            if backend == "nccl":
                take_gpu(started)
            dist.init_process_group(
                backend, store=store, rank=started.rank, world_size=started.count, timeout=_PATIENCE
            )
            yield Processes(rank=started.rank, count=started.count)
            dist.destroy_process_group()
        except BaseException as error:
            stop.is_late = True

            def count_failed(more: int) -> int:
                try:
                    return int(store.add(_NUM_FAILED, more))
                except dist.DistError:
                    # torchrun itself is gone. Nobody can be asked, so nobody has told.
                    return more

            told = _told(error, is_first=started.rank == 0, stop=stop, count_failed=count_failed)
            if told is error:
                raise
            raise told from error


class _Stop:
    """Turns the first signal into `KeyboardInterrupt`, unless it comes when the process ends already."""

    def __init__(self) -> None:
        self.is_heard = False
        self.is_late = False

    def hear(self, _number: int, _frame: FrameType | None) -> None:
        self.is_heard = True
        if not self.is_late:
            self.is_late = True
            raise KeyboardInterrupt


@contextmanager
def _signals_as_interrupts() -> Iterator[_Stop]:
    stop = _Stop()
    previous = {number: signal.signal(number, stop.hear) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _told(error: BaseException, *, is_first: bool, stop: _Stop, count_failed: Callable[[int], int]) -> BaseException:
    """Return what this process raises after ``error``, so that one of all says what happened.

    ``count_failed`` adds to the number of processes that failed, and returns it.
    """
    # gloo's errors have no class of their own.
    is_lost = isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo/transport" in str(error))
    if isinstance(error, KeyboardInterrupt) or (is_lost and stop.is_heard):
        return KeyboardInterrupt() if is_first and count_failed(0) == 0 else SystemExit(STOPPED_EXIT_CODE)
    if count_failed(1) > 1:
        # One that was signalled already need not wait for a signal.
        return SystemExit(STOPPED_EXIT_CODE) if stop.is_heard else ToldElsewhereError()
    return LostProcessError() if is_lost else error


def take_gpu(started: Started) -> None:
    """Give this process the GPU of its number.

    Raises:
        SettingsError: If there are more processes than GPUs on this machine.
    """
    num_gpus = torch.cuda.device_count()
    if started.local_count > num_gpus:
        raise SettingsError(
            f"--train-device cuda: {started.local_count} processes on this machine need a GPU each, PyTorch finds "
            f"{num_gpus}; start one for each, or leave the option out"
        )
    torch.cuda.set_device(started.local_rank)
