from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from device_lab.measurement import Backend, DeviceInfo
from nas.records import Objective, Role, Trial
from reports import page, tables
from reports.analysis import Analysis, analyse
from reports.drawings import drawings
from reports.evidence import EXACTLY_ONE, Evidence
from reports.figures import axis_label
from reports.regret import ALL_DEVICES, reading, regret, regret_csv, regret_markdown, regret_table
from reports.resampling import resampled_losses
from reports.several_devices import bar_sources, slowest_on
from search_spaces.architecture import Architecture, Block
from search_spaces.reference import squeezebert_rule
from tests.fake_run import HOST, TEACHER, fake_run, fake_run_of, fake_score, fake_trial, on_devices

OLD, NEW = (replace(HOST, device_id=name, backend=Backend.DEVICE, model=f"model of {name}") for name in ("OLD", "NEW"))
# What trials take on each phone, by their numbers; the rule takes 1.
RATIOS = {"OLD": {0: 1.0, 1: 2.0, 2: 0.5, 3: 0.8, 4: 0.4}, "NEW": {0: 1.0, 1: 1.5, 2: 0.9, 3: 0.6, 4: 0.3}}


def of(device: DeviceInfo) -> Callable[[Trial, float], float]:
    return lambda trial, _: RATIOS[device.device_id][trial.number]


def two_phones(*, objectives: tuple[Objective, ...] = (Objective.ACCURACY, Objective.LATENCY)) -> Analysis:
    """Trial 2 is best on OLD, trial 3 on NEW; trial 4 is quicker everywhere, and scores less than the rule."""
    scores = {0: 0.90, 1: 0.93, 2: 0.91, 3: 0.91, 4: 0.80}
    shapes = [squeezebert_rule(TEACHER), TEACHER, *(_arch(width) for width in (64, 96, 128))]
    trials = [
        fake_trial(number, architecture=shapes[number], accuracy=score, role=_ROLES.get(number, Role.CANDIDATE))
        for number, score in scores.items()
    ]
    run = fake_run_of(*trials, objectives=objectives)
    return analyse(on_devices(run, {OLD: of(OLD), NEW: of(NEW)}))


_ROLES: Mapping[int, Role] = {0: Role.SQUEEZEBERT_RULE, 1: Role.DENSE_TEACHER}


def _arch(width: int) -> Architecture:
    block = Block(num_attention_heads=1, intermediate_size=width)
    return Architecture(hidden_size=64, attention_head_size=32, blocks=(block,) * 2)


def trial(analysis: Analysis, number: int) -> Evidence:
    return next(item for item in analysis.evidence if item.trial.number == number)


def test_every_device_has_its_own_best_and_regrets_that_of_the_others() -> None:
    found = regret(two_phones())

    assert found is not None
    assert [(row.best_for, row.network.trial.number) for row in found.rows] == [
        ("OLD", 2),
        ("NEW", 3),
        (ALL_DEVICES, 3),
    ]
    (first, second, last) = [[cell.estimate for cell in row.cells] for row in found.rows]
    assert first == pytest.approx([1.0, 0.9 / 0.6], rel=0.02)
    assert second == pytest.approx([0.8 / 0.5, 1.0], rel=0.02)
    assert last == second
    assert (found.rows[0].cells[0], found.rows[1].cells[1]) == (EXACTLY_ONE, EXACTLY_ONE)


def test_the_interval_of_a_regret_holds_the_errors_of_both_networks() -> None:
    analysis = two_phones()
    found = regret(analysis)
    assert found is not None
    (_, cell), (own, best) = found.rows[0].cells, (trial(analysis, number).on_devices[1].ratio for number in (2, 3))

    assert own is not None
    assert best is not None
    widths = [math.log(interval.high / interval.low) for interval in (own, best, cell)]
    assert widths[2] == pytest.approx(math.hypot(*widths[:2]))
    assert cell.low < own.estimate / best.estimate < cell.high


def test_without_scores_the_quickest_is_best() -> None:
    found = regret(two_phones(objectives=(Objective.LATENCY, Objective.MACS)))

    assert found is not None
    assert {row.network.trial.number for row in found.rows} == {4}
    assert "score" not in found.rule


def test_a_run_on_one_device_has_no_regret() -> None:
    analysis = analyse(fake_run(8))

    assert regret(analysis) is None
    assert "regret" not in drawings(analysis)


def test_the_matrix_is_a_table_a_csv_and_a_sentence() -> None:
    found = regret(two_phones())
    assert found is not None

    header, rows = regret_table(found)
    frame = pd.read_csv(io.StringIO(regret_csv(found)))

    assert header == ["best for", "network", "on OLD", "on NEW"]
    assert rows[0][:3] == ["OLD", "trial 2", "1 (its own best)"]
    assert list(frame.columns) == ["best_for", "number", "device", "ratio", "regret", "regret_low", "regret_high"]
    assert frame.set_index(["best_for", "device"])["regret"]["OLD", "NEW"] == pytest.approx(1.5, rel=0.02)
    assert "score at least as well as SqueezeBERT's rule (90.0 %)" in reading(found)
    assert "| OLD | trial 2 | 1 (its own best) |" in regret_markdown(found)


def test_a_network_is_compared_where_it_is_slowest_and_the_page_says_where_that_is() -> None:
    analysis = two_phones()
    second = trial(analysis, 2)

    assert second.ratio is not None
    assert second.ratio.estimate == pytest.approx(0.9, rel=0.02)
    assert (slowest_on(second), bar_sources(second)) == ("NEW", "NEW")
    assert slowest_on(trial(analysis, 0)) == "\N{EN DASH}"
    assert analysis.bench is not None
    assert axis_label(analysis, Objective.LATENCY) == "latency / SqueezeBERT's rule, the slowest of 2 phones"
    (facts,) = [dict(card.facts) for card in page.cards(analysis) if card.number == 3]
    ratios = [float(facts[f"latency ratio on {name}"].split()[0]) for name in ("OLD", "NEW")]
    assert ratios == pytest.approx([0.8, 0.6], rel=0.02)
    assert facts["error bar from"] == "OLD"


def test_devices_that_are_alike_are_all_named_as_where_the_bar_may_come_from() -> None:
    run = fake_run_of(fake_trial(0, role=Role.SQUEEZEBERT_RULE), fake_trial(1, architecture=_arch(64), ratio=0.7))

    item = trial(analyse(on_devices(run, {OLD: lambda _, own: own, NEW: lambda _, own: own})), 1)

    assert "the slowest may be any of OLD, NEW" in bar_sources(item)


def test_milliseconds_of_different_devices_share_no_column() -> None:
    analysis = two_phones()

    assert analysis.milliseconds == {}
    assert not any("ms" in name.split() for name in (*page.trial_columns(analysis), *tables.front_table(analysis)[0]))
    frame = tables.frame(analysis)
    assert frame["ratio_on_NEW"][3] == pytest.approx(0.6, rel=0.02)
    assert frame["ratio"][3] == pytest.approx(0.8, rel=0.02)
    assert "reference" not in drawings(analysis)


def test_redraws_take_the_worst_device_of_each_redraw() -> None:
    run = fake_run_of(fake_trial(0, role=Role.SQUEEZEBERT_RULE), fake_trial(1, architecture=_arch(64), ratio=0.7))
    analysis = analyse(on_devices(run, {OLD: lambda _, own: own, NEW: lambda _, own: own}))

    drawn = resampled_losses(analysis.compared, [Objective.LATENCY], np.random.default_rng(0))[:, 1, 0]

    one = [
        replace(analysis.compared[1], on_devices=(), measurement=each.measurement)
        for each in analysis.compared[1].on_devices
    ]
    alone = resampled_losses(one, [Objective.LATENCY], np.random.default_rng(0)).mean(axis=0)[:, 0]
    assert drawn.mean() >= alone.max() - 1e-3


def test_a_network_that_one_device_lacks_is_left_out_with_its_name() -> None:
    analysis = two_phones()
    lacking = tuple(
        replace(each, measurements=() if each.device == NEW else each.measurements)
        for each in trial(analysis, 3).trial.on_devices
    )
    trials = tuple(
        replace(item.trial, on_devices=lacking, measurements=()) if item.trial.number == 3 else item.trial
        for item in analysis.evidence
    )

    again = analyse(replace(analysis.run, trials=trials))

    assert trial(again, 3).left_out == "not timed on NEW"


def test_a_score_below_the_rules_is_nobodys_best_however_quick() -> None:
    analysis = two_phones()
    better = replace(trial(analysis, 4).trial, score=fake_score(0.95))
    trials = tuple(better if item.trial.number == 4 else item.trial for item in analysis.evidence)

    found = regret(analyse(replace(analysis.run, trials=trials)))

    assert found is not None
    assert {row.network.trial.number for row in found.rows} == {4}
