"""The commands the README shows work, in the order it shows them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.command_line import CommandLine

README = Path(__file__).parents[2] / "README.md"
# Needs data that is not part of the project; its options are checked all the same.
NEEDS_DATA = "--task-dir"


def shown_commands() -> list[str]:
    """The ``nas`` commands of the README's console blocks, without remarks."""
    blocks = re.findall(r"```console\n(.*?)```", README.read_text(), flags=re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("$ nas ")]
    return [line.removeprefix("$ ").split("  #")[0].strip() for line in lines]


@pytest.mark.slow
@pytest.mark.torch
def test_the_commands_of_the_readme_work(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    nas = CommandLine(capsys, tmp_path / "runs")
    commands = [command for command in shown_commands() if NEEDS_DATA not in command]

    for command in commands:
        words, _, target = command.partition(">")
        finished = nas(*shlex.split(words)[1:])
        assert finished.code == 0, (command, finished)
        if target:
            Path(target.strip()).write_text(finished.stdout)

    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    capsys.readouterr()
    exec(example, {})

    assert re.fullmatch(r"\['(sub|ob)jective', '(sub|ob)jective'\]\n", capsys.readouterr().out)
    assert len(commands) >= 10
    assert (tmp_path / "runs" / "first" / "report" / "index.html").exists()


def test_every_option_the_readme_shows_exists(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    nas = CommandLine(capsys, tmp_path / "runs")

    for command in shown_commands():
        _, *verb, _ = re.split(r"^nas (\S+)", command)
        known = nas(*verb, "--help").stdout
        for option in re.findall(r"--[a-z-]+", command):
            assert option in known, command


def test_the_make_targets_the_readme_shows_exist() -> None:
    makefile = (README.parent / "Makefile").read_text()

    for target in re.findall(r"^\$ make (\S+)", README.read_text(), flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_the_files_the_readme_links_to_exist() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README.read_text()):
        assert target.startswith("https://") or (README.parent / target).exists(), target
