"""The network of an architecture, whole, in one file.

Post-layer-norm BERT (Devlin et al., arXiv 1810.04805) whose position-wise
layers are grouped 1x1 convolutions (SqueezeBERT, Iandola et al., arXiv
2006.11316). Inside the encoder tensors are channels first, as convolutions want
them; layer norm turns them around and back. With one group everywhere it
computes exactly what BERT computes, with SqueezeBERT's groups what SqueezeBERT
computes. Attention is two explicit matrix products: the fused kernels hide them
from FLOP counters.

Shape legend: b batch, s tokens, h hidden_size, n heads, d attention_head_size,
a = n * d, f intermediate_size, c num_labels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from search_spaces.architecture import Architecture, Block

INITIALIZER_STD = 0.02


class Bert(nn.Module):
    """A BERT encoder with a pooler and a head for classification (c labels) or regression (c = 1)."""

    def __init__(self, arch: Architecture, *, num_labels: int, dropout: float) -> None:
        super().__init__()
        self.arch = arch
        self.embeddings = Embeddings(arch, dropout=dropout)
        self.layers = nn.ModuleList(Layer(arch, block, dropout=dropout) for block in arch.blocks)
        self.pooler = nn.Linear(arch.hidden_size, arch.hidden_size)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(arch.hidden_size, num_labels)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        """Compute the logits.

        Args:
            input_ids: Token ids, (b, s).
            attention_mask: 1 for tokens to attend to, 0 for padding, (b, s).
            token_type_ids: Sentence number of each token, (b, s).

        Returns:
            Logits, (b, c).
        """
        hidden = self.embeddings(input_ids, token_type_ids)  # (b, h, s)
        bias = attention_bias(attention_mask, dtype=hidden.dtype)
        for layer in self.layers:
            hidden = layer(hidden, bias)
        return self.head(hidden)

    def head(self, hidden: Tensor) -> Tensor:
        """Compute the logits (b, c) from the encoder's output (b, h, s): first token, pooler, classifier."""
        pooled = torch.tanh(self.pooler(hidden[:, :, 0]))
        logits: Tensor = self.classifier(self.dropout(pooled))
        return logits


class Embeddings(nn.Module):
    """Sum of token, position and token-type embeddings, normalised, channels first."""

    def __init__(self, arch: Architecture, *, dropout: float) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(arch.vocab_size, arch.hidden_size)
        self.position_embeddings = nn.Embedding(arch.max_position_embeddings, arch.hidden_size)
        self.token_type_embeddings = nn.Embedding(arch.type_vocab_size, arch.hidden_size)
        self.layer_norm = nn.LayerNorm(arch.hidden_size, eps=arch.layer_norm_eps)
        self.dropout = nn.Dropout(dropout)

    def forward(self, input_ids: Tensor, token_type_ids: Tensor) -> Tensor:
        """Embed token ids (b, s) into hidden states (b, h, s)."""
        hidden: Tensor = self.dropout(self.layer_norm(self.summed(input_ids, token_type_ids)))
        return hidden.transpose(1, 2)

    def summed(self, input_ids: Tensor, token_type_ids: Tensor) -> Tensor:
        """Add up the three embeddings of every token (b, s), before the layer norm, (b, s, h)."""
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        total: Tensor = (
            self.word_embeddings(input_ids)
            + self.token_type_embeddings(token_type_ids)
            + self.position_embeddings(positions)
        )
        return total


class Layer(nn.Module):
    """One encoder block: self-attention and FFN, each followed by a residual sum and a layer norm."""

    def __init__(self, arch: Architecture, block: Block, *, dropout: float) -> None:
        super().__init__()
        h, a, f = arch.hidden_size, arch.all_head_size(block), block.intermediate_size
        self.num_attention_heads = block.num_attention_heads
        self.query = nn.Conv1d(h, a, kernel_size=1, groups=block.q_groups)
        self.key = nn.Conv1d(h, a, kernel_size=1, groups=block.k_groups)
        self.value = nn.Conv1d(h, a, kernel_size=1, groups=block.v_groups)
        self.post_attention = nn.Conv1d(a, h, kernel_size=1, groups=block.post_attention_groups)
        self.post_attention_layer_norm = nn.LayerNorm(h, eps=arch.layer_norm_eps)
        self.intermediate = nn.Conv1d(h, f, kernel_size=1, groups=block.intermediate_groups)
        self.output = nn.Conv1d(f, h, kernel_size=1, groups=block.output_groups)
        self.output_layer_norm = nn.LayerNorm(h, eps=arch.layer_norm_eps)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor, bias: Tensor) -> Tensor:
        """Map hidden states (b, h, s) to (b, h, s), with ``bias`` (b, 1, 1, s) added to the attention scores."""
        attended = self.dropout(self.post_attention(self.attention(hidden, bias)))
        hidden = normalize_channels(self.post_attention_layer_norm, hidden + attended)
        widened = nn.functional.gelu(self.intermediate(hidden))  # (b, f, s)
        return normalize_channels(self.output_layer_norm, hidden + self.dropout(self.output(widened)))

    def attention(self, hidden: Tensor, bias: Tensor) -> Tensor:
        """Return the heads' contexts side by side, (b, a, s)."""
        b, _, s = hidden.shape
        heads = (b, self.num_attention_heads, -1, s)
        query, key, value = (conv(hidden).view(heads) for conv in (self.query, self.key, self.value))  # (b, n, d, s)
        scores = torch.matmul(query.transpose(2, 3), key) / math.sqrt(query.shape[2]) + bias  # (b, n, s, s)
        probabilities = self.dropout(torch.softmax(scores, dim=3))
        return torch.matmul(value, probabilities.transpose(2, 3)).reshape(b, -1, s)


def attention_bias(attention_mask: Tensor, *, dtype: torch.dtype) -> Tensor:
    """Turn a mask of ones and zeros (b, s) into a bias on attention scores (b, 1, 1, s)."""
    padding = 1.0 - attention_mask[:, None, None, :].to(dtype)
    return padding * torch.finfo(dtype).min


def normalize_channels(layer_norm: nn.LayerNorm, hidden: Tensor) -> Tensor:
    """Apply ``layer_norm`` over the channels of hidden states (b, h, s)."""
    normalized: Tensor = layer_norm(hidden.transpose(1, 2))
    return normalized.transpose(1, 2)


def build(arch: Architecture, *, num_labels: int, dropout: float = 0.1) -> Bert:
    """Build the network of ``arch`` with fresh weights from torch's global generator.

    Weights are drawn from a normal distribution with standard deviation 0.02,
    as BERT's are; biases are zero. ``dropout`` acts on hidden states and
    attention probabilities, in training mode only.
    """
    network = Bert(arch, num_labels=num_labels, dropout=dropout)
    for module in network.modules():
        if isinstance(module, nn.Embedding | nn.Linear | nn.Conv1d):
            nn.init.normal_(module.weight, std=INITIALIZER_STD)
            if not isinstance(module, nn.Embedding) and module.bias is not None:
                nn.init.zeros_(module.bias)
    return network
