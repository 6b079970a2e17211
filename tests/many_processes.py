"""The same work in several real processes that begin it at the same time."""

from __future__ import annotations

import multiprocessing
import warnings
from collections.abc import Callable
from typing import Any

TIMEOUT_S = 120


def at_once(work: Callable[..., Any], count: int, *arguments: Any) -> list[Any]:
    """Call ``work(number, *arguments)`` in ``count`` processes at once; return what they gave, by number.

    What a process raises is returned as its text.
    """
    # Forked, they need not import anything again; none of the threads there may be is ours.
    context = multiprocessing.get_context("fork")
    barrier, answers = context.Barrier(count), context.SimpleQueue()
    processes = [
        context.Process(target=_call, args=(work, number, arguments, barrier, answers)) for number in range(count)
    ]
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        for process in processes:
            process.start()
    given = dict(answers.get() for _ in processes)
    for process in processes:
        process.join(TIMEOUT_S)
    return [given[number] for number in range(count)]


def _call(work: Callable[..., Any], number: int, arguments: tuple[Any, ...], barrier: Any, answers: Any) -> None:
    try:
        barrier.wait(TIMEOUT_S)
        answers.put((number, work(number, *arguments)))
    except Exception as error:  # noqa: BLE001 - the test that asked looks at it
        answers.put((number, f"{type(error).__name__}: {error}"))
