"""What a price costs: the closed form, fvcore's sum of cached operators, and fvcore's trace of the whole network.

Run from the project's root: ``python -m benchmarks.cost``.
"""

from __future__ import annotations

import random
import time

import torch

from nas.cost import model_cost
from nas.flops import operator_macs, traced_macs
from search_spaces.architecture import Architecture
from search_spaces.reference import BERT_BASE
from search_spaces.space import make_space

SEQUENCE_LENGTH = 128
SEED = 0
NUM_CLOSED_FORM = 20_000
NUM_SUMMED = 400
NUM_TRACED = 12


def _draw(count: int) -> list[Architecture]:
    generator, space = random.Random(SEED), make_space("grouped", BERT_BASE)
    return [space.sample(lambda _name, options: generator.choice(options)) for _ in range(count)]


def main() -> None:
    torch.set_num_threads(1)
    archs = _draw(NUM_CLOSED_FORM)

    start_s = time.perf_counter()
    closed = [model_cost(arch, sequence_length=SEQUENCE_LENGTH, num_labels=2).macs for arch in archs]
    closed_per_s = len(archs) / (time.perf_counter() - start_s)

    start_s = time.perf_counter()
    first = [operator_macs(arch, sequence_length=SEQUENCE_LENGTH, num_labels=2) for arch in archs[:NUM_SUMMED]]
    filling_s = time.perf_counter() - start_s
    start_s = time.perf_counter()
    summed = [operator_macs(arch, sequence_length=SEQUENCE_LENGTH, num_labels=2) for arch in archs[:NUM_SUMMED]]
    cached_s = (time.perf_counter() - start_s) / NUM_SUMMED

    times_s, traced = [], []
    for arch in archs[:NUM_TRACED]:
        start_s = time.perf_counter()
        traced.append(traced_macs(arch, sequence_length=SEQUENCE_LENGTH, num_labels=2))
        times_s.append(time.perf_counter() - start_s)
    traced_s = sorted(times_s)[NUM_TRACED // 2]

    is_equal = traced == summed[:NUM_TRACED] == closed[:NUM_TRACED] and first == summed == closed[:NUM_SUMMED]
    speedup, amortised = traced_s / cached_s, traced_s / (filling_s / NUM_SUMMED)
    print(f"closed form                  {1e6 / closed_per_s:9.1f} us")
    print(f"sum of cached operators      {1e6 * cached_s:9.1f} us")
    print(f"the same, filling the cache  {1e6 * filling_s / NUM_SUMMED:9.1f} us (mean of the first {NUM_SUMMED})")
    print(f"trace of the whole network   {1e6 * traced_s:9.1f} us (median of {NUM_TRACED})")
    print(
        f"figure: closed_form_cost {closed_per_s:.0f} architectures/s target=>=20000 "
        f"{'met' if closed_per_s >= 20_000 else 'short'}"
    )
    print(f"figure: cached_fvcore_cost {speedup:.0f} x target=>=50 {'met' if speedup >= 50 else 'short'}")
    print(
        f"figure: cached_fvcore_cost_from_empty {amortised:.0f} x target=>=50 {'met' if amortised >= 50 else 'short'}"
    )
    print(f"figure: costs_equal {int(is_equal)} bool target=1 {'met' if is_equal else 'short'}")


if __name__ == "__main__":
    main()
