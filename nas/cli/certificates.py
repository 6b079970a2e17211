"""Certificates of devices as commands need them: looked up before timing, refused with the command that makes one."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from device_lab.device import Device
from device_lab.measurement import Backend
from device_lab.qualification import Qualification
from nas.cli.options import DEFAULT_RUNS_FOLDER
from nas.cli.places import HOST
from nas.cli.stores import STORE_FILE, STORE_NAME, open_store
from nas.passwords import hide_passwords
from nas.qualifications import find_qualification, require_qualification
from nas.timing import device_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What a certificate is about, besides the device.

    ``reference_id`` is the reference's ``arch_id``, or what `nas.cli.models.read_timed_model`
    gives a file; ``words`` say the reference on the command line.
    """

    reference_id: str
    words: tuple[str, ...]
    num_threads: int
    sequence_length: int
    num_virtual: int = 0
    runner: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """Where certificates are kept: the shared store, or the one beside the runs."""

    runs_folder: Path
    storage: str | None


def find_certificate(device: Device, subject: Subject, *, shelf: Shelf) -> Qualification | None:
    """Return the newest certificate of a device, or ``None`` if it has none.

    Raises:
        StoreError: If the store cannot be read.
    """
    if shelf.storage is None and not (shelf.runs_folder / STORE_NAME / STORE_FILE).exists():
        return None
    with open_store(STORE_NAME, runs_folder=shelf.runs_folder, storage=shelf.storage) as store:
        return find_qualification(
            store,
            device_id=device.info.device_id,
            settings=device_settings(device, num_threads=subject.num_threads, sequence_length=subject.sequence_length),
            reference_arch_id=subject.reference_id,
        )


def cold_baseline_ns(device: Device, subject: Subject, *, shelf: Shelf, is_required: bool) -> float | None:
    """Return the cold baseline from a device's certificate, or ``None`` where it has no good one.

    Raises:
        DeviceNotQualifiedError: If ``is_required``, the device is a phone, and it has no good one.
        StoreError: If the store cannot be read.
    """
    found = find_certificate(device, subject, shelf=shelf)
    if is_required and device.info.backend is not Backend.HOST:
        command = _command(device, subject, shelf=shelf)
        require_qualification(found, device_id=device.info.device_id, command=command)
    return found.cold_baseline_ns if found is not None and found.is_qualified else None


def _command(device: Device, subject: Subject, *, shelf: Shelf) -> str:
    """Return the command line that qualifies a device for what it was to be used for."""
    words = ["nas", "qualify"]
    if subject.num_virtual:
        words += ["--virtual", str(subject.num_virtual)]
    else:
        name = HOST if device.info.backend is Backend.HOST else device.info.device_id
        words += ["--device", name]
    words += subject.words
    if device.runtime != "onnxruntime":
        words += ["--runtime", device.runtime]
    if subject.num_threads != 1:
        words += ["--threads", str(subject.num_threads)]
    if subject.sequence_length != 128:
        words += ["--sequence-length", str(subject.sequence_length)]
    if subject.runner is not None:
        words += ["--runner", str(subject.runner)]
    if shelf.storage is not None:
        words += ["--storage", hide_passwords(shelf.storage)]
    if shelf.runs_folder != DEFAULT_RUNS_FOLDER:
        words += ["--runs-folder", str(shelf.runs_folder)]
    return shlex.join(words)
