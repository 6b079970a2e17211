"""How fast our adb client is on loopback: shell round trips, checked transfers, beside plain adb-shell.

Run: ``python -m benchmarks.adb_transport``
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from adb_shell.adb_device import AdbDeviceTcp

from device_lab.adb import AdbDevice
from device_lab.adb_connection import Endpoint
from device_lab.adb_transport import tcp_transport
from device_lab.virtual_phone.launch import VirtualPhone, start_virtual_phone

NUM_ROUND_TRIPS = 100
SIZE_BYTES = 50_000_000
NUM_TRANSFERS = 5
ROUND_TRIP_TARGET_MS = 5.0
PUSH_TARGET_MB_PER_S = 40.0


def main() -> None:
    with tempfile.TemporaryDirectory() as name, start_virtual_phone() as phone:
        local = Path(name) / "file"
        local.write_bytes(random.Random(50).randbytes(SIZE_BYTES))
        ours = AdbDevice(Endpoint(serial=phone.address, open_transport=tcp_transport(phone.host, phone.port), keys=()))
        plain = AdbDeviceTcp(phone.host, phone.port)
        with ours:
            plain.connect()
            report(ours, plain, phone, local)
        plain.close()


def report(ours: AdbDevice, plain: AdbDeviceTcp, phone: VirtualPhone, local: Path) -> None:
    remote = ours.push_cached(local)
    # Alternated, so that both see the same load of this machine.
    ours_ms, plain_ms = [], []
    for _ in range(NUM_ROUND_TRIPS):
        ours_ms.append(1e3 * seconds(lambda: ours.run("true", timeout_s=10)))
        plain_ms.append(1e3 * seconds(lambda: plain.shell("true")))
    push_s, pull_s, plain_push_s = [], [], []
    for _ in range(NUM_TRANSFERS):
        push_s.append(seconds(lambda: ours.push(local, remote)))
        pull_s.append(seconds(lambda: ours.pull(remote, local.with_name("back"))))
        plain_push_s.append(seconds(lambda: plain.push(str(local), "/data/local/tmp/plain")))
    cached_s = seconds(lambda: ours.push_cached(local))

    round_trip_ms = statistics.median(ours_ms)
    push_mb_per_s = SIZE_BYTES / 1e6 / statistics.median(push_s)
    pull_mb_per_s = SIZE_BYTES / 1e6 / statistics.median(pull_s)
    plain_mb_per_s = SIZE_BYTES / 1e6 / statistics.median(plain_push_s)
    print(f"{'':32}{'ours':>10}{'adb-shell':>12}   on {phone.address}, medians")
    print(f"{'shell round trip, ms':32}{round_trip_ms:10.2f}{statistics.median(plain_ms):12.2f}")
    print(f"{'push 50 MB, MB/s':32}{push_mb_per_s:10.1f}{plain_mb_per_s:12.1f}   ours with sha256 on both sides")
    print(f"{'pull 50 MB, MB/s':32}{pull_mb_per_s:10.1f}")
    print(f"{'push 50 MB again, cached, ms':32}{1e3 * cached_s:10.2f}")
    figure(
        "shell_round_trip",
        round_trip_ms,
        "ms",
        f"<={ROUND_TRIP_TARGET_MS:g}",
        is_met=round_trip_ms <= ROUND_TRIP_TARGET_MS,
    )
    figure(
        "push_with_checksum",
        push_mb_per_s,
        "MB/s",
        f">={PUSH_TARGET_MB_PER_S:g}",
        is_met=push_mb_per_s >= PUSH_TARGET_MB_PER_S,
    )


def seconds(action: Callable[[], object]) -> float:
    started_s = time.perf_counter()
    action()
    return time.perf_counter() - started_s


def figure(name: str, value: float, unit: str, target: str, *, is_met: bool) -> None:
    print(f"figure: {name} {value:.2f} {unit} target={target} {'met' if is_met else 'short'}")


if __name__ == "__main__":
    main()
