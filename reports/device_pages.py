"""Writes a page for every device that was timed on, and one that lists them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from device_lab.files import write_atomically
from device_lab.measurement import Backend
from nas.records import DeviceResults
from reports.device_results import (
    RATIO_HEADER,
    certificate_facts,
    condition_rows,
    notices,
    ratio_rows,
    reference_trace,
    temperature_trace,
)
from reports.errors import NothingTimedError
from reports.evidence import BACKEND_LABELS
from reports.style import inline_svg, to_bytes

LIST_NAME = "index.html"
_TRACE = "Median time of every process of the reference, in the order run, as a multiple of the cold baseline."
_TEMPERATURE = "The highest temperature the device told before and after every session, over time."


def write_device_pages(results: Sequence[DeviceResults], folder: Path) -> list[Path]:
    """Write a page for each device into ``folder``, made if need be, and the page that lists them.

    Each page is whole or not there. Times of an emulated processor are not shown.

    Returns:
        The pages, the list first.

    Raises:
        NothingTimedError: If there are no results.
        OSError: If the folder cannot be written.
    """
    if not results:
        raise NothingTimedError
    environment = Environment(
        loader=PackageLoader("reports"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    style = Markup(Path(__file__).with_name("templates").joinpath("style.css").read_text())
    pages: dict[str, str] = {}
    listed = []
    for _, group in groupby(results, key=lambda each: each.device.device_id):
        of_device = list(group)
        name = _file_name(of_device[0].device.device_id, taken=pages)
        device = of_device[-1].device
        benches = [_bench(each, number=i) for i, each in enumerate(of_device)]
        label = _label(device.backend)
        pages[name] = environment.get_template("device.html.j2").render(
            style=style, device=device, label=label, benches=benches, ratio_header=RATIO_HEADER, list_name=LIST_NAME
        )
        listed += [(name, device, label, bench) for bench in benches]
    listing = environment.get_template("devices.html.j2").render(style=style, listed=listed)
    for name, html in {**pages, LIST_NAME: listing}.items():
        write_atomically(folder / name, html)
    return [folder / name for name in (LIST_NAME, *pages)]


def _bench(results: DeviceResults, *, number: int) -> dict[str, object]:
    settings = results.settings
    is_timed = results.device.backend is not Backend.QEMU
    traces = {
        "trace": (reference_trace(results) if is_timed else None, _TRACE),
        "temperature": (temperature_trace(results) if is_timed else None, _TEMPERATURE),
    }
    certificate = certificate_facts(results) if is_timed else ()
    return {
        "title": f"{settings.runtime} {settings.runtime_version}, {settings.num_threads} thread(s), "
        f"{settings.sequence_length} tokens, against {results.reference}",
        "verdict": certificate[0][1] if certificate else "emulated: nothing is timed",
        "certificate": certificate,
        "rows": ratio_rows(results) if is_timed else (),
        "models": [name for name, _ in results.measurements],
        "conditions": condition_rows(results),
        "notices": notices(results),
        **{
            name: figure and _svg(figure, title=title, identifier=f"{name}{number}")
            for name, (figure, title) in traces.items()
        },
    }


def _svg(figure: Figure, *, title: str, identifier: str) -> Markup:
    return Markup(inline_svg(to_bytes(figure, file_format="svg"), title=str(escape(title)), identifier=identifier))


def _label(backend: Backend) -> str:
    return BACKEND_LABELS.get(backend, "emulated, answers only")


def _file_name(device_id: str, *, taken: dict[str, str]) -> str:
    """Return a name that no path can hide in and no other device has."""
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", device_id).strip("-")[:80] or "device"
    name, number = f"{stem}.html", 2
    while name in taken or name == LIST_NAME:
        name, number = f"{stem}-{number}.html", number + 1
    return name
