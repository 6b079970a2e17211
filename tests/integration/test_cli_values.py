"""Verbs that need no run: their numbers, and what they say to wrong input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from search_spaces.architecture import Architecture
from search_spaces.reference import BERT_BASE, SQUEEZEBERT
from search_spaces.space import make_space
from tests.command_line import CommandLine


@pytest.fixture
def nas(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> CommandLine:
    return CommandLine(capsys, tmp_path / "runs")


def test_cost_prints_the_published_networks(nas: CommandLine) -> None:
    squeezebert, bert = (json.loads(nas("cost", name, "--json").stdout) for name in ("squeezebert", "bert-base"))

    assert squeezebert["macs"] == 3_712_255_488
    assert squeezebert["parameters"] == 51_091_202
    assert squeezebert["ratio_to_squeezebert"] == 1.0
    assert bert["ratio_to_squeezebert"] == pytest.approx(11_186_505_216 / 3_712_255_488)


def test_cost_reads_an_architecture_file(nas: CommandLine, tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_text(BERT_BASE.to_json())

    finished = nas("cost", str(path), "--sequence-length", "64")

    assert finished.code == 0
    # 12 layers of 64 * 12 * 768^2 and 2 * 64^2 * 768, 25 layer norms of 5 * 64 * 768, pooler and head.
    assert finished.stdout.startswith(f"{BERT_BASE.arch_id}: 5.518 GMACs at 64 tokens, 109.48 M parameters")


def test_a_group_count_that_does_not_divide_is_named_with_its_file(nas: CommandLine, tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_text(SQUEEZEBERT.to_json().replace('"q_groups":4', '"q_groups":5', 1))

    error = nas("cost", str(path)).error

    assert error == f"{path}: blocks[0].q_groups=5 must be a positive divisor of hidden_size=768"


def test_a_file_that_holds_no_architecture_is_named(nas: CommandLine, tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_bytes(b"\x80\x04pickle")

    assert nas("cost", str(path)).error.startswith(f"{path}: ")


def test_an_unknown_model_is_named_with_the_known_ones(nas: CommandLine) -> None:
    assert "unknown model 'mobilebert' (known: bert-base, squeezebert, a JSON file" in nas("cost", "mobilebert").error


def test_spaces_are_listed_with_their_options(nas: CommandLine) -> None:
    document = json.loads(nas("spaces", "--json").stdout)

    assert set(document) == {"squeezebert", "staged", "grouped"}
    assert document["grouped"]["num_architectures"] == make_space("grouped", BERT_BASE).num_architectures
    assert document["grouped"]["parameters"]["layer11.output_groups"] == [1, 2, 4, 8, 16]


def test_drawn_architectures_are_of_the_space_and_of_the_seed(nas: CommandLine) -> None:
    lines = nas("spaces", "staged", "--sample", "3", "--seed", "5").stdout.splitlines()
    again = nas("spaces", "staged", "--sample", "3", "--seed", "5").stdout.splitlines()
    other = nas("spaces", "staged", "--sample", "3", "--seed", "6").stdout.splitlines()

    space = make_space("staged", BERT_BASE)
    assert lines == again != other
    assert all(space.answers_for(Architecture.from_json(line)) for line in lines)


def test_an_unknown_space_is_named_with_the_known_ones(nas: CommandLine) -> None:
    assert nas("spaces", "huge").error == "unknown space 'huge' (known: squeezebert, staged, grouped)"


def test_devices_name_this_machine_and_its_backend(nas: CommandLine) -> None:
    (host,) = [each for each in json.loads(nas("devices", "--json").stdout) if each["name"] == "host"]

    assert host["info"]["backend"] == "host"
    assert host["info"]["num_cores"] >= 1


def test_doctor_names_a_command_for_everything_that_is_absent(nas: CommandLine) -> None:
    finished = nas.in_folder("doctor", "--json")

    checks = {check["name"]: check for check in json.loads(finished.stdout)}
    assert finished.code == 0
    assert checks["torch"]["status"] == "ok"
    assert all(check["advice"] for check in checks.values() if check["status"] in {"absent", "missing", "warning"})


def test_doctor_prints_the_brackets_of_an_extra(nas: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.cli.doctor.OPTIONAL_PACKAGES", {"no-such-package": ("a test", "pip install 'p[extra]'")})

    assert "'p[extra]'" in nas.in_folder("doctor").stdout


def test_a_wrong_command_line_exits_with_2(nas: CommandLine) -> None:
    assert nas("cost").code == 2
    assert nas("frobnicate").code == 2
    assert nas("cost", "squeezebert", "--sequence-length", "many").code == 2


@pytest.mark.parametrize("verb", ["show", "report"])
def test_a_run_that_is_not_there_is_named_with_those_that_are(nas: CommandLine, verb: str) -> None:
    (nas.runs_folder / "other").mkdir(parents=True)
    (nas.runs_folder / "other" / "store.db").touch()

    error = nas.in_folder(verb, "first").error

    assert error == f"no run 'first' in folder {nas.runs_folder} (runs: other)"


def test_help_of_every_verb_has_an_example(nas: CommandLine) -> None:
    for verb in ("quickstart", "search", "report", "show", "measure", "cost", "spaces", "devices", "doctor"):
        assert f"Example: nas {verb}" in nas(verb, "--help").stdout
