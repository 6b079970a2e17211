"""How the folder and the archive of a bundle come about: compiled once for the same inputs, with the same bytes."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from device_lab.errors import RunnerBuildError
from device_lab.files import sha256_of
from device_lab.runner.engines import Engine, Target
from device_lab.runner.wheels import move_into_place

RUNNER = "runner"
"""Name of the program in a bundle."""
ARCHIVE = "bundle.tar"
FILES = "files"

_SOURCES = Path(__file__).parent
# No paths and no random identifiers of this machine in the program.
_COMPILE_FLAGS = ("-std=c++17", "-O2", "-ffile-prefix-map={sources}=.", "-ffile-prefix-map={engine}=engine")
_LINK_FLAGS = ("-s", "-Wl,--build-id=none", "-Wl,--no-as-needed")
_COMPILE_TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What a bundle is made from.

    ``engine_root`` holds the headers and libraries ``engine`` names.
    ``libraries`` are the files beside the runner by the name each has there;
    those in ``executables`` may be executed. ``link_flags`` are the compiler's own.
    """

    engine: Engine
    engine_root: Path
    target: Target
    compiler: str
    libraries: Mapping[str, Path]
    executables: tuple[str, ...] = ()
    link_flags: tuple[str, ...] = ()

    @property
    def flags(self) -> tuple[str, ...]:
        """All flags, before the paths of this machine are filled in."""
        return (*_COMPILE_FLAGS, *_LINK_FLAGS, *self.link_flags)

    def command(self, files: Path) -> list[str]:
        """Return the command that compiles the runner into the folder ``files``, where the libraries lie."""
        engine = self.engine
        words = [flag.format(sources=_SOURCES, engine=self.engine_root) for flag in _COMPILE_FLAGS]
        words += [f"-D{definition}" for definition in (*engine.definitions, f'RUNTIME_VERSION="{engine.version}"')]
        for folder in engine.include_folders:
            words += ["-isystem", str(self.engine_root / folder)]
        words += ["-o", str(files / RUNNER), *(str(_SOURCES / name) for name in engine.sources)]
        words += [*_LINK_FLAGS, *self.link_flags, f"-L{files}", *(f"-l:{name}" for _, name in engine.libraries)]
        return [self.compiler, *words]


def build_once(recipe: Recipe, *, cache_folder: Path) -> Path:
    """Return the folder of what ``recipe`` makes, built now unless it was before.

    Its name is a digest of everything that goes in: sources, libraries, compiler and flags.

    Raises:
        RunnerBuildError: If the runner does not compile.
    """
    home = cache_folder / _digest_of_inputs(recipe)
    if not home.is_dir():
        with new_home(home, executables=recipe.executables) as files:
            for name, path in recipe.libraries.items():
                shutil.copyfile(path, files / name)
            engine = recipe.engine
            run_tool(recipe.command(files), action=f"compile the runner of {engine.runtime} {engine.version}")
    return home


@contextmanager
def new_home(home: Path, *, executables: Sequence[str] = ()) -> Iterator[Path]:
    """Give a folder for the files of a bundle; with an archive of them it becomes ``home`` if the block succeeds."""
    home.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home.parent, prefix=".build-") as temporary:
        files = Path(temporary) / "home" / FILES
        files.mkdir(parents=True)
        yield files
        _finish(files, executables=(RUNNER, *executables))
        move_into_place(files.parent, home)


def run_tool(command: Sequence[str], *, action: str) -> str:
    """Run a program and return what it printed.

    Raises:
        RunnerBuildError: If it fails or does not end; the message says at what, and its first line with an error.
    """
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=_COMPILE_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise RunnerBuildError(f"cannot {action}: no end after {_COMPILE_TIMEOUT_S:g} s") from error
    if result.returncode != 0:
        lines = result.stderr.splitlines()
        reason = next((line for line in lines if "error" in line), lines[-1] if lines else "no reason given")
        raise RunnerBuildError(f"cannot {action}: {reason.strip()}")
    return result.stdout


def _digest_of_inputs(recipe: Recipe) -> str:
    sources = sorted(path for path in _SOURCES.iterdir() if path.suffix in {".cpp", ".h"})
    inputs = {
        "engine": asdict(recipe.engine),
        "target": asdict(recipe.target),
        "flags": recipe.flags,
        "compiler": run_tool([recipe.compiler, "--version"], action=f"ask {recipe.compiler} for its version"),
        "sources": {path.name: sha256_of(path) for path in sources},
        "libraries": {name: sha256_of(path) for name, path in recipe.libraries.items()},
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def _finish(files: Path, *, executables: Sequence[str]) -> None:
    """Set the modes and write the archive: sorted, no times, no owners."""
    with tarfile.open(files.parent / ARCHIVE, "w", format=tarfile.USTAR_FORMAT) as archive:
        for path in sorted(files.iterdir()):
            path.chmod(0o755 if path.name in executables else 0o644)
            member = tarfile.TarInfo(path.name)
            member.size = path.stat().st_size
            member.mode = 0o755 if path.name in executables else 0o644
            with path.open("rb") as content:
                archive.addfile(member, content)
