"""Cost of a network, computed from its numbers alone.

The sums follow fvcore's counting rules, so `model_cost` equals a trace of the
built network to the last digit (`nas.flops`), at a thousandth of its time.
"""

from __future__ import annotations

from dataclasses import dataclass

from search_spaces.architecture import Architecture, Block

# fvcore counts five operations for each element a layer norm with scale and shift normalises.
LAYER_NORM_OPERATIONS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """The price of one forward pass.

    ``macs`` is the whole network as fvcore counts it: multiply-accumulates of
    every convolution, linear layer and matrix product, plus layer norms.
    ``encoder_macs`` leaves out layer norms, pooler and head, as papers do.
    ``parameters`` includes embeddings, pooler and head.
    """

    macs: int
    encoder_macs: int
    parameters: int

    @property
    def flops(self) -> int:
        """Floating-point operations at two per multiply-accumulate."""
        return 2 * self.macs


def model_cost(arch: Architecture, *, sequence_length: int, num_labels: int, batch_size: int = 1) -> Cost:
    """Price the whole network of an architecture.

    Args:
        arch: The network to price.
        sequence_length: Tokens per sequence, padding included.
        num_labels: Outputs of the task head.
        batch_size: Sequences per forward pass.

    Returns:
        Multiply-accumulates of one forward pass, and parameters.
    """
    h, s = arch.hidden_size, sequence_length
    block_costs = [_block_cost(block, h, arch.attention_head_size, s) for block in arch.blocks]
    encoder_macs = sum(macs for macs, _ in block_costs)
    layer_norms = (1 + 2 * len(arch.blocks)) * LAYER_NORM_OPERATIONS * s * h
    head_macs = h * h + h * num_labels
    embeddings = (arch.vocab_size + arch.max_position_embeddings + arch.type_vocab_size + 2) * h
    head_parameters = h * (h + 1) + (h + 1) * num_labels
    return Cost(
        macs=batch_size * (encoder_macs + layer_norms + head_macs),
        encoder_macs=batch_size * encoder_macs,
        parameters=embeddings + sum(parameters for _, parameters in block_costs) + head_parameters,
    )


def encoder_macs(arch: Architecture, *, sequence_length: int, batch_size: int = 1) -> int:
    """Count the multiply-accumulates of one forward pass through the encoder blocks.

    Shapes, with b = batch_size, s = sequence_length, h = hidden_size,
    a = all_head_size, f = intermediate_size, g = groups:

    * grouped 1x1 convolution, (b, c_in, s) -> (b, c_out, s): b * s * c_in * c_out / g
    * scores (b, s, a) x (b, a, s) and context (b, s, s) x (b, s, a): b * s * s * a each

    Softmax, GELU, layer norm, bias and residual additions are left out, as are
    the embeddings, the pooler and the task head.

    Returns:
        Multiply-accumulates (not FLOPs: papers that print FLOPs usually count two per MAC).
    """
    sizes = (arch.hidden_size, arch.attention_head_size, sequence_length)
    return batch_size * sum(_block_cost(block, *sizes)[0] for block in arch.blocks)


def _block_cost(block: Block, h: int, head_size: int, s: int) -> tuple[int, int]:
    """Return one block's multiply-accumulates without layer norms, and its parameters with them."""
    a, f = block.num_attention_heads * head_size, block.intermediate_size
    weights = (
        h * a // block.q_groups
        + h * a // block.k_groups
        + h * a // block.v_groups
        + a * h // block.post_attention_groups
        + h * f // block.intermediate_groups
        + f * h // block.output_groups
    )
    biases = 3 * a + h + f + h
    layer_norms = 2 * 2 * h
    return s * weights + 2 * s * s * a, weights + biases + layer_norms
