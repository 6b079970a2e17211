"""What promotion loses and saves, replayed on the candidates of `benchmarks.ranking`.

Every one of them was distilled, so the front of "distil everything" is known.
Promotion sees the projected accuracy and the latency, picks its share, and its
front is that of the ones it picked. No training happens here.

    python -m benchmarks.promotion                    # of what is recorded
    python -m benchmarks.promotion --rows WORK/ranking.jsonl
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from benchmarks.ranking import SEED, by_recipe, read_samples
from benchmarks.recordings import RANKING, read_rows
from nas.promotion import survivors
from nas.runs import SearchRequest
from reports.front import hypervolume

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5)
DEFAULT_SHARE = SearchRequest().promoted_share


def main() -> None:
    parser = argparse.ArgumentParser(description="Hypervolume and training time of promotion.")
    parser.add_argument(
        "--rows", type=Path, default=RANKING, help="what benchmarks.ranking found; of the recipe with most results"
    )
    results = next(iter(by_recipe(read_rows(parser.parse_args().rows)).values()))
    samples = read_samples()
    known = [
        (results[arch.arch_id, SEED], ratio)
        for pairs in samples.values()
        for arch, ratio in pairs
        if (arch.arch_id, SEED) in results
    ]
    if not known:
        raise SystemExit("no candidate is distilled yet; run benchmarks.ranking first")
    ratios = np.array([ratio for _, ratio in known])
    projected, distilled = (
        np.column_stack([1 - np.array([row[name] for row, _ in known]), ratios]) for name in ("projected", "distilled")
    )
    times_s = np.array([row["cpu_s"] for row, _ in known])
    corner = distilled.max(axis=0) * 1.01
    whole = hypervolume(distilled, reference=corner)
    generator = np.random.default_rng(SEED)
    print(f"{len(known)} candidates, {times_s.sum() / 60:.0f} CPU minutes to distil all")
    print("share  hypervolume  of its training time  (drawn by lot instead)")
    reached: dict[float, tuple[float, float]] = {}
    for share in SHARES:
        chosen = survivors(projected, share=share)
        by_lot = [
            hypervolume(distilled[generator.permutation(len(known))[: len(chosen)]], reference=corner) / whole
            for _ in range(200)
        ]
        reached[share] = (
            hypervolume(distilled[chosen], reference=corner) / whole,
            times_s[chosen].sum() / times_s.sum(),
        )
        print(f"{share:5.0%}  {reached[share][0]:11.2%}  {reached[share][1]:20.0%}  {np.mean(by_lot):.2%}")
    volume, time_share = reached[DEFAULT_SHARE]
    state = "met" if volume >= 0.99 and time_share <= 0.4 else "short"
    print(
        f"figure: promotion {volume:.4f} of the hypervolume at {time_share:.2f} of the training time "
        f"target=>=0.99 at <=0.40 {state}"
    )


if __name__ == "__main__":
    main()
