"""Which figures a run deserves, each with the words that stand in for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from nas.records import Objective
from reports import text
from reports.analysis import Analysis
from reports.design_figures import MAX_LINES, importances_figure, parallel_figure
from reports.figures import axis_label, flops_figure, front_figure, hypervolume_figure, is_crowd, plane
from reports.importances import importance_rows, importances
from reports.layer_figures import MAX_PANELS, groups_figure, reference_figure
from reports.published import published_figure
from reports.regret import regret
from reports.regret_figure import regret_figure
from reports.tables import model_name

FIGURE_NAMES = (
    "front",
    "regret",
    "hypervolume",
    "flops",
    "importances",
    "parallel",
    "published",
    "groups",
    "reference",
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Drawing:
    """A figure with its file name, the text that replaces it for who cannot see it, and its caption.

    ``header`` and ``rows`` are its numbers, where a table beside it has them.
    """

    name: str
    figure: Figure
    alternative: str
    caption: str
    header: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()


def drawings(analysis: Analysis) -> dict[str, Drawing]:
    """Return the figures of a report by name; one that would be empty is not among them."""
    makers = (_front, _regret, _hypervolume, _flops, _importances, _parallel, _published, _groups, _reference)
    drawn = (make(analysis) for make in makers)
    return {drawing.name: drawing for drawing in drawn if drawing is not None}


def _front(analysis: Analysis) -> Drawing | None:
    axes = plane(analysis)
    if axes is None:
        return None
    x, y = axes
    front = analysis.front
    cheapest, dearest = front[0], front[-1]
    ends = " to ".join(
        f"{model_name(item)} at {text.objective_value(x, item.interval(x))}, "
        f"{text.objective_value(y, item.interval(y))}"
        for item in ((cheapest, dearest) if cheapest is not dearest else (cheapest,))
    )
    others = [objective.value for objective in analysis.objectives if objective not in axes]
    only = ", drawn for the front alone" if is_crowd(analysis.compared) else ""
    also = f" Models off the steps are on the front by {' and '.join(others)}." if others else ""
    return Drawing(
        name="front",
        figure=front_figure(analysis, x=x, y=y),
        alternative=(
            f"{axis_label(analysis, y)} over {axis_label(analysis, x)} of {len(analysis.compared)} models; "
            f"{len(front)} are on the front, from {ends}."
        ),
        caption=(
            f"Bars are 95 % intervals{only}. Blue: on the front; the steps join its best in these two.{also} "
            "Grey: something else is as good in everything and better in something. "
            "Diamond: SqueezeBERT's rule. Square: dense teacher."
        ),
    )


def _regret(analysis: Analysis) -> Drawing | None:
    found = regret(analysis)
    if found is None:
        return None
    cells = [(cell.estimate, row, i) for row in found.rows for i, cell in enumerate(row.cells)]
    dearest, row, i = max(cells, key=lambda each: each[0])
    return Drawing(
        name="regret",
        figure=regret_figure(found),
        alternative=(
            f"How many times as long the best network of each of {len(found.devices)} devices takes on the others as "
            f"their own best; at most {dearest:.2f}, for the best of {row.best_for} on {found.devices[i].device_id}. "
            "The table beside has the numbers."
        ),
        caption="Times as long as the device's own best takes. Bold: slower beyond chance. Full colour from 1.5 on.",
    )


def _hypervolume(analysis: Analysis) -> Drawing | None:
    if len(analysis.hypervolume) < 2:
        return None
    corner = ", ".join(
        f"{objective.value} {_corner(objective, float(loss))}"
        for objective, loss in zip(analysis.objectives, analysis.reference_losses, strict=True)
    )
    return Drawing(
        name="hypervolume",
        figure=hypervolume_figure(analysis),
        alternative=(
            f"Hypervolume over {len(analysis.hypervolume)} distinct architectures; it ends at "
            f"{100 * analysis.hypervolume[-1]:.1f} % of the box."
        ),
        caption=(
            "How much of the box between the ideal and a fixed reference point "
            f"({corner}) the models found so far dominate; repeats are not counted."
        ),
    )


def _corner(objective: Objective, loss: float) -> str:
    match objective:
        case Objective.ACCURACY:
            return f"{1 - loss:g}"
        case Objective.LATENCY:
            return f"ratio {loss:g}"
        case _:
            return text.count(loss)


def _flops(analysis: Analysis) -> Drawing | None:
    figure = flops_figure(analysis)
    if figure is None or analysis.bench is None:
        return None
    return Drawing(
        name="flops",
        figure=figure,
        alternative=(
            f"Latency ratio on {analysis.bench.label} over GFLOPs with a straight line, "
            "and below it how far each model lies off the line."
        ),
        caption="FLOPs explain what lies on the line; a model above it is slower than its FLOPs promise.",
    )


def _importances(analysis: Analysis) -> Drawing | None:
    found = importances(analysis)
    if not found:
        return None
    header, rows = importance_rows(found)
    return Drawing(
        name="importances",
        header=header,
        rows=rows,
        figure=importances_figure(analysis, found),
        alternative="Rank correlations of design features with each objective; the table beside has the numbers.",
        caption=(
            "Right: more of it goes with a higher value; left: with a lower one. Lines are 95 % intervals by bootstrap "
            "over trials. A correlation over the trials a sampler chose, not an effect."
        ),
    )


def _parallel(analysis: Analysis) -> Drawing | None:
    figure = parallel_figure(analysis)
    if figure is None:
        return None
    num_others = int((~analysis.on_front).sum())
    some = f" Of the others every {-(-num_others // MAX_LINES)}th is drawn." if num_others > MAX_LINES else ""
    return Drawing(
        name="parallel",
        figure=figure,
        alternative=(
            f"{len(analysis.compared)} designs as lines over their sizes, mean group count and results; "
            f"the {len(analysis.front)} of the front stand out."
        ),
        caption=(
            f"Each line is a model, each upright runs from its smallest to its largest value. Blue: on the front.{some}"
        ),
    )


def _published(analysis: Analysis) -> Drawing | None:
    figure = published_figure(analysis)
    if figure is None:
        return None
    return Drawing(
        name="published",
        figure=figure,
        alternative=(
            "Left, published networks over the BERT-base of their own source; right, this run's front over its own "
            "dense teacher. The tables below have the numbers."
        ),
        caption=(
            "Two separate plots on purpose: left are other tasks, devices and training, each over the BERT-base of the "
            "same source; right is what was measured here. Squares are the baselines. Ticks at the bottom left: a "
            "speedup whose source gives no score for its BERT-base."
        ),
    )


def _groups(analysis: Analysis) -> Drawing | None:
    figure = groups_figure(analysis)
    if figure is None:
        return None
    thinned = f" {MAX_PANELS} of {len(analysis.front)} are drawn." if len(analysis.front) > MAX_PANELS else ""
    return Drawing(
        name="groups",
        figure=figure,
        alternative="Group counts of the front's models, layer by layer; the cards hold the same as tables.",
        caption=(
            "Groups of the six position-wise layers, from yellow (1, dense) to dark blue (many); "
            f"at the right heads and FFN width. Cheapest model first.{thinned}"
        ),
    )


def _reference(analysis: Analysis) -> Drawing | None:
    figure = reference_figure(analysis)
    if figure is None or analysis.bench is None:
        return None
    return Drawing(
        name="reference",
        figure=figure,
        alternative=f"Median time of every process of the reference on {analysis.bench.label}, in the order run.",
        caption="A drift here is heat or other work on the device; ratios cancel what is slow, not what is sudden.",
    )
