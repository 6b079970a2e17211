"""How a figure looks and how it becomes a file.

Ink stands for text and lines, paper for what lies behind. A file gets them as
they are, dark on white; a page gets its CSS colours in their place, and a
lighter blue in the dark, so that one drawing serves both.
"""

from __future__ import annotations

import io
import re
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from device_lab.files import write_atomically
from reports.errors import UnknownFormatError

# Okabe and Ito's palette, told apart by people who confuse red and green.
BLUE, VERMILLION, GREEN, ORANGE = "#0072b2", "#d55e00", "#009e73", "#e69f00"
INK, PAPER = "#1b1c1d", "#fefefd"
FIGURE_FORMATS = ("svg", "png", "pdf")
PNG_DPI = 160

SETTINGS: dict[str, object] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "reports",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.labelsize": 10,
    "legend.fontsize": 9,
    "text.parse_math": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "figure.facecolor": PAPER,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": INK,
    "grid.alpha": 0.12,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
}


# Decorates every function that makes or saves a figure, so that nothing global stays changed.
in_style = mpl.rc_context(SETTINGS)  # type: ignore[arg-type]


def new_figure(
    *, width: float = 5.2, height: float = 4.0, rows: int = 1, columns: int = 1
) -> tuple[Figure, list[Axes]]:
    """Return a figure of ``width`` by ``height`` inches and its axes, row by row."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, list(axes.flat)


def settle(figure: Figure) -> None:
    """Compute the layout of ``figure`` once and keep it, as it costs more than drawing."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


@in_style
def to_bytes(figure: Figure, *, file_format: str) -> bytes:
    """Return ``figure`` as ``svg``, ``pdf`` or ``png``; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    # `Figure.savefig` would draw everything twice, for a layout that has settled already.
    match file_format:
        case "svg":
            FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})  # type: ignore[no-untyped-call]
        case "pdf":
            FigureCanvasPdf(figure).print_pdf(buffer, metadata={"CreationDate": None})  # type: ignore[no-untyped-call]
        case "png":
            figure.set_dpi(PNG_DPI)
            FigureCanvasAgg(figure).print_png(buffer)  # type: ignore[no-untyped-call]
        case _:
            raise UnknownFormatError(name=file_format, known=FIGURE_FORMATS)
    return buffer.getvalue()


def save(figure: Figure, path: Path) -> None:
    """Write ``figure`` to ``path`` in the format its suffix names, atomically.

    Raises:
        UnknownFormatError: If the suffix is none of `FIGURE_FORMATS`.
        OSError: If the file cannot be written.
    """
    write_atomically(path, to_bytes(figure, file_format=path.suffix.lstrip(".").lower()))


def inline_svg(svg: bytes, *, title: str, identifier: str) -> str:
    """Return a figure's SVG to stand in a page: its colours are the page's, ``title`` is its text alternative.

    Args:
        svg: What `to_bytes` returned.
        title: Already escaped for HTML.
        identifier: Keeps the ids of several figures of one page apart.
    """
    text = svg.decode()
    body = text[text.index("<svg") :]
    # A hundredth of a point is enough, and nothing reaches over the edge of its axes.
    body = re.sub(r"(\d\.\d\d)\d+", r"\1", body)
    body = re.sub(r' clip-path="[^"]*"', "", body)
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    width = re.search(r'viewBox="0 0 ([\d.]+)', body)
    natural = float(width.group(1)) if width else 0.0
    body = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", body, count=1)
    body = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", body, count=1)
    # Letters stay between eight and fifteen pixels; what is too wide for that scrolls.
    size = f"min-width:{0.8 * natural:.0f}px;max-width:{1.5 * natural:.0f}px"
    body = body.replace("<svg", f'<svg role="img" aria-label="{title}" style="{size}"', 1)
    body = re.sub(r'(id="|"#|url\(#)', rf"\g<1>{identifier}-", body)
    body = re.sub(r"\n\s*", "\n", body)
    for color, replacement in ((INK, "currentColor"), (PAPER, "var(--paper)"), (BLUE, "var(--blue)")):
        body = body.replace(color, replacement)
    return body
