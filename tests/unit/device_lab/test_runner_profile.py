from __future__ import annotations

import json

import pytest

from device_lab.errors import RunnerOutputError
from device_lab.runner.profile import OperatorProfile, OperatorTime

DOCUMENT = {
    "contract": 1,
    "runtime": "onnxruntime",
    "runtime_version": "1.2",
    "num_runs": 3,
    "operators": [{"name": "Conv_1", "type": "Conv", "num_calls": 6, "total_ns": 50}],
}


def test_a_profile_is_read_from_the_last_line() -> None:
    profile = OperatorProfile.from_stdout("a word of the engine\n" + json.dumps(DOCUMENT) + "\n")

    assert profile == OperatorProfile(
        runtime="onnxruntime",
        runtime_version="1.2",
        num_runs=3,
        operators=(OperatorTime(name="Conv_1", type="Conv", num_calls=6, total_ns=50),),
    )


@pytest.mark.parametrize("text", ["", "Segmentation fault", "[]", "{}", '{"contract": 1, "runtime": "x"}'])
def test_what_is_not_a_profile_is_shown(text: str) -> None:
    with pytest.raises(RunnerOutputError, match="instead of its profile"):
        OperatorProfile.from_stdout(text)


def test_another_version_of_the_contract_is_refused() -> None:
    with pytest.raises(RunnerOutputError, match="contract 7, this release reads 1"):
        OperatorProfile.from_stdout(json.dumps({**DOCUMENT, "contract": 7}))
