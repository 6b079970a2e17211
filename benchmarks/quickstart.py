"""The main job from an empty folder: time, memory, and how many candidates it scored and measured.

Run from the project's root on an otherwise idle machine: ``python -m benchmarks.quickstart``.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    program = str(Path(sys.executable).with_name("nas"))
    with tempfile.TemporaryDirectory() as folder:
        start_s = time.perf_counter()
        subprocess.run([program, "quickstart", "--runs-folder", folder], check=True)
        duration_s = time.perf_counter() - start_s
        shown = subprocess.run(
            [program, "show", "quickstart", "--runs-folder", folder, "--json"], check=True, capture_output=True
        )
    # The largest of all child processes, the search itself among them. Linux reports kilobytes.
    peak_gb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9
    trials = json.loads(shown.stdout)
    done = {trial["arch_id"] for trial in trials if trial["score"] and trial["latency_ratio"]}
    print(f"figure: quickstart_time {duration_s:.0f} s target=<180 {'met' if duration_s < 180 else 'short'}")
    print(f"figure: quickstart_memory {peak_gb:.2f} GB target=<2 {'met' if peak_gb < 2 else 'short'}")
    print(
        f"figure: quickstart_candidates {len(done)} architectures target=>=12 {'met' if len(done) >= 12 else 'short'}"
    )


if __name__ == "__main__":
    main()
