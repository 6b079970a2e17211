"""Writes the folder of a report: one page, its figures, and the tables to paste."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from device_lab.statistics import INTERVAL_FACTOR, MAX_REFERENCE_CHANGE
from nas.records import Run
from reports import page, tables, text
from reports.analysis import KNEE_RULE, SHIP_RULE, Analysis, analyse
from reports.design_figures import coordinate_rows
from reports.document import to_json
from reports.drawings import FIGURE_NAMES, Drawing, drawings
from reports.embedded import page_data
from reports.profiles import CAVEAT
from reports.published import published_table
from reports.regret import reading, regret, regret_csv, regret_markdown, regret_table
from reports.resampling import MANY_BLOCKS, NUM_RESAMPLES, is_paired
from reports.several_devices import DEVICES_HEADER, device_rows
from reports.style import FIGURE_FORMATS, inline_svg, to_bytes
from reports.wording import answers, headline
from search_spaces.architecture import GROUP_POSITIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportFiles:
    """Where a report was written. ``figures`` are paths by name, such as ``front.svg``."""

    folder: Path
    html: Path
    csv: Path
    markdown: Path
    latex: Path
    json: Path
    figures: dict[str, Path]


def write_report(run: Run, folder: Path) -> ReportFiles:
    """Write the report of ``run`` into ``folder``, which is made if need be.

    Every file is complete before the first of an earlier report is replaced,
    so a full disk or an interrupt leaves the earlier report as it was.

    Raises:
        EmptyRunError: If the run has no trials.
        OSError: If the folder cannot be written.
    """
    analysis = analyse(run)
    drawn = drawings(analysis)
    images = {
        f"{name}.{file_format}": to_bytes(drawing.figure, file_format=file_format)
        for name, drawing in drawn.items()
        for file_format in FIGURE_FORMATS
    }
    sentences = [sentence for answer in answers(analysis) for sentence in answer.sentences]
    contents = {f"figures/{name}": image for name, image in images.items()} | {
        "report.csv": tables.csv_text(tables.rows(analysis)).encode(),
        "report.md": tables.markdown(analysis, [*sentences, *analysis.notices]).encode(),
        "report.tex": tables.latex(analysis).encode(),
        "report.json": to_json(analysis).encode(),
        "index.html": _html(analysis, drawn, images).encode(),
    }
    found = regret(analysis)
    if found is not None:
        contents["report.md"] += f"\n{regret_markdown(found)}".encode()
        contents["regret.csv"] = regret_csv(found).encode()
    _replace_all(folder, contents)
    return ReportFiles(
        folder=folder,
        html=folder / "index.html",
        csv=folder / "report.csv",
        markdown=folder / "report.md",
        latex=folder / "report.tex",
        json=folder / "report.json",
        figures={name: folder / "figures" / name for name in images},
    )


def _html(analysis: Analysis, drawn: dict[str, Drawing], images: dict[str, bytes]) -> str:
    environment = Environment(
        loader=PackageLoader("reports"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    front_header, front_rows = tables.front_table(analysis)
    share_header, share_rows = page.group_shares(analysis)
    parallel_header, parallel_rows = coordinate_rows(analysis) if "parallel" in drawn else ([], [])
    found = regret(analysis)
    regret_header, regret_rows = regret_table(found) if found is not None else ([], [])
    importances = drawn.get("importances")
    svgs = {
        name: Markup(inline_svg(images[f"{name}.svg"], title=str(escape(drawing.alternative)), identifier=name))
        for name, drawing in drawn.items()
    }
    context = {
        "run": analysis.run,
        "analysis": analysis,
        "headline": headline(analysis),
        "answers": answers(analysis),
        "begun": text.moment(analysis.run.created_at),
        "drawings": {name: drawn.get(name) for name in FIGURE_NAMES},
        "svgs": svgs,
        "rows_shown": page.rows_shown(analysis),
        "columns": page.trial_columns(analysis),
        "rows": page.trial_rows(analysis),
        "front_header": front_header,
        "front_rows": front_rows,
        "cards": page.cards(analysis),
        "profile_caveat": CAVEAT,
        "regret_reading": reading(found) if found is not None else "",
        "regret_header": regret_header,
        "regret_rows": regret_rows,
        "devices_header": DEVICES_HEADER,
        "device_rows": device_rows(analysis),
        "positions": GROUP_POSITIONS,
        "position_names": text.POSITION_NAMES,
        "short_names": text.SHORT_POSITION_NAMES,
        "share_header": share_header,
        "share_rows": [[name, *shares] for name, shares in share_rows],
        "parallel_header": parallel_header,
        "parallel_rows": parallel_rows,
        "importance_header": importances.header if importances else (),
        "importance_rows": importances.rows if importances else (),
        "published_rows": published_table(),
        "relative_rows": page.relative_rows(analysis),
        "rises": page.rises(analysis),
        "residuals": page.largest_residuals(analysis),
        "left_out": page.left_out(analysis),
        "device_facts": page.device_facts(analysis),
        "conditions": page.conditions(analysis),
        "samples_kept": page.samples_kept(analysis),
        "has_all_samples": all(item.has_samples for item in analysis.evidence if item.measurement),
        "knee_rule": KNEE_RULE,
        "ship_rule": SHIP_RULE,
        "num_resamples": NUM_RESAMPLES,
        "many_blocks": MANY_BLOCKS,
        "is_paired": is_paired(analysis.compared),
        "interval_factor": INTERVAL_FACTOR,
        "max_reference_change": MAX_REFERENCE_CHANGE,
        "sections": page.sections(analysis, drawn),
        "data": page_data(analysis),
        "style": _source(environment, "style.css"),
        "script": _source(environment, "script.js"),
    }
    return environment.get_template("report.html.j2").render(context)


def _source(environment: Environment, name: str) -> Markup:
    """Return a file of our own templates as it is, for an element that holds no markup."""
    loader = environment.loader
    source = loader.get_source(environment, name)[0] if loader is not None else ""
    return Markup(source)


def _replace_all(folder: Path, contents: dict[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "figures").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".unfinished-") as scratch:
        for name, content in contents.items():
            target = Path(scratch, name)
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(content)
        for name in contents:
            Path(scratch, name).replace(folder / name)
        for stale in (folder / "figures").iterdir():
            if f"figures/{stale.name}" not in contents and stale.suffix.lstrip(".") in FIGURE_FORMATS:
                stale.unlink()
