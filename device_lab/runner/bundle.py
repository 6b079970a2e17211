"""Bundles: everything a phone needs to run a model.

Without the Android NDK, a bundle is a folder with our compiled runner, the engine's libraries from its
official wheel, and the loader and libraries of glibc they were built for. It is
started through its own loader, so it needs nothing of the system it runs on but
the kernel. The same inputs give the same bytes.
"""

from __future__ import annotations

import os
import shutil
import tarfile
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from device_lab.errors import RunnerBuildError
from device_lab.files import sha256_of
from device_lab.measurement import ModelFile
from device_lab.runner.benchmark_model import RUNTIME as LITERT
from device_lab.runner.benchmark_model import BenchmarkModel, is_benchmark_model
from device_lab.runner.building import ARCHIVE, FILES, RUNNER, Recipe, build_once, new_home, run_tool
from device_lab.runner.contract import RunnerOutput, RunRequest
from device_lab.runner.dialect import OWN_CONTRACT, Dialect
from device_lab.runner.engines import Engine, Target, find_engine, find_target, loader_names
from device_lab.runner.wheels import engine_folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A runner with all it needs, as a folder and as one reproducible archive of it.

    ``sha256`` is the digest of ``archive``, a tar file whose members are
    the files of ``folder``. ``loader`` is the program that starts the runner, or
    "" for one that the system's own loader starts. ``dialect`` is how it is talked to.
    """

    runtime: str
    runtime_version: str
    abi: str
    folder: Path
    archive: Path
    sha256: str
    loader: str
    dialect: Dialect = OWN_CONTRACT

    def run_command(self, folder: PurePath, path: str, model: ModelFile, request: RunRequest) -> list[str]:
        """Return the words that run ``model``, which lies at ``path``, by a copy of the bundle in ``folder``."""
        return [*self.command(folder), *self.dialect.arguments(path, model, request)]

    def read(self, stdout: str, stderr: str) -> RunnerOutput:
        """Read what a run printed; a program of the user's own is told apart by its content, whatever it says it is.

        Raises:
            RunnerOutputError: If it printed something else.
        """
        output = self.dialect.read(stdout, stderr)
        is_own = not self.loader and output.runtime == self.runtime
        return replace(output, runtime_version=self.runtime_version) if is_own else output

    def command(self, folder: PurePath) -> list[str]:
        """Return the words before the runner's arguments, for a copy of the bundle in ``folder``."""
        program = str(folder / RUNNER)
        if not self.loader:
            # The system's own loader looks here for the libraries beside the runner.
            return ["env", f"LD_LIBRARY_PATH={folder}", program]
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
    recipe = Recipe(
        engine=engine,
        engine_root=engine_root,
        target=target,
        compiler=compiler,
        libraries=_libraries(engine, engine_root, target, compiler),
        executables=(target.loader,),
    )
    home = build_once(recipe, cache_folder=cache_folder)
    return bundle_at(home, runtime=runtime, runtime_version=engine.version, abi=abi, loader=target.loader)


def wrap_program(program: Path, *, runtime: str, abi: str, cache_folder: Path) -> Bundle:
    """Return a bundle of one program of the user's own: one that keeps the contract of our runners, or LiteRT's.

    It must start by itself on the device: built with the NDK, or statically
    linked. A tar file holds such a program as ``runner``, with libraries of its own
    beside it: `device_lab.runner.ndk.build_ndk_bundle` makes one. LiteRT's
    ``benchmark_model`` is known by the title of its report. The version of the
    bundle stands for its content.

    Raises:
        RunnerBuildError: If ``program`` cannot be read, is a tar file that holds something else, or is
            ``benchmark_model`` and ``runtime`` is not LiteRT.
    """
    try:
        home = cache_folder / f"program-{sha256_of(program)}"
    except OSError as error:
        raise RunnerBuildError(f"--runner {program} cannot be read: {error.strerror}") from error
    if not home.is_dir():
        with new_home(home) as files:
            if tarfile.is_tarfile(program):
                _unpack(program, files)
            else:
                shutil.copyfile(program, files / RUNNER)
    is_litert = is_benchmark_model(home / FILES / RUNNER)
    if is_litert and runtime != LITERT:
        raise RunnerBuildError(
            f"--runner {program} is LiteRT's benchmark_model, not for {runtime}; add --runtime litert"
        )
    bundle = bundle_at(home, runtime=runtime, runtime_version="?", abi=abi, loader="")
    return replace(
        bundle,
        runtime_version=f"program-{bundle.sha256[:12]}",
        dialect=BenchmarkModel() if is_litert else OWN_CONTRACT,
    )


def bundle_at(home: Path, *, runtime: str, runtime_version: str, abi: str, loader: str) -> Bundle:
    """Return the bundle `device_lab.runner.building` put into the folder ``home``."""
    archive = home / ARCHIVE
    return Bundle(
        runtime=runtime,
        runtime_version=runtime_version,
        abi=abi,
        folder=home / FILES,
        archive=archive,
        sha256=sha256_of(archive),
        loader=loader,
    )


def _unpack(program: Path, files: Path) -> None:
    with tarfile.open(program) as archive:
        members = archive.getmembers()
        names = {member.name for member in members}
        if RUNNER not in names or any("/" in member.name or not member.isfile() for member in members):
            raise RunnerBuildError(
                f"--runner {program} is a tar file, but not of a program {RUNNER!r} and plain files beside it"
            )
        if loaders := names & loader_names():
            raise RunnerBuildError(
                f"--runner {program} is a bundle with the loader {min(loaders)}; leave out --runner, it is used anyway"
            )
        archive.extractall(files, filter="data")


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
        path = Path(run_tool([compiler, f"-print-file-name={name}"], action=f"ask {compiler} for {name}").strip())
        if not path.is_absolute():
            raise RunnerBuildError(
                f"{compiler} knows no {name}; run `apt-get install --reinstall {target.compiler_package}`"
            )
        libraries[name] = path
    return libraries
