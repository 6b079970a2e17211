"""How few measurements a hybrid search needs for the front that measuring everything gives.

The real search, store, protocol and predictor run on a device that replays
recorded blocks: each process of a recorded architecture answers with one of its
recorded log ratios to the reference. Proposals are the recorded architectures
in random order; accuracies are the surrogate's. For every seed the same
proposals are searched twice, hybrid and measured, and both fronts valued by the
recorded ratios.

    python -m benchmarks.phone_minutes
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import optuna

from benchmarks.recordings import ACCURACIES, LATENCIES, MINILM, SEQUENCE_LENGTH, read_rows
from benchmarks.surrogate import AccuracySurrogate
from device_lab.measurement import Backend, Conditions, DeviceInfo, Interval, ModelFile
from device_lab.runner.contract import RunnerOutput, RunRequest
from nas.observer import Observer
from nas.records import LatencyMode, Score
from nas.runs import SearchRequest, SearchSettings, load_run, open_study
from nas.search import Search
from nas.side_by_side import SideBySide
from nas.store import Store, sqlite_url
from nas.timed_models import TimedModels
from nas.timing import Timer, TimingPlan
from reports.analysis import analyse
from reports.front import hypervolume
from search_spaces.architecture import Architecture
from search_spaces.reference import squeezebert_rule
from search_spaces.space import Choose

SEEDS = range(5)
NUM_TRIALS = 150
REFERENCE_NS = 12_000_000
# The corner that hypervolumes are taken to: twice the rule's latency, accuracy of a coin.
CORNER = np.array([2.0, -0.5])


def main() -> None:
    parser = argparse.ArgumentParser(description="Measurements that a hybrid search needs.")
    parser.add_argument("--latencies", type=Path, default=LATENCIES)
    parser.add_argument("--accuracies", type=Path, default=ACCURACIES)
    arguments = parser.parse_args()
    logging.disable(logging.INFO)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    recorded = {
        Architecture.from_json(row["architecture"]): row
        for row in read_rows(arguments.latencies)
        if row["scale"] == "minilm"
    }
    scored = read_rows(arguments.accuracies)
    surrogate = AccuracySurrogate(
        [Architecture.from_json(row["architecture"]) for row in scored],
        [row["accuracy"] for row in scored],
        teacher=MINILM,
    )
    archs = list(recorded)
    accuracies = dict(zip(archs, surrogate(archs).tolist(), strict=True))
    shares, volumes, time_shares = [], [], []
    for seed in SEEDS:
        found = {mode: search(mode, recorded, accuracies, seed) for mode in (LatencyMode.HYBRID, LatencyMode.MEASURED)}
        (hybrid, device), (everything, other_device) = found.values()
        shares.append(device.num_measured / other_device.num_measured)
        time_shares.append(device.busy_ns / other_device.busy_ns)
        volumes.append(volume(hybrid, recorded, accuracies) / volume(everything, recorded, accuracies))
        print(
            f"seed {seed}: {device.num_measured} of {other_device.num_measured} architectures measured, "
            f"{time_shares[-1]:.0%} of the device's time, {volumes[-1]:.2%} of the hypervolume",
            flush=True,
        )
    share, least = 100 * float(np.mean(shares)), 100 * min(volumes)
    print(f"the device's time: {np.mean(time_shares):.1%} of that of measuring everything")
    print(f"figure: phone_minutes_hypervolume {least:.2f} % target=>=99 {'met' if least >= 99 else 'short'}")
    print(f"figure: phone_minutes_measured {share:.1f} % target=<=25 {'met' if share <= 25 else 'short'}")


class RecordedSpace:
    """The recorded architectures, as a space with one question."""

    name = "recorded"
    teacher = MINILM
    dense_designs = ()

    def __init__(self, archs: Sequence[Architecture]) -> None:
        self._archs = [*archs, *(arch for arch in (MINILM, squeezebert_rule(MINILM)) if arch not in archs)]
        self.parameters = {"architecture": tuple(range(len(self._archs)))}

    def sample(self, choose: Choose) -> Architecture:
        """Return the architecture of the chosen number."""
        ((name, options),) = self.parameters.items()
        return self._archs[choose(name, options)]

    def answers_for(self, arch: Architecture) -> dict[str, int]:
        """Return the number of an architecture."""
        return {"architecture": self._archs.index(arch)}


class ReplayDevice:
    """Answers at once, with a recorded ratio of the architecture a file is named after."""

    info = DeviceInfo(
        device_id="replay", backend=Backend.SIMULATED, model="m", soc="s", os_version="o", abi="a", num_cores=2
    )
    runtime = "onnxruntime"
    runtime_version = "recorded"

    def __init__(self, log_ratios: Mapping[str, Sequence[float]], *, seed: int) -> None:
        self._log_ratios = log_ratios
        self._generator = np.random.default_rng(seed)
        self._measured: set[str] = set()
        self.busy_ns = 0

    @property
    def num_measured(self) -> int:
        """Number of architectures that were run, the reference not among them."""
        return len(self._measured - {squeezebert_rule(MINILM).arch_id})

    def conditions(self) -> Conditions:
        """Nothing is known of them."""
        return Conditions(taken_at="recorded", readings=())

    def run(self, model: ModelFile, request: RunRequest) -> RunnerOutput:
        """Answer with one of the recorded ratios, drawn anew for each process."""
        arch_id = model.path.name.split("-")[0]
        self._measured.add(arch_id)
        ratios = self._log_ratios.get(arch_id, (0.0,))
        sample_ns = round(REFERENCE_NS * float(np.exp(self._generator.choice(ratios))))
        num_runs = max(request.min_runs, round(request.min_timed_s * 1e9 / sample_ns))
        self.busy_ns += num_runs * sample_ns
        return RunnerOutput(
            runtime=self.runtime,
            runtime_version=self.runtime_version,
            num_threads=request.num_threads,
            num_warmup_runs=1,
            samples_ns=(sample_ns,) * num_runs,
            wall_ns=num_runs * sample_ns,
            cpu_ns=num_runs * sample_ns,
            peak_rss_bytes=None,
            output=model.expected_output,
        )


class SurrogateEvaluator:
    """Scores without an error."""

    name = "projected"
    settings_id = "surrogate"

    def __init__(self, accuracies: Mapping[Architecture, float]) -> None:
        self._accuracies = accuracies

    def evaluate(self, arch: Architecture, *, on_step: Callable[[int, int], None] | None = None) -> Score:
        """Return what the surrogate says."""
        del on_step  # there are no steps
        value = self._accuracies.get(arch, 0.5)
        return Score(
            task="surrogate",
            metric="accuracy",
            evaluator=self.name,
            interval=Interval(estimate=value, low=value, high=value),
            metrics=(("accuracy", value),),
            num_examples=1000,
            duration_s=0.0,
            weights_sha256=None,
        )


class Nobody:
    """Hears nothing."""

    def __getattr__(self, _: str) -> Callable[..., None]:
        return lambda *_, **__: None


def search(
    mode: LatencyMode,
    recorded: Mapping[Architecture, dict[str, Any]],
    accuracies: Mapping[Architecture, float],
    seed: int,
) -> tuple[list[Architecture], ReplayDevice]:
    """Search the recorded architectures; return the front and the device it was measured on."""
    device = ReplayDevice({arch.arch_id: row["log_ratios"] for arch, row in recorded.items()}, seed=seed)
    request = SearchRequest(latency=mode, sampler="random", seed=seed, fidelities=("projected",))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = Store(sqlite_url(folder / "store.db"))
        timer = Timer(
            store=store,
            device=device,
            num_threads=1,
            reference=squeezebert_rule(MINILM),
            models=TimedModels(folder, runtime="onnxruntime", sequence_length=SEQUENCE_LENGTH, num_labels=2),
            seed=seed,
        )
        settings = SearchSettings(
            request=request,
            task="surrogate",
            task_sha256="0",
            num_labels=2,
            teacher_id="0",
            teacher_architecture=MINILM.to_json(),
            score_settings_ids=("surrogate",),
            device=device.info,
            settings=timer.settings,
        )
        Search(
            store=store,
            study=open_study(store, "run", settings),
            space=cast("Any", RecordedSpace(list(recorded))),
            settings=settings,
            evaluators=[SurrogateEvaluator(accuracies)],
            timing=SideBySide([timer]),
            observer=cast("Observer", Nobody()),
            timing_plan=TimingPlan(),
        ).run(NUM_TRIALS)
        front = [item.trial.architecture for item in analyse(load_run(store, "run")).front]
        store.close()
    return front, device


def volume(
    front: Sequence[Architecture],
    recorded: Mapping[Architecture, dict[str, Any]],
    accuracies: Mapping[Architecture, float],
) -> float:
    """Return the hypervolume of a front by the recorded ratios."""
    known = [arch for arch in front if arch in recorded]
    return hypervolume(np.array([[recorded[arch]["ratio"], -accuracies[arch]] for arch in known]), reference=CORNER)


if __name__ == "__main__":
    main()
