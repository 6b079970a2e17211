"""The runner of this machine for LiteRT: ``python -m device_lab.runner.host_litert --model PATH ...``.

One process, one model, one line of JSON on standard output. Imports nothing
the timing does not need.
"""

from __future__ import annotations

import importlib.metadata
import sys

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from device_lab.runner.contract import RunnerArguments, RunnerOutput, token_ids
from device_lab.runner.process import num_tasks, peak_rss_bytes
from device_lab.runner.timing import time_inferences


def main(argv: list[str]) -> None:
    """Run the model that ``argv`` names and print the contract's line."""
    arguments = RunnerArguments.from_argv(argv)
    num_before = num_tasks()
    interpreter = Interpreter(model_path=arguments.model, num_threads=arguments.num_threads)
    interpreter.allocate_tensors()
    # The calling thread computes too; the pool has one less than the number asked for.
    num_threads = num_tasks() - num_before + 1 if num_before else arguments.num_threads
    (ids,) = interpreter.get_input_details()
    (logits,) = interpreter.get_output_details()
    shape = (arguments.batch_size, arguments.sequence_length)
    tokens = np.array(token_ids(shape[0] * shape[1], token_limit=arguments.token_limit), dtype=ids["dtype"])
    interpreter.set_tensor(ids["index"], tokens.reshape(shape))

    timing = time_inferences(
        interpreter.invoke,
        min_runs=arguments.min_runs,
        min_timed_s=arguments.min_timed_s,
        max_warmup_s=arguments.max_warmup_s,
    )
    output = RunnerOutput(
        runtime="litert",
        runtime_version=importlib.metadata.version("ai-edge-litert"),
        num_threads=num_threads,
        num_warmup_runs=timing.num_warmup_runs,
        samples_ns=timing.samples_ns,
        wall_ns=timing.wall_ns,
        cpu_ns=timing.cpu_ns,
        peak_rss_bytes=peak_rss_bytes(),
        output=tuple(float(value) for value in interpreter.get_tensor(logits["index"]).ravel()),
    )
    sys.stdout.write(output.to_json() + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
