"""The scripts in the shell of a phone: mksh, with nothing but toybox to call."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from device_lab.phone_scripts import parse_pairs, script_path
from tests.system_packages import require_program

Call = Callable[..., str]

# What Android has beside toybox; $0 lies in the folder of the tools.
SHIMS = {
    "settings": 'if [ "$1" = get ]; then cat "$0.value"; else echo "$4" >"$0.value"; fi',
    "svc": 'echo 7 >"${0%/*}/settings.value"',
    "cmd": 'echo "$3" >"$0.value"; echo set-fixed-performance-mode-enabled',
    "getprop": "if [ $# = 0 ]; then echo '[ro.soc.model]: [X1]'; else echo 33; fi",
    "dumpsys": "echo 'mWakefulness=Awake'",
}


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder with toybox's programs, mksh as `sh`, and what Android has beside them."""
    mksh = require_program("mksh", package="mksh")
    toybox = require_program("toybox", package="toybox")
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in subprocess.run([toybox], capture_output=True, text=True, check=True).stdout.split():
        (folder / name).symlink_to(toybox)
    (folder / "sh").unlink(missing_ok=True)
    (folder / "sh").symlink_to(mksh)
    for name, text in SHIMS.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    (folder / "settings.value").write_text("3\n")
    return folder


@pytest.fixture
def call(tools: Path, tmp_path: Path) -> Iterator[Call]:
    """Run an action of ``hold.sh`` and return what it printed; nothing may go to standard error."""

    def run(action: str, *arguments: str) -> str:
        command = [str(tools / "sh"), str(script_path("hold")), action, str(tmp_path / "leases"), *arguments]
        finished = subprocess.run(command, capture_output=True, text=True, check=True, env={"PATH": str(tools)})
        assert finished.stderr == ""
        return finished.stdout

    yield run
    for number in range(1, 4):
        run("release", f"n{number}")


def changed(tools: Path) -> tuple[str, str]:
    return (tools / "settings.value").read_text().strip(), (tools / "cmd.value").read_text().strip()


def test_a_lease_is_taken_prepared_renewed_and_released(call: Call, tools: Path, tmp_path: Path) -> None:
    assert parse_pairs(call("look"))["number"] == "0"
    assert parse_pairs(call("take", "1", "?", "60", "nonce=n1", "host=desk")) == {"taken": "yes"}
    assert call("prepare", "n1") == "fixed_performance=on\nscreen_kept_on=yes\n"
    assert changed(tools) == ("7", "true")
    before = int(parse_pairs(call("look"))["expires"])
    assert call("renew", "n1", "200") == "renewed=yes\n"

    seen = parse_pairs(call("look"))
    assert (seen["number"], seen["host"]) == ("1", "desk")
    assert int(seen["expires"]) >= before + 140

    assert call("release", "n1") == "released=yes\n"
    assert changed(tools) == ("3", "false")
    assert parse_pairs(call("look"))["released"] == "yes"
    assert not list((tmp_path / "leases/1").glob("rest*"))


def test_a_lease_is_taken_once_and_not_from_one_that_was_renewed(call: Call) -> None:
    call("take", "1", "?", "60", "nonce=n1")
    seen = parse_pairs(call("look"))["expires"]
    call("renew", "n1", "200")

    assert call("take", "1", "?", "60", "nonce=n2") == ""
    assert call("take", "2", seen, "60", "nonce=n2") == ""
    assert call("renew", "n1", "200") == "renewed=yes\n"
    assert call("renew", "n2", "200") == "lost=taken\n"


def test_what_a_stale_lease_left_is_restored_by_the_next(call: Call, tools: Path, tmp_path: Path) -> None:
    call("take", "1", "?", "60", "nonce=n1")
    call("prepare", "n1")

    assert call("take", "2", parse_pairs(call("look"))["expires"], "60", "nonce=n2") == "taken=yes\n"

    assert changed(tools) == ("3", "false")
    assert [path.name for path in (tmp_path / "leases").iterdir()] == ["2"]
    assert call("renew", "n1", "60") == "lost=taken\n"


def test_a_lease_from_before_a_restart_is_lost_to_its_holder(call: Call, tmp_path: Path) -> None:
    call("take", "1", "?", "60", "nonce=n1")
    holder = tmp_path / "leases/1/holder"
    holder.write_text(holder.read_text().replace("boot_id=", "boot_id=another-"))

    assert call("renew", "n1", "60") == "lost=rebooted\n"


def test_a_snapshot_is_taken(tools: Path, tmp_path: Path) -> None:
    (tmp_path / "sys/devices/system/cpu/cpu0").mkdir(parents=True)
    command = [str(tools / "sh"), str(script_path("snapshot")), str(tmp_path / "sys"), "/proc"]

    finished = subprocess.run(command, capture_output=True, text=True, check=True, env={"PATH": str(tools)})

    assert finished.stderr == ""
    for line in (
        "scaling_cur_freq.0=?",
        "online=?",
        "thermal=mWakefulness=Awake",
        "low_power=3",
        "power_help=set-fixed-performance-mode-enabled",
        "property=[ro.soc.model]: [X1]",
    ):
        assert line in finished.stdout.splitlines()
