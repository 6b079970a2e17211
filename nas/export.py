"""Architecture and weights to a model file.

The ONNX graph is written node by node with onnx's own helpers. That takes a
fraction of a second where tracing a BERT-base takes ten, needs no exporter
package, and gives the same bytes for the same weights. What keeps it honest:
every file carries the logits torch computes, and no run whose output differs
is ever a latency.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from device_lab.files import sha256_of, write_atomically
from device_lab.measurement import ModelFile
from device_lab.runner.contract import MAX_TOKEN_LIMIT, token_ids
from nas.generated import BYTES_PER_NUMBER, WeightLayout
from search_spaces.architecture import Architecture, Block
from search_spaces.bert import Bert, build

# Gelu became an operator in opset 20.
OPSET_VERSION = 20
# Fixed, so that the bytes of a file depend on the network alone.
IR_VERSION = 10

Weights = Mapping[str, Tensor]


def export_onnx(
    network: Bert,
    path: Path,
    *,
    sequence_length: int,
    batch_size: int = 1,
    weight_layout: WeightLayout | None = None,
) -> ModelFile:
    """Write a network as an ONNX file of fixed input shape, atomically.

    With the layout of a `nas.generated.generated_network` the file leaves the
    generated weights out, and a runner of ours makes them up when it loads it.

    Inputs are ``input_ids``, ``attention_mask`` and ``token_type_ids``, int64,
    (batch_size, sequence_length); the output is ``logits``, float32,
    (batch_size, num_labels).

    Raises:
        OSError: If the file cannot be written.
    """
    graph = _Graph(network, sequence_length=sequence_length, batch_size=batch_size, layout=weight_layout)
    write_atomically(path, graph.model().SerializeToString(deterministic=True))
    return ModelFile(
        path=path,
        sha256=sha256_of(path),
        sequence_length=sequence_length,
        batch_size=batch_size,
        token_limit=token_limit_of(network),
        expected_output=expected_output(network, sequence_length=sequence_length, batch_size=batch_size),
    )


def random_network(arch: Architecture, *, num_labels: int, seed: int = 0) -> Bert:
    """Build a network with seeded random weights, for timing: a latency does not depend on their values."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(arch, num_labels=num_labels).eval()


def token_limit_of(network: Bert) -> int:
    """Return one more than the largest token id a runner feeds the network."""
    return min(MAX_TOKEN_LIMIT, network.arch.vocab_size)


def expected_output(network: Bert, *, sequence_length: int, batch_size: int) -> tuple[float, ...]:
    """Return the logits torch gives for the deterministic input of the runners, row after row."""
    ids = torch.tensor(token_ids(batch_size * sequence_length, token_limit=token_limit_of(network)))
    ids = ids.view(batch_size, sequence_length)
    was_training = network.training
    network.eval()
    with torch.no_grad():
        logits = network(ids, torch.ones_like(ids), torch.zeros_like(ids))
    network.train(was_training)
    return tuple(logits.flatten().tolist())


class _Graph:
    """Collects the nodes and weights of one network in the order it computes."""

    def __init__(
        self, network: Bert, *, sequence_length: int, batch_size: int, layout: WeightLayout | None = None
    ) -> None:
        self.arch = network.arch
        self.layout = layout
        self.weights: Weights = {name: tensor.detach().cpu() for name, tensor in network.state_dict().items()}
        self.shape = (batch_size, sequence_length)
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.logits = self._network()

    def model(self) -> onnx.ModelProto:
        """Assemble the model."""
        inputs = [
            helper.make_tensor_value_info(name, TensorProto.INT64, self.shape)
            for name in ("input_ids", "attention_mask", "token_type_ids")
        ]
        num_labels = self.weights["classifier.weight"].shape[0]
        output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, (self.shape[0], num_labels))
        graph = helper.make_graph(self.nodes, self.arch.arch_id, inputs, [output], self.initializers)
        opset = helper.make_opsetid("", OPSET_VERSION)
        return helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="pocketbert")

    def _network(self) -> str:
        hidden = self._embeddings()
        bias = self._attention_bias()
        for i, block in enumerate(self.arch.blocks):
            hidden = self._layer(f"layers.{i}", block, hidden, bias)
        first = self._node("Gather", hidden, self._constant("first_token", np.array(0)), axis=2)  # (b, h)
        pooled = self._node("Tanh", self._linear("pooler", first))
        return self._linear("classifier", pooled, output="logits")

    def _embeddings(self) -> str:
        words = self._node("Gather", self._weight("embeddings.word_embeddings.weight"), "input_ids")
        types = self._node("Gather", self._weight("embeddings.token_type_embeddings.weight"), "token_type_ids")
        # Positions are the same in every call, so their rows are cut out once, here.
        positions = self._weight("embeddings.position_embeddings.weight", num_rows=self.shape[1])
        summed = self._node("Add", self._node("Add", words, types), positions)
        return self._node("Transpose", self._layer_norm("embeddings.layer_norm", summed), perm=(0, 2, 1))  # (b, h, s)

    def _attention_bias(self) -> str:
        mask = self._node("Cast", "attention_mask", to=TensorProto.FLOAT)
        mask = self._node("Unsqueeze", mask, self._constant("mask_axes", np.array([1, 2])))  # (b, 1, 1, s)
        padding = self._node("Sub", self._constant("one", np.float32(1.0)), mask)
        return self._node("Mul", padding, self._constant("lowest", np.finfo(np.float32).min))

    def _layer(self, name: str, block: Block, hidden: str, bias: str) -> str:
        context = self._attention(name, block, hidden, bias)
        attended = self._convolution(f"{name}.post_attention", context, block.post_attention_groups)
        hidden = self._add_and_normalize(f"{name}.post_attention_layer_norm", hidden, attended)
        widened = self._node("Gelu", self._convolution(f"{name}.intermediate", hidden, block.intermediate_groups))
        narrowed = self._convolution(f"{name}.output", widened, block.output_groups)
        return self._add_and_normalize(f"{name}.output_layer_norm", hidden, narrowed)

    def _attention(self, name: str, block: Block, hidden: str, bias: str) -> str:
        b, s = self.shape
        n, d = block.num_attention_heads, self.arch.attention_head_size
        heads = self._constant(f"{name}.heads", np.array([b, n, d, s]))
        query, key, value = (
            self._node("Reshape", self._convolution(f"{name}.{part}", hidden, groups), heads)
            for part, groups in (("query", block.q_groups), ("key", block.k_groups), ("value", block.v_groups))
        )
        scale = self._constant(f"{name}.scale", np.float32(1.0 / math.sqrt(d)))
        scores = self._node("MatMul", self._node("Transpose", query, perm=(0, 1, 3, 2)), key)
        biased = self._node("Add", self._node("Mul", scores, scale), bias)
        probabilities = self._node("Softmax", biased, axis=3)  # (b, n, s, s)
        context = self._node("MatMul", value, self._node("Transpose", probabilities, perm=(0, 1, 3, 2)))
        return self._node("Reshape", context, self._constant(f"{name}.context", np.array([b, n * d, s])))

    def _add_and_normalize(self, name: str, hidden: str, update: str) -> str:
        turned = self._node("Transpose", self._node("Add", hidden, update), perm=(0, 2, 1))
        return self._node("Transpose", self._layer_norm(name, turned), perm=(0, 2, 1))

    def _layer_norm(self, name: str, value: str) -> str:
        scale, shift = self._weight(f"{name}.weight"), self._weight(f"{name}.bias")
        return self._node("LayerNormalization", value, scale, shift, axis=-1, epsilon=self.arch.layer_norm_eps)

    def _convolution(self, name: str, value: str, groups: int) -> str:
        weight, bias = self._weight(f"{name}.weight"), self._weight(f"{name}.bias")
        return self._node("Conv", value, weight, bias, group=groups, kernel_shape=[1])

    def _linear(self, name: str, value: str, *, output: str | None = None) -> str:
        weight, bias = self._weight(f"{name}.weight"), self._weight(f"{name}.bias")
        return self._node("Gemm", value, weight, bias, output=output, transB=1)

    def _node(self, operator: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        output = output or f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def _weight(self, name: str, *, num_rows: int | None = None) -> str:
        if self.layout is None or name not in self.layout.offsets_bytes:
            return self._constant(name, self.weights[name][:num_rows].float().numpy())
        num_all_rows, *rest = self.layout.shapes[name]
        shape = (num_rows or num_all_rows, *rest)
        tensor = onnx.TensorProto(name=name, dims=shape, data_type=TensorProto.FLOAT)
        tensor.data_location = TensorProto.EXTERNAL
        offset, length = self.layout.offsets_bytes[name], BYTES_PER_NUMBER * math.prod(shape)
        place = {"location": self.layout.file_name, "offset": offset, "length": length}
        for key, entry in place.items():
            tensor.external_data.add(key=key, value=str(entry))
        self.initializers.append(tensor)
        return name

    def _constant(self, name: str, value: np.ndarray | np.generic) -> str:
        self.initializers.append(numpy_helper.from_array(np.asarray(value), name=name))
        return name
