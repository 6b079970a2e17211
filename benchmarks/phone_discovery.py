"""How long it takes to list three phones, and to take one and give it back, on loopback.

Run: ``python -m benchmarks.phone_discovery``
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from device_lab.devices import find_phone, list_phones
from device_lab.held_phone import hold_phone
from device_lab.virtual_phone.launch import start_virtual_phone
from device_lab.virtual_phone.options import PhoneOptions

NUM_PHONES = 3
NUM_RUNS = 5
TARGET_S = 2.0


def main() -> None:
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        # The phones and lock files of whoever runs this stay out of it.
        os.environ.update(XDG_CONFIG_HOME=folder, XDG_CACHE_HOME=folder)
        options = [PhoneOptions(serial=f"VIRTUAL{number}") for number in range(NUM_PHONES)]
        addresses = [stack.enter_context(start_virtual_phone(each)).address for each in options]
        first = find_phone(addresses[0], keys=())

        process_s, list_s, hold_s = [], [], []
        for _ in range(NUM_RUNS):
            process_s.append(seconds(lambda: run_command(addresses)))
            list_s.append(seconds(lambda: list_phones(addresses, keys=())))
            with ExitStack() as held:
                hold_s.append(seconds(lambda: held.enter_context(hold_phone(first))))

    print(f"{NUM_PHONES} virtual phones, medians of {NUM_RUNS}")
    print(f"{'nas devices':40}{statistics.median(process_s):8.3f} s")
    print(f"{'list them':40}{statistics.median(list_s):8.3f} s")
    print(f"{'take and prepare one':40}{statistics.median(hold_s):8.3f} s")
    worst_s = max(process_s)
    state = "met" if worst_s <= TARGET_S else "short"
    print(f"figure: nas_devices_three_phones {worst_s:.2f} s target=<={TARGET_S:g} {state}")


def run_command(addresses: Sequence[str]) -> None:
    """Do what a person waits for: `nas devices`, with Python and its imports."""
    named = [word for address in addresses for word in ("--device", address)]
    command = [str(Path(sys.executable).with_name("nas")), "devices", *named]
    shown = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parent.parent).stdout
    if shown.count("VIRTUAL") != NUM_PHONES:
        raise SystemExit(f"not all phones are listed:\n{shown}")


def seconds(act: Callable[[], object]) -> float:
    start_s = time.perf_counter()
    act()
    return time.perf_counter() - start_s


if __name__ == "__main__":
    main()
