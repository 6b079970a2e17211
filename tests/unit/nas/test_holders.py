"""Names of processes: who is dead is known for sure, or not at all."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from multiprocessing.connection import Connection

from nas.holders import is_known_dead, new_holder, show_holder


def name_of_child(*, ends_by: int | None) -> tuple[str, multiprocessing.process.BaseProcess]:
    """The name a child of this process gives itself, once it has ended by a signal, or while it lives."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_tell_name, args=(sender, ends_by))
    child.start()
    return receiver.recv(), child


def _tell_name(sender: Connection, ends_by: int | None) -> None:
    sender.send(new_holder())
    if ends_by is None:
        signal.pause()
    os.kill(os.getpid(), ends_by or 0)


def test_a_process_is_not_dead_while_it_lives_and_is_once_it_was_killed() -> None:
    living, child = name_of_child(ends_by=None)
    try:
        assert not is_known_dead(new_holder())
        assert not is_known_dead(living)
    finally:
        child.kill()
        child.join()

    assert is_known_dead(living)


def test_a_killed_process_that_nobody_has_waited_for_is_dead() -> None:
    name, child = name_of_child(ends_by=signal.SIGKILL)
    os.waitid(os.P_PID, child.pid or 0, os.WEXITED | os.WNOWAIT)

    assert is_known_dead(name)
    child.join()


def test_another_process_with_the_number_of_a_dead_one_does_not_keep_it_alive() -> None:
    host, pid, process, nonce = new_holder().split("/")
    machine, started_at = process.split("-")

    assert is_known_dead(f"{host}/{pid}/{machine}-{int(started_at) - 1}/{nonce}")


def test_of_another_machine_nothing_is_known() -> None:
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    host, _, process, nonce = new_holder().split("/")
    _, started_at = process.split("-")

    assert not is_known_dead(f"{host}/{int(ended.stdout)}/0badcafe-{started_at}/{nonce}")


def test_names_are_never_given_twice_and_fit_their_column() -> None:
    names = {new_holder() for _ in range(100)}

    assert len(names) == 100
    assert all(len(name) <= 64 for name in names)
    assert show_holder(min(names)).endswith(f"(process {os.getpid()})")
