from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_lab.measurement import Backend
from nas.records import ModelProfile, OperatorCost, Role, Run
from reports.analysis import analyse
from reports.page import cards
from reports.profiles import CAVEAT, MAX_KINDS, OTHER, by_kind, by_position, profile_of, shown_kinds
from reports.write import write_report
from search_spaces.reference import squeezebert_rule
from tests.fake_run import HOST, SETTINGS, TEACHER, fake_run_of, fake_trial

HOSTILE = '"><script>alert(1)</script>'
COMMAND = "nas profile fake --trial 1"


def profile_with(*costs: tuple[str, str, float]) -> ModelProfile:
    return ModelProfile(
        device=HOST,
        settings=SETTINGS,
        taken_at="2026-01-05T10:00:00+00:00",
        num_processes=5,
        num_runs=100,
        pocketbert_version="0",
        operators=tuple(
            OperatorCost(kind=kind, position=position, num_calls=1, time_ns=time_ns)
            for kind, position, time_ns in costs
        ),
    )


PROFILE = profile_with(("Conv", "query", 4e6), ("Softmax", "attention", 1e6), ("Conv", "FFN in", 5e6))


def run_with(profile: ModelProfile | None) -> Run:
    """SqueezeBERT's rule and a front model, profiled or not."""
    rule = fake_trial(0, architecture=squeezebert_rule(TEACHER), role=Role.SQUEEZEBERT_RULE, ratio=1.0, accuracy=0.8)
    run = fake_run_of(rule, fake_trial(1, ratio=0.5))
    return replace(run, profiles={TEACHER.arch_id: profile} if profile is not None else {})


def page_of(run: Run, folder: Path) -> str:
    return write_report(run, folder).html.read_text()


costs = st.tuples(st.sampled_from("ABCDEFGHIJKL"), st.sampled_from(["", "query", "key"]), st.floats(0, 1e9))


@given(st.lists(costs, min_size=1, max_size=40))
def test_shares_sum_to_one_and_times_to_the_whole(drawn: list[tuple[str, str, float]]) -> None:
    profile = profile_with(*drawn)
    total_ns = sum(time_ns for _, _, time_ns in drawn)

    for parts in (by_kind(profile), by_kind(profile, shown_kinds([profile])), by_position(profile)):
        if not parts or total_ns < 1:
            continue
        assert sum(part.share for part in parts) == pytest.approx(1)
        assert sum(part.time_ms for part in parts) == pytest.approx(total_ns / 1e6)
        assert len({part.name for part in parts}) == len(parts)


def test_what_takes_least_shares_the_last_colour() -> None:
    profile = profile_with(*((name, "", 100.0 - i) for i, name in enumerate("ABCDEFGHIJ")))

    kinds = shown_kinds([profile])
    parts = by_kind(profile, kinds)

    assert kinds == tuple("ABCDEFG")
    assert len(kinds) == MAX_KINDS
    assert [part.name for part in parts] == [*"ABCDEFG", OTHER]
    assert parts[-1].num_calls == 3


def test_an_engine_that_tells_no_positions_has_no_table_of_them() -> None:
    assert by_position(profile_with(("kernel", "", 1.0))) == ()


def test_a_profile_without_any_time_is_no_error() -> None:
    assert [part.share for part in by_kind(profile_with(("Conv", "query", 0.0)))] == [0.0]


def test_the_card_of_a_profiled_model_has_a_bar_that_is_full_and_a_table_with_its_numbers(tmp_path: Path) -> None:
    page = page_of(run_with(PROFILE), tmp_path)

    widths = [float(width) for width in re.findall(r'style="width:([0-9.]+)%"', page)]
    assert sum(widths) == pytest.approx(100, abs=0.1)
    assert 'role="img" aria-label="Share of time by kind of operator: Conv 90.0 %, Softmax 10.0 %"' in page
    assert "<td>90.0 %</td><td>9.000</td>" in page
    assert CAVEAT in page
    assert COMMAND not in page


def test_the_table_has_the_rules_time_beside_where_it_was_profiled(tmp_path: Path) -> None:
    run = run_with(PROFILE)
    rule = profile_with(("Conv", "query", 7e6))
    run = replace(run, profiles={**run.profiles, squeezebert_rule(TEACHER).arch_id: rule})

    page = page_of(run, tmp_path)

    assert "<td>90.0 %</td><td>9.000</td><td>7.000</td><td>2</td>" in page
    assert "<td>10.0 %</td><td>1.000</td><td>0.000</td><td>1</td>" in page


def test_a_card_without_a_profile_names_the_command_that_makes_it(tmp_path: Path) -> None:
    page = page_of(run_with(None), tmp_path)

    assert f"<code>{COMMAND}</code>" in page
    assert CAVEAT not in page


def test_a_run_that_was_timed_nowhere_promises_no_profile() -> None:
    run = replace(run_with(None), device=None, settings=None)

    assert not [command for card in cards(analyse(run)) for _, command in card.commands if "nas profile" in command]


def test_times_of_an_emulated_processor_are_not_shown(tmp_path: Path) -> None:
    run = run_with(replace(PROFILE, device=replace(HOST, backend=Backend.QEMU)))

    assert profile_of(run, TEACHER.arch_id) is None
    assert CAVEAT not in page_of(run, tmp_path)


def test_names_that_an_engine_makes_up_stay_text(tmp_path: Path) -> None:
    page = page_of(run_with(profile_with((HOSTILE, HOSTILE, 1e6))), tmp_path)

    assert HOSTILE not in page
    assert "alert(1)" in page
    assert page.count("<script") == 2


def test_the_json_says_that_a_profile_is_no_latency(tmp_path: Path) -> None:
    document = json.loads(write_report(run_with(PROFILE), tmp_path).json.read_text())

    rule, profiled = document["trials"]
    assert rule["profile"] is None
    assert profiled["profile"]["is_latency"] is False
    assert [cost["kind"] for cost in profiled["profile"]["operators"]] == ["Conv", "Softmax", "Conv"]
