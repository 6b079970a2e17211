"""The profile of a front model as its card shows it: one stacked bar, a table beside it, and the words for both."""

from __future__ import annotations

from dataclasses import dataclass

from reports.analysis import Analysis
from reports.profiles import OTHER, by_kind, by_position, profile_of, shown_kinds, source

MIN_LABELLED_SHARE = 0.12


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A piece of the bar: its colour, its width as a percentage, and what is written in it."""

    color: str
    width: str
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileCard:
    """What a card shows of a profile. ``kinds`` are rows of the table beside the bar, each after its colour."""

    alternative: str
    segments: tuple[Segment, ...]
    header: tuple[str, ...]
    kinds: tuple[tuple[str, tuple[str, ...]], ...]
    positions: tuple[tuple[str, ...], ...]
    source: str


def profile_cards(analysis: Analysis) -> dict[int, ProfileCard]:
    """Return what the cards of the front show of their profiles, by trial number; nothing for a model without one."""
    run = analysis.run
    shown = {item.trial.number: profile_of(run, item.trial.architecture.arch_id) for item in analysis.front}
    profiles = {number: profile for number, profile in shown.items() if profile is not None}
    # One colour for a kind on all cards.
    kinds = shown_kinds(profiles.values())
    rule = analysis.squeezebert
    of_rule = profile_of(run, rule.trial.architecture.arch_id) if rule is not None else None
    cards = {}
    for number, profile in profiles.items():
        # Beside itself it says nothing.
        other = None if of_rule is profile else of_rule
        rule_ms = {part.name: part.time_ms for part in by_kind(other, kinds)} if other is not None else None
        parts = by_kind(profile, kinds)
        ordered = sorted(parts, key=lambda part: (*kinds, OTHER).index(part.name))
        rows = []
        for part in ordered:
            own = (part.name, f"{100 * part.share:.1f} %", f"{part.time_ms:.3f}")
            beside = () if rule_ms is None else (f"{rule_ms.get(part.name, 0.0):.3f}",)
            rows.append((_color(part.name, kinds), (*own, *beside, f"{part.num_calls:g}")))
        cards[number] = ProfileCard(
            alternative="Share of time by kind of operator: "
            + ", ".join(f"{part.name} {100 * part.share:.1f} %" for part in ordered),
            segments=tuple(
                Segment(
                    color=_color(part.name, kinds),
                    width=f"{100 * part.share:.2f}",
                    label=f"{100 * part.share:.0f} %" if part.share >= MIN_LABELLED_SHARE else "",
                )
                for part in ordered
            ),
            header=("operator", "share", "ms", *(() if rule_ms is None else ("ms, SqueezeBERT's rule",)), "count"),
            kinds=tuple(rows),
            positions=tuple(
                (part.name, f"{100 * part.share:.1f} %", f"{part.time_ms:.3f}") for part in by_position(profile)
            ),
            source=source(profile),
        )
    return cards


def _color(kind: str, kinds: tuple[str, ...]) -> str:
    return str(kinds.index(kind)) if kind in kinds else OTHER
