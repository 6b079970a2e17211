"""The trials as one pandas frame, and as Markdown and LaTeX for pasting."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from nas.records import Role
from reports import text
from reports.analysis import Analysis
from reports.evidence import Evidence
from reports.several_devices import bar_sources

if TYPE_CHECKING:
    import pandas as pd

# A page with more rows is slow to open.
MAX_ROWS = 2000
_LATEX_SPECIALS: dict[str, str | int | None] = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    text.MISSING: "--",
}
_MARKDOWN_SPECIALS: dict[str, str | int | None] = {"|": r"\|", "<": "&lt;", ">": "&gt;", "\n": " ", "\r": " "}


def frame(analysis: Analysis) -> pd.DataFrame:
    """Return one row per trial, in order of their numbers.

    Accuracies are fractions, ``ratio`` is the latency over that of
    SqueezeBERT's rule, ``_low`` and ``_high`` bound 95 % intervals, ``_ms`` are
    milliseconds on ``backend``. Of a run on several devices ``ratio`` is the worst,
    and ``ratio_on_`` with a device's name the ratio there. What is not known is missing, never zero.
    ``heads`` and ``intermediate_sizes`` are those of each layer; ``groups``
    lists the layers with their group counts, in the order of `GROUP_POSITIONS`.
    """
    # A report does without, as it takes longer to import than to read a run.
    import pandas as pd

    return pd.DataFrame(rows(analysis)).convert_dtypes()


def rows(analysis: Analysis) -> list[dict[str, object]]:
    """Return the rows of `frame`: values by the name of their column, what is not known as ``None``."""
    probabilities = analysis.probabilities
    front = {item.trial.number for item in analysis.front}
    return [_row(item, analysis, front=front, probabilities=probabilities) for item in analysis.evidence]


def csv_text(rows: Sequence[Mapping[str, object]]) -> str:
    """Return rows, of values by column, as CSV: a column that any row has, and nothing where a value is missing."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, dict.fromkeys(name for row in rows for name in row), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def _row(
    item: Evidence, analysis: Analysis, *, front: set[int], probabilities: Mapping[int, float]
) -> dict[str, object]:
    trial, arch, measurement = item.trial, item.trial.architecture, item.measurement
    percentiles = analysis.milliseconds.get(trial.number)
    row: dict[str, object] = {
        "number": trial.number,
        "role": trial.role.value,
        "state": trial.state.value,
        "arch_id": arch.arch_id,
        "on_front": trial.number in front,
        "probability": probabilities.get(trial.number),
    }
    for name, interval in (("accuracy", item.accuracy), ("ratio", item.ratio)):
        row[name] = interval.estimate if interval else None
        row[f"{name}_low"] = interval.low if interval else None
        row[f"{name}_high"] = interval.high if interval else None
    row |= {
        "p50_ms": percentiles.p50.estimate if percentiles else None,
        "p90_ms": percentiles.p90.estimate if percentiles else None,
        "p99_ms": percentiles.p99.estimate if percentiles else None,
        "backend": analysis.bench.device.backend.value if analysis.bench and (percentiles or item.on_devices) else None,
        "precision": measurement.precision.name if measurement else None,
        "num_blocks": measurement.num_blocks if measurement else None,
        "num_dropped": measurement.num_blocks - item.num_kept if measurement else None,
        "macs": trial.cost.macs,
        "encoder_macs": trial.cost.encoder_macs,
        "parameters": trial.cost.parameters,
        "num_hidden_layers": arch.num_hidden_layers,
        "hidden_size": arch.hidden_size,
        "heads": ".".join(str(block.num_attention_heads) for block in arch.blocks),
        "intermediate_sizes": ".".join(str(block.intermediate_size) for block in arch.blocks),
        "groups": text.compact_groups(arch),
        "same_as": trial.same_as,
        "left_out": item.left_out,
    }
    for each in item.on_devices:
        name = f"ratio_on_{each.device.device_id}"
        row[name] = each.ratio.estimate if each.ratio else None
        row[f"{name}_low"] = each.ratio.low if each.ratio else None
        row[f"{name}_high"] = each.ratio.high if each.ratio else None
    return row


def markdown(analysis: Analysis, sentences: Iterable[str]) -> str:
    """Return the answers and the front with the references as a Markdown page."""
    run = analysis.run
    header, rows = front_table(analysis)
    lines = [f"# Run {_markdown_cell(run.name)}", "", *(_markdown_cell(sentence) for sentence in sentences), ""]
    if rows:
        lines += [*markdown_table(header, rows), ""]
        lines += [_markdown_cell(note) for note in _notes(analysis)]
    return "\n".join(lines).rstrip() + "\n"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return a table as the lines of Markdown."""
    return [_markdown_line(header), _markdown_line(["---"] * len(header)), *map(_markdown_line, rows)]


def latex(analysis: Analysis) -> str:
    """Return the front with the references as a LaTeX table; it needs the package ``booktabs``."""
    header, rows = front_table(analysis)
    body = [" & ".join(map(_latex_cell, row)) + r" \\" for row in rows]
    caption = " ".join((f"Front of run {analysis.run.name} on task {analysis.run.task}.", *_notes(analysis)))
    return "\n".join(
        [
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{_latex_cell(caption)}}}",
            rf"  \begin{{tabular}}{{l{'r' * (len(header) - 1)}}}",
            r"    \toprule",
            "    " + " & ".join(map(_latex_cell, header)) + r" \\",
            r"    \midrule",
            *(f"    {line}" for line in body),
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def front_table(analysis: Analysis) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the front, cheapest first, with references that are off the front at the end."""
    header = ["model", analysis.metric]
    if analysis.bench is not None:
        header.append("latency ratio")
    header.append("P(front)")
    if analysis.bench is not None:
        header += ["error bar from"] if analysis.bench.devices else ["p50 ms", "p90 ms", "p99 ms"]
    header += ["MACs", "parameters"]
    front = analysis.front
    others = [item for item in (analysis.squeezebert, analysis.dense) if item is not None and item not in front]
    return header, [_front_row(item, analysis) for item in (*front, *others)]


def _front_row(item: Evidence, analysis: Analysis) -> list[str]:
    cells = [model_name(item), text.percent(item.accuracy)]
    if analysis.bench is not None:
        cells.append(text.ratio(item.ratio))
    cells.append(text.probability(analysis.probabilities.get(item.trial.number)))
    if analysis.bench is not None and analysis.bench.devices:
        cells.append(bar_sources(item))
    elif analysis.bench is not None:
        percentiles = analysis.milliseconds.get(item.trial.number)
        for name in ("p50", "p90", "p99"):
            cells.append(text.milliseconds(getattr(percentiles, name) if percentiles else None))
    return [*cells, text.count(item.trial.cost.macs), text.count(item.trial.cost.parameters)]


def shown_rows(analysis: Analysis) -> tuple[Evidence, ...]:
    """Return the trials that a page has a row for, in order: all, or of very many those that matter most.

    Those are the front, the references, trials whose samples are here, those most
    likely to be on the front, and then the earliest. The table as CSV has all.
    """
    if len(analysis.evidence) <= MAX_ROWS:
        return analysis.evidence
    front = {item.trial.number for item in analysis.front}

    def rank(item: Evidence) -> tuple[bool, float]:
        number = item.trial.number
        matters = number in front or item.has_samples or item.trial.role is not Role.CANDIDATE
        return not matters, -analysis.probabilities.get(number, 0.0)

    chosen = sorted(analysis.evidence, key=rank)[:MAX_ROWS]
    return tuple(sorted(chosen, key=lambda item: item.trial.number))


def model_name(item: Evidence) -> str:
    """Return what a table calls a trial: its number, with its role unless it is a candidate."""
    role = "" if item.trial.role.value == "candidate" else f" ({text.ROLE_NAMES[item.trial.role]})"
    return f"trial {item.trial.number}{role}"


def _notes(analysis: Analysis) -> list[str]:
    notes = ["Brackets hold 95 % intervals; P(front) is the probability of being on the front."]
    if analysis.bench is not None:
        settings = analysis.bench.settings
        models = ", ".join(dict.fromkeys(device.model for device in analysis.bench.all_devices))
        notes.append(
            f"Latency: {analysis.bench.label}, {models}, {settings.runtime} "
            f"{settings.runtime_version}, threads: {settings.num_threads}, tokens: {settings.sequence_length}; "
            "the ratio is to SqueezeBERT's rule, below 1 is faster."
        )
    return notes


def _markdown_line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_markdown_cell, cells))} |"


def _markdown_cell(content: str) -> str:
    return content.translate(str.maketrans(_MARKDOWN_SPECIALS))


def _latex_cell(content: str) -> str:
    return content.translate(str.maketrans(_LATEX_SPECIALS)).replace("\n", " ")
