from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from nas.records import Objective, Role
from reports.analysis import Analysis, analyse
from reports.drawings import drawings
from reports.errors import UnknownFormatError
from reports.figures import fit_latency, flops_figure, front_figure, hypervolume_figure, scale_costs
from reports.layer_figures import MAX_PANELS, group_counts, groups_figure, panel_members, reference_figure
from reports.style import INK, PAPER, inline_svg, new_figure, to_bytes
from search_spaces.reference import dense_encoder, squeezebert_rule
from tests.fake_run import TEACHER, failed, fake_run, fake_run_of, fake_trial


@pytest.fixture(scope="module")
def analysis() -> Analysis:
    return analyse(fake_run(30))


def line(axes: Axes, name: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    found = next(each for each in axes.lines if each.get_gid() == name)
    return np.asarray(found.get_xydata())


def points(figure: Figure) -> PathCollection:
    found = [each for each in figure.axes[0].collections if each.get_gid() == "points"]
    assert isinstance(found[0], PathCollection)
    return found[0]


def texts(axes: Axes) -> set[str]:
    return {each.get_text() for each in axes.texts}


def test_the_front_figure_holds_every_compared_trial_in_order(analysis: Analysis) -> None:
    figure = front_figure(analysis, x=Objective.LATENCY, y=Objective.ACCURACY)

    expected = [(i.value(Objective.LATENCY), 100 * (i.value(Objective.ACCURACY) or 0)) for i in analysis.compared]
    assert np.asarray(points(figure).get_offsets()) == pytest.approx(np.array(expected, dtype=float))


def test_the_steps_pass_through_the_front_and_never_fall(analysis: Analysis) -> None:
    figure = front_figure(analysis, x=Objective.LATENCY, y=Objective.ACCURACY)

    steps = line(figure.axes[0], "front")

    assert len(steps) == len(analysis.front) + 1
    assert (np.diff(steps, axis=0) >= 0).all()


def test_the_front_figure_names_references_and_choices_once(analysis: Analysis) -> None:
    figure = front_figure(analysis, x=Objective.LATENCY, y=Objective.ACCURACY)

    labels = " ".join(texts(figure.axes[0]))

    assert labels.count("SqueezeBERT's rule") == labels.count("dense teacher") == 1
    assert labels.count("ship") == labels.count("knee") == 1


def test_labels_do_not_overlap(analysis: Analysis) -> None:
    figure = front_figure(analysis, x=Objective.LATENCY, y=Objective.ACCURACY)

    boxes = [each.get_window_extent() for each in figure.axes[0].texts]

    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])


def covered_marks(axes: Axes) -> list[str]:
    """The labels that lie on a point or on a mark."""
    root = axes.figure
    assert isinstance(root, Figure)
    root.draw_without_rendering()  # only now does a text know its place
    scale = root.dpi / 72
    found = []
    for collection in axes.collections:
        assert isinstance(collection, PathCollection)
        reach = scale * float(np.sqrt(collection.get_sizes()[0])) / 2
        for x, y in axes.transData.transform(np.asarray(collection.get_offsets())).tolist():
            box = Bbox([[x - reach, y - reach], [x + reach, y + reach]])
            found += [each.get_text() for each in axes.texts if Text.get_window_extent(each).overlaps(box)]
    return found


# Accuracy and ratio of a run in which a reference lies beside the way from another one's label to its point.
NEIGHBOURS = ((0.905, 1.0), (0.908, 1.656), (0.911, 0.423), (0.91, 0.57), (0.909, 0.54), (0.909, 0.785), (0.908, 0.61))


@pytest.mark.parametrize("seed", [0, 22, 27])
def test_no_label_covers_a_mark(seed: int) -> None:
    generator = np.random.default_rng(seed)
    roles = (Role.SQUEEZEBERT_RULE, Role.DENSE_TEACHER, *(Role.CANDIDATE,) * 20)
    archs = (squeezebert_rule(TEACHER), *(replace(TEACHER, vocab_size=1000 + i) for i in range(20)))
    # The picture of the quickstart first, then others like it.
    spread = 0.0 if seed == 0 else 0.25
    trials = [
        fake_trial(
            number,
            architecture=archs[number],
            role=roles[number],
            accuracy=accuracy + spread / 50 * generator.normal(),
            ratio=ratio * float(np.exp(spread * generator.normal())),
        )
        for number, (accuracy, ratio) in enumerate(NEIGHBOURS)
    ]

    figure = front_figure(analyse(fake_run_of(*trials)), x=Objective.LATENCY, y=Objective.ACCURACY)

    assert covered_marks(figure.axes[0]) == []


def test_ratios_that_span_decades_still_have_ticks() -> None:
    figure, (axes,) = new_figure()

    scale_costs(axes, np.array([[0.5, 1e-4, 7.0], [2.1, 1e-5, 3e4]]))
    axes.set_xlim(1e-5, 1e5)
    figure.draw_without_rendering()

    assert len([tick for tick in axes.get_xticks() if 1e-5 <= tick <= 1e5]) >= 3


def test_costs_that_differ_by_much_lie_on_a_logarithmic_axis(analysis: Analysis) -> None:
    macs = [item.trial.cost.macs for item in analysis.compared]

    figure = front_figure(analysis, x=Objective.MACS, y=Objective.ACCURACY)

    assert max(macs) > 2 * min(macs)
    assert figure.axes[0].get_xscale() == "log"
    assert figure.axes[0].get_yscale() == "linear"


def test_the_axis_of_times_names_the_backend(analysis: Analysis) -> None:
    figure = front_figure(analysis, x=Objective.LATENCY, y=Objective.ACCURACY)

    assert "this machine (host)" in figure.axes[0].get_xlabel()


def test_the_axis_of_macs_counts_two_flops_each() -> None:
    run = fake_run(10, objectives=(Objective.ACCURACY, Objective.MACS))
    figure = front_figure(analyse(run), x=Objective.MACS, y=Objective.ACCURACY)

    assert figure.axes[0].get_xlabel() == "GFLOPs (2 per MAC)"
    first = np.asarray(points(figure).get_offsets())[0]
    assert first[0] == pytest.approx(2 * run.trials[0].cost.macs / 1e9)


def test_the_history_is_drawn_in_percent_of_the_box(analysis: Analysis) -> None:
    drawn = line(hypervolume_figure(analysis).axes[0], "hypervolume")

    # A level line between two rises needs no points of its own.
    numbers = np.arange(1, len(analysis.hypervolume) + 1)
    levels = drawn[np.searchsorted(drawn[:, 0], numbers, side="right") - 1, 1]
    assert levels == pytest.approx(100 * analysis.hypervolume)
    assert len(drawn) < len(numbers)


def test_the_line_through_exact_points_leaves_no_residual() -> None:
    widths = (64, 128, 256)
    archs = [
        dense_encoder(hidden_size=64, num_hidden_layers=1, num_attention_heads=1, intermediate_size=w) for w in widths
    ]
    analysis = analyse(fake_run_of(*(fake_trial(i, architecture=a, ratio=0.5) for i, a in enumerate(archs))))

    fit = fit_latency(analysis.compared)

    assert fit is not None
    assert fit.residuals == pytest.approx(fit.ratios / (fit.intercept + fit.slope * fit.gflops) - 1)
    assert np.abs(fit.residuals).max() < 0.05


def test_flops_are_not_drawn_with_fewer_than_three_costs() -> None:
    run = fake_run_of(fake_trial(0), fake_trial(1, architecture=squeezebert_rule(TEACHER)))

    assert flops_figure(analyse(run)) is None


def test_groups_are_drawn_layer_by_layer_for_the_front(analysis: Analysis) -> None:
    figure = groups_figure(analysis)

    assert figure is not None
    (axes,) = figure.axes
    drawn = np.ma.filled(np.ma.asarray(axes.images[0].get_array()).astype(float), np.nan)
    titles = {each.get_text().split(",")[0]: each.get_position() for each in axes.texts}
    members = panel_members(analysis)
    assert len(titles) == len(members)
    for item in members:
        counts = group_counts(item.trial.architecture)
        x, y = titles[f"trial {item.trial.number}"]
        top, left = int(y) + 2, int(x - 2.5)
        assert drawn[top : top + len(counts), left : left + counts.shape[1]].tolist() == counts.tolist()
        # Nothing but paper around a panel.
        assert np.isnan(drawn[top - 1, left : left + counts.shape[1]]).all()
        assert np.isnan(drawn[top : top + len(counts), left + counts.shape[1]]).all()


def test_every_count_is_written_where_it_stands(analysis: Analysis) -> None:
    figure = groups_figure(analysis)

    assert figure is not None
    (axes,) = figure.axes
    places = np.vstack([np.asarray(each.get_offsets()) for each in axes.collections])
    drawn = np.ma.masked_invalid(np.ma.asarray(axes.images[0].get_array()).astype(float))
    written = {(int(x), int(y)) for x, y in places.tolist() if (x, y) == (int(x), int(y))}
    assert {(int(x), int(y)) for y, x in np.argwhere(~np.ma.getmaskarray(drawn))} == written


def test_a_large_front_is_thinned_but_keeps_its_ends() -> None:
    analysis = analyse(fake_run(120))
    members = panel_members(analysis)

    assert len(analysis.front) > MAX_PANELS == len(members)
    assert (members[0], members[-1]) == (analysis.front[0], analysis.front[-1])


def test_the_reference_figure_has_a_dot_for_every_process(analysis: Analysis) -> None:
    figure = reference_figure(analysis)

    sessions = [item.measurement for item in analysis.evidence if item.measurement is not None]
    distinct = {block.reference_after.run_id for session in sessions for block in session.blocks or ()} | {
        block.reference_before.run_id for session in sessions for block in session.blocks or ()
    }
    assert figure is not None
    assert len(line(figure.axes[0], "reference")) == len(distinct)


def test_a_run_without_a_front_has_no_figure() -> None:
    assert drawings(analyse(fake_run_of(failed(fake_trial(0), failure="out of memory")))) == {}


@pytest.mark.parametrize("file_format", ["svg", "pdf", "png"])
def test_the_same_run_gives_the_same_bytes(file_format: str) -> None:
    first, second = (to_bytes(hypervolume_figure(analyse(fake_run(6))), file_format=file_format) for _ in range(2))

    assert first == second


def test_a_figure_on_a_page_takes_the_colours_of_the_page(analysis: Analysis) -> None:
    svg = to_bytes(hypervolume_figure(analysis), file_format="svg")

    inline = inline_svg(svg, title="a title", identifier="one")

    assert INK in svg.decode()
    assert INK not in inline
    assert PAPER not in inline
    assert "currentColor" in inline
    assert inline.startswith('<svg role="img" aria-label="a title"')


def test_an_unknown_format_is_named() -> None:
    with pytest.raises(UnknownFormatError, match=r"unknown figure format 'gif' \(known: svg, png, pdf\)"):
        to_bytes(Figure(), file_format="gif")
