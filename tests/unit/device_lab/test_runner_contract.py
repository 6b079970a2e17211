from __future__ import annotations

import json

import pytest

from device_lab.errors import RunnerOutputError, WrongOutputError
from device_lab.runner.contract import RunnerArguments, RunnerOutput, check_output, token_ids

ARGUMENTS = RunnerArguments(
    model="/data/a model.onnx",
    num_threads=3,
    sequence_length=128,
    batch_size=2,
    token_limit=1000,
    min_runs=20,
    min_timed_s=1.5,
    max_warmup_s=8.0,
)
OUTPUT = RunnerOutput(
    runtime="onnxruntime",
    runtime_version="1.32.0",
    num_threads=3,
    num_warmup_runs=42,
    samples_ns=(5, 4, 6),
    wall_ns=16,
    cpu_ns=45,
    peak_rss_bytes=None,
    output=(0.5, -1.25),
)


def test_the_input_is_the_same_for_every_runner() -> None:
    # (0, 7919, 15838, 23757) + 101, modulo 1000
    assert token_ids(4, token_limit=1000) == [101, 20, 939, 858]


def test_arguments_survive_the_command_line() -> None:
    argv = ARGUMENTS.to_argv()

    assert argv[:4] == ["--model", "/data/a model.onnx", "--num-threads", "3"]
    assert argv[-4:] == ["--min-timed-s", "1.5", "--max-warmup-s", "8.0"]
    assert RunnerArguments.from_argv(argv) == ARGUMENTS


def test_arguments_may_come_in_any_order() -> None:
    argv = ARGUMENTS.to_argv()

    assert RunnerArguments.from_argv(argv[4:] + argv[:4]) == ARGUMENTS


def test_a_missing_and_an_unknown_argument_are_named() -> None:
    with pytest.raises(ValueError, match=r"--num-threads is missing"):
        RunnerArguments.from_argv(["--model", "x"])
    with pytest.raises(ValueError, match=r"unknown argument --colour"):
        RunnerArguments.from_argv([*ARGUMENTS.to_argv(), "--colour", "red"])


def test_the_line_of_a_runner_survives_the_round_trip_behind_other_output() -> None:
    assert RunnerOutput.from_stdout(f"warning: something\n{OUTPUT.to_json()}\n") == OUTPUT


@pytest.mark.parametrize("text", ["", "hello", "[]", "3", '{"contract": 1}', "Segmentation fault"])
def test_anything_else_is_refused_with_what_was_printed(text: str) -> None:
    with pytest.raises(RunnerOutputError, match=r"instead of its line of JSON") as caught:
        RunnerOutput.from_stdout(text)

    assert text in str(caught.value)


@pytest.mark.parametrize(
    "changed",
    [
        {"wall_ns": "soon"},
        {"cpu_ns": None},
        {"samples_ns": [float("inf")]},
        {"output": None},
        {"summary": {"statistic": "median", "num_runs": 20}},
        {"colour": "red"},
    ],
)
def test_a_line_with_another_kind_of_value_or_name_is_refused(changed: dict[str, object]) -> None:
    document = json.loads(OUTPUT.to_json()) | changed

    with pytest.raises(RunnerOutputError, match=r"instead of its line of JSON"):
        RunnerOutput.from_stdout(json.dumps(document))


def test_another_version_of_the_contract_is_refused() -> None:
    document = json.loads(OUTPUT.to_json()) | {"contract": 2}

    with pytest.raises(RunnerOutputError, match=r"runner speaks contract 2, this release reads 1"):
        RunnerOutput.from_stdout(json.dumps(document))


def test_logits_may_differ_by_one_in_ten_thousand_of_the_larger_of_one_and_themselves() -> None:
    check_output((0.50009, -200.01), expected=(0.5, -200.0))

    with pytest.raises(WrongOutputError, match=r"logit 0 is 0\.50011, torch gives 0\.5; they may differ by 0\.0001"):
        check_output((0.50011, -200.0), expected=(0.5, -200.0))
    with pytest.raises(WrongOutputError, match=r"logit 1 is -200\.03"):
        check_output((0.5, -200.03), expected=(0.5, -200.0))
    with pytest.raises(WrongOutputError, match=r"the model gave 1 logits, an engine gives 2; export it again"):
        check_output((0.5,), expected=(0.5, -200.0), answered_by="an engine")
