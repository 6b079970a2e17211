"""The ONNX graph we write computes what torch computes, for every architecture and any input."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from device_lab.files import sha256_of
from nas.export import export_onnx, random_network
from search_spaces.architecture import Architecture
from search_spaces.bert import Bert
from tests.strategies import architectures


@pytest.mark.torch
@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(architectures(max_layers=3), st.integers(1, 12), st.integers(1, 3), st.integers(1, 4), st.integers(0, 99))
def test_a_written_graph_equals_torch_on_padded_inputs(
    arch: Architecture, sequence_length: int, batch_size: int, num_labels: int, seed: int
) -> None:
    network = _lively_network(arch, num_labels=num_labels, seed=seed)
    generator = np.random.default_rng(seed)
    shape = (batch_size, sequence_length)
    lengths = generator.integers(1, sequence_length + 1, size=(batch_size, 1))
    inputs = {
        "input_ids": generator.integers(0, arch.vocab_size, size=shape),
        "attention_mask": (np.arange(sequence_length) < lengths).astype(np.int64),
        "token_type_ids": generator.integers(0, arch.type_vocab_size, size=shape),
    }

    with tempfile.TemporaryDirectory() as folder:
        file = export_onnx(network, Path(folder) / "m.onnx", sequence_length=sequence_length, batch_size=batch_size)
        onnx.checker.check_model(str(file.path), full_check=True)
        session = onnxruntime.InferenceSession(str(file.path), providers=["CPUExecutionProvider"])
        (logits,) = session.run(["logits"], inputs)

    with torch.no_grad():
        wanted = network(*(torch.from_numpy(inputs[name]) for name in inputs))
    np.testing.assert_allclose(logits, wanted.numpy(), atol=1e-4, rtol=1e-4)


@pytest.mark.torch
@settings(max_examples=10, deadline=None)
@given(architectures(max_layers=2))
def test_the_same_weights_give_the_same_bytes(arch: Architecture) -> None:
    with tempfile.TemporaryDirectory() as folder:
        one, other = (
            export_onnx(random_network(arch, num_labels=2, seed=seed), Path(folder) / f"{name}.onnx", sequence_length=4)
            for name, seed in (("one", 1), ("other", 1))
        )
        third = export_onnx(random_network(arch, num_labels=2, seed=2), Path(folder) / "3.onnx", sequence_length=4)

        assert one.sha256 == other.sha256 == sha256_of(one.path) != third.sha256
    assert one.expected_output == other.expected_output != third.expected_output
    assert all(math.isfinite(value) for value in one.expected_output)


def _lively_network(arch: Architecture, *, num_labels: int, seed: int) -> Bert:
    """A network whose every weight matters: with biases of zero and scales of one, a swap would go unseen."""
    network = random_network(arch, num_labels=num_labels, seed=seed)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return network
