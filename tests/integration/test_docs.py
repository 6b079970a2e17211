"""What the documents show works: commands, programs, options, messages, links."""

from __future__ import annotations

import re
from pathlib import Path
from typing import cast

import pytest
import typer
from typer.core import TyperGroup

from nas.cli.defaults import read_defaults
from nas.cli.main import app
from tests.command_line import CommandLine
from tests.shown_commands import ROOT, Shown, shown_commands, shown_programs

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TUTORIAL = ROOT / "docs/tutorial.md"
GROUP = cast("TyperGroup", typer.main.get_command(app))
ALL_SHOWN = [pytest.param(shown, id=f"{path.name}: {shown}") for path in DOCUMENTS for shown in shown_commands(path)]


@pytest.mark.parametrize("shown", ALL_SHOWN)
def test_every_command_that_is_shown_parses(shown: Shown) -> None:
    # Parsing refuses unknown verbs and options, missing arguments and values of a wrong kind.
    group, words = GROUP, list(shown.words[1:])
    while isinstance(command := group.commands[words.pop(0)], TyperGroup):
        group = command
    command.make_context(shown.words[1], words)


@pytest.mark.slow
@pytest.mark.torch
def test_the_commands_of_the_tutorial_work(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    nas = CommandLine(capsys, tmp_path / "runs")
    for name, count in (("train", 64), ("dev", 24)):
        rows = [f"{'good film' if i % 2 else 'bad film'} {i % 7}\t{i % 2}" for i in range(count)]
        path = tmp_path / "data/sst2" / f"{name}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(["sentence\tlabel", *rows]) + "\n")
    small = ("--task-dir", "data/sst2", "--space", "staged", "--steps", "2", "--sequence-length", "8", "--trials", "3")
    for run, seed in (("sst2", "0"), ("again", "1")):
        made = nas("search", run, *small, "--seed", seed, "--objectives", "accuracy,macs")
        assert made.code == 0, made
    commands = [shown for shown in shown_commands(TUTORIAL) if not shown.reason]

    for shown in commands:
        finished = nas(*shown.words[1:])
        if "--max-latency-ratio" in shown.words:
            # Nothing was timed here, which is what the answer has to say.
            assert "none was timed" in finished.error
        elif "--min-accuracy" in shown.words:
            assert finished.code == 0 or "relax the limit" in finished.error
        else:
            assert finished.code == 0, (str(shown), finished)

    assert len(commands) >= 6
    assert (tmp_path / "runs/sst2/report/index.html").exists()
    assert (tmp_path / "fronts.svg").read_text().count("<path") > 5
    assert "end: done" in (tmp_path / "runs/sst2/log.txt").read_text()


def test_the_defaults_the_tutorial_shows_are_read(tmp_path: Path) -> None:
    (block,) = re.findall(r"```toml\n(.*?)```", TUTORIAL.read_text(), flags=re.DOTALL)
    path = tmp_path / "nas.toml"
    path.write_text(block)

    defaults = read_defaults(path, GROUP)

    assert defaults["search"] == {"sequence_length": 64, "teacher": "minilm", "steps": 100}
    assert defaults["cost"] == {"sequence_length": 64}


@pytest.mark.slow
@pytest.mark.torch
def test_the_programs_of_the_python_page_run_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    programs = shown_programs(ROOT / "docs/python.md")

    for program in programs:
        if "load(" in program:
            compile(program, "python.md", "exec")  # its run is not here; tests/unit/reports has one
            continue
        # At full size, and for two minutes, it would be no test.
        small = program.replace("BERT_BASE", "SMALL").replace("import SMALL, ", "import ").replace("=120,", "=40,")
        names.setdefault("SMALL", _small())
        exec(compile(small, "python.md", "exec"), names)

    assert len(programs) >= 5


def _small() -> object:
    from search_spaces.reference import dense_encoder

    return dense_encoder(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128)


def test_every_message_the_troubleshooting_explains_is_one_of_ours() -> None:
    sources = "".join(
        re.sub(r'"\s*\n\s*f?"', "", path.read_text())
        for package in ("nas", "device_lab", "reports", "search_spaces")
        for path in (ROOT / package).rglob("*.py")
    )
    rows = re.findall(r"^\| `([^`]+)` \|", (ROOT / "docs/troubleshooting.md").read_text(), flags=re.MULTILINE)

    assert len(rows) >= 15
    assert [row for row in rows if row not in sources] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
        assert target.startswith("https://") or (document.parent / target).exists(), target
