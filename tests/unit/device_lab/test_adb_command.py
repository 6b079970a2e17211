from __future__ import annotations

import contextlib
import os
import pty
import select
import subprocess
import time
import tty
from pathlib import Path

import pytest

from device_lab.adb_command import (
    Answer,
    kill_script,
    parse,
    parse_free_bytes,
    parse_properties,
    process_id,
    wrap,
)

NONCE = "0123456789abcdef"

SHAPES: dict[str, tuple[str, int, bytes, bytes]] = {
    "silence": ("true", 0, b"", b""),
    "a line": ("echo hi", 0, b"hi\n", b""),
    "no final line break": ("printf hi", 0, b"hi", b""),
    "both streams": ("echo out; echo err >&2; exit 3", 3, b"out\n", b"err"),
    "leaves early": ("echo before; exit 7; echo after", 7, b"before\n", b""),
    "comment": ("echo hi # no more", 0, b"hi\n", b""),
    "here-document": ("cat <<END\none 'two' \"three\"\nEND", 0, b"one 'two' \"three\"\n", b""),
    "binary": (r"printf 'a\0b\r\n\377'", 0, b"a\0b\r\n\xff", b""),
    "killed by a signal": ("sh -c 'kill -SEGV $$'", 139, b"", b"Segmentation fault"),
    "false": ("false", 1, b"", b""),
    "quotes": ("""printf '%s' "it's" '"'""", 0, b"it's\"", b""),
    "dollars in standard error": ("echo '$HOME `id` \\' >&2", 0, b"", b"$HOME `id` \\"),
    "reads its input": ("cat", 0, b"", b""),
    "looks like a trailer": (f"echo {NONCE[:8]}:E:9", 0, f"{NONCE[:8]}:E:9\n".encode(), b""),
    "lines": ("printf '1\n2\n\n'", 0, b"1\n2\n\n", b""),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_any_command_gives_its_status_and_both_streams(shape: str) -> None:
    command, exit_status, stdout, stderr = SHAPES[shape]

    answer = parse(_run(wrap(command, nonce=NONCE, limit_s=20)), nonce=NONCE)

    assert answer == Answer(exit_status=exit_status, stdout=stdout, stderr=stderr)


def test_an_unknown_program_is_127() -> None:
    answer = parse(_run(wrap("no-such-program", nonce=NONCE, limit_s=20)), nonce=NONCE)

    assert answer is not None
    assert answer.exit_status == 127
    assert b"no-such-program" in answer.stderr


def test_a_syntax_error_fails_the_command_and_not_the_script() -> None:
    answer = parse(_run(wrap("if true", nonce=NONCE, limit_s=20)), nonce=NONCE)

    assert answer is not None
    assert answer.exit_status == 2


@pytest.mark.parametrize("kept", [0, 20, 40, 60, 80, 100])
def test_an_answer_that_was_cut_off_is_none(kept: int) -> None:
    whole = _run(wrap("echo hi; echo err >&2", nonce=NONCE, limit_s=20))
    mark = whole.rindex(NONCE.encode() + b":F")

    assert parse(whole, nonce=NONCE) is not None
    assert parse(whole[: min(kept, mark)], nonce=NONCE) is None


def test_the_trailer_of_another_command_is_not_taken_for_its_own() -> None:
    whole = _run(wrap("echo hi", nonce=NONCE, limit_s=20))

    assert parse(whole, nonce="fedcba9876543210") is None


def test_a_command_past_its_limit_is_killed_with_all_its_children() -> None:
    reply = _run(wrap("sleep 77 & sleep 77", nonce=NONCE, limit_s=0.3))

    group = process_id(reply, nonce=NONCE)
    assert parse(reply, nonce=NONCE) is None
    assert group is not None
    assert _is_gone(group)


def test_what_a_command_leaves_in_the_background_is_killed_when_it_ends() -> None:
    reply = _run(wrap("sleep 77 >/dev/null 2>&1 & echo done", nonce=NONCE, limit_s=20))

    group = process_id(reply, nonce=NONCE)
    assert group is not None
    assert _is_gone(group)


@pytest.mark.parametrize("is_group_known", [True, False])
def test_a_kill_finds_the_command_by_its_nonce(is_group_known: bool) -> None:
    with subprocess.Popen(["sh", "-c", wrap("sleep 78", nonce=NONCE, limit_s=60)], start_new_session=True) as process:
        group = process.pid if is_group_known else None
        _wait_for_child(process.pid)

        subprocess.run(["sh", "-c", kill_script(nonce=NONCE, group=group)], check=True, start_new_session=True)

        assert process.wait(timeout=10) == -9
    assert _is_gone(process.pid)


@pytest.mark.parametrize("is_group_known", [True, False])
def test_a_kill_finds_children_that_outlived_their_shell(is_group_known: bool) -> None:
    script = wrap("sh -c \"trap '' HUP; sleep 78\"", nonce=NONCE, limit_s=60)
    with subprocess.Popen(["sh", "-c", script], start_new_session=True) as process:
        group = process.pid if is_group_known else None
        _wait_for_child(process.pid)
        process.kill()
        process.wait()
        assert _living(process.pid)

        subprocess.run(["sh", "-c", kill_script(nonce=NONCE, group=group)], check=True, start_new_session=True)

    assert _is_gone(process.pid)


def test_a_kill_spares_a_process_that_has_the_number_now() -> None:
    with subprocess.Popen(["sleep", "79"], start_new_session=True) as process:
        subprocess.run(["sh", "-c", kill_script(nonce=NONCE, group=process.pid)], check=True)

        assert process.poll() is None
        process.kill()


def test_properties_may_span_lines() -> None:
    text = "[ro.serialno]: [8A3X1]\n[ro.note]: [first\nsecond]\n[ro.empty]: []"

    assert parse_properties(text) == {"ro.serialno": "8A3X1", "ro.note": "first\nsecond", "ro.empty": ""}


@pytest.mark.parametrize(
    "text",
    [
        "Filesystem     1K-blocks    Used Available Use% Mounted on\n/dev/block/dm-45 115249236 99 12 87% /data",
        "Filesystem 1K-blocks Used Available Use% Mounted on\n/dev/block/a-very-long-name\n  115249236 99 12 87% /data",
    ],
)
def test_free_space_is_read_from_the_right(text: str) -> None:
    assert parse_free_bytes(text) == 12 * 1024


def test_a_report_without_free_space_is_refused() -> None:
    with pytest.raises(ValueError, match="no free space in 'df: /data: Permission denied'"):
        parse_free_bytes("df: /data: Permission denied")


def _run(script: str) -> bytes:
    """Run a script as adbd does: a shell that leads a session on a raw terminal."""
    process, terminal = pty.fork()
    if process == 0:
        tty.setraw(0)
        os.execv("/bin/sh", ["sh", "-c", script])
    reply = bytearray()
    while select.select([terminal], [], [], 30)[0]:
        try:
            reply += os.read(terminal, 65536)
        except OSError:  # the last process let go of the terminal
            break
    os.waitpid(process, 0)
    os.close(terminal)
    return bytes(reply)


def _is_gone(group: int) -> bool:
    """Return whether no process of a group is alive, given a moment for a kill to arrive."""
    for _ in range(100):
        if not _living(group):
            return True
        time.sleep(0.02)
    return False


def _living(group: int) -> list[str]:
    """Return the processes of a group that run; the dead may wait long for somebody to reap them."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, process_group = path.read_text().rpartition(")")[2].split()[:3]
            if process_group == str(group) and state not in "ZX":
                found.append(path.parent.name)
    return found


def _wait_for_child(process: int) -> None:
    for _ in range(200):
        found = subprocess.run(["pgrep", "-P", str(process)], capture_output=True, check=False)
        if found.returncode == 0:
            return
        time.sleep(0.02)
    pytest.fail("the command did not start")
