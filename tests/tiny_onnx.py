"""A network of a few kilobytes with the inputs and the output of the real ones, written with onnx alone."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from device_lab.measurement import ModelFile
from device_lab.runner.contract import token_ids

TOKEN_LIMIT = 50


def write_tiny_model(
    path: Path, *, sequence_length: int = 16, batch_size: int = 1, hidden_size: int = 32, num_layers: int = 1
) -> ModelFile:
    """Write token table, ``num_layers`` of tanh(x W) and a mean over tokens; the expected logits are NumPy's.

    Shapes: b = batch_size, s = sequence_length, h = hidden_size.
    """
    generator = np.random.default_rng(0)
    tokens = generator.normal(size=(TOKEN_LIMIT, hidden_size)).astype(np.float32)
    types = generator.normal(size=(2, hidden_size)).astype(np.float32)
    layers = [
        (generator.normal(size=(hidden_size, hidden_size)) / np.sqrt(hidden_size)).astype(np.float32)
        for _ in range(num_layers)
    ]
    classifier = generator.normal(size=(hidden_size, 2)).astype(np.float32)

    nodes = [
        helper.make_node("Gather", ["tokens", "input_ids"], ["token_rows"]),  # (b, s, h)
        helper.make_node("Gather", ["types", "token_type_ids"], ["type_rows"]),  # (b, s, h)
        helper.make_node("Add", ["token_rows", "type_rows"], ["summed"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last_axis"], ["mask_column"]),  # (b, s, 1)
        helper.make_node("Mul", ["summed", "mask_column"], ["hidden_0"]),
    ]
    for i in range(num_layers):
        nodes.append(helper.make_node("MatMul", [f"hidden_{i}", f"layer_{i}"], [f"product_{i}"]))
        nodes.append(helper.make_node("Tanh", [f"product_{i}"], [f"hidden_{i + 1}"]))
    nodes.append(
        helper.make_node("ReduceMean", [f"hidden_{num_layers}", "token_axis"], ["pooled"], keepdims=0)
    )  # (b, h)
    nodes.append(helper.make_node("MatMul", ["pooled", "classifier"], ["logits"]))  # (b, 2)
    initializers = {
        "tokens": tokens,
        "types": types,
        "classifier": classifier,
        "last_axis": np.array([-1]),
        "token_axis": np.array([1]),
        **{f"layer_{i}": layer for i, layer in enumerate(layers)},
    }
    shape = (batch_size, sequence_length)
    graph = helper.make_graph(
        nodes,
        "tiny",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, shape)
            for name in ("input_ids", "attention_mask", "token_type_ids")
        ],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, (batch_size, 2))],
        [numpy_helper.from_array(value, name) for name, value in initializers.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    content = model.SerializeToString(deterministic=True)
    path.write_bytes(content)

    ids = np.array(token_ids(batch_size * sequence_length, token_limit=TOKEN_LIMIT)).reshape(shape)
    hidden = (tokens[ids] + types[0]).astype(np.float64)
    for layer in layers:
        hidden = np.tanh(hidden @ layer)
    return ModelFile(
        path=path,
        sha256=hashlib.sha256(content).hexdigest(),
        sequence_length=sequence_length,
        batch_size=batch_size,
        token_limit=TOKEN_LIMIT,
        expected_output=tuple((hidden.mean(axis=1) @ classifier).ravel().tolist()),
    )
