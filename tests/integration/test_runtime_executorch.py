from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from device_lab.files import sha256_of
from device_lab.measurement import ModelFile
from device_lab.runner.contract import RunnerOutput, RunRequest, check_output, token_ids
from device_lab.runner.engines import host_target
from device_lab.runtimes.executorch import Executorch, write_program
from nas.export import random_network
from search_spaces.architecture import Architecture, Block
from tests.runner_bundles import require_bundle, tiny_program

pytestmark = [pytest.mark.slow, pytest.mark.torch]

REQUEST = RunRequest(num_threads=2, min_runs=4, min_timed_s=0.0, max_warmup_s=0.0)
ARCH = Architecture(
    hidden_size=32,
    attention_head_size=8,
    blocks=(Block(num_attention_heads=4, intermediate_size=64, k_groups=2, intermediate_groups=8),),
    vocab_size=90,
    max_position_embeddings=16,
)


@pytest.fixture
def cache_folder(request: pytest.FixtureRequest) -> Path:
    cache = request.config.cache
    assert cache is not None
    folder = Path(cache.mkdir("bundles"))
    require_bundle("executorch", abi=host_target().abi, cache_folder=folder)
    return folder


def test_this_machine_runs_a_program_by_the_compiled_runner(cache_folder: Path) -> None:
    model = tiny_program()

    _check(Executorch(cache_folder=cache_folder), model)


def test_an_exported_network_answers_as_torch_does(cache_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip(
        "executorch.exir", reason="the extra `executorch` is not installed; run `pip install -e '.[executorch]'`"
    )
    network = random_network(ARCH, num_labels=3)
    ids = torch.tensor(token_ids(24, token_limit=90)).view(2, 12)
    inputs = (ids, torch.ones_like(ids), torch.zeros_like(ids))
    path = tmp_path / "encoder.pte"

    write_program(network, path, example_inputs=inputs)

    with torch.no_grad():
        expected = tuple(network(*inputs).flatten().tolist())
    model = replace(
        tiny_program(),
        path=path,
        sha256=sha256_of(path),
        sequence_length=12,
        token_limit=90,
        expected_output=expected,
    )
    _check(Executorch(cache_folder=cache_folder), model)


def _check(runtime: Executorch, model: ModelFile) -> None:
    result = subprocess.run(runtime.host_command(model, REQUEST), capture_output=True, text=True, check=True)
    output = RunnerOutput.from_stdout(result.stdout)
    check_output(output.output, expected=model.expected_output)
    assert (output.runtime, output.runtime_version) == (runtime.name, runtime.version)
    assert (output.num_threads, len(output.samples_ns)) == (2, 4)
