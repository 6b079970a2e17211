"""What a worker takes from its run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nas.artifacts import ArtifactFolder
from nas.cli import worker_parts
from nas.cli.worker_parts import WorkerPlace, prepare_worker, read_run
from nas.records import LatencyMode
from nas.runs import SearchRequest
from nas.shared_run import WorkRole
from nas.store import Store, sqlite_url
from nas.timing import TimingPlan
from tests.fake_parts import SEQUENCE_LENGTH, Listener, make_search

REQUEST = SearchRequest(space="grouped", sequence_length=SEQUENCE_LENGTH, latency=LatencyMode.MEASURED)


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[TimingPlan]:
    """The timing plans of the searches that are made from here on."""
    made: list[TimingPlan] = []

    def keep(**arguments: Any) -> None:
        made.append(arguments["timing_plan"])

    monkeypatch.setattr(worker_parts, "Search", keep)
    return made


@pytest.mark.parametrize("resolution", [0.02, 0.1])
def test_a_worker_resolves_as_finely_as_the_search_that_made_the_run(
    resolution: float, plans: list[TimingPlan], tmp_path: Path
) -> None:
    store = Store(sqlite_url(tmp_path / "store.db"))
    plan = TimingPlan(resolution=resolution)
    make_search(store, tmp_path, request=REQUEST, timing_plan=plan).run(2, max_minutes=0.0)

    prepare_worker(
        "run",
        read_run(store, "run"),
        role=WorkRole.MEASURE,
        place=WorkerPlace(
            runs_folder=tmp_path,
            storage=None,
            artifacts=ArtifactFolder(tmp_path / "artifacts"),
            train_device="cpu",
            runner=None,
            unqualified=False,
            total_budget_s=60.0,
        ),
        store=store,
        devices=None,
        observer=Listener(),
        on_teacher_step=lambda step, num_steps: None,
    )
    store.close()

    assert plans == [TimingPlan(total_budget_s=60.0, resolution=resolution)]
