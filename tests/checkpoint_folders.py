"""Tiny checkpoints as they lie on the Hub: configuration, random weights, and a vocabulary made of a few sentences."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import ByteLevelBPETokenizer

from search_spaces.architecture import Architecture
from search_spaces.bert import build
from search_spaces.checkpoints import config_from_architecture, tensors_from_state
from tests.small_tasks import BLAME, PRAISE

WORD_PIECES = [
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c", "##a", "##b", "##s", "cafe", "Cafe", "caf\u00e9"),
    *("film", "Film", "##s", "lovely", "dull", "the", "The", ".", "!", "\u4e2d", "good", "bad", "mess"),
]
WORD_PIECES = list(dict.fromkeys(WORD_PIECES))
ROBERTA_TOKENS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def write_word_pieces(folder: Path, **options: Any) -> int:
    """Write ``vocab.txt``, and ``tokenizer_config.json`` if there are options; return the number of word pieces."""
    folder.mkdir(exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(WORD_PIECES) + "\n", encoding="utf-8")
    if options:
        (folder / "tokenizer_config.json").write_text(json.dumps(options))
    return len(WORD_PIECES)


def write_byte_pairs(folder: Path) -> int:
    """Train byte-level BPE on a few sentences, write ``vocab.json`` and ``merges.txt``, return its size."""
    folder.mkdir(exist_ok=True)
    trainer = ByteLevelBPETokenizer()
    trainer.train_from_iterator(PRAISE + BLAME, vocab_size=300, special_tokens=ROBERTA_TOKENS, show_progress=False)
    trainer.save_model(str(folder))
    return int(trainer.get_vocab_size())


def write_checkpoint(folder: Path, arch: Architecture, *, num_labels: int | None = 3, **changes: Any) -> Path:
    """Write a dense network with random weights as a BERT checkpoint, without a head if ``num_labels`` is None."""
    folder.mkdir(exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        state = build(arch, num_labels=num_labels or 1).state_dict()
    kept = {name: tensor for name, tensor in state.items() if num_labels or not name.startswith("classifier.")}
    save_file(tensors_from_state(kept, family="bert"), folder / "model.safetensors")
    config = config_from_architecture(arch, num_labels=num_labels or 1) | changes
    (folder / "config.json").write_text(json.dumps(config))
    return folder
