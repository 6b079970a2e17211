"""Stand-ins for the slow parts of a search: training and a device. The store, Optuna and the protocol are real."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path

from device_lab.measurement import Backend, Conditions, DeviceInfo, Interval, ModelFile
from device_lab.protocol import Progress
from device_lab.runner.contract import RunnerOutput, RunRequest
from device_lab.runner.weights import find_generated_weights
from nas.cost import model_cost
from nas.records import LatencyMode, Objective, Role, Score
from nas.runs import SearchRequest, SearchSettings, open_study
from nas.search import Search
from nas.shared_run import WorkRole
from nas.side_by_side import SideBySide
from nas.store import Store
from nas.timed_models import TimedModels
from nas.timing import Timer, TimingPlan
from search_spaces.architecture import Architecture
from search_spaces.reference import dense_encoder, squeezebert_rule
from search_spaces.space import make_space

# With few words: the table of all of them would be most of what `SizeDevice` times.
TEACHER = replace(
    dense_encoder(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64), vocab_size=1000
)
SEQUENCE_LENGTH = 8
DEFAULT_PLAN = TimingPlan()


class FormulaEvaluator:
    """Scores by a formula in the numbers of the architecture; counts how often it is asked."""

    def __init__(
        self,
        before: Callable[[Architecture], None] = lambda arch: None,
        *,
        name: str = "projected",
        bonus: float = 0.0,
    ) -> None:
        self.name = name
        self.settings_id = f"formula-{name}"
        self.scored: list[str] = []
        self._before = before
        self._bonus = bonus

    def evaluate(self, arch: Architecture, *, on_step: Callable[[int, int], None] | None = None) -> Score:
        self._before(arch)
        self.scored.append(arch.arch_id)
        if on_step is not None:
            on_step(1, 1)
        cost = model_cost(arch, sequence_length=SEQUENCE_LENGTH, num_labels=2)
        luck = int(hashlib.sha256(arch.arch_id.encode()).hexdigest()[:4], 16) / 65_536
        value = 0.5 + 0.4 * cost.encoder_macs / 2_000_000 + 0.05 * luck + self._bonus
        return Score(
            task="fake",
            metric="accuracy",
            evaluator=self.name,
            interval=Interval(estimate=value, low=value - 0.01, high=value + 0.01),
            metrics=(("accuracy", value),),
            num_examples=100,
            duration_s=0.0,
            weights_sha256=None,
            teacher_divergence=0.25,
        )


class SizeDevice:
    """A device on which a model takes as many nanoseconds as its weights have bytes, and some. Answers at once."""

    info = DeviceInfo(
        device_id="size", backend=Backend.VIRTUAL_PHONE, model="m", soc="s", os_version="o", abi="a", num_cores=2
    )
    runtime = "size"
    runtime_version = "1"

    def __init__(
        self, before: Callable[[ModelFile], None] = lambda model: None, *, name: str = "size", overhead_ns: int = 0
    ) -> None:
        self.info = replace(self.info, device_id=name)
        self.num_runs = 0
        self._before = before
        self._overhead_ns = overhead_ns

    def conditions(self) -> Conditions:
        return Conditions(taken_at="now", readings=())

    def run(self, model: ModelFile, request: RunRequest) -> RunnerOutput:
        self._before(model)
        self.num_runs += 1
        sample_ns = self._overhead_ns + (find_generated_weights(model.path) or 1)
        return RunnerOutput(
            runtime=self.runtime,
            runtime_version=self.runtime_version,
            num_threads=request.num_threads,
            num_warmup_runs=1,
            samples_ns=(sample_ns,) * request.min_runs,
            wall_ns=sample_ns,
            cpu_ns=sample_ns,
            peak_rss_bytes=None,
            output=model.expected_output,
        )


class Listener:
    """Remembers what a search said. See `nas.observer.Observer`."""

    def __init__(self) -> None:
        self.num_known = -1
        self.values: dict[int, dict[Objective, float]] = {}
        self.predicted: set[int] = set()
        self.failures: dict[int, str] = {}
        self.refined: list[int] = []
        self.settled: list[int] = []
        self.rejections: dict[int, str] = {}
        self.promotions: list[tuple[int, str]] = []
        self.promoted_scores: dict[int, Score] = {}
        self.handed_over_trials: list[int] = []
        self.num_waits = 0

    def resumed(self, num_known: int) -> None:
        self.num_known = num_known

    def proposed(self, number: int, role: Role) -> None:
        pass

    def trained(self, number: int, step: int, num_steps: int) -> None:
        pass

    def measured(self, progress: Progress) -> None:
        pass

    def finished(self, number: int, values: dict[Objective, float], *, is_predicted: bool) -> None:
        self.values[number] = values
        if is_predicted:
            self.predicted.add(number)

    def failed(self, number: int, reason: str) -> None:
        self.failures[number] = reason

    def handed_over(self, number: int) -> None:
        self.handed_over_trials.append(number)

    def waiting(self, *, lacking: str | None = None, unserved: Sequence[str] = ()) -> None:
        self.num_waits += 1

    def rejected(self, number: int, missed: str) -> None:
        self.rejections[number] = missed

    def settling(self, num_architectures: int) -> None:
        self.settled.append(num_architectures)

    def refining(self, num_architectures: int, precision: object) -> None:
        self.refined.append(num_architectures)

    def promoting(self, num_architectures: int, fidelity: str) -> None:
        self.promotions.append((num_architectures, fidelity))

    def promoted(self, number: int, score: Score) -> None:
        self.promoted_scores[number] = score


def make_search(
    store: Store,
    folder: Path,
    *,
    run: str = "run",
    request: SearchRequest | None = None,
    evaluators: Sequence[FormulaEvaluator] | None = None,
    device: SizeDevice | Sequence[SizeDevice] | None = None,
    listener: Listener | None = None,
    timing_plan: TimingPlan = DEFAULT_PLAN,
    role: WorkRole = WorkRole.BOTH,
    attached: Collection[str] | None = None,
) -> Search:
    """Put a search together with the stand-ins where none is given.

    ``attached`` are the devices, by their ids, that this process has, if not all of the run's.
    """
    evaluators = evaluators or [FormulaEvaluator()]
    request = request or SearchRequest(space="grouped", sequence_length=SEQUENCE_LENGTH, latency=LatencyMode.MEASURED)
    request = replace(request, fidelities=tuple(evaluator.name for evaluator in evaluators))
    devices = [device] if isinstance(device, SizeDevice) else list(device or [SizeDevice()])
    timers = [
        Timer(
            store=store,
            device=each,
            num_threads=1,
            reference=squeezebert_rule(TEACHER),
            models=TimedModels(folder / "models", runtime=each.runtime, sequence_length=SEQUENCE_LENGTH, num_labels=2),
            seed=0,
        )
        for each in devices
    ]
    here = [timer for timer in timers if attached is None or timer.device.info.device_id in attached]
    is_timed = Objective.LATENCY in request.objectives
    settings = SearchSettings(
        request=request,
        task="fake",
        task_sha256="0",
        num_labels=2,
        teacher_id="0",
        teacher_architecture=TEACHER.to_json(),
        score_settings_ids=tuple(evaluator.settings_id for evaluator in evaluators),
        device=devices[0].info if is_timed else None,
        settings=timers[0].settings if is_timed else None,
        devices=tuple(each.info for each in devices) if is_timed and len(devices) > 1 else (),
    )
    return Search(
        store=store,
        study=open_study(store, run, settings),
        space=make_space(request.space, TEACHER),
        settings=settings,
        evaluators=evaluators if Objective.ACCURACY in request.objectives else [],
        timing=SideBySide(here, is_part=here != timers) if is_timed and role is not WorkRole.TRAIN else None,
        observer=listener or Listener(),
        timing_plan=timing_plan,
        role=role,
    )
