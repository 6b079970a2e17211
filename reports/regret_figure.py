"""The regrets of a run on several devices as a picture: the dearer a network on a device, the fuller the colour."""

from __future__ import annotations

import math

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from reports.regret import Regret
from reports.style import ORANGE, in_style, new_figure, settle

# From here on a field is as full as any.
FULLEST = 1.5
# Text stays legible on it, dark on a light page and light on a dark one.
_MOST_OPAQUE = 0.45
_INCHES_OF_ROW_NAMES, _INCHES_OF_LETTER = 2.6, 0.1


@in_style
def regret_figure(found: Regret) -> Figure:
    """Draw the matrix, the networks from top to bottom and the devices from left to right."""
    num_rows, num_columns = len(found.rows), len(found.devices)
    longest = max(len(device.device_id) for device in found.devices)
    width = _INCHES_OF_ROW_NAMES + max(0.9, _INCHES_OF_LETTER * longest) * num_columns
    figure, (axes,) = new_figure(width=max(5.2, width), height=1.3 + 0.45 * num_rows)
    for i, row in enumerate(found.rows):
        for j, cell in enumerate(row.cells):
            share = min(max(math.log(cell.estimate), 0.0) / math.log(FULLEST), 1.0)
            field = Rectangle((j, i), 1, 1, facecolor=ORANGE, alpha=_MOST_OPAQUE * share, linewidth=0)
            field.set_gid(f"regret-{i}-{j}")
            axes.add_patch(field)
            is_sure = cell.low > 1
            weight = "bold" if is_sure else "normal"
            axes.text(j + 0.5, i + 0.5, f"{cell.estimate:.2f}", ha="center", va="center", fontweight=weight)
    axes.set_xlim(0, num_columns)
    axes.set_ylim(num_rows, 0)
    axes.set_xticks([j + 0.5 for j in range(num_columns)], [device.device_id for device in found.devices])
    names = [f"{row.best_for} (trial {row.network.trial.number})" for row in found.rows]
    axes.set_yticks([i + 0.5 for i in range(num_rows)], names)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xlabel("runs on")
    axes.set_ylabel("best for")
    axes.tick_params(length=0)
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    settle(figure)
    return figure
