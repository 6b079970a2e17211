"""The page in a real browser: it works, it is quiet, and it fits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from device_lab.measurement import Backend
from nas.records import Run
from reports.drawings import FIGURE_NAMES
from reports.write import write_report
from tests.browser import Browser, browser
from tests.fake_run import HOST, fake_run, on_devices

pytestmark = pytest.mark.slow

# A run on one device has no regret.
NUM_FIGURES = len(FIGURE_NAMES) - 1
SHOWN_ROWS = "return [...document.querySelectorAll('#all tbody tr:not([hidden])')].map(row => Number(row.dataset.n))"


@pytest.fixture(scope="module")
def run() -> Run:
    return fake_run(30)


@pytest.fixture(scope="module")
def page(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(run, tmp_path_factory.mktemp("report")).html


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("chromium")) as window:
        yield window


@pytest.fixture
def window(chromium: Browser, page: Path) -> Browser:
    chromium.resize(width=1280, height=900)
    chromium.prefer("light")
    chromium.open(page)
    return chromium


def test_the_page_loads_without_a_console_message_or_a_request(chromium: Browser, page: Path) -> None:
    chromium.open(page)
    chromium.logs("performance")
    chromium.logs("browser")

    chromium.open(page)

    assert chromium.logs("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in chromium.logs("performance")]
    urls = {e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"}
    assert {url for url in urls if not url.startswith("data:")} == {page.as_uri()}


def test_pointing_at_a_model_tells_its_numbers(window: Browser) -> None:
    window.hover("#figure-front [data-n='1']")

    tip = window.run("const tip = document.getElementById('tip'); return tip.hidden ? '' : tip.textContent")

    assert tip.startswith("trial 1 (dense teacher)\naccuracy: ")
    assert "latency ratio, this machine (host): " in tip


def test_every_compared_trial_is_a_point_with_its_own_number(window: Browser, run: Run) -> None:
    numbers = window.run(
        "return [...document.querySelectorAll('#figure-front [data-n]')].map(e => Number(e.dataset.n))"
    )
    compared = window.run("return JSON.parse(document.getElementById('data').textContent).points")

    assert numbers == compared
    assert len(numbers) > 20


def test_points_of_the_front_can_be_reached_and_picked_by_keyboard(window: Browser) -> None:
    window.run("document.querySelector('#figure-front [data-n][tabindex]').focus()")
    focused = window.run("return document.activeElement.dataset.n")
    window.run("document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', bubbles: true}))")

    assert window.run("return document.querySelector('#all tr.picked').dataset.n") == focused


def test_filtering_by_text_and_by_state_narrows_the_table(window: Browser, run: Run) -> None:
    window.type("#find", "dense teacher")
    assert window.run(SHOWN_ROWS) == [1]
    assert window.run("return document.getElementById('shown').textContent") == f"1 of {len(run.trials)}"

    window.run("const find = document.getElementById('find'); find.value = ''; find.dispatchEvent(new Event('input'))")
    window.run("const s = document.getElementById('state'); s.value = 'left-out'; s.dispatchEvent(new Event('change'))")
    assert window.run(SHOWN_ROWS) == [12, 16, 25]


def test_sorting_goes_up_then_down_with_the_missing_last(window: Browser) -> None:
    ratios = (
        "return [...document.querySelectorAll('#all tbody tr')].map(row => row.cells[4].dataset.v)"
        ".map(value => value === undefined ? null : Number(value))"
    )
    window.click("#all button[data-column='4']")
    up = window.run(ratios)
    window.click("#all button[data-column='4']")
    down = window.run(ratios)

    known = [value for value in up if value is not None]
    assert known == sorted(known)
    assert up[len(known) :] == [None] * (len(up) - len(known))
    assert [value for value in down if value is not None] == known[::-1]
    assert down[-1] is None


def test_two_picked_models_are_compared_and_a_third_replaces_the_first(window: Browser) -> None:
    cells = "return [...document.querySelectorAll('#compare tr:first-child th')].map(cell => cell.textContent)"
    window.click("#all tr[data-n='0'] input")
    window.click("#all tr[data-n='1'] input")
    assert window.run(cells) == ["", "trial 0 (SqueezeBERT's rule)", "trial 1 (dense teacher)", "first against second"]

    window.click("#all tr[data-n='2'] input")
    assert window.run(cells)[1:3] == ["trial 1 (dense teacher)", "trial 2"]

    window.click("#compare button")
    assert window.run("return document.getElementById('compare').hidden") is True
    assert window.run("return document.querySelectorAll('.picked').length") == 0


def test_every_ratio_can_be_recomputed_from_the_blocks_in_the_page(window: Browser) -> None:
    window.run("document.getElementById('check').click()")

    said = window.run("return document.getElementById('checked').textContent")

    assert said.endswith("the largest difference is 0.000000") or said.endswith("the largest difference is 0.000001")
    assert not said.startswith("0 ratios")


def test_the_worst_of_several_devices_can_be_recomputed_too(chromium: Browser, run: Run, tmp_path: Path) -> None:
    phones = [replace(HOST, device_id=name, backend=Backend.DEVICE) for name in ("OLD", "NEW")]
    both = on_devices(run, {phones[0]: lambda _, own: own, phones[1]: lambda _, own: own**0.7})
    page = write_report(both, tmp_path).html
    chromium.logs("browser")

    chromium.open(page)
    chromium.run("document.getElementById('check').click()")

    said = chromium.run("return document.getElementById('checked').textContent")
    assert said.endswith("the largest difference is 0.000000") or said.endswith("the largest difference is 0.000001")
    assert not said.startswith("0 ratios")
    assert chromium.logs("browser") == []
    assert chromium.run("return document.querySelectorAll('[id*=\"-regret-\"]').length") == 3 * len(phones)


def test_the_samples_in_the_page_are_those_of_the_run(window: Browser, run: Run) -> None:
    samples = window.run_async(
        """
        const done = arguments[arguments.length - 1];
        const data = JSON.parse(document.getElementById('data').textContent);
        const bytes = Uint8Array.from(atob(data.samples_gzip), c => c.charCodeAt(0));
        const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'));
        new Response(stream).json().then(all => {
          let sum = 0;
          done(all[data.blocks[1][0][0][1]].map(difference => sum += difference));
        });
        """
    )

    blocks = run.trials[1].measurements[-1].blocks or ()
    assert samples == sorted(blocks[0].candidate.samples_ns)


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [380, 1600])
def test_nothing_sticks_out_and_all_text_is_legible(window: Browser, width: int, color_scheme: str) -> None:
    window.resize(width=width, height=900)
    window.prefer(color_scheme)

    assert window.run("return document.documentElement.scrollWidth") <= width
    assert window.run(_SMALLEST_TEXT_OF_THE_FRONT) >= 8
    assert window.run("return document.querySelectorAll('.drawing:has(svg)').length") == NUM_FIGURES
    examined, too_faint = window.run(_LOW_CONTRAST)
    assert examined > 200
    assert too_faint == []


# Pixels a letter of the front figure is high, after scaling.
_SMALLEST_TEXT_OF_THE_FRONT = """
  const svg = document.querySelector('#figure-front svg');
  const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
  return Math.min(...[...svg.querySelectorAll('text')].map(t => parseFloat(getComputedStyle(t).fontSize) * scale));
"""

# How many elements have text of their own, and those whose text has less than the 4.5 to 1 that WCAG 2 asks for.
_LOW_CONTRAST = """
  const channel = v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const luminance = c => 0.2126 * channel(c[0]) + 0.7152 * channel(c[1]) + 0.0722 * channel(c[2]);
  const parse = text => text.match(/[\\d.]+/g).map(Number);
  const background = element => {
    for (let e = element; e; e = e.parentElement) {
      const c = parse(getComputedStyle(e).backgroundColor);
      if (c.length === 3 || c[3] > 0.99) return c;
    }
    return [255, 255, 255];
  };
  const failed = new Set();
  let examined = 0;
  for (const element of document.querySelectorAll('main *, header *')) {
    const ownText = [...element.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!ownText || !element.getClientRects().length || element.closest('#figure-groups')) continue;
    examined += 1;
    const style = getComputedStyle(element);
    const color = element instanceof SVGElement ? style.fill : style.color;
    const [a, b] = [luminance(parse(color)), luminance(background(element))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) failed.add(`${element.tagName} ${element.className} ${color}`);
  }
  return [examined, [...failed]];
"""
