"""``nas measure`` and ``nas qualify`` as tests call them, and what they leave in the store."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from device_lab.measurement import Block, RunSettings
from nas import tables
from nas.documents import from_document
from nas.store import Store, sqlite_url
from search_spaces.architecture import Architecture
from search_spaces.reference import dense_encoder, squeezebert_rule
from tests.command_line import CommandLine, Finished

DENSE = dense_encoder(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64)
RULE = squeezebert_rule(DENSE)
SEQUENCE_LENGTH = 8


class Nas:
    """The program, with the arguments all these tests share."""

    def __init__(self, command_line: CommandLine, folder: Path) -> None:
        self.command_line = command_line
        self.folder = folder
        for name, arch in (("dense", DENSE), ("rule", RULE)):
            (folder / f"{name}.json").write_text(arch.to_json())

    def arguments(self, verb: str, *arguments: str) -> tuple[str, ...]:
        models = (str(self.folder / "dense.json"),) if verb == "measure" else ()
        shared = ("--against", str(self.folder / "rule.json"), "--sequence-length", str(SEQUENCE_LENGTH))
        return (verb, *models, *shared, "--precision", "coarse", *arguments)

    def __call__(self, verb: str, *arguments: str) -> Finished:
        return self.command_line.in_folder(*self.arguments(verb, *arguments))

    def measure(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        """Measure and return what is said about each device, by its name."""
        finished = self("measure", "--json", *arguments)
        assert finished.code == code, finished
        return {document["name"]: document for document in json.loads(finished.stdout)}

    @property
    def store(self) -> Store:
        return Store(sqlite_url(self.command_line.runs_folder / "measurements" / "store.db"))


def only_model(document: dict[str, Any]) -> dict[str, Any]:
    (model,) = document["models"].values()
    assert isinstance(model, dict)
    return model


def stored_measurements(nas: Nas, device_id: str, arch: Architecture = DENSE) -> list[tuple[Block, ...]]:
    """The blocks of each finished measurement of a device, whatever executed the models."""
    store = nas.store
    query = sa.select(tables.measurements.c.settings).filter_by(device_id=device_id)
    rows = store.transaction(lambda connection: connection.execute(query).all())
    found = []
    for settings in {row.settings for row in rows}:
        measured = store.find_measurements(
            device_id=device_id,
            settings=from_document(RunSettings, json.loads(settings)),
            reference_arch_id=RULE.arch_id,
        )
        found += [measurement.blocks for measurement in measured.get(arch.arch_id, ())]
    store.close()
    return found


def num_saved(nas: Nas, serial: str) -> int:
    """Blocks of a device in the store, of whatever measurement; looked at from outside, while it is written."""
    path = nas.command_line.runs_folder / "measurements" / "store.db"
    query = "SELECT count(*) FROM nas_blocks JOIN nas_measurements USING (measurement_id) WHERE device_id = ?"
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            return int(connection.execute(query, (serial,)).fetchone()[0])
    except sqlite3.OperationalError:
        return 0  # not made yet


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        threading.Event().wait(0.2)
