"""Pictures of what is inside: group counts layer by layer, and the reference over time."""

from __future__ import annotations

from functools import cache

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.path import Path
from matplotlib.textpath import TextPath

from device_lab.statistics import process_median_ns, reference_runs
from reports.analysis import Analysis
from reports.evidence import Evidence
from reports.style import BLUE, INK, VERMILLION, in_style, new_figure, settle
from reports.text import SHORT_POSITION_NAMES
from search_spaces.architecture import GROUP_POSITIONS, Architecture

MAX_PANELS = 8
MAX_VECTOR_DOTS = 400
_PANELS_PER_ROW = 4
_DIGIT_HEIGHT_POINTS = 5.2
_HEADER_INCHES, _LAYER_INCHES = 0.6, 0.19


@in_style
def groups_figure(analysis: Analysis) -> Figure | None:
    """Draw the group counts of the front's models: a panel each, layers down, the six positions across.

    Beside each layer stand its heads and FFN width. A front of more than
    `MAX_PANELS` is thinned evenly from its cheapest to its dearest member.

    Returns:
        The figure, or ``None`` without a front.
    """
    members = panel_members(analysis)
    if not members:
        return None
    columns = min(_PANELS_PER_ROW, len(members))
    rows = -(-len(members) // columns)
    depth = max(item.trial.architecture.num_hidden_layers for item in members)
    height = rows * (_HEADER_INCHES + _LAYER_INCHES * depth)
    figure, panels = new_figure(width=2.3 * columns, height=height, rows=rows, columns=columns)
    # Panels alike need no computed layout, which would take longer than all the drawing.
    figure.set_layout_engine(None)
    figure.subplots_adjust(
        left=0.03, right=0.99, top=1 - 0.5 / height, bottom=0.02, hspace=_HEADER_INCHES / (_LAYER_INCHES * depth)
    )
    largest = max(int(group_counts(item.trial.architecture).max()) for item in members)
    norm = LogNorm(vmin=1, vmax=max(largest, 2) * 2)
    for item, axes in zip(members, panels, strict=False):
        _draw_groups(axes, item, norm=norm, depth=depth)
    for axes in panels[len(members) :]:
        axes.set_axis_off()
    return figure


def panel_members(analysis: Analysis) -> list[Evidence]:
    """Return the front members `groups_figure` draws, cheapest first."""
    front = analysis.front
    chosen = np.unique(np.linspace(0, len(front) - 1, min(MAX_PANELS, len(front))).round().astype(int))
    return [front[i] for i in chosen]


def group_counts(arch: Architecture) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Return the group counts of ``arch`` as (layers, positions), in the order of `GROUP_POSITIONS`."""
    return np.array([[getattr(block, name) for name in GROUP_POSITIONS] for block in arch.blocks], dtype=np.int64)


@in_style
def reference_figure(analysis: Analysis) -> Figure | None:
    """Draw the median time of every process of the reference, in the order its sessions began.

    Returns:
        The figure, or ``None`` if nothing was timed.
    """
    sessions = [item.measurement for item in analysis.evidence if item.measurement is not None]
    sessions.sort(key=lambda session: session.conditions_before.taken_at)
    runs = reference_runs(block for session in sessions for block in session.blocks)
    if not runs or analysis.bench is None:
        return None
    medians_ms = np.array([process_median_ns(run) for run in runs]) / 1e6
    figure, (axes,) = new_figure(height=2.8)
    # Thousands of dots as vectors would fill the page's whole allowance.
    is_crowded = len(runs) > MAX_VECTOR_DOTS
    order = np.arange(1, len(runs) + 1)
    axes.plot(order, medians_ms, ".", color=BLUE, markersize=4, gid="reference", rasterized=is_crowded)
    middle = float(np.median(medians_ms))
    axes.axhline(middle, color=VERMILLION, linewidth=1, label=f"median {middle:.3g} ms")
    axes.legend(loc="upper right", frameon=False)
    axes.set_xlabel("process of the reference, in the order run")
    axes.set_ylabel(f"median (ms)\n{analysis.bench.label}")
    axes.margins(0.02, 0.25)
    settle(figure)
    return figure


@cache
def _number_marker(number: int) -> tuple[Path, float]:
    """Return a number as a marker around the origin, and its longest side in points at the height of all digits."""
    outline = TextPath((0, 0), str(number), size=1)
    box = outline.get_extents()
    centred = np.asarray(outline.vertices) - [(box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2]
    return Path(centred, outline.codes), _DIGIT_HEIGHT_POINTS * max(1.0, box.width / box.height)


def _draw_groups(axes: Axes, item: Evidence, *, norm: LogNorm, depth: int) -> None:
    arch = item.trial.architecture
    counts = group_counts(arch)
    axes.imshow(counts, cmap="cividis_r", norm=norm, aspect="auto", extent=(-0.5, 5.5, len(counts) - 0.5, -0.5))
    # A drawn number for each count: as texts, they would cost more than everything else in a report.
    for groups in np.unique(counts).tolist():
        layers, positions = np.nonzero(counts == groups)
        color = "white" if norm(float(groups)) > 0.5 else "black"
        marker, longest_points = _number_marker(groups)
        axes.scatter(positions, layers, marker=marker, s=longest_points**2, color=color, linewidths=0)
    for layer, block in enumerate(arch.blocks):
        text = f"{block.num_attention_heads}h {block.intermediate_size}"
        axes.text(5.7, layer, text, ha="left", va="center", fontsize=7, color=INK)
    axes.set_xlim(-0.5, 8.3)
    axes.set_ylim(depth - 0.5, -0.5)
    axes.set_xticks(range(6), list(SHORT_POSITION_NAMES.values()), fontsize=7)
    axes.set_yticks(range(len(counts)), [str(layer + 1) for layer in range(len(counts))], fontsize=7)
    axes.tick_params(length=0, top=False, labeltop=True, bottom=False, labelbottom=False)
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_title(f"trial {item.trial.number}, hidden {arch.hidden_size}", fontsize=8)
