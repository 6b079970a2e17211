"""A page for each device that was timed on: its conditions, its certificate, its ratios."""

from __future__ import annotations

import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from device_lab.measurement import Backend, Conditions, DeviceInfo, Measurement, Summary
from device_lab.qualification import NUM_BASELINE_PROCESSES, Qualification
from nas.device_results import find_device_results
from nas.qualifications import save_qualification
from nas.records import DeviceResults
from nas.store import Store, sqlite_url
from reports.device_pages import write_device_pages
from reports.device_results import notices, temperature_trace
from reports.errors import NothingTimedError
from search_spaces.reference import BERT_BASE, SQUEEZEBERT
from tests.command_line import CommandLine
from tests.fake_run import HOST, REFERENCE_MS, SETTINGS, TEACHER, fake_measurement, fake_process

PHONES = tuple(
    replace(HOST, device_id=serial, backend=backend, model=f"model of {serial}")
    for serial, backend in (("8A3X1", Backend.DEVICE), ("192.168.1.20:5555", Backend.VIRTUAL_PHONE))
)


def measured(device: DeviceInfo, *, ratio: float, label: str) -> Measurement:
    return fake_measurement(
        f"{device.device_id}-{label}", ratio=ratio, device=device, generator=np.random.default_rng(len(label))
    )


def certificate(device: DeviceInfo) -> Qualification:
    generator = np.random.default_rng(5)
    runs = [
        fake_process(f"{device.device_id}-b{i}", median_ms=REFERENCE_MS, generator=generator)
        for i in range(NUM_BASELINE_PROCESSES)
    ]
    return Qualification(baseline_runs=tuple(runs), measurement=measured(device, ratio=1.0, label="itself"))


def results(device: DeviceInfo, *, with_certificate: bool = True) -> DeviceResults:
    return DeviceResults(
        device=device,
        settings=SETTINGS,
        reference="squeezebert",
        certificate=certificate(device) if with_certificate else None,
        measurements=(
            ("slow <b>", measured(device, ratio=2.0, label="slow")),
            ("fast", measured(device, ratio=0.5, label="fast")),
        ),
    )


class Cells(HTMLParser):
    """The texts of table cells, and where links lead."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.cells: list[str] = []
        self.links: list[str] = []
        self._is_cell = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._is_cell = tag == "td"
        self.links += [value for name, value in attrs if name == "href" and value]

    def handle_data(self, data: str) -> None:
        if self._is_cell:
            self.cells.append(data)


def test_every_device_has_a_page_with_ratios_certificate_and_conditions(tmp_path: Path) -> None:
    listing, *pages = write_device_pages([results(phone) for phone in PHONES], tmp_path)

    assert [page.name for page in pages] == ["8A3X1.html", "192-168-1-20-5555.html"]
    assert set(Cells(listing.read_text()).links) == {page.name for page in pages}
    for phone, page in zip(PHONES, pages, strict=True):
        html = page.read_text()
        cells = Cells(html).cells
        assert f"<h1>{phone.device_id}</h1>" in html
        assert cells.index("fast") < cells.index("slow <b>"), "the fastest comes first, and no name is markup"
        assert cells[cells.index("fast") + 1].startswith(("0.49", "0.50"))
        assert cells[cells.index("slow <b>") + 1].startswith(("1.9", "2.0"))
        assert "checked in every run" in cells
        assert "qualified; taken 2026-01-05" in html
        assert ("governor", "?", "?") in zip(cells, cells[1:], cells[2:], strict=False)
        assert "heat gate" in html
        assert "by definition" not in html
    assert "virtual phone, not a phone" in pages[1].read_text()
    assert "virtual phone, not a phone" not in pages[0].read_text()


def test_a_device_without_a_certificate_says_so_and_one_with_another_setting_has_a_second_section(
    tmp_path: Path,
) -> None:
    phone = PHONES[0]
    two_threads = replace(results(phone), settings=replace(SETTINGS, num_threads=2))

    _, page = write_device_pages([results(phone, with_certificate=False), two_threads], tmp_path)

    html = page.read_text()
    assert html.count("<section>") == 2
    assert html.count("none: this device was not qualified for these settings") == 1
    assert "2 thread(s), 64 tokens, against squeezebert" in html


def test_times_of_an_emulated_device_are_not_shown(tmp_path: Path) -> None:
    emulated = replace(PHONES[0], backend=Backend.QEMU)

    _, page = write_device_pages([results(emulated)], tmp_path)

    html = page.read_text()
    assert "agree with torch; under an emulator nothing is timed" in html
    assert "ratio (95 %)" not in html
    assert "cold baseline" not in html


def warmed(measurement: Measurement, *, minute: int, celsius: tuple[str, str]) -> Measurement:
    """The same session, begun so many minutes later, with the temperatures before and after."""
    before, after = (
        Conditions(
            taken_at=f"2026-01-05T10:{minute + i:02}:00+00:00", readings=(("max_temperature_celsius", celsius[i]),)
        )
        for i in range(2)
    )
    return replace(measurement, conditions_before=before, conditions_after=after)


def test_temperatures_are_traced_over_the_sessions_where_they_could_be_read() -> None:
    found = results(PHONES[0], with_certificate=False)
    (_, slow), (_, fast) = found.measurements
    traced = temperature_trace(
        replace(
            found,
            measurements=(
                ("slow", warmed(slow, minute=10, celsius=("36.5", "?"))),
                ("fast", warmed(fast, minute=4, celsius=("31", "33.0"))),
            ),
        )
    )

    assert traced is not None
    (line,) = traced.axes[0].lines
    assert np.asarray(line.get_xdata()).tolist() == [0, 1, 6]
    assert np.asarray(line.get_ydata()).tolist() == [31, 33, 36.5]
    assert temperature_trace(found) is None


def test_what_is_odd_is_said_once_with_the_models_it_is_about() -> None:
    found = results(PHONES[0], with_certificate=False)
    (_, slow), (_, fast) = found.measurements
    blind = replace(fast.conditions_before, readings=(("load_1min", "97.5"), ("frequencies_mhz", "1800 2850")))
    one = replace(found, measurements=(("slow", slow), ("fast", replace(fast, conditions_before=blind))))
    both = replace(
        found, measurements=tuple((name, replace(m, conditions_before=blind)) for name, m in one.measurements)
    )

    assert [notice for notice in notices(one) if "load 97.5" in notice] == ["fast: load 97.5 on 2 cores at the start"]
    assert [notice for notice in notices(both) if "load 97.5" in notice] == [
        "all 2 models: load 97.5 on 2 cores at the start"
    ]


def test_what_a_runner_did_not_print_stands_on_the_page(tmp_path: Path) -> None:
    phone = PHONES[0]
    name, whole = results(phone).measurements[0]
    silent = tuple(
        replace(
            block,
            candidate=replace(
                block.candidate,
                samples_ns=block.candidate.samples_ns[:1],
                summary=Summary(statistic="average", num_runs=20),
                output_checked_here=True,
            ),
        )
        for block in whole.blocks
    )
    told = replace(results(phone), measurements=((name, replace(whole, blocks=silent)),))

    html = write_device_pages([told], tmp_path)[1].read_text()

    cells = Cells(html).cells
    assert cells[cells.index(name) + 2 : cells.index(name) + 4] == ["\N{EN DASH}", "\N{EN DASH}"]
    assert "checked on the host" in cells
    assert "each process printed the average of its inferences" in html


def test_without_any_time_there_is_no_page(tmp_path: Path) -> None:
    with pytest.raises(NothingTimedError, match="start with `nas measure`"):
        write_device_pages([], tmp_path / "pages")
    assert not (tmp_path / "pages").exists()


@pytest.fixture
def command_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> CommandLine:
    """A store as `nas measure` and `nas qualify` leave it, with two phones."""
    path = tmp_path / "runs" / "measurements" / "store.db"
    path.parent.mkdir(parents=True)
    store = Store(sqlite_url(path))
    for phone in PHONES:
        for arch, ratio in ((BERT_BASE, 2.5), (TEACHER, 0.5)):
            measurement = measured(phone, ratio=ratio, label=arch.arch_id)
            number, _ = store.begin_measurement(
                device_id=phone.device_id,
                settings=SETTINGS,
                precision=measurement.precision.name,
                arch_id=arch.arch_id,
                reference_arch_id=SQUEEZEBERT.arch_id,
            )
            for block in measurement.blocks:
                store.save_block(number, block)
            store.finish_measurement(number, measurement)
    save_qualification(store, certificate(PHONES[0]), settings=SETTINGS, reference_arch_id=SQUEEZEBERT.arch_id)
    found = find_device_results(store, names={TEACHER.arch_id: "trial 3"})
    assert [[name for name, _ in each.measurements] for each in found] == 2 * [["bert-base", "trial 3"]]
    assert [each.certificate is not None for each in found] == [False, True]
    store.close()
    return CommandLine(capsys, tmp_path / "runs")


def test_nas_report_measurements_writes_them_from_the_store(command_line: CommandLine) -> None:
    told = command_line.in_folder("report", "measurements")
    document = json.loads(command_line.in_folder("report", "measurements", "--json").stdout)

    folder = command_line.runs_folder / "measurements" / "report"
    assert (told.code, told.stdout.split()) == (0, ["devices:", str(folder / "index.html")])
    assert document["devices"] == [str(folder / "192-168-1-20-5555.html"), str(folder / "8A3X1.html")]
    cells = Cells((folder / "8A3X1.html").read_text()).cells
    assert TEACHER.arch_id in cells
    assert "bert-base" in cells


def test_a_store_without_times_is_one_line(command_line: CommandLine, tmp_path: Path) -> None:
    empty = CommandLine(command_line._capsys, tmp_path / "other")

    assert "no run 'measurements'" in empty.in_folder("report", "measurements").error
