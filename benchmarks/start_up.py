"""How long a user waits for ``nas --help``.

Run from the project's root: ``python -m benchmarks.start_up``.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

NUM_STARTS = 15


def _start_s(command: list[str]) -> float:
    start_s = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start_s


def main() -> None:
    program = str(Path(sys.executable).with_name("nas"))
    _start_s([program, "--help"])
    helps_s = [_start_s([program, "--help"]) for _ in range(NUM_STARTS)]
    bare_s = [_start_s([sys.executable, "-c", ""]) for _ in range(NUM_STARTS)]
    median_s = statistics.median(helps_s)
    print(f"nas --help {min(helps_s):.3f}-{max(helps_s):.3f} s; python alone {statistics.median(bare_s):.3f} s")
    print(f"figure: help_start_up {median_s:.3f} s target=<0.4 {'met' if median_s < 0.4 else 'short'}")


if __name__ == "__main__":
    main()
