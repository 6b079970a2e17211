"""Ctrl-C, put off while something is being undone that must be."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def deferred_interrupts() -> Generator[None]:
    """Let what happens inside finish; a Ctrl-C meanwhile is raised at the end.

    Only the main thread is ever interrupted, so elsewhere nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    is_interrupted = False

    def remember(*_: object) -> None:
        nonlocal is_interrupted
        is_interrupted = True

    previous = signal.signal(signal.SIGINT, remember)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
    if is_interrupted:
        raise KeyboardInterrupt
