"""The official wheels an engine's libraries come from, fetched by pip and unpacked once."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from device_lab.errors import RunnerBuildError
from device_lab.runner.engines import Engine, Target

# Newest first: a wheel is named for the oldest glibc it runs with, and a bundle brings a newer one.
_GLIBC_VERSIONS = ("2_34", "2_31", "2_28", "2_27", "2_17")
_DOWNLOAD_TIMEOUT_S = 600.0


def engine_folder(engine: Engine, target: Target, *, cache_folder: Path) -> Path:
    """Return a folder that holds the wheel of ``engine``, unpacked.

    The installed package serves where it is the same release for the same kind
    of processor; otherwise pip downloads the wheel once.

    Raises:
        RunnerBuildError: If pip cannot download it, or it lacks a library.
    """
    folder = _installed_folder(engine, target) or _downloaded_folder(engine, target, cache_folder=cache_folder)
    for path, _ in engine.libraries:
        if not (folder / path).is_file():
            raise RunnerBuildError(f"{engine.package} {engine.version} has no {path} for {target.abi}")
    return folder


def _installed_folder(engine: Engine, target: Target) -> Path | None:
    """Return the folder the package is installed in, or None where it does not serve."""
    if not target.is_this_machine:
        return None
    try:
        distribution = importlib.metadata.distribution(engine.package)
    except importlib.metadata.PackageNotFoundError:
        return None
    return Path(str(distribution.locate_file(""))) if distribution.version == engine.version else None


def _downloaded_folder(engine: Engine, target: Target, *, cache_folder: Path) -> Path:
    folder = cache_folder / "wheels" / f"{engine.package}-{engine.version}-{target.abi}"
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".download-") as temporary:
        wheel = _download(engine, target, Path(temporary))
        unpacked = Path(temporary) / "unpacked"
        wanted = tuple(f"{include}/" for include in engine.include_folders)
        libraries = {path for path, _ in engine.libraries}
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if name in libraries or name.startswith(wanted)]
            archive.extractall(unpacked, members=names)
        move_into_place(unpacked, folder)
    return folder


def move_into_place(built: Path, folder: Path) -> None:
    """Give a finished folder its final name; where another process was faster, its equal result stays."""
    try:
        built.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise


def _download(engine: Engine, target: Target, folder: Path) -> Path:
    requirement = f"{engine.package}=={engine.version}"
    command = [sys.executable, "-m", "pip", "download", requirement]
    command += ["--no-deps", "--only-binary", ":all:", "--disable-pip-version-check", "--quiet", "--no-input"]
    command += ["--dest", str(folder), "--python-version", f"{sys.version_info.major}.{sys.version_info.minor}"]
    for version in _GLIBC_VERSIONS:
        command += ["--platform", f"manylinux_{version}_{target.machine}"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=_DOWNLOAD_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise RunnerBuildError(f"pip took longer than {_DOWNLOAD_TIMEOUT_S:g} s to download {requirement}") from error
    wheels = sorted(folder.glob("*.whl"))
    if result.returncode != 0 or not wheels:
        reason = next((line for line in result.stderr.splitlines() if line.startswith("ERROR:")), "no reason given")
        raise RunnerBuildError(
            f"pip cannot download {requirement} for {target.abi}: {reason.removeprefix('ERROR: ').strip()}; "
            "check the network and pip's index"
        )
    return wheels[0]
