"""The runner of this machine for ONNX Runtime: ``python -m device_lab.runner.host_onnxruntime --model PATH ...``.

One process, one model, one line of JSON on standard output. Imports nothing
the timing does not need.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime

from device_lab.runner.contract import RunnerArguments, RunnerOutput, token_ids
from device_lab.runner.process import num_tasks, peak_rss_bytes
from device_lab.runner.profile import PROFILE_WORDS, OperatorProfile, OperatorTime
from device_lab.runner.timing import time_inferences
from device_lab.runner.weights import find_generated_weights, generated_weights, generated_weights_name

_ERRORS_ONLY = 3
# Of the events of an operator, the one that is its computation.
_OPERATOR_SUFFIX = "_kernel_time"


def main(argv: list[str]) -> None:
    """Run the model that ``argv`` names and print the contract's line, or that of its profile."""
    if tuple(argv[-2:]) == PROFILE_WORDS:
        line = _profile(RunnerArguments.from_argv(argv[:-2])).to_json()
    else:
        line = _time(RunnerArguments.from_argv(argv)).to_json()
    sys.stdout.write(line + "\n")


def _time(arguments: RunnerArguments) -> RunnerOutput:
    session, num_threads = open_session(arguments.model, session_options(num_threads=arguments.num_threads))
    used = _inputs(session, arguments)
    timing = time_inferences(
        lambda: session.run(["logits"], used),
        min_runs=arguments.min_runs,
        min_timed_s=arguments.min_timed_s,
        max_warmup_s=arguments.max_warmup_s,
    )
    (logits,) = session.run(["logits"], used)
    return RunnerOutput(
        runtime="onnxruntime",
        runtime_version=onnxruntime.__version__,
        num_threads=num_threads,
        num_warmup_runs=timing.num_warmup_runs,
        samples_ns=timing.samples_ns,
        wall_ns=timing.wall_ns,
        cpu_ns=timing.cpu_ns,
        peak_rss_bytes=peak_rss_bytes(),
        output=tuple(float(value) for value in logits.ravel()),
    )


def _profile(arguments: RunnerArguments) -> OperatorProfile:
    """Run ``min_runs`` inferences under the engine's own profiler and add up its trace by operator."""
    import tempfile  # no timing needs it

    options = session_options(num_threads=arguments.num_threads)
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder, "profile"))
        session, _ = open_session(arguments.model, options)
        used = _inputs(session, arguments)
        for _ in range(arguments.min_runs):
            session.run(["logits"], used)
        events = json.loads(Path(session.end_profiling()).read_text())
    times: dict[str, OperatorTime] = {}
    for event in events:
        name = event["name"].removesuffix(_OPERATOR_SUFFIX)
        if event["cat"] == "Node" and name != event["name"]:
            before = times.get(name)
            times[name] = OperatorTime(
                name=name,
                type=event["args"]["op_name"],
                num_calls=1 + (before.num_calls if before else 0),
                total_ns=1000 * event["dur"] + (before.total_ns if before else 0),
            )
    return OperatorProfile(
        runtime="onnxruntime",
        runtime_version=onnxruntime.__version__,
        num_runs=arguments.min_runs,
        operators=tuple(sorted(times.values(), key=lambda each: -each.total_ns)),
    )


def _inputs(session: onnxruntime.InferenceSession, arguments: RunnerArguments) -> dict[str, np.ndarray]:
    shape = (arguments.batch_size, arguments.sequence_length)
    ids = token_ids(shape[0] * shape[1], token_limit=arguments.token_limit)
    inputs = {
        "input_ids": np.array(ids, dtype=np.int64).reshape(shape),
        "attention_mask": np.ones(shape, dtype=np.int64),
        "token_type_ids": np.zeros(shape, dtype=np.int64),
    }
    # An exporter drops an input the graph does not use.
    return {node.name: inputs[node.name] for node in session.get_inputs()}


def session_options(*, num_threads: int) -> onnxruntime.SessionOptions:
    """Return what a timed session is opened with."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = _ERRORS_ONLY
    return options


def open_session(model: str, options: onnxruntime.SessionOptions) -> tuple[onnxruntime.InferenceSession, int]:
    """Return the session and the number of threads it computes with, counted, where the system lists them."""
    weights = _generate_weights(model, options)
    num_before = num_tasks()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    del weights  # the session has its own copies
    if not num_before:
        return session, int(session.get_session_options().intra_op_num_threads)
    # The calling thread computes too; the pool has one less than the number asked for.
    return session, num_tasks() - num_before + 1


def _generate_weights(model: str, options: onnxruntime.SessionOptions) -> np.ndarray | None:
    """Hand the session the weights a model asks for; they have to live until it is made."""
    num_bytes = find_generated_weights(Path(model))
    if num_bytes is None:
        return None
    weights = generated_weights(num_bytes)
    options.add_external_initializers_from_files_in_memory(
        [generated_weights_name(num_bytes)], [weights.view(np.uint8)], [num_bytes]
    )
    return weights


if __name__ == "__main__":
    main(sys.argv[1:])
