"""Bundles: everything a phone needs to run a model, without the Android NDK.

A bundle is a folder with our compiled runner, the engine's libraries from its
official wheel, and the loader and libraries of glibc they were built for. It is
started through its own loader, so it needs nothing of the system it runs on but
the kernel. The same inputs give the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath

from device_lab.errors import RunnerBuildError
from device_lab.files import sha256_of
from device_lab.runner.engines import Engine, Target, find_engine, find_target
from device_lab.runner.wheels import engine_folder, move_into_place

_SOURCES = Path(__file__).parent
_RUNNER = "runner"
_ARCHIVE = "bundle.tar"
_FILES = "files"
# No paths and no random identifiers of this machine in the program.
_COMPILE_FLAGS = ("-std=c++17", "-O2", "-ffile-prefix-map={sources}=.", "-ffile-prefix-map={engine}=engine")
_LINK_FLAGS = ("-s", "-Wl,--build-id=none", "-Wl,--no-as-needed")
_COMPILE_TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A runner with all it needs, as a folder and as one reproducible archive of it.

    ``sha256`` is the digest of ``archive``, a tar file whose members are
    the files of ``folder``. ``loader`` is the program that starts the runner, or
    "" for one that starts by itself.
    """

    runtime: str
    runtime_version: str
    abi: str
    folder: Path
    archive: Path
    sha256: str
    loader: str

    def command(self, folder: PurePath) -> list[str]:
        """Return the words before the runner's arguments, for a copy of the bundle in ``folder``."""
        program = str(folder / _RUNNER)
        if not self.loader:
            return [program]
        # A system's own cache of libraries must not fill a gap in the bundle.
        return [str(folder / self.loader), "--inhibit-cache", "--library-path", str(folder), program]


def default_cache_folder() -> Path:
    """Return where bundles are kept unless told otherwise: ``pocketbert/bundles`` in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pocketbert" / "bundles"


def build_bundle(runtime: str, *, abi: str, cache_folder: Path) -> Bundle:
    """Build the bundle of a runtime for one kind of processor, or return the one built before.

    It is kept in ``cache_folder`` under a digest of everything it is made from:
    sources, libraries, compiler and flags.

    Args:
        runtime: ``onnxruntime`` or ``executorch``.
        abi: ``arm64-v8a`` or ``x86_64``.
        cache_folder: Where wheels and bundles are kept; made if missing.

    Raises:
        UnknownRuntimeError: If no runner is written for ``runtime``.
        RunnerBuildError: If ``abi`` is unknown, the compiler is missing, the
            wheel cannot be downloaded, or the runner does not compile.
    """
    target, engine = find_target(abi), find_engine(runtime)
    compiler = _compiler(target)
    engine_root = engine_folder(engine, target, cache_folder=cache_folder)
    libraries = _libraries(engine, engine_root, target, compiler)
    home = cache_folder / _digest_of_inputs(engine, target, libraries, compiler=compiler)
    if not home.is_dir():
        cache_folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache_folder, prefix=".build-") as temporary:
            files = Path(temporary) / "home" / _FILES
            files.mkdir(parents=True)
            for name, path in libraries.items():
                shutil.copyfile(path, files / name)
            _compile(engine, engine_root, files, compiler=compiler)
            _finish(files, executables=(_RUNNER, target.loader))
            move_into_place(files.parent, home)
    return _bundle(home, runtime=runtime, runtime_version=engine.version, abi=abi, loader=target.loader)


def wrap_program(program: Path, *, abi: str, cache_folder: Path) -> Bundle:
    """Return a bundle of one program of the user's own that keeps the contract of our runners.

    It must start by itself on the device: built with the NDK, or statically linked.

    Raises:
        RunnerBuildError: If ``program`` cannot be read.
    """
    try:
        home = cache_folder / f"program-{sha256_of(program)}"
    except OSError as error:
        raise RunnerBuildError(f"--runner {program} cannot be read: {error.strerror}") from error
    if not home.is_dir():
        cache_folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache_folder, prefix=".build-") as temporary:
            files = Path(temporary) / "home" / _FILES
            files.mkdir(parents=True)
            shutil.copyfile(program, files / _RUNNER)
            _finish(files, executables=(_RUNNER,))
            move_into_place(files.parent, home)
    return _bundle(home, runtime=program.name, runtime_version="?", abi=abi, loader="")


def _bundle(home: Path, *, runtime: str, runtime_version: str, abi: str, loader: str) -> Bundle:
    archive = home / _ARCHIVE
    return Bundle(
        runtime=runtime,
        runtime_version=runtime_version,
        abi=abi,
        folder=home / _FILES,
        archive=archive,
        sha256=sha256_of(archive),
        loader=loader,
    )


def _compiler(target: Target) -> str:
    for name in target.compilers:
        if path := shutil.which(name):
            return path
    raise RunnerBuildError(f"{target.compilers[0]} is not installed; run `apt-get install {target.compiler_package}`")


def _libraries(engine: Engine, engine_root: Path, target: Target, compiler: str) -> dict[str, Path]:
    """Return the file of each library of the bundle, by the name it has there."""
    libraries = {name: engine_root / path for path, name in engine.libraries}
    for name in target.system_libraries:
        # Answers with the bare name where it has no such file.
        path = Path(_run([compiler, f"-print-file-name={name}"], action=f"ask {compiler} for {name}").strip())
        if not path.is_absolute():
            raise RunnerBuildError(
                f"{compiler} knows no {name}; run `apt-get install --reinstall {target.compiler_package}`"
            )
        libraries[name] = path
    return libraries


def _digest_of_inputs(engine: Engine, target: Target, libraries: dict[str, Path], *, compiler: str) -> str:
    sources = sorted(path for path in _SOURCES.iterdir() if path.suffix in {".cpp", ".h"})
    inputs = {
        "engine": asdict(engine),
        "target": asdict(target),
        "flags": (*_COMPILE_FLAGS, *_LINK_FLAGS),
        "compiler": _run([compiler, "--version"], action=f"ask {compiler} for its version"),
        "sources": {path.name: sha256_of(path) for path in sources},
        "libraries": {name: sha256_of(path) for name, path in libraries.items()},
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def _compile(engine: Engine, engine_root: Path, files: Path, *, compiler: str) -> None:
    flags = [flag.format(sources=_SOURCES, engine=engine_root) for flag in _COMPILE_FLAGS]
    flags += [f"-D{definition}" for definition in (*engine.definitions, f'RUNTIME_VERSION="{engine.version}"')]
    for folder in engine.include_folders:
        flags += ["-isystem", str(engine_root / folder)]
    sources = [str(_SOURCES / name) for name in engine.sources]
    libraries = [f"-l:{name}" for _, name in engine.libraries]
    command = [compiler, *flags, "-o", str(files / _RUNNER), *sources, *_LINK_FLAGS, f"-L{files}", *libraries]
    _run(command, action=f"compile the runner of {engine.runtime} {engine.version}")


def _run(command: Sequence[str], *, action: str) -> str:
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=_COMPILE_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise RunnerBuildError(f"cannot {action}: no end after {_COMPILE_TIMEOUT_S:g} s") from error
    if result.returncode != 0:
        lines = result.stderr.splitlines()
        reason = next((line for line in lines if "error" in line), lines[-1] if lines else "no reason given")
        raise RunnerBuildError(f"cannot {action}: {reason.strip()}")
    return result.stdout


def _finish(files: Path, *, executables: Sequence[str]) -> None:
    """Set the modes and write the archive: sorted, no times, no owners."""
    with tarfile.open(files.parent / _ARCHIVE, "w", format=tarfile.USTAR_FORMAT) as archive:
        for path in sorted(files.iterdir()):
            path.chmod(0o755 if path.name in executables else 0o644)
            member = tarfile.TarInfo(path.name)
            member.size = path.stat().st_size
            member.mode = 0o755 if path.name in executables else 0o644
            with path.open("rb") as content:
                archive.addfile(member, content)
