"""Size of the HTML page for 300 trials of a 12-layer space, and time and memory for 1,000.

The runs are made up (`tests.fake_run`): no number in them was measured.
Run it as `python -m benchmarks.report_size` from the root of the repository.
"""

from __future__ import annotations

import resource
import tempfile
import time
from pathlib import Path

from nas.records import Run
from reports.write import ReportFiles, write_report
from search_spaces.reference import BERT_BASE
from tests.fake_run import fake_run

MAX_BYTES = 1_000_000
MAX_SECONDS = 5.0
MAX_MIB = 500


def main() -> None:
    small = fake_run(300, teacher=BERT_BASE)
    large = fake_run(1000, teacher=BERT_BASE)
    with tempfile.TemporaryDirectory() as folder:
        files, small_seconds = _timed(small, Path(folder, "small"))
        num_bytes = files.html.stat().st_size
        cpu_start_s = time.process_time()
        _, large_seconds = _timed(large, Path(folder, "large"))
        cpu_seconds = time.process_time() - cpu_start_s
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"300 trials: {num_bytes:,} bytes of HTML in {small_seconds:.1f} s")
    print(
        f"1000 trials: {large_seconds:.1f} s ({cpu_seconds:.1f} s of CPU time), peak of the process {peak_mib:.0f} MiB"
    )
    _figure("report_size", num_bytes / 1e6, "MB", target=MAX_BYTES / 1e6)
    _figure("report_time_1000", large_seconds, "s", target=MAX_SECONDS)
    _figure("report_memory_1000", peak_mib, "MiB", target=MAX_MIB)


def _timed(run: Run, folder: Path) -> tuple[ReportFiles, float]:
    start = time.perf_counter()
    files = write_report(run, folder)
    return files, time.perf_counter() - start


def _figure(name: str, value: float, unit: str, *, target: float) -> None:
    print(f"figure: {name} {value:.3f} {unit} target=<={target:g} {'met' if value <= target else 'short'}")


if __name__ == "__main__":
    main()
