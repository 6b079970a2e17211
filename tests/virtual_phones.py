"""What tests on virtual phones share: impatient clients, and counting what was left behind."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import PurePosixPath

import pytest

from device_lab.adb import AdbDevice
from device_lab.adb_connection import Endpoint
from device_lab.adb_transport import tcp_transport
from device_lab.keys import AdbKey
from device_lab.virtual_phone.launch import VirtualPhone
from device_lab.virtual_phone.namespace import allows_namespaces

HOME = PurePosixPath("/data/local/tmp")

needs_namespaces = pytest.mark.skipif(not allows_namespaces(), reason="this machine forbids user namespaces")


def open_device(
    phone: VirtualPhone,
    *,
    keys: tuple[AdbKey, ...] = (),
    announce: Callable[[str], None] | None = None,
    dialog_timeout_s: float = 0.5,
    silence_s: float = 1.0,
) -> AdbDevice:
    """Return a client of ``phone`` that waits no longer than a test should."""
    endpoint = Endpoint(
        serial=phone.options.serial,
        open_transport=tcp_transport(phone.host, phone.port),
        keys=keys,
        connect_timeout_s=silence_s,
        dialog_timeout_s=dialog_timeout_s,
        silence_s=silence_s,
    )
    return AdbDevice(endpoint if announce is None else replace(endpoint, announce=announce))


def is_running(device: AdbDevice, mark: str) -> bool:
    """Return whether a process of the phone has ``mark`` in its command line now."""
    # The brackets keep the question itself from matching.
    question = f"ps -eo stat,args | grep -v '^Z' | grep -q '[{mark[0]}]{mark[1:]}' && echo yes || echo no"
    return device.run(question, timeout_s=10.0).text == "yes"


def is_left_running(phone: VirtualPhone, mark: str) -> bool:
    """Return whether such a process is still there after a moment in which a kill arrives."""
    with open_device(phone, silence_s=10.0) as observer:
        for _ in range(40):
            if not is_running(observer, mark):
                return False
            time.sleep(0.05)
    return True
