"""The sampler of our own, asked as a search asks it: built anew for every proposal."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.trial import TrialState

from nas.samplers import make_sampler
from reports.front import hypervolume

NAMES = ["num_hidden_layers", "hidden_size", *(f"layer{i}.{field}" for i in range(4) for field in ("groups", "width"))]
DISTRIBUTIONS: dict[str, BaseDistribution] = {
    name: IntDistribution(0, 2 if name == "num_hidden_layers" else 4) for name in NAMES
}
Answers = dict[str, int]
Values = Callable[[Answers], list[float]]


def new_study(num_objectives: int) -> optuna.Study:
    return optuna.create_study(directions=["minimize"] * num_objectives)


def ask(study: optuna.Study, *, seed: int, name: str = "evolution", before: int | None = None) -> optuna.Trial:
    count = len(study.get_trials(deepcopy=False)) if before is None else before
    study.sampler = make_sampler(name, seed=seed, num_trials_before=count, distributions=DISTRIBUTIONS)
    return study.ask(DISTRIBUTIONS)


def search(
    values: Values, *, count: int, seed: int = 0, num_objectives: int = 2, name: str = "evolution"
) -> np.ndarray:
    study = new_study(num_objectives)
    for _ in range(count):
        trial = ask(study, seed=seed, name=name)
        study.tell(trial, values(trial.params))
    return np.array([trial.values for trial in study.trials])


def key(answers: Answers) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(answers.items()))


def cost(answers: Answers) -> float:
    """What wide and shallowly grouped layers cost; layers beyond the depth cost nothing."""
    layers = range(answers["num_hidden_layers"] + 2)
    width = 1 + answers["hidden_size"]
    return width * sum((1 + answers[f"layer{i}.width"]) * 2.0 ** -answers[f"layer{i}.groups"] for i in layers)


def error(answers: Answers) -> float:
    """Least where all is wide; early layers count twice, and one optimum lies inside."""
    layers = range(answers["num_hidden_layers"] + 2)
    lost = sum((2 if i == 0 else 1) * answers[f"layer{i}.groups"] + 4 - answers[f"layer{i}.width"] for i in layers)
    return lost / len(layers) + (answers["hidden_size"] - 3) ** 2 + 3 * (2 - answers["num_hidden_layers"])


def both(answers: Answers) -> list[float]:
    return [error(answers), cost(answers)]


OBJECTIVES: dict[int, Values] = {
    1: lambda answers: [error(answers)],
    2: both,
    3: lambda answers: [*both(answers), float(answers["hidden_size"] + answers["num_hidden_layers"])],
}


@pytest.mark.parametrize("num_objectives", [1, 2, 3])
def test_it_comes_closer_than_random_at_equal_evaluations(num_objectives: int) -> None:
    found = {
        name: [
            search(OBJECTIVES[num_objectives], count=30, seed=seed, num_objectives=num_objectives, name=name)
            for seed in range(2)
        ]
        for name in ("evolution", "random")
    }
    worst = np.concatenate([run for runs in found.values() for run in runs]).max(axis=0)
    own, random = (
        [hypervolume(run / worst, reference=np.ones(num_objectives)) for run in found[name]] for name in found
    )

    assert min(own) > max(random)


def test_a_known_optimum_is_reached_within_forty_evaluations() -> None:
    best = search(OBJECTIVES[1], count=40, num_objectives=1).min()

    assert best == 0.0


def test_what_is_maximised_grows() -> None:
    study = optuna.create_study(direction="maximize")
    for _ in range(30):
        trial = ask(study, seed=0)
        study.tell(trial, -error(trial.params))

    assert study.best_value == 0.0


def test_parallel_proposals_differ_from_one_another_and_from_all_before() -> None:
    study = new_study(2)
    for _ in range(6):
        batch = [ask(study, seed=1) for _ in range(8)]
        for trial in batch:
            study.tell(trial, both(trial.params))

    assert len({key(trial.params) for trial in study.trials}) == 48


@pytest.mark.parametrize("num_told", [0, 12])
def test_workers_that_ask_at_the_same_time_get_different_proposals(num_told: int) -> None:
    study = new_study(2)
    for _ in range(num_told):
        trial = ask(study, seed=2)
        study.tell(trial, both(trial.params))
    sampler = make_sampler("evolution", seed=2, num_trials_before=num_told, distributions=DISTRIBUTIONS)
    storage, study_id = study._storage, study._study_id
    # All have begun a trial before any of them has its parameters.
    begun = [storage.get_trial(storage.create_new_trial(study_id)) for _ in range(5)]

    proposals = [sampler.sample_relative(study, trial, DISTRIBUTIONS) for trial in begun]

    assert len({key(answers) for answers in proposals}) == 5


def test_layers_that_are_left_out_make_no_new_proposal() -> None:
    names = {"num_hidden_layers": 1, "layer0.groups": 1, "layer1.groups": 4}
    distributions: dict[str, BaseDistribution] = {name: IntDistribution(0, high) for name, high in names.items()}
    study = new_study(1)
    for number in range(12):
        study.sampler = make_sampler("evolution", seed=0, num_trials_before=number, distributions=distributions)
        trial = study.ask(distributions)
        study.tell(trial, float(sum(trial.params.values())))

    # 2 with one layer, 2 x 5 with two.
    built = {(p["layer0.groups"], p["layer1.groups"] * p["num_hidden_layers"], p["num_hidden_layers"]) for p in (
        trial.params for trial in study.trials
    )}  # fmt: skip
    assert len(built) == 12


def test_a_space_that_is_used_up_is_asked_on_without_an_error() -> None:
    distributions: dict[str, BaseDistribution] = {"groups": IntDistribution(0, 2)}
    study = new_study(1)
    for number in range(6):
        study.sampler = make_sampler("evolution", seed=0, num_trials_before=number, distributions=distributions)
        trial = study.ask(distributions)
        study.tell(trial, float(trial.params["groups"]))

    assert {trial.params["groups"] for trial in study.trials} == {0, 1, 2}


def test_a_run_that_was_stopped_proposes_what_one_that_was_not_would() -> None:
    whole, stopped = new_study(2), new_study(2)
    for study in (whole, stopped):
        for _ in range(10):
            trial = ask(study, seed=3)
            study.tell(trial, both(trial.params))
    batch = [ask(whole, seed=3) for _ in range(4)]
    # Stopped after two of the four were proposed: both fail, and are asked for again before anything else.
    for trial in [ask(stopped, seed=3) for _ in range(2)]:
        stopped.enqueue_trial(trial.params)
        stopped.tell(trial, state=TrialState.FAIL)
    again = [ask(stopped, seed=3, before=10 + i) for i in range(4)]

    assert [trial.params for trial in again] == [trial.params for trial in batch]
    for trials, study in ((batch, whole), (reversed(again), stopped)):
        for trial in trials:
            study.tell(trial, both(trial.params))
    assert ask(stopped, seed=3, before=14).params == ask(whole, seed=3, before=14).params


def test_what_is_enqueued_is_asked_for_as_it_is() -> None:
    study = new_study(2)
    wanted = dict.fromkeys(NAMES, 1)
    study.enqueue_trial(wanted)

    assert ask(study, seed=0).params == wanted


def limited(trial: optuna.Trial, *, most: float) -> bool:
    """Set how far the cost lies above ``most``; tell whether it does."""
    trial.set_constraint("cost", cost(trial.params) - most)
    return cost(trial.params) > most


@pytest.mark.parametrize("rejected_state", [TrialState.PRUNED, TrialState.COMPLETE])
def test_proposals_learn_to_keep_a_limit(rejected_state: TrialState) -> None:
    shares = {}
    for name in ("evolution", "random"):
        study, kept = new_study(2), []
        for _ in range(60):
            trial = ask(study, seed=4, name=name)
            rejected = limited(trial, most=4.0)
            if rejected and rejected_state == TrialState.PRUNED:
                study.tell(trial, state=TrialState.PRUNED)
            else:
                study.tell(trial, both(trial.params))
            kept.append(not rejected)
        shares[name] = float(np.mean(kept[20:]))

    assert shares["random"] < 0.4
    assert shares["evolution"] > 0.75


def test_what_keeps_no_limit_is_no_parent_of_choice() -> None:
    study = new_study(1)
    for _ in range(40):
        trial = ask(study, seed=0)
        limited(trial, most=6.0)
        # Without the limit, the dearer the better.
        study.tell(trial, -cost(trial.params))

    best = max(cost(trial.params) for trial in study.trials if trial.constraints["cost"] <= 0)
    assert 5.5 < best <= 6.0


def test_proposals_turn_away_from_what_fails() -> None:
    late = []
    for seed in range(2):
        study = new_study(2)
        for number in range(40):
            trial = ask(study, seed=seed)
            # The wider two fifths of the space fail, where the error would be least.
            if fails := trial.params["hidden_size"] >= 3:
                study.tell(trial, state=TrialState.FAIL)
            else:
                study.tell(trial, both(trial.params))
            late += [fails] if number >= 20 else []

    assert np.mean(late) < 0.3


def test_parameters_without_an_order_are_drawn_besides() -> None:
    study = new_study(2)
    distributions = {**DISTRIBUTIONS, "runtime": CategoricalDistribution(("one", "other"))}
    drawn = set()
    for number in range(12):
        study.sampler = make_sampler("evolution", seed=0, num_trials_before=number, distributions=distributions)
        trial = study.ask(distributions)
        drawn.add(trial.params.pop("runtime"))
        study.tell(trial, both(trial.params))

    assert drawn == {"one", "other"}
