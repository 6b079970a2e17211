from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr

from nas.records import Objective, Role, Trial
from reports.analysis import analyse
from reports.design_figures import coordinate_rows, coordinates_of, importances_figure, parallel_figure
from reports.drawings import drawings
from reports.importances import features, importances
from search_spaces.architecture import GROUP_POSITIONS
from search_spaces.reference import dense_encoder
from tests.fake_run import fake_run, fake_run_of, fake_trial


def trial_of(number: int, *, width: int, layers: int = 2, accuracy: float, ratio: float | None = None) -> Trial:
    arch = dense_encoder(hidden_size=64, num_hidden_layers=layers, num_attention_heads=2, intermediate_size=width)
    return fake_trial(number, architecture=arch, accuracy=accuracy, ratio=ratio)


def test_every_size_and_every_position_is_a_feature_of_its_own() -> None:
    groups = dict(zip(GROUP_POSITIONS, (1, 2, 4, 8, 16, 32), strict=True))
    arch = dense_encoder(hidden_size=64, num_hidden_layers=3, num_attention_heads=2, intermediate_size=128)
    arch = replace(arch, blocks=tuple(replace(block, **groups) for block in arch.blocks))

    found = features(arch)

    assert (found["layers"], found["hidden size"], found["heads"], found["FFN width"]) == (3, 64, 2, 128)
    assert [value for name, value in found.items() if name.startswith("groups")] == pytest.approx([1, 2, 4, 8, 16, 32])


def test_groups_are_averaged_as_powers() -> None:
    arch = dense_encoder(hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128)
    first, second = arch.blocks
    arch = replace(arch, blocks=(replace(first, q_groups=2), replace(second, q_groups=8)))

    assert features(arch)["groups, query"] == pytest.approx(4)


def test_the_same_counts_in_another_order_or_depth_tie_exactly() -> None:
    arch = dense_encoder(hidden_size=64, num_hidden_layers=3, num_attention_heads=2, intermediate_size=128)
    counts = (2, 4, 8)
    blocks = tuple(replace(block, q_groups=count) for block, count in zip(arch.blocks, counts, strict=True))
    orders = [replace(arch, blocks=tuple(blocks[i] for i in order)) for order in ((0, 1, 2), (2, 0, 1), (1, 2, 0))]

    found = {features(each)["groups, query"] for each in (*orders, replace(arch, blocks=2 * blocks))}

    assert found == {4.0}


def test_a_correlation_is_that_of_scipy_over_the_trials() -> None:
    analysis = analyse(fake_run(40))

    widths = [features(item.trial.architecture)["FFN width"] for item in analysis.compared]
    ratios = [item.value(Objective.LATENCY) or 0.0 for item in analysis.compared]
    found = next(each for each in importances(analysis) if each.feature == "FFN width")

    assert dict(found.correlations)[Objective.LATENCY].estimate == pytest.approx(spearmanr(widths, ratios).statistic)


def test_what_decides_is_first_and_what_never_varies_is_not_there() -> None:
    generator = np.random.default_rng(0)
    trials = [
        trial_of(i, width=64 * i, layers=int(generator.integers(1, 4)), accuracy=0.5 + 0.01 * i) for i in range(1, 21)
    ]

    found = importances(analyse(fake_run_of(*trials, objectives=(Objective.ACCURACY,))))

    assert [each.feature for each in found] == ["FFN width", "layers"]
    by_width = dict(found[0].correlations)[Objective.ACCURACY]
    assert by_width.estimate == pytest.approx(1.0)
    by_layers = dict(found[1].correlations)[Objective.ACCURACY]
    assert by_layers.low < by_layers.estimate < by_layers.high


def test_a_handful_of_trials_has_no_importances() -> None:
    analysis = analyse(fake_run_of(*(trial_of(i, width=64 * i, accuracy=0.5 + 0.01 * i) for i in range(1, 6))))

    assert importances(analysis) == ()
    assert "importances" not in drawings(analysis)


def test_each_objective_has_its_panel_with_a_bar_for_each_feature() -> None:
    analysis = analyse(fake_run(30))

    figure = importances_figure(analysis, importances(analysis))

    assert [axes.get_title() for axes in figure.axes] == ["accuracy", "latency ratio"]
    widths = [patch.get_width() for patch in figure.axes[1].patches]  # type: ignore[attr-defined]
    expected = [dict(each.correlations)[Objective.LATENCY].estimate for each in importances(analysis)]
    assert widths == pytest.approx(expected)


def test_a_line_of_the_front_runs_through_its_models_values() -> None:
    analysis = analyse(
        fake_run_of(
            trial_of(1, width=64, accuracy=0.80, ratio=0.4),
            trial_of(2, width=128, accuracy=0.90, ratio=0.8),
            trial_of(3, width=256, accuracy=0.70, ratio=0.9),
        )
    )

    figure = parallel_figure(analysis)

    assert figure is not None
    names = [each.name for each in coordinates_of(analysis)]
    assert names == ["FFN\nwidth", "MACs", "latency\nratio", "accuracy"]
    (line,) = [each for each in figure.axes[0].lines if each.get_gid() == "on-front"]
    first, second = np.asarray(line.get_ydata())[:4], np.asarray(line.get_ydata())[5:9]
    assert (first[0], first[3]) == (0, pytest.approx(0.5))
    assert (second[0], second[3]) == (pytest.approx(1 / 3), 1)
    header, rows = coordinate_rows(analysis)
    assert header == ["trial", "FFN width", "MACs", "latency ratio", "accuracy"]
    assert [(row[0], row[1], row[4]) for row in rows] == [("1", "64", "80"), ("2", "128", "90")]


def test_one_trial_is_no_picture_of_designs() -> None:
    assert parallel_figure(analyse(fake_run_of(fake_trial(0, role=Role.DENSE_TEACHER)))) is None
