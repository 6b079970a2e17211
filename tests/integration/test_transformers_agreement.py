from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nas.saved_model import SavedModel
from nas.tasks import TaskKind
from nas.text_tokenizers import read_tokenizer
from search_spaces.architecture import Architecture
from search_spaces.bert import build
from search_spaces.checkpoints import config_from_architecture, read_checkpoint
from search_spaces.reference import BERT_BASE, SQUEEZEBERT, dense_encoder, squeezebert_rule
from tests.checkpoint_folders import write_byte_pairs, write_word_pieces
from tests.small_tasks import BLAME, PRAISE

pytestmark = [pytest.mark.torch, pytest.mark.slow]

SMALL = dense_encoder(hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=64)


@pytest.fixture(scope="module")
def transformers() -> Any:
    return pytest.importorskip("transformers", reason="the test dependency transformers is not installed")


@pytest.mark.parametrize(
    ("arch", "num_parameters"),
    [(BERT_BASE, 109_483_778), (SQUEEZEBERT, 51_091_202), (SMALL, None), (squeezebert_rule(SMALL), None)],
    ids=["bert-base", "squeezebert", "small-bert", "small-squeezebert"],
)
def test_our_network_computes_what_transformers_computes(
    transformers: Any, tmp_path: Path, arch: Architecture, num_parameters: int | None
) -> None:
    theirs = _random_network(transformers, arch)
    theirs.save_pretrained(tmp_path)

    checkpoint = read_checkpoint(tmp_path)
    ours = build(checkpoint.arch, num_labels=2).eval()
    ours.load_state_dict(checkpoint.state)

    assert checkpoint.arch == arch
    if num_parameters is not None:
        assert _count(ours) == _count(theirs) == num_parameters
    ids, mask, types = _inputs(arch)
    with torch.no_grad():
        wanted = theirs(input_ids=ids, attention_mask=mask, token_type_ids=types).logits
        logits = ours(ids, mask, types)
        without_types = ours(ids, mask, torch.zeros_like(types))
    assert logits.std() > 0.01
    assert (logits - wanted).abs().max() < 1e-5
    assert (logits - without_types).abs().max() > 1e-4


@pytest.mark.parametrize("eps", [0.1, 1e-5, 1e-12])
def test_our_network_computes_what_transformers_roberta_computes(transformers: Any, tmp_path: Path, eps: float) -> None:
    config = transformers.RobertaConfig(
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=64,
        vocab_size=300,
        max_position_embeddings=42,
        type_vocab_size=1,
        layer_norm_eps=eps,
        num_labels=3,
    )
    theirs = _shaken(lambda: transformers.RobertaForSequenceClassification(config))
    with torch.no_grad():
        for table in ("word", "position", "token_type"):
            # So small that the epsilon matters.
            getattr(theirs.roberta.embeddings, f"{table}_embeddings").weight.mul_(0.1)
        theirs.classifier.out_proj.weight.mul_(10)
    theirs.save_pretrained(tmp_path)

    checkpoint = read_checkpoint(tmp_path)
    ours = build(checkpoint.arch, num_labels=3).eval()
    ours.load_state_dict(checkpoint.state)

    assert (checkpoint.arch.max_position_embeddings, checkpoint.arch.layer_norm_eps) == (40, eps)
    ids = torch.randint(3, 300, (3, 40), generator=torch.Generator().manual_seed(3))
    mask = (torch.arange(40) < torch.tensor([[40], [9], [1]])).long()
    ids[mask == 0] = config.pad_token_id
    with torch.no_grad():
        wanted = theirs(input_ids=ids, attention_mask=mask).logits
        logits = ours(ids, mask, torch.zeros_like(ids))
    assert logits.std(dim=0).min() > 1e-3
    assert (logits - wanted).abs().max() < 1e-5


@pytest.mark.parametrize("family", ["Bert", "Roberta", "SqueezeBert"])
def test_a_checkpoint_folder_answers_pairs_of_sentences_as_transformers_does(
    transformers: Any, tmp_path: Path, family: str
) -> None:
    is_roberta = family == "Roberta"
    config = getattr(transformers, f"{family}Config")(
        vocab_size=write_byte_pairs(tmp_path) if is_roberta else write_word_pieces(tmp_path, do_lower_case=False),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        num_labels=2,
        initializer_range=0.3,
        **({"type_vocab_size": 1, "max_position_embeddings": 66} if is_roberta else {}),
        **({"embedding_size": 32} if family == "SqueezeBert" else {}),
    )
    theirs = _shaken(lambda: getattr(transformers, f"{family}ForSequenceClassification")(config))
    theirs.save_pretrained(tmp_path)
    encoded = getattr(transformers, "RobertaTokenizer" if is_roberta else "BertTokenizer").from_pretrained(tmp_path)(
        list(BLAME), list(PRAISE), padding=True, return_tensors="pt"
    )

    checkpoint = read_checkpoint(tmp_path)
    network = build(checkpoint.arch, num_labels=2)
    network.load_state_dict(checkpoint.state)
    model = SavedModel(
        network=network,
        tokenizer=read_tokenizer(tmp_path, checkpoint.arch),
        task="alike",
        kind=TaskKind.CLASSIFICATION,
        label_names=("no", "yes"),
        sequence_length=64,
        evaluator="none",
        dev_metrics=(),
    )

    with torch.no_grad():
        wanted = theirs(**encoded).logits
    logits = model.logits(list(zip(BLAME, PRAISE, strict=True)))
    assert logits.std(dim=0).min() > 0.01
    assert (logits - wanted).abs().max() < 1e-5


def test_the_encoder_of_a_masked_language_model_is_read_without_its_head(transformers: Any, tmp_path: Path) -> None:
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64}
    for family in ("Bert", "Roberta"):
        folder = tmp_path / family
        config = getattr(transformers, f"{family}Config")(vocab_size=60, **shape)
        getattr(transformers, f"{family}ForMaskedLM")(config).save_pretrained(folder)

        checkpoint = read_checkpoint(folder)

        assert checkpoint.num_labels is None
        assert not [name for name in checkpoint.state if name.startswith(("pooler", "classifier"))]


def _random_network(transformers: Any, arch: Architecture) -> Any:
    """Their network of our configuration."""
    config = dict(config_from_architecture(arch, num_labels=2))
    family = config.pop("model_type")
    (name,) = config.pop("architectures")
    kind = {"bert": transformers.BertConfig, "squeezebert": transformers.SqueezeBertConfig}[family]
    return _shaken(lambda: getattr(transformers, name)(kind(**config)))


def _shaken(make: Callable[[], Any]) -> Any:
    """Their network with weights large enough that a swapped pair shows."""
    with torch.random.fork_rng(devices=[]):
        # Their first weights come from the global generator; with those of this seed every input shows in the logits.
        torch.manual_seed(3)
        network = make().eval()
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.01)
    return network


def _inputs(arch: Architecture) -> tuple[Tensor, Tensor, Tensor]:
    """Three sequences of 23, 9 and 1 tokens, the second sentence of each starting at token 4."""
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(arch.vocab_size, (3, 23), generator=generator)
    mask = (torch.arange(23) < torch.tensor([[23], [9], [1]])).long()
    types = (torch.arange(23) >= 4).long().expand(3, 23)
    return ids, mask, types


def _count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
