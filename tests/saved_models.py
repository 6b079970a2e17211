"""A trained network with a vocabulary of its own, as `nas export` saves one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from nas.saved_model import SavedModel
from nas.tasks import TaskKind
from nas.text_tokenizers import read_tokenizer
from search_spaces.bert import build
from search_spaces.reference import squeezebert_rule
from tests.checkpoint_folders import WORD_PIECES, write_word_pieces
from tests.small_tasks import BLAME, PRAISE, TINY

ARCH = replace(squeezebert_rule(TINY), vocab_size=len(WORD_PIECES))


def praise_model(folder: Path) -> SavedModel:
    """A network with weights so large that its answers differ, and a cased vocabulary of its own."""
    write_word_pieces(folder / "vocabulary", do_lower_case=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        network = build(ARCH, num_labels=2).eval()
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    model = SavedModel(
        network=network,
        tokenizer=read_tokenizer(folder / "vocabulary", ARCH),
        task="praise",
        kind=TaskKind.CLASSIFICATION,
        label_names=("bad", "good"),
        sequence_length=12,
        evaluator="distilled",
        dev_metrics=(("accuracy", 0.9), ("f1", 0.8)),
    )
    with torch.no_grad():
        network.classifier.bias.sub_(model.logits([*PRAISE, *BLAME]).median(dim=0).values)
    return model
