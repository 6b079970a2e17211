"""What a candidate is timed with: how long its file takes to write, how large it is, and that it takes the same time.

The timed file is written node by node without weights, which the runner makes up
when it loads it. Beside it stand the file that is deployed, with all its weights
and its whole vocabulary, and what torch's own exporter makes. Latencies are
compared by turns in one process (`benchmarks.alternation`), ONNX Runtime, one
thread.

    python -m benchmarks.direct_graph            # on an otherwise idle machine
"""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import torch

from benchmarks.alternation import Quickest, log_ratios, ratio_interval
from benchmarks.recordings import MINILM, SEQUENCE_LENGTH
from device_lab.files import sha256_of
from device_lab.measurement import ModelFile
from nas.export import expected_output, export_onnx, random_network, token_limit_of
from nas.latency_design import draw_pool
from nas.timed_models import TimedModels
from search_spaces.architecture import Architecture
from search_spaces.reference import BERT_BASE, SQUEEZEBERT, squeezebert_rule
from search_spaces.space import make_space

SEED = 0
NUM_DRAWN = 6
# Where two sessions lie in memory changes their speed by a percent, so there are many.
NUM_SESSIONS = 8
MAX_SESSION_S = 10.0
NUM_WRITES = 7


def main() -> None:
    archs = [squeezebert_rule(MINILM), MINILM, *draw_pool(make_space("grouped", MINILM), seed=SEED, size=NUM_DRAWN)]
    archs += [SQUEEZEBERT, BERT_BASE]
    deviations, widths = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for arch in archs:
            timed, _ = timed_file(arch, folder)
            whole = export_onnx(
                random_network(arch, num_labels=2), folder / "whole.onnx", sequence_length=SEQUENCE_LENGTH
            )
            ratio = compare(timed, whole)
            deviations.append(abs(ratio[0] - 1))
            widths.append((ratio[2] - ratio[1]) / 2)
            print(
                f"{arch.arch_id}: timed file / deployed file {ratio[0]:.4f} ({ratio[1]:.4f}-{ratio[2]:.4f})", flush=True
            )
        timed, _ = timed_file(SQUEEZEBERT, folder)
        ours_s, dense_s = (
            [timed_file(arch, folder)[1] for _ in range(NUM_WRITES)] for arch in (SQUEEZEBERT, BERT_BASE)
        )
        torchs, torch_s = clocked(lambda: torch_file(SQUEEZEBERT, folder / "torch.onnx"))
        ratio = compare(timed, torchs)
        size_mb = timed.path.stat().st_size / 1e6
        print(f"SqueezeBERT: timed file / torch's export {ratio[0]:.4f} ({ratio[1]:.4f}-{ratio[2]:.4f})")
        print(f"SqueezeBERT: written in {spread(ours_s)}, by torch's exporter in {torch_s:.1f} s")
        print(f"BERT-base: written in {spread(dense_s)}")
    worst = 100 * max(deviations)
    print(f"half-widths of the 95 % intervals: at most {100 * max(widths):.2f} %")
    slowest = max(median(ours_s), median(dense_s))
    print(f"figure: direct_graph_seconds {slowest:.2f} s target=<=0.5 {'met' if slowest <= 0.5 else 'short'}")
    print(f"figure: direct_graph_size {size_mb:.3f} MB target=<=1 {'met' if size_mb <= 1 else 'short'}")
    print(f"figure: direct_graph_ratio {worst:.2f} % target=<=2 of {len(archs)} {'met' if worst <= 2 else 'short'}")


def timed_file(arch: Architecture, folder: Path) -> tuple[ModelFile, float]:
    """Write what a search times, and tell how long that takes."""
    models = TimedModels(folder, runtime="onnxruntime", sequence_length=SEQUENCE_LENGTH, num_labels=2)
    return clocked(lambda: models.export(arch))


def torch_file(arch: Architecture, path: Path) -> ModelFile:
    """Write a network by torch's own exporter."""
    network = random_network(arch, num_labels=2)
    ids = torch.ones((1, SEQUENCE_LENGTH), dtype=torch.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (ids, torch.ones_like(ids), torch.zeros_like(ids)),
            path,
            input_names=["input_ids", "attention_mask", "token_type_ids"],
            output_names=["logits"],
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    return ModelFile(
        path=path,
        sha256=sha256_of(path),
        sequence_length=SEQUENCE_LENGTH,
        batch_size=1,
        token_limit=token_limit_of(network),
        expected_output=expected_output(network, sequence_length=SEQUENCE_LENGTH, batch_size=1),
    )


def spread(times_s: Sequence[float]) -> str:
    return f"{median(times_s):.2f} s (median of {len(times_s)}; {min(times_s):.2f}-{max(times_s):.2f})"


def clocked(write: Callable[[], ModelFile]) -> tuple[ModelFile, float]:
    start_s = time.perf_counter()
    file = write()
    return file, time.perf_counter() - start_s


def compare(one: ModelFile, other: ModelFile) -> tuple[float, float, float]:
    """Return the latency ratio of ``one`` to ``other`` with its 95 % interval."""
    sessions = log_ratios(one.path, other.path, Quickest(), num_sessions=NUM_SESSIONS, max_session_s=MAX_SESSION_S)
    return ratio_interval(sessions)


if __name__ == "__main__":
    main()
