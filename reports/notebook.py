"""A run in a notebook: its table, its front, its picture."""

from __future__ import annotations

from functools import cached_property

import pandas as pd
from markupsafe import escape
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nas.records import Run
from reports import tables
from reports.analysis import Analysis, analyse
from reports.errors import NoPlaneError
from reports.figures import draw_front, front_figure, plane
from reports.labels import place_labels
from reports.style import in_style, inline_svg, new_figure, to_bytes
from reports.wording import answers


class Report:
    """What a report shows of a run, as values. The analysis is made once, when it is first needed.

    Args:
        run: The run; `nas.notebook.load` reads one from its store.
    """

    def __init__(self, run: Run) -> None:
        self.run = run

    @cached_property
    def analysis(self) -> Analysis:
        """Everything computed from the run.

        Raises:
            EmptyRunError: If the run has no trials.
        """
        return analyse(self.run)

    def frame(self) -> pd.DataFrame:
        """Return one row per trial; see `reports.tables.frame` for the columns."""
        return tables.frame(self.analysis)

    def front(self) -> pd.DataFrame:
        """Return the rows of `frame` that are on the front, cheapest first."""
        order = [item.trial.number for item in self.analysis.front]
        return self.frame().set_index("number", drop=False).loc[order].reset_index(drop=True)

    @in_style
    def plot_front(self, ax: Axes | None = None) -> Axes:
        """Draw the front with its intervals on ``ax``, or on axes of a figure of its own, and return them.

        Raises:
            NoPlaneError: If fewer than two objectives can be compared.
        """
        objectives = plane(self.analysis)
        if objectives is None:
            raise NoPlaneError(run=self.run.name)
        if ax is None:
            figure, (ax,) = new_figure()
            FigureCanvasAgg(figure)
        x, y = objectives
        labels, avoid = draw_front(ax, self.analysis, x=x, y=y)
        root = ax.figure
        if isinstance(root, Figure):
            # Labels are put where nothing else is, so everything has to have its place.
            root.draw_without_rendering()
        place_labels(ax, labels, avoid=avoid)
        return ax

    def _repr_html_(self) -> str:
        """Return the answers, the front as a picture and as a table, for a notebook's cell."""
        header, rows = tables.front_table(self.analysis)
        sentences = "".join(
            f"<p><b>{escape(answer.question)}</b> {escape(' '.join(answer.sentences))}</p>"
            for answer in answers(self.analysis)
        )
        notices = "".join(f"<p><i>{escape(notice)}</i></p>" for notice in self.analysis.notices)
        head = "".join(f"<th>{escape(name)}</th>" for name in header)
        body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>" if rows else ""
        return f"<h3>{escape(self.run.name)}</h3>{sentences}{notices}{self._picture()}{table}"

    def _picture(self) -> str:
        objectives = plane(self.analysis)
        if objectives is None:
            return ""
        svg = to_bytes(front_figure(self.analysis, x=objectives[0], y=objectives[1]), file_format="svg")
        drawn = inline_svg(svg, title=str(escape(f"Front of {self.run.name}")), identifier="front")
        # A notebook has none of the colours of our page.
        return drawn.replace("var(--paper)", "transparent").replace("var(--blue)", "#0072b2")
