"""The runner of this machine for ONNX Runtime: ``python -m device_lab.runner.host_onnxruntime --model PATH ...``.

One process, one model, one line of JSON on standard output. Imports nothing
the timing does not need.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnxruntime

from device_lab.runner.contract import RunnerArguments, RunnerOutput, token_ids
from device_lab.runner.process import num_tasks, peak_rss_bytes
from device_lab.runner.timing import time_inferences
from device_lab.runner.weights import find_generated_weights, generated_weights, generated_weights_name

_ERRORS_ONLY = 3


def main(argv: list[str]) -> None:
    """Run the model that ``argv`` names and print the contract's line."""
    arguments = RunnerArguments.from_argv(argv)
    session, num_threads = _open_session(arguments.model, num_threads=arguments.num_threads)
    shape = (arguments.batch_size, arguments.sequence_length)
    ids = token_ids(shape[0] * shape[1], token_limit=arguments.token_limit)
    inputs = {
        "input_ids": np.array(ids, dtype=np.int64).reshape(shape),
        "attention_mask": np.ones(shape, dtype=np.int64),
        "token_type_ids": np.zeros(shape, dtype=np.int64),
    }
    # An exporter drops an input the graph does not use.
    used = {node.name: inputs[node.name] for node in session.get_inputs()}

    timing = time_inferences(
        lambda: session.run(["logits"], used),
        min_runs=arguments.min_runs,
        min_timed_s=arguments.min_timed_s,
        max_warmup_s=arguments.max_warmup_s,
    )
    (logits,) = session.run(["logits"], used)
    output = RunnerOutput(
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
    sys.stdout.write(output.to_json() + "\n")


def _open_session(model: str, *, num_threads: int) -> tuple[onnxruntime.InferenceSession, int]:
    """Return the session and the number of threads it computes with, counted, where the system lists them."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = _ERRORS_ONLY
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
