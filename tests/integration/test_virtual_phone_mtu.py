"""A push over packets as small as a real network's, which loopback hides."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system_packages import require_program
from tests.virtual_phones import needs_namespaces

ROOT = Path(__file__).parents[2]
CLIENT = """
import random, sys
from pathlib import Path
from device_lab.virtual_phone.launch import start_virtual_phone
from tests.virtual_phones import HOME, open_device

folder = Path(sys.argv[1])
(folder / "sent").write_bytes(random.Random(50).randbytes(50_000_000))
with start_virtual_phone() as phone, open_device(phone, silence_s=20.0) as device:
    device.push(folder / "sent", HOME / "big")
    device.pull(HOME / "big", folder / "received")
print((folder / "sent").read_bytes() == (folder / "received").read_bytes())
"""


@pytest.mark.slow
@needs_namespaces
def test_fifty_megabytes_survive_packets_of_1500_bytes(tmp_path: Path) -> None:
    require_program("ip", package="iproute2")
    command = ["unshare", "-Urn", "sh", "-c", 'ip link set lo mtu 1500 up && exec "$@"', "sh", sys.executable]

    done = subprocess.run(
        [*command, "-c", CLIENT, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
