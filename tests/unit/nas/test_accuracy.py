from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from torch import Tensor

from nas.accuracy import EVALUATORS, ScoringContext, TrainedEvaluator, check_fidelities, make_evaluator
from nas.artifacts import ArtifactFolder
from nas.candidates import Candidates
from nas.errors import OutOfMemoryError, SettingsError, UnknownEvaluatorError
from nas.losses import logit_loss, predictions_from_logits
from nas.tasks import TaskKind
from nas.teacher import Teacher, prepare_teacher
from nas.teacher_plans import small_plan
from nas.tokens import Batch, TokenizedTask, tokenize_task
from nas.training import forward, predict
from search_spaces.architecture import Architecture
from search_spaces.bert import Bert, build
from search_spaces.reference import squeezebert_rule
from tests.small_tasks import TINY, classification_task, regression_task

RULE = squeezebert_rule(TINY)


@pytest.fixture(scope="module")
def data() -> TokenizedTask:
    return tokenize_task(classification_task(), sequence_length=16)


@pytest.fixture(scope="module")
def teacher(data: TokenizedTask, tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    artifacts = ArtifactFolder(tmp_path_factory.mktemp("teacher"))
    return prepare_teacher(data, small_plan(TINY, num_steps=40), artifacts=artifacts, seed=0, device="cpu")


def _context(data: TokenizedTask, teacher: Teacher, folder: Path, *, seed: int = 3) -> ScoringContext:
    artifacts = ArtifactFolder(folder)
    candidates = Candidates(data, teacher, artifacts=artifacts, seed=seed, device="cpu")
    return ScoringContext(candidates=candidates, artifacts=artifacts, seed=seed, device="cpu", num_steps=12)


@pytest.mark.torch
def test_a_candidate_is_distilled_scored_and_kept(data: TokenizedTask, teacher: Teacher, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    evaluator = make_evaluator("distilled", _context(data, teacher, tmp_path))

    score = evaluator.evaluate(RULE, on_step=lambda step, num_steps: steps.append((step, num_steps)))

    assert steps == [(step, 12) for step in range(1, 13)]
    assert (score.task, score.metric, score.evaluator, score.num_examples) == ("praise", "accuracy", "distilled", 10)
    assert score.duration_s > 0
    metrics = dict(score.metrics)
    assert list(metrics) == ["accuracy", "f1"]
    assert score.interval.estimate == metrics["accuracy"] >= 0.8
    assert score.interval.low <= score.interval.estimate <= score.interval.high

    assert score.weights_sha256 is not None
    state, description = ArtifactFolder(tmp_path).get_weights(score.weights_sha256)
    document = json.loads(description)
    arch = Architecture.from_json(json.dumps(document["arch"]))
    network = build(arch, num_labels=len(document["label_names"]))
    network.load_state_dict(state)
    predicted = predictions_from_logits(predict(network, data.dev, device="cpu"), TaskKind.CLASSIFICATION)
    assert arch == RULE
    assert document["settings_id"] == evaluator.settings_id
    assert (predicted == data.dev.labels).double().mean().item() == metrics["accuracy"]


@pytest.mark.torch
def test_equal_settings_give_equal_scores_in_any_order(data: TokenizedTask, teacher: Teacher, tmp_path: Path) -> None:
    one = make_evaluator("distilled", _context(data, teacher, tmp_path / "one"))
    other = make_evaluator("distilled", _context(data, teacher, tmp_path / "other"))

    first = one.evaluate(RULE)
    other.evaluate(TINY)
    second = other.evaluate(RULE)

    assert one.settings_id == other.settings_id
    assert replace(first, duration_s=0) == replace(second, duration_s=0)


@pytest.mark.torch
def test_candidates_share_their_teachers_work(
    data: TokenizedTask, teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Batch] = []

    def counted(network: Bert, batch: Batch) -> Tensor:
        seen.append(batch)
        return forward(network, batch)

    monkeypatch.setattr("nas.teacher_states.forward", counted)
    evaluator = make_evaluator("distilled", _context(data, teacher, tmp_path / "shared"))
    evaluator.evaluate(TINY)
    num_batches = len(seen)

    after_another = evaluator.evaluate(RULE)

    assert 0 < num_batches == len(seen)
    alone = make_evaluator("distilled", _context(data, teacher, tmp_path / "alone")).evaluate(RULE)
    assert after_another.weights_sha256 == alone.weights_sha256


@pytest.mark.torch
def test_settings_that_change_a_score_change_the_settings_id(
    data: TokenizedTask, teacher: Teacher, tmp_path: Path
) -> None:
    contexts = [
        _context(data, teacher, tmp_path),
        _context(data, teacher, tmp_path, seed=4),
        replace(_context(data, teacher, tmp_path), num_steps=13),
        _context(data, replace(teacher, teacher_id="other"), tmp_path),
        _context(data, replace(teacher, origin="minilm"), tmp_path),
        _context(replace(data, sequence_length=15), teacher, tmp_path),
        _context(replace(data, content_sha256="other"), teacher, tmp_path),
    ]

    ids = {make_evaluator(name, changed).settings_id for changed in contexts for name in EVALUATORS}

    # A distilled candidate's budget concerns neither of the others, and a recipe no projection.
    assert len(ids) == 3 * len(contexts) - 3
    assert make_evaluator("distilled", _context(data, teacher, tmp_path / "elsewhere")).settings_id in ids


@pytest.mark.torch
def test_a_projected_candidate_is_scored_as_its_network_and_not_kept(
    data: TokenizedTask, teacher: Teacher, tmp_path: Path
) -> None:
    context = _context(data, teacher, tmp_path)

    score = make_evaluator("projected", context).evaluate(RULE)

    predicted = predict(context.candidates.network(RULE), data.dev, device="cpu")
    hits = predicted.argmax(dim=1) == data.dev.labels
    assert (score.evaluator, score.weights_sha256) == ("projected", None)
    assert score.interval.estimate == hits.double().mean().item()
    wanted = predict(teacher.network(), data.dev, device="cpu")
    divergence = logit_loss(TaskKind.CLASSIFICATION, predicted, wanted, temperature=1.0)
    assert score.teacher_divergence == pytest.approx(float(divergence), abs=1e-4)
    assert not (tmp_path / "weights").exists()


@pytest.mark.torch
def test_training_starts_from_the_projection(data: TokenizedTask, teacher: Teacher, tmp_path: Path) -> None:
    context = replace(_context(data, teacher, tmp_path), num_steps=1)
    idle = TrainedEvaluator("distilled", context)
    idle._recipe = replace(idle._recipe, learning_rate=0.0, weight_decay=0.0)

    trained = idle.evaluate(RULE)

    projected = make_evaluator("projected", context).evaluate(RULE)
    assert trained.interval == projected.interval
    assert trained.teacher_divergence == pytest.approx(projected.teacher_divergence, abs=1e-4)


@pytest.mark.torch
def test_each_fidelity_trains_longer_than_the_one_before(data: TokenizedTask, teacher: Teacher, tmp_path: Path) -> None:
    num_steps = []
    for name in EVALUATORS:
        heard: dict[int, int] = {}
        evaluator = make_evaluator(name, replace(_context(data, teacher, tmp_path), num_steps=None))
        evaluator.evaluate(TINY, on_step=heard.__setitem__)
        num_steps.append(len(heard))

    assert num_steps[0] == 0 < num_steps[1] < num_steps[2]


@pytest.mark.torch
def test_a_regression_candidate_is_scored_by_correlation(tmp_path: Path) -> None:
    data = tokenize_task(regression_task(), sequence_length=24)
    teacher = prepare_teacher(
        data, small_plan(TINY, num_steps=3), artifacts=ArtifactFolder(tmp_path), seed=0, device="cpu"
    )

    score = make_evaluator("distilled", _context(data, teacher, tmp_path)).evaluate(RULE)

    assert score.metric == "pearson"
    assert [name for name, _ in score.metrics] == ["pearson", "spearman"]
    assert -1 <= score.interval.low <= score.interval.estimate <= score.interval.high <= 1


@pytest.mark.torch
def test_a_candidate_wider_than_the_teacher_keeps_nothing(
    data: TokenizedTask, teacher: Teacher, tmp_path: Path
) -> None:
    evaluator = make_evaluator("distilled", _context(data, teacher, tmp_path))

    with pytest.raises(SettingsError, match=r"hidden_size=64 .* at most the teacher's 32"):
        evaluator.evaluate(replace(TINY, hidden_size=64))

    assert not (tmp_path / "weights").exists()


@pytest.mark.torch
def test_running_out_of_memory_names_the_architecture(
    data: TokenizedTask, teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(self: Candidates, arch: Architecture) -> Bert:
        raise MemoryError

    monkeypatch.setattr(Candidates, "network", no_memory)

    with pytest.raises(OutOfMemoryError, match=f"architecture {RULE.arch_id}: out of memory"):
        make_evaluator("distilled", _context(data, teacher, tmp_path)).evaluate(RULE)


def test_an_unknown_evaluator_lists_the_known_ones() -> None:
    known = "known: projected, distilled, full"
    with pytest.raises(UnknownEvaluatorError, match=rf"unknown evaluator 'guessed' \({known}\)"):
        check_fidelities(["projected", "guessed"])


@pytest.mark.parametrize("names", [[], ["distilled", "projected"], ["full", "full"]])
def test_fidelities_go_from_the_cheapest_to_the_dearest(names: list[str]) -> None:
    with pytest.raises(SettingsError, match="must be one or more of projected,distilled,full, in this order"):
        check_fidelities(names)
