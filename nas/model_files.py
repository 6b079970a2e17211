"""ONNX files somebody else made, as models that can be timed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError

from device_lab.files import sha256_of
from device_lab.measurement import ModelFile
from device_lab.runner.contract import token_ids
from nas.errors import ModelFileError

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
OUTPUT = "logits"
_MAX_TOKEN_LIMIT = 1000
_FATAL_ONLY = 4
_STATE = onnxruntime.capi.onnxruntime_pybind11_state
# The engine's exceptions have no base of their own.
_ENGINE_ERRORS = (
    _STATE.Fail,
    _STATE.InvalidArgument,
    _STATE.InvalidGraph,
    _STATE.InvalidProtobuf,
    _STATE.NotImplemented,
    _STATE.RuntimeException,
)


def read_onnx_model(path: Path, *, sequence_length: int) -> ModelFile:
    """Return an ONNX classifier as a model that can be timed.

    What it has to answer is computed here, by ONNX Runtime without any of its
    optimisations, so that a run whose optimised graph answers something else
    counts as wrong and not as fast. It is the same engine, so an operator that
    it computes wrongly in any case is not found.

    Args:
        path: One file, weights included, with inputs among `INPUTS`, int64, of shape (batch, tokens), and an
            output called ``logits``.
        sequence_length: Tokens, where the file leaves them open; an open batch size is 1.

    Raises:
        ModelFileError: If it is not such a file; the message names what was seen.
        OSError: If it cannot be read.
    """
    graph = _read_graph(path)
    shape = _shape(path, graph, sequence_length=sequence_length)
    model = ModelFile(
        path=path,
        sha256=sha256_of(path),
        sequence_length=shape[1],
        batch_size=shape[0],
        token_limit=_token_limit(graph),
        expected_output=(),
        answered_by=f"ONNX Runtime {onnxruntime.__version__} without optimisations",
    )
    return replace(model, expected_output=_answer(model))


def _read_graph(path: Path) -> onnx.GraphProto:
    try:
        graph = onnx.load(str(path), load_external_data=False).graph
    except DecodeError as error:
        raise ModelFileError(f"{path} is not an ONNX file: {error}") from error
    if not graph.node:
        raise ModelFileError(f"{path} is not an ONNX file: it holds no operator")
    outside = [each.name for each in graph.initializer if each.data_location == onnx.TensorProto.EXTERNAL]
    if outside:
        raise ModelFileError(f"{path}: {outside[0]} lies in another file; save the model as one file, weights included")
    outputs = [output.name for output in graph.output]
    if OUTPUT not in outputs:
        raise ModelFileError(f"{path}: the outputs are {', '.join(outputs)}; one of them has to be {OUTPUT!r}")
    return graph


def _shape(path: Path, graph: onnx.GraphProto, *, sequence_length: int) -> tuple[int, int]:
    weights = {each.name for each in graph.initializer}
    inputs = [each for each in graph.input if each.name not in weights]
    unknown = [each.name for each in inputs if each.name not in INPUTS]
    if unknown or not inputs:
        raise ModelFileError(f"{path}: input {', '.join(unknown) or 'none'}; the inputs have to be {', '.join(INPUTS)}")
    tensor = inputs[0].type.tensor_type
    sizes = [dimension.dim_value for dimension in tensor.shape.dim]
    if tensor.elem_type != onnx.TensorProto.INT64 or len(sizes) != 2:
        kind = onnx.TensorProto.DataType.Name(tensor.elem_type)
        raise ModelFileError(f"{path}: input {inputs[0].name} is {kind} with {len(sizes)} axes, INT64 with 2 is needed")
    return sizes[0] or 1, sizes[1] or sequence_length


def _token_limit(graph: onnx.GraphProto) -> int:
    """Return one more than the largest token id to feed: no more than the embedding table has rows, where it shows."""
    rows = {each.name: each.dims[0] for each in graph.initializer if len(each.dims) == 2}
    tables = [rows[node.input[0]] for node in graph.node if node.op_type == "Gather" and node.input[0] in rows]
    # Of the tables a graph gathers rows from, positions and types are smaller than the vocabulary.
    return min(_MAX_TOKEN_LIMIT, max(tables, default=_MAX_TOKEN_LIMIT))


def _answer(model: ModelFile) -> tuple[float, ...]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = _FATAL_ONLY
    shape = (model.batch_size, model.sequence_length)
    ids = np.array(token_ids(shape[0] * shape[1], token_limit=model.token_limit), dtype=np.int64).reshape(shape)
    values = (ids, np.ones(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64))
    inputs = dict(zip(INPUTS, values, strict=True))
    try:
        session = onnxruntime.InferenceSession(str(model.path), options, providers=["CPUExecutionProvider"])
        (logits,) = session.run([OUTPUT], {node.name: inputs[node.name] for node in session.get_inputs()})
    except _ENGINE_ERRORS as error:
        first_line = str(error).strip().splitlines()[0]
        raise ModelFileError(f"{model.path}: ONNX Runtime cannot execute it: {first_line}") from error
    return tuple(float(value) for value in np.asarray(logits).ravel())
