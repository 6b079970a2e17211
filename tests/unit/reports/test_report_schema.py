"""The JSON of a report keeps the schema that is shipped with it, whatever run it is of."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

import jsonschema
import pytest

from nas.records import Run
from reports.analysis import analyse
from reports.document import to_json
from tests.fake_run import fake_run
from tests.poor_runs import poor_runs

SCHEMA = json.loads(resources.files("reports.data").joinpath("report.schema.json").read_text())
RUNS = {"whole": fake_run(30), **poor_runs()}


def document(run: Run) -> Any:
    return json.loads(to_json(analyse(run)))


@pytest.mark.parametrize("name", RUNS)
def test_every_report_keeps_the_schema(name: str) -> None:
    jsonschema.validate(document(RUNS[name]), SCHEMA)


def test_the_schema_names_every_member_of_the_document_and_of_a_trial() -> None:
    found = document(RUNS["whole"])

    assert set(found) == set(SCHEMA["properties"])
    assert set(found["trials"][0]) == set(SCHEMA["$defs"]["trial"]["properties"])


@pytest.mark.parametrize(
    "broken",
    [{"schema_version": 2}, {"trials": [{}]}, {"processes": {"x": {"samples_ns": [-1]}}}, {"answers": {"front": [0]}}],
)
def test_what_breaks_the_schema_is_noticed(broken: dict[str, object]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document(RUNS["whole"]) | broken, SCHEMA)
