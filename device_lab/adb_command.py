"""How a command is dressed for the phone's shell, and how its answer is read.

The shell service that ``adb-shell`` speaks delivers one stream of bytes: no exit
status, no separate standard error, no sign of having been cut off. So every
command runs inside a script that prints a header with its process id, then the
output, then a trailer with the exit status and what went to standard error. An
answer without its trailer is a failure, never a success. Lines of the script
are marked with a nonce, which no output can guess.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

MAX_COMMAND_BYTES = 100_000
"""The longest command one call carries; the kernel of a phone refuses arguments above 128 KiB."""

_MARK = "POCKETBERT_RUN"


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandResult:
    """What a command that succeeded wrote.

    ``stdout`` is exact to the byte. ``stderr`` lacks its last line breaks.
    """

    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """Standard output as text, without the last line breaks."""
        return self.stdout.decode(errors="replace").rstrip("\r\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole answer of the script around a command."""

    exit_status: int
    stdout: bytes
    stderr: bytes


def wrap(command: str, *, nonce: str, limit_s: float) -> str:
    """Return the script that runs ``command`` for at most ``limit_s`` seconds.

    The shell adbd starts leads a process group. A watchdog in it kills the group
    when the limit passes, even if the cable was pulled; and the last line kills
    whatever the command left running, unless it moved away with ``setsid``. The
    nonce also goes into the environment, by which `kill_script` finds children.
    """
    return "\n".join(
        (
            f"echo {nonce}:S:$$",
            f"export {_MARK}={nonce}",
            f"(trap '' HUP; sleep {limit_s:.3f} && kill -KILL -$$) </dev/null >/dev/null 2>&1 &",
            # eval, so that a syntax error fails the command and not the script; the command's standard error
            # goes through a variable, since not every shell of a phone has a printf of its own.
            f"{{ e=$(exec 2>&1 >&3 3>&- </dev/null; eval {shlex.quote(command)}); r=$?; }} 3>&1",
            f'if [ -z "$e" ]; then echo "\n{nonce}:E:$r\n{nonce}:F"; else',
            f'echo "\n{nonce}:E:$r"; cat <<{nonce}',
            "$e",
            nonce,
            f"echo {nonce}:F; fi",
            "kill -KILL -$$",
        )
    )


def parse(reply: bytes, *, nonce: str) -> Answer | None:
    """Return the answer in what the script printed, or ``None`` if it was cut off."""
    mark = re.escape(nonce.encode())
    match = re.search(mark + rb":S:\d+\n(.*)\n" + mark + rb":E:(\d+)\n(.*?)\n?" + mark + rb":F", reply, re.DOTALL)
    if match is None:
        return None
    return Answer(stdout=match[1], exit_status=int(match[2]), stderr=match[3])


def process_id(reply: bytes, *, nonce: str) -> int | None:
    """Return the process group the script announced, or ``None`` if its header did not arrive."""
    match = re.search(re.escape(nonce.encode()) + rb":S:(\d+)\n", reply[:4096])
    return None if match is None else int(match[1])


def kill_script(*, nonce: str, group: int | None) -> str:
    """Return a command that kills the process group of the script marked ``nonce``.

    A member of the group must bear the nonce in its command line or environment,
    so that a number given to somebody else in the meantime, or after a reboot,
    is spared. Without ``group`` every group with such a member is killed.
    """
    wanted = '!= "$$"' if group is None else f"= {group}"
    return "\n".join(
        (
            f"for f in $(grep -ls {nonce} /proc/[0-9]*/cmdline /proc/[0-9]*/environ); do",
            "{ read -r line <${f%/*}/stat; } 2>/dev/null || continue",
            # After the name of the program, which may contain anything: state, parent, process group.
            "set -- ${line##*) }",
            f'[ "$3" {wanted} ] && kill -KILL -"$3" 2>/dev/null',
            "done",
            "true",
        )
    )


def parse_properties(text: str) -> dict[str, str]:
    """Return the properties in what ``getprop`` prints; a value may span lines."""
    return dict(re.findall(r"^\[([^\]\n]+)\]: \[(.*?)\]$", text, re.DOTALL | re.MULTILINE))


def parse_free_bytes(text: str) -> int:
    """Return the free space in what ``df -k DIRECTORY`` prints.

    Raises:
        ValueError: If there is no such number.
    """
    # A long name of the file system may stand on a line of its own, so the columns are counted from the right.
    columns = text.split()
    if len(columns) < 5 or not columns[-3].isdigit():
        raise ValueError(f"no free space in {text!r}")
    return int(columns[-3]) * 1024
