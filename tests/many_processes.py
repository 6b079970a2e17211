"""Work in other real processes, one or several that begin at the same time.

They are forked from a server that has imported what they need and done nothing
else. A process forked from the tests themselves would have torch's locks as
they were, but not its threads, and might wait for these for ever.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from typing import Any

TIMEOUT_S = 120
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.fake_parts"])


def begin(work: Callable[..., object], *arguments: Any) -> BaseProcess:
    """Start a process that calls ``work(*arguments)``, with the environment as it is here now."""
    process = PROCESSES.Process(target=_in_environment, args=(dict(os.environ), work, arguments))
    process.start()
    return process


def exit_of(process: BaseProcess) -> int | None:
    """Wait for a process and return its exit status, below 0 for a signal; kill what does not end, ``None`` then."""
    process.join(TIMEOUT_S)
    status = process.exitcode
    if status is None:
        process.kill()
    return status


def until_killed(work: Callable[..., object], *arguments: Any) -> None:
    """Call ``work(*arguments)`` in a process, which has to end by being killed."""
    status = exit_of(begin(work, *arguments))
    if status != -signal.SIGKILL:
        raise AssertionError(f"the process ended with exit status {status}; it was to be killed")


def at_once(work: Callable[..., Any], count: int, *arguments: Any) -> list[Any]:
    """Call ``work(number, *arguments)`` in ``count`` processes at once; return what they gave, by number.

    What a process raises is returned as its text.
    """
    barrier, answers = PROCESSES.Barrier(count), PROCESSES.SimpleQueue()
    processes = [begin(_answer, work, number, arguments, barrier, answers) for number in range(count)]
    given = dict(answers.get() for _ in processes)
    for process in processes:
        process.join(TIMEOUT_S)
    return [given[number] for number in range(count)]


def _in_environment(environment: dict[str, str], work: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    work(*arguments)


def _answer(work: Callable[..., Any], number: int, arguments: tuple[Any, ...], barrier: Any, answers: Any) -> None:
    try:
        barrier.wait(TIMEOUT_S)
        answers.put((number, work(number, *arguments)))
    except Exception as error:  # noqa: BLE001 - the test that asked looks at it
        answers.put((number, f"{type(error).__name__}: {error}"))
