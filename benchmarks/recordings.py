"""What benchmarks recorded that take hours, read by those that learn from it or go on with it."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Mapping
from pathlib import Path
from statistics import NormalDist
from typing import Any

from nas.latency import LatencySample
from nas.latency_samples import MIN_STANDARD_ERROR
from search_spaces.architecture import Architecture
from search_spaces.reference import dense_encoder

FOLDER = Path(__file__).parent / "recorded"
ACCURACIES = FOLDER / "search_accuracies.jsonl.gz"
LATENCIES = FOLDER / "search_latencies.jsonl.gz"
RANKING = FOLDER / "ranking.jsonl.gz"
RANKING_SAMPLES = FOLDER / "ranking_samples.json"
SEQUENCE_LENGTH = 128
MINILM = dense_encoder(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
_DEVIATIONS_OF_INTERVAL = 2 * NormalDist().inv_cdf(0.975)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read JSON lines, compressed or not."""
    text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()
    return [json.loads(line) for line in text.splitlines()]


def latency_sample(row: Mapping[str, Any]) -> LatencySample:
    """Return a recorded latency as a predictor takes it."""
    return LatencySample(
        arch=Architecture.from_json(row["architecture"]),
        reference=Architecture.from_json(row["reference"]),
        ratio=row["ratio"],
        standard_error=max(interval_error(row), MIN_STANDARD_ERROR),
    )


def interval_error(row: Mapping[str, Any]) -> float:
    """Return the standard error of the log ratio that a recorded 95 % interval tells of."""
    return math.log(row["ratio_high"] / row["ratio_low"]) / _DEVIATIONS_OF_INTERVAL
