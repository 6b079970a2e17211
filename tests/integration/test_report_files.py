"""The folder of a report, from whole runs and from poor ones."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from device_lab.measurement import Backend
from nas.records import Run
from reports.drawings import FIGURE_NAMES
from reports.errors import EmptyRunError
from reports.write import ReportFiles, write_report
from tests.fake_run import HOST, failed, fake_run, fake_run_of, fake_trial
from tests.poor_runs import poor_runs

# A run on one device has no regret.
FIGURES = set(FIGURE_NAMES) - {"regret"}
HOSTILE = "<script>alert('x')</script><img src=x onerror=alert(1)>&\"'</style>"


class Page(HTMLParser):
    """The elements of a page, and what its ids and references are."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id" and value is not None:
                self.ids.append(value)
            if name in ("href", "src", "xlink:href") and value is not None:
                self.links.append(value)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> ReportFiles:
    return write_report(fake_run(20), tmp_path_factory.mktemp("report"))


def page_of(run: Run, folder: Path) -> str:
    return write_report(run, folder).html.read_text()


def test_a_report_has_one_page_its_figures_and_its_tables(report: ReportFiles) -> None:
    written = {path.relative_to(report.folder).as_posix() for path in report.folder.rglob("*") if path.is_file()}
    names = FIGURES
    assert written == {
        "index.html",
        "report.csv",
        "report.md",
        "report.tex",
        "report.json",
        *(f"figures/{name}.{suffix}" for name in names for suffix in ("svg", "png", "pdf")),
    }
    assert set(report.figures) == {path.removeprefix("figures/") for path in written if path.startswith("figures/")}


@pytest.mark.slow
def test_the_same_run_gives_the_same_report(tmp_path: Path) -> None:
    first, second = (write_report(fake_run(12), tmp_path / name) for name in ("first", "second"))

    for path in first.folder.rglob("*.*"):
        assert path.read_bytes() == (second.folder / path.relative_to(first.folder)).read_bytes(), path.name


def test_the_page_needs_nothing_from_outside(report: ReportFiles) -> None:
    page = Page(report.html.read_text())

    assert all(link.startswith(("#", "data:image/png;base64,")) for link in page.links)
    assert "link" not in page.tags
    assert "iframe" not in page.tags


def test_no_two_elements_share_an_id_and_every_reference_is_met(report: ReportFiles) -> None:
    page = Page(report.html.read_text())

    assert len(page.ids) == len(set(page.ids))
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)


def test_every_figure_has_a_text_alternative_and_a_table(report: ReportFiles) -> None:
    html = report.html.read_text()

    figures = re.findall(r"<figure.*?</figure>", html, flags=re.DOTALL)
    assert len(figures) == len(FIGURES)
    assert all(re.search(r'<svg role="img" aria-label="[^"]{20,}"', figure) for figure in figures)
    for figure in figures:
        beside = html[html.index(figure) + len(figure) :]
        assert re.match(r"\s*(<div class=\"scroll\"[^>]*>\s*<table>|<dl>)", beside)


@pytest.mark.slow
def test_hostile_names_stay_text(tmp_path: Path) -> None:
    run = replace(fake_run(8), name=HOSTILE, task=HOSTILE, teacher=HOSTILE, space=HOSTILE, sampler=HOSTILE)
    device = replace(HOST, model=HOSTILE, device_id=HOSTILE, soc=HOSTILE)
    trials = tuple(
        replace(trial, measurements=tuple(replace(each, device=device) for each in trial.measurements))
        for trial in run.trials
    )
    hostile = replace(run, trials=(*trials, failed(fake_trial(99), failure=HOSTILE)), device=device)
    plain_tags = Page(
        page_of(
            replace(fake_run(8), trials=(*fake_run(8).trials, failed(fake_trial(99), failure="x"))), tmp_path / "plain"
        )
    ).tags

    html = page_of(hostile, tmp_path / "hostile")

    assert "<script>alert" not in html
    assert "<img" not in html
    assert Page(html).tags == plain_tags


@pytest.mark.slow
def test_emulated_milliseconds_appear_nowhere(tmp_path: Path) -> None:
    emulated = replace(HOST, backend=Backend.QEMU)
    run = fake_run(8)
    trials = tuple(
        replace(trial, measurements=tuple(replace(each, device=emulated) for each in trial.measurements))
        for trial in run.trials
    )

    files = write_report(replace(run, trials=trials, device=emulated), tmp_path)

    for path in (files.html, files.markdown, files.latex, files.csv, files.json):
        content = path.read_text()
        assert "samples_ns" not in content
        assert not re.search(r"\d ms\b", content)
    assert "Times from an emulated processor (qemu)" in files.html.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("backend", [Backend.DEVICE, Backend.VIRTUAL_PHONE, Backend.SIMULATED])
def test_every_table_with_times_names_the_backend(backend: Backend, tmp_path: Path) -> None:
    device = replace(HOST, backend=backend)
    run = fake_run(8)
    trials = tuple(
        replace(trial, measurements=tuple(replace(each, device=device) for each in trial.measurements))
        for trial in run.trials
    )

    html = page_of(replace(run, trials=trials, device=device), tmp_path)

    label = {"device": "phone", "virtual-phone": "virtual phone, not a phone"}.get(backend, "simulated, not measured")
    captions = re.findall(r"<caption>.*?</caption>", html)
    assert sum(label in caption for caption in captions) >= 3
    assert "this machine" not in html


@pytest.mark.slow
@pytest.mark.parametrize("name", poor_runs())
def test_a_poor_run_still_gives_a_useful_page(name: str, tmp_path: Path) -> None:
    run = poor_runs()[name]

    files = write_report(run, tmp_path)

    html = files.html.read_text()
    assert "What should I ship?" in html
    assert all(f"trial {trial.number}" in html.lower() for trial in run.trials)
    assert ">nan" not in html
    assert all(path.stat().st_size > 1000 for path in files.figures.values())


def test_what_was_timed_elsewhere_is_left_out_with_its_reason(tmp_path: Path) -> None:
    html = page_of(poor_runs()["mixed backends"], tmp_path)

    assert "timed elsewhere (phone, A phone) or against another reference" in html


def test_reasons_of_failed_trials_are_on_the_page(tmp_path: Path) -> None:
    assert "out of memory" in page_of(poor_runs()["all failed"], tmp_path)


def test_an_empty_run_is_one_clear_line_and_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(EmptyRunError, match="has no trials"):
        write_report(fake_run_of(), tmp_path / "report")

    assert not (tmp_path / "report").exists()


@pytest.mark.slow
def test_a_disk_that_fills_up_leaves_the_earlier_report_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = write_report(fake_run(6), tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    original = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if path.name == "report.json":
            raise OSError(28, "No space left on device")
        return original(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        write_report(fake_run(12), tmp_path)

    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert files.html.exists()


@pytest.mark.slow
def test_a_figure_the_new_run_lacks_does_not_outlive_the_old(tmp_path: Path) -> None:
    write_report(fake_run(20), tmp_path)

    write_report(poor_runs()["all failed"], tmp_path)

    assert list((tmp_path / "figures").iterdir()) == []


def test_a_report_is_written_without_what_takes_seconds_to_import() -> None:
    listing = "import sys, nas.cli.stores, nas.device_results, reports.write, reports.device_pages; print(*sys.modules)"

    loaded = subprocess.run([sys.executable, "-c", listing], check=True, capture_output=True, text=True).stdout.split()

    assert "matplotlib" in loaded
    assert not {"torch", "pandas", "scipy.stats"} & set(loaded)
