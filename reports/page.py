"""What the HTML page shows, as plain values for its template."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from device_lab.measurement import UNREADABLE
from device_lab.measurement import Block as Measured
from device_lab.statistics import (
    candidate_runs,
    heat_slope,
    peak_memory_bytes,
    process_median_ns,
    reference_runs,
)
from reports import text
from reports.analysis import Analysis
from reports.evidence import Evidence
from reports.figures import fit_latency
from reports.pick import export_command
from reports.profile_cards import ProfileCard, profile_cards
from reports.published import relative_points
from reports.several_devices import device_ratio_facts, slowest_on
from reports.tables import MAX_ROWS, model_name, shown_rows
from search_spaces.architecture import GROUP_POSITIONS, Block

MAX_RESIDUALS = 8
NOT_HERE = (
    "left in the store, as the page has room for those of the cheapest of the front alone: without them percentiles "
    "have no interval, and the peak of memory is not known here"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A cell of a table: its text, and the number to sort it by if it is one."""

    text: str
    value: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A trial's row: its number, whether it is on the front, and its cells."""

    number: int
    state: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A front model: names and values of its facts, its layers, its profile, and the commands that bring the rest."""

    number: int
    name: str
    summary: str
    facts: tuple[tuple[str, str], ...]
    layers: tuple[tuple[str, Block], ...]
    commands: tuple[tuple[str, str], ...]
    is_open: bool
    profile: ProfileCard | None


def trial_columns(analysis: Analysis) -> tuple[str, ...]:
    """Return the column names of `trial_rows`."""
    timed: tuple[str, ...] = ()
    if analysis.bench is not None:
        of_device = ("slowest on",) if analysis.bench.devices else ("p50 ms", "p90 ms", "p99 ms")
        timed = ("latency ratio", *of_device)
    return ("trial", "role", analysis.metric, *timed, "MACs", "parameters", "P(front)")


def trial_rows(analysis: Analysis) -> tuple[Row, ...]:
    """Return a row for every trial that a page shows."""
    front = {item.trial.number for item in analysis.front}
    return tuple(_row(item, analysis, on_front=item.trial.number in front) for item in shown_rows(analysis))


def _row(item: Evidence, analysis: Analysis, *, on_front: bool) -> Row:
    trial = item.trial
    percentiles = analysis.milliseconds.get(trial.number)
    probability = analysis.probabilities.get(trial.number)
    cells = [
        Cell(text=str(trial.number), value=trial.number),
        Cell(text=text.ROLE_NAMES[trial.role]),
        Cell(text=text.percent(item.accuracy), value=item.accuracy.estimate if item.accuracy else None),
    ]
    if analysis.bench:
        cells.append(Cell(text=text.ratio(item.ratio), value=item.ratio.estimate if item.ratio else None))
        if analysis.bench.devices:
            cells.append(Cell(text=slowest_on(item)))
        for name in () if analysis.bench.devices else ("p50", "p90", "p99"):
            interval = getattr(percentiles, name) if percentiles else None
            cells.append(Cell(text=text.milliseconds(interval), value=interval.estimate if interval else None))
    cells += [
        Cell(text=text.count(trial.cost.macs), value=trial.cost.macs),
        Cell(text=text.count(trial.cost.parameters), value=trial.cost.parameters),
        Cell(text=text.probability(probability), value=probability),
    ]
    state = "front" if on_front else "dominated" if item.left_out is None else "left-out"
    return Row(number=trial.number, state=state, cells=tuple(cells))


def cards(analysis: Analysis) -> tuple[Card, ...]:
    """Return a card for every model of the front, cheapest first."""
    chosen = {item.trial.number for item in (analysis.ship, analysis.knee) if item is not None}
    profiles = profile_cards(analysis)
    return tuple(
        _card(item, analysis, is_open=item.trial.number in chosen, profile=profiles.get(item.trial.number))
        for item in analysis.front
    )


def _card(item: Evidence, analysis: Analysis, *, is_open: bool, profile: ProfileCard | None) -> Card:
    trial, arch = item.trial, item.trial.architecture
    percentiles = analysis.milliseconds.get(trial.number)
    facts = [(analysis.metric, text.percent(item.accuracy))]
    if analysis.bench is not None and item.ratio is not None:
        facts.append((f"latency ratio, {analysis.bench.label}", text.ratio(item.ratio)))
        is_bounded = item.measurement is None or item.has_samples
        for name in ("p50", "p90", "p99") if percentiles else ():
            facts.append((f"{name} ms", text.milliseconds(getattr(percentiles, name), with_bounds=is_bounded)))
        if not is_bounded:
            facts.append(("single times", NOT_HERE))
    facts += device_ratio_facts(item)
    if item.measurement is not None:
        total, precision = item.measurement.num_blocks, item.measurement.precision.name
        where = f" on {item.measurement.device.device_id}" if item.on_devices else ""
        facts.append(("blocks kept", f"{item.num_kept} of {total}{where}, {precision} precision"))
    facts += _memory(item)
    facts += [
        ("MACs", f"{text.count(trial.cost.macs)} ({text.count(trial.cost.flops)} FLOPs)"),
        ("parameters", text.count(trial.cost.parameters)),
        ("on the front in", text.probability(analysis.probabilities[trial.number])),
        ("hidden size", str(arch.hidden_size)),
        ("arch_id", arch.arch_id),
    ]
    of_trial = f"{shlex.quote(analysis.run.name)} --trial {trial.number}"
    commands = [
        ("its files to ship", export_command(item, analysis)),
        ("its architecture", f"nas show {of_trial} --json"),
    ]
    if profile is None and analysis.run.device is not None:
        commands.append(("where its time goes, operator by operator", f"nas profile {of_trial}"))
    short = [text.percent(item.accuracy, with_bounds=False)] if item.accuracy else []
    short += [f"{text.ratio(item.ratio, with_bounds=False)}x latency"] if item.ratio else []
    return Card(
        number=trial.number,
        name=model_name(item),
        summary=", ".join(short) or text.count(trial.cost.macs) + " MACs",
        facts=tuple(facts),
        layers=tuple(text.layer_ranges(arch)),
        commands=tuple(commands),
        is_open=is_open,
        profile=profile,
    )


def _memory(item: Evidence) -> list[tuple[str, str]]:
    if not item.kept:
        return []
    own, reference = peak_memory_bytes(candidate_runs(item.kept)), peak_memory_bytes(reference_runs(item.kept))
    if own is None or reference is None:
        return []
    # What the two share, the runner and the engine, is the same in both, so the difference is the networks'.
    return [("peak memory, runner included", f"{own / 1e6:.0f} MB (SqueezeBERT's rule: {reference / 1e6:.0f} MB)")]


def relative_rows(analysis: Analysis) -> list[list[str]]:
    """Return the front over the run's dense teacher: model, latency, score."""
    return [
        [model_name(item), text.ratio(latency), f"{100 * score.estimate:.1f} %"]
        for item, latency, score in relative_points(analysis)
    ]


def rises(analysis: Analysis) -> tuple[tuple[str, str], ...]:
    """Return the trials that raised the hypervolume, each with what it was then."""
    found, last = [], 0.0
    for item, share in zip(analysis.compared, analysis.hypervolume.tolist(), strict=True):
        if share > last:
            found.append((model_name(item), f"{100 * share:.2f} %"))
        last = share
    return tuple(found)


def largest_residuals(analysis: Analysis) -> tuple[tuple[str, str, str, str], ...]:
    """Return the models furthest off the line of latency over FLOPs: name, GFLOPs, ratio, residual."""
    timed = [item for item in analysis.compared if item.ratio is not None]
    fit = fit_latency(timed)
    if fit is None:
        return ()
    order = abs(fit.residuals).argsort(kind="stable")[::-1][:MAX_RESIDUALS]
    return tuple(
        (model_name(timed[i]), f"{fit.gflops[i]:.3g}", text.ratio(timed[i].ratio), f"{100 * fit.residuals[i]:+.1f} %")
        for i in order
    )


def group_shares(analysis: Analysis) -> tuple[list[int], tuple[tuple[str, list[str]], ...]]:
    """Return which group counts the front's layers use: the counts, and for each position the share of each."""
    blocks = [block for item in analysis.front for block in item.trial.architecture.blocks]
    options = sorted({getattr(block, position) for block in blocks for position in GROUP_POSITIONS})
    rows = []
    for position in GROUP_POSITIONS:
        used = Counter(getattr(block, position) for block in blocks)
        shares = [f"{100 * used[groups] / len(blocks):.0f} %" for groups in options]
        rows.append((text.POSITION_NAMES[position], shares))
    return options, tuple(rows)


def left_out(analysis: Analysis) -> tuple[tuple[str, str], ...]:
    """Return the trials that are not compared, each with its reason."""
    found = [(model_name(item), item.left_out) for item in analysis.evidence if item.left_out is not None]
    if len(found) > MAX_ROWS:
        return (*found[:MAX_ROWS], (f"and {len(found) - MAX_ROWS:,} more", "in the column left_out of report.csv"))
    return tuple(found)


def rows_shown(analysis: Analysis) -> str:
    """Return a sentence on which trials have no row, or nothing if all have one."""
    shown = len(shown_rows(analysis))
    left = len(analysis.evidence) - shown
    if not left:
        return ""
    return (
        f"Here are the {shown:,} trials that matter most: the front, the references, those likeliest to be on the "
        f"front, the earliest. The other {left:,} are in report.csv and report.json."
    )


def device_facts(analysis: Analysis) -> tuple[tuple[str, str], ...]:
    """Return what is known of the device, the settings and the sessions; nothing if nothing was timed."""
    bench = analysis.bench
    sessions = [item.measurement for item in analysis.evidence if item.measurement is not None]
    if bench is None or not sessions:
        return ()
    device, settings = bench.device, bench.settings
    if bench.devices:
        return (
            ("backend", f"{device.backend.value}: {bench.label}"),
            ("runtime", f"{settings.runtime} {settings.runtime_version}, threads: {settings.num_threads}"),
            ("input", f"{settings.sequence_length} tokens, batch of {settings.batch_size}"),
        )
    num_blocks = sum(session.num_blocks for session in sessions)
    num_kept = sum(item.num_kept for item in analysis.evidence)
    ended = Counter(session.reason.value.replace("_", " ") for session in sessions)
    facts = [
        ("backend", f"{device.backend.value}: {bench.label}"),
        ("device", device.device_id if device.model == UNREADABLE else f"{device.model} ({device.device_id})"),
        ("processor", f"{device.soc}, {device.abi}, {device.num_cores} cores"),
        ("system", device.os_version),
        ("runtime", f"{settings.runtime} {settings.runtime_version}, threads: {settings.num_threads}"),
        ("input", f"{settings.sequence_length} tokens, batch of {settings.batch_size}"),
        ("sessions", f"{len(sessions)}, which ended by {', '.join(f'{name}: {n}' for name, n in ended.items())}"),
        ("blocks", f"{num_blocks:,}, of which {num_blocks - num_kept:,} dropped"),
        ("pauses to cool down", str(sum(session.num_cooldowns for session in sessions))),
        *_facts_of_samples([session.blocks for session in sessions if session.blocks], num_sessions=len(sessions)),
    ]
    rule = analysis.squeezebert
    if rule is not None and rule.measurement is not None:
        facts.append(("SqueezeBERT's rule against itself", text.ratio(rule.measurement.ratio)))
    return tuple(facts)


def _facts_of_samples(sessions: Sequence[Sequence[Measured]], *, num_sessions: int) -> list[tuple[str, str]]:
    """Return what takes samples to tell, of the sessions whose samples are here."""
    runs = reference_runs(block for blocks in sessions for block in blocks)
    if not runs:
        return []
    slopes = [heat_slope(blocks) for blocks in sessions]
    here = "" if len(sessions) == num_sessions else f", of the {len(sessions)} sessions whose samples are here"
    return [
        (f"drift of the reference per block{here}", f"{100 * min(slopes):+.2f} % to {100 * max(slopes):+.2f} %"),
        (f"processes of the reference{here}", str(len(runs))),
        ("fastest and slowest of their medians", _range_ms([process_median_ns(run) / 1e6 for run in runs])),
    ]


def samples_kept(analysis: Analysis) -> str:
    """Return a sentence on whose samples a report has."""
    timed = [item for item in analysis.evidence if item.measurement is not None]
    here = sum(item.has_samples for item in timed)
    if here == len(timed):
        return "report.json beside it has everything."
    return (
        f"Of the {len(timed):,} timed models it has, as report.json beside it, the blocks of the {here} it shows in "
        "detail: those of the front, cheapest first, the references, and the finest measurement. All other ratios, "
        "intervals and probabilities are computed from the medians of all their processes, whose every single time is "
        "in the store."
    )


def conditions(analysis: Analysis) -> tuple[tuple[str, str, str], ...]:
    """Return the readings of the device before the first session and after the last: name, before, after.

    None of several devices, whose own pages have them.
    """
    sessions = [item.measurement for item in analysis.evidence if item.measurement is not None]
    if not sessions or (analysis.bench is not None and analysis.bench.devices):
        return ()
    first = min(sessions, key=lambda session: session.conditions_before.taken_at).conditions_before
    last = max(sessions, key=lambda session: session.conditions_after.taken_at).conditions_after
    names = dict.fromkeys(name for taken in (first, last) for name, _ in taken.readings)
    return (
        ("taken at", text.moment(first.taken_at), text.moment(last.taken_at)),
        *((name, first[name], last[name]) for name in names),
    )


def _range_ms(medians_ms: list[float]) -> str:
    return f"{min(medians_ms):.3g} to {max(medians_ms):.3g} ms"


def sections(analysis: Analysis, drawn: Collection[str]) -> tuple[tuple[str, str], ...]:
    """Return the anchors and titles of the sections the page has, given the names of its figures."""
    has_front = bool(analysis.compared)
    present = (
        ("front", "Front", has_front),
        ("cards", "Models", has_front),
        ("regret", "Regret", "regret" in drawn),
        ("trials", "All trials", True),
        ("progress", "Progress", "hypervolume" in drawn),
        ("flops", "FLOPs", "flops" in drawn),
        ("designs", "Designs", "parallel" in drawn),
        ("published", "Published", "published" in drawn),
        ("left-out", "Left out", any(item.left_out is not None for item in analysis.evidence)),
        ("device", "Device", bool(device_facts(analysis))),
        ("method", "Method", True),
    )
    return tuple((anchor, title) for anchor, title, is_present in present if is_present)
