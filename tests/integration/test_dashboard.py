"""Optuna's own dashboard, started on this machine, opens our store."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from nas.records import Objective
from nas.runs import SearchRequest
from nas.store import Store
from tests.fake_parts import SEQUENCE_LENGTH, make_search

REQUEST = replace(
    SearchRequest(space="grouped", sequence_length=SEQUENCE_LENGTH), objectives=(Objective.ACCURACY, Objective.MACS)
)
TIMEOUT_S = 60.0


def ask(port: int, path: str) -> dict[str, object]:
    """The answer of the dashboard, which takes a moment to start."""
    deadline_s = time.monotonic() + TIMEOUT_S
    while True:
        try:
            with urlopen(f"http://127.0.0.1:{port}{path}", timeout=TIMEOUT_S) as answer:
                document: dict[str, object] = json.load(answer)
                return document
        except URLError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.2)


@pytest.mark.slow
def test_the_dashboard_shows_every_trial_of_a_run(store_url: str, tmp_path: Path) -> None:
    store = Store(store_url)
    make_search(store, tmp_path, request=REQUEST).run(5)
    store.close()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = [str(Path(sys.executable).with_name("optuna-dashboard")), store_url, "--port", str(port), "--quiet"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        studies = ask(port, "/api/studies")["study_summaries"]
        assert isinstance(studies, list)
        study = ask(port, f"/api/studies/{studies[0]['study_id']}")
    finally:
        process.terminate()
        process.wait()

    assert [each["study_name"] for each in studies] == ["run"]
    trials = study["trials"]
    assert isinstance(trials, list)
    assert [trial["state"] for trial in trials] == ["Complete"] * 5
    assert all(len(trial["values"]) == 2 for trial in trials)
