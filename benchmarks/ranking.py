"""Does a candidate's projected accuracy rank candidates as training would? Kendall's tau, and what limits it.

Truth is the accuracy after one fixed distillation of some two CPU minutes, over
the dev split and all training rows that no distillation visits: on the 872 dev
sentences alone, noise is as large as the differences. Two samples of the
``grouped`` space around MiniLM: of all sizes, and of nearly one latency (host,
ONNX Runtime, one thread). Drawn evenly, nearly all networks of the space have
many groups and one accuracy; so each candidate draws a leaning towards small or
large first. Beside the projected accuracy stand the signals that cost nothing.
The results of every candidate are kept as they come, so the script goes on
where it was stopped, several of it may run at once, and each prints its figures
from what there is. Results of another teacher are never mixed in, and trained by
the same recipe on another processor it is another one; nor are those of fewer
or more steps or rows.

    python -m benchmarks.ranking --data DATA --work WORK --minutes 60
    python -m benchmarks.ranking                      # what is recorded
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from scipy.stats import kendalltau
from torch import Tensor

from benchmarks.recordings import RANKING, RANKING_SAMPLES, read_rows
from benchmarks.teachers import Bench, bench_arguments, open_bench
from nas.accuracy import ScoringContext, TrainedEvaluator
from nas.candidates import Candidates
from nas.cost import model_cost
from nas.export import export_onnx, random_network
from nas.latency_design import draw_leaning
from nas.losses import logit_loss
from nas.teacher import Teacher
from nas.tokens import EncodedSplit, training_batches
from nas.training import predict
from search_spaces.architecture import Architecture
from search_spaces.bert import build
from search_spaces.reference import squeezebert_rule
from search_spaces.space import make_space

SEED = 0
NUM_PER_SAMPLE = 40
NUM_REPEATED = 10
EXTRA_SEEDS = (1, 2)
NUM_STEPS = 700
# Of architectures drawn for the sample of one latency class, those nearest to their median are taken.
NUM_TIMED = 160
CLASS_WIDTH = 0.10
NUM_LOOPS = 15


def main() -> None:
    parser = bench_arguments("Rank correlation of fidelity 0 with distilled accuracy.", is_required=False)
    parser.add_argument("--minutes", type=float, default=0.0, help="how long to go on collecting; 0 only prints")
    arguments = parser.parse_args()
    if arguments.work is None:
        for recipe, rows in by_recipe(read_rows(RANKING)).items():
            print("teacher {}, {} steps, scored on {} rows".format(*recipe))
            report(read_samples(), rows)
        return
    deadline = time.monotonic() + 60 * arguments.minutes
    bench = open_bench("sst2", data=arguments.data, work=arguments.work)
    judged_on = held_back(bench)
    recipe = weights_sha256(bench.teacher), NUM_STEPS, len(judged_on)
    results = Results(arguments.work / "ranking.jsonl", recipe=recipe, recorded=RANKING)
    samples = draw_samples(bench, RANKING_SAMPLES)
    for seed, archs in plan(samples).items():
        # Of its own for every seed: it remembers what its teacher said to the batches of one.
        candidates = Candidates(bench.data, bench.teacher, artifacts=bench.artifacts, seed=SEED, device="cpu")
        for arch in archs:
            if time.monotonic() > deadline:
                break
            with results.own(arch.arch_id, seed) as is_mine:
                if is_mine:
                    at_once = results.rows.get((arch.arch_id, SEED)) or judge(arch, candidates, judged_on)
                    results.add(at_once | distil(arch, seed, bench, candidates, judged_on))
    results.reread()
    report(samples, results.rows)


Recipe = tuple[str, int, int]
"""A teacher's weights, steps of a distillation, and rows that it is scored on."""

Row = dict[str, Any]
Rows = dict[tuple[str, int], Row]


class Results:
    """What is known of each candidate and seed by one recipe: a JSON line each, of this and other processes."""

    def __init__(self, path: Path, *, recipe: Recipe, recorded: Path | None = None) -> None:
        self._paths = [each for each in (recorded, path) if each is not None]
        self._path = path
        self._recipe = recipe
        self.rows: Rows = {}
        self.reread()

    def reread(self) -> None:
        """Read what was recorded and what other processes added."""
        rows = [row for path in self._paths if path.exists() for row in read_rows(path)]
        self.rows = by_recipe(rows).get(self._recipe, {})

    @contextmanager
    def own(self, arch_id: str, seed: int) -> Iterator[bool]:
        """Tell whether a candidate is this process's to judge: neither known, nor judged by another at the moment."""
        with self._path.with_name(f".{self._path.stem}-{arch_id}-{seed}.lock").open("w") as lock:
            try:
                # The system lets go of it when the process ends, however it ends.
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            self.reread()
            yield (arch_id, seed) not in self.rows

    def add(self, row: Row) -> None:
        """Keep one more result."""
        row |= dict(zip(("teacher", "num_steps", "num_rows"), self._recipe, strict=True))
        self.rows[row["arch_id"], row["seed"]] = row
        with self._path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(f"{len(self.rows)}: {row}", file=sys.stderr, flush=True)


def by_recipe(rows: Iterable[Row]) -> dict[Recipe, Rows]:
    """Return rows by candidate and seed for each recipe, those with most of them first."""
    found: dict[Recipe, Rows] = {}
    for row in rows:
        recipe = row["teacher"], row["num_steps"], row["num_rows"]
        found.setdefault(recipe, {})[row["arch_id"], row["seed"]] = row
    return dict(sorted(found.items(), key=lambda item: (-len(item[1]), -item[0][2])))


def weights_sha256(teacher: Teacher) -> str:
    """Tell teachers apart by their weights, in twelve digits."""
    digest = hashlib.sha256()
    for _, tensor in sorted(teacher.network().state_dict().items()):
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


def plan(samples: dict[str, list[tuple[Architecture, float]]]) -> dict[int, list[Architecture]]:
    """Return what to distil with each seed: both samples by turns, and the first of each with other seeds."""
    pairs = zip(samples["whole"], samples["class"], strict=True)
    archs = [arch for pair in pairs for arch, _ in pair]
    return {SEED: archs} | dict.fromkeys(EXTRA_SEEDS, archs[:NUM_REPEATED])


def judge(arch: Architecture, candidates: Candidates, judged_on: EncodedSplit) -> Row:
    """Return every signal that a candidate has before it is trained."""
    projected = candidates.project(arch)
    cost = model_cost(arch, sequence_length=128, num_labels=2)
    kind = candidates.data.task.kind
    return {
        "projected": accuracy(arch, projected.state, judged_on),
        "projected_divergence": float(logit_loss(kind, projected.logits, candidates.teacher_logits, temperature=1.0)),
        "cut": accuracy(arch, candidates.cut(arch), judged_on),
        "macs": cost.macs,
        "parameters": cost.parameters,
        "num_layers": arch.num_hidden_layers,
    }


def distil(arch: Architecture, seed: int, bench: Bench, candidates: Candidates, judged_on: EncodedSplit) -> Row:
    """Return what becomes of a candidate."""
    context = ScoringContext(
        candidates=candidates, artifacts=bench.artifacts, seed=seed, device="cpu", num_steps=NUM_STEPS
    )
    start_cpu_s = time.process_time()
    distilled = TrainedEvaluator("distilled", context).evaluate(arch)
    cpu_s = time.process_time() - start_cpu_s
    assert distilled.weights_sha256 is not None
    state, _ = bench.artifacts.get_weights(distilled.weights_sha256)
    bench.artifacts.weights_file(distilled.weights_sha256).unlink()
    return {
        "arch_id": arch.arch_id,
        "seed": seed,
        "distilled": accuracy(arch, state, judged_on),
        "distilled_dev": distilled.interval.estimate,
        "distilled_divergence": distilled.teacher_divergence,
        "cpu_s": round(cpu_s, 1),
    }


def accuracy(arch: Architecture, state: dict[str, Tensor], split: EncodedSplit) -> float:
    """Return the accuracy of a network with these weights."""
    network = build(arch, num_labels=2, dropout=0.0)
    network.load_state_dict(state)
    return float((predict(network, split, device="cpu").argmax(dim=1) == split.labels).double().mean())


def draw_samples(bench: Bench, path: Path) -> dict[str, list[tuple[Architecture, float]]]:
    """Draw both samples with the latency ratio of each to SqueezeBERT's rule, once; later read them from ``path``.

    Those that are recorded were drawn by this.
    """
    if not path.exists():
        space = make_space("grouped", bench.teacher.arch)
        generator = np.random.default_rng(SEED)
        drawn = [draw_leaning(space, generator) for _ in range(NUM_TIMED)]
        ratios = latency_ratios(drawn, reference=squeezebert_rule(bench.teacher.arch), folder=path.parent)
        timed = list(zip(drawn, ratios, strict=True))
        whole, rest = timed[:NUM_PER_SAMPLE], timed[NUM_PER_SAMPLE:]
        middle = float(np.median([ratio for _, ratio in rest]))
        same_class = sorted(rest, key=lambda pair: abs(pair[1] - middle))[:NUM_PER_SAMPLE]
        text = json.dumps({
            name: [(arch.to_json(), ratio) for arch, ratio in pairs]
            for name, pairs in (("whole", whole), ("class", same_class))
        })  # fmt: skip
        path.write_text(text)
    return read_samples(path)


def read_samples(path: Path = RANKING_SAMPLES) -> dict[str, list[tuple[Architecture, float]]]:
    """Read both samples."""
    read = json.loads(path.read_text())
    return {name: [(Architecture.from_json(text), ratio) for text, ratio in pairs] for name, pairs in read.items()}


def held_back(bench: Bench) -> EncodedSplit:
    """Return the dev split and training rows that no seed's distillation visits."""
    train = bench.data.train
    visited = torch.zeros(len(train), dtype=torch.bool)
    for seed in (SEED, *EXTRA_SEEDS):
        batches = training_batches(train.lengths, batch_size=32, seed=seed, first_step=0, num_steps=NUM_STEPS)
        visited[torch.cat(list(batches))] = True
    chosen = train.select(torch.nonzero(~visited)[:, 0])
    dev = bench.data.dev
    width = max(chosen.input_ids.shape[1], dev.input_ids.shape[1])

    def joined(name: str) -> Tensor:
        parts = [getattr(dev, name), getattr(chosen, name)]
        if parts[0].ndim == 2:
            parts = [torch.nn.functional.pad(part, (0, width - part.shape[1])) for part in parts]
        return torch.cat(parts)

    return EncodedSplit(**{name: joined(name) for name in EncodedSplit.__slots__})


def latency_ratios(archs: Sequence[Architecture], *, reference: Architecture, folder: Path) -> list[float]:
    """Time one inference of 128 tokens each, by turns with the reference, the fastest of several loops."""
    ratios = []
    reference_session = _session(reference, folder)
    for arch in archs:
        session = _session(arch, folder)
        times = [(_time_s(session), _time_s(reference_session)) for _ in range(NUM_LOOPS)]
        ratios.append(min(ours for ours, _ in times) / min(theirs for _, theirs in times))
    return ratios


def _session(arch: Architecture, folder: Path) -> onnxruntime.InferenceSession:
    path = folder / "ranking_timed.onnx"
    export_onnx(random_network(arch, num_labels=2), path, sequence_length=128)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])


def _time_s(session: onnxruntime.InferenceSession) -> float:
    feed = {"input_ids": np.full((1, 128), 2000), "attention_mask": np.ones((1, 128), np.int64)}
    feed["token_type_ids"] = np.zeros((1, 128), np.int64)
    start_s = time.perf_counter()
    session.run(None, feed)
    return time.perf_counter() - start_s


SIGNALS: dict[str, Callable[[Row], float]] = {
    "projected accuracy": lambda row: row["projected"],
    "projected divergence": lambda row: -row["projected_divergence"],
    "parameters": lambda row: row["parameters"],
    "MACs": lambda row: row["macs"],
    "cut accuracy": lambda row: row["cut"],
    "layers": lambda row: row["num_layers"],
}


def report(samples: dict[str, list[tuple[Architecture, float]]], rows: Rows) -> None:
    """Print every signal's tau in the whole space and inside latency bins, and what the noise leaves for it."""
    known = {
        name: [(rows[arch.arch_id, SEED], ratio) for arch, ratio in pairs if (arch.arch_id, SEED) in rows]
        for name, pairs in samples.items()
    }
    whole = [row for row, _ in known["whole"]]
    within = [pair for pairs in known.values() for pair in pairs]
    print(f"candidates: {len(known['whole'])} of the whole space, {len(known['class'])} of one latency class")
    if len(whole) < 3 or len(within) < 3:
        print("too few for a rank correlation; go on collecting with --minutes")
        return
    print(f"CPU seconds of a distillation: median {np.median([row['cpu_s'] for row, _ in within]):.0f}")
    found: dict[str, tuple[float, float]] = {}
    for name, signal in SIGNALS.items():
        overall = kendalltau([signal(row) for row in whole], [row["distilled"] for row in whole]).statistic
        found[name] = (float(overall), tau_within_bins(within, signal))
        print(f"{name:22s} tau {found[name][0]:6.3f} over the space, {found[name][1]:6.3f} inside +-10 % of latency")
    repeats = [
        [rows[arch.arch_id, seed]["distilled"] for seed in (SEED, *EXTRA_SEEDS)]
        for pairs in samples.values()
        for arch, _ in pairs
        if all((arch.arch_id, seed) in rows for seed in (SEED, *EXTRA_SEEDS))
    ]
    if len(repeats) > 2:
        columns = np.array(repeats).T
        ceiling = np.mean([kendalltau(one, other).statistic for one, other in combinations(columns, 2)])
        spread = np.sqrt(np.mean(np.var(columns, axis=0, ddof=1)))
        print(
            f"noise: {len(repeats)} candidates with 3 seeds: standard deviation {100 * spread:.2f} points, "
            f"tau between two seeds {ceiling:.3f}"
        )
    best = max(("projected accuracy", "projected divergence"), key=lambda name: found[name][0])
    others = [name for name in SIGNALS if not name.startswith("projected")]
    for place, target in ((0, 0.75), (1, 0.5)):
        value = found[best][place]
        is_met = value >= target and all(value > found[name][place] for name in others)
        label = ("ranking_whole_space", "ranking_inside_latency_bins")[place]
        state = "met" if is_met and len(within) == 2 * NUM_PER_SAMPLE else "short"
        print(f"figure: {label} {value:.3f} tau target=>={target} and above the others {state}")


def tau_within_bins(pairs: list[tuple[Row, float]], signal: Callable[[Row], float]) -> float:
    """Kendall's tau over the pairs of candidates whose latencies are within 10 % of each other."""
    concordance, count = 0.0, 0
    for (one, one_ratio), (other, other_ratio) in combinations(pairs, 2):
        truth = one["distilled"] - other["distilled"]
        if truth and max(one_ratio, other_ratio) <= (1 + CLASS_WIDTH) * min(one_ratio, other_ratio):
            concordance += float(np.sign(truth) * np.sign(signal(one) - signal(other)))
            count += 1
    return concordance / max(1, count)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
