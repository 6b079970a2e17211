from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from nas.artifacts import pack, unpack
from nas.errors import ArtifactError, TokenizerError
from nas.saved_model import SavedModel, Text, load, save
from nas.tasks import TaskKind
from nas.text_tokenizers import read_tokenizer
from nas.tokens import tokenize_task
from nas.training import predict
from search_spaces.bert import build
from tests.checkpoint_folders import WORD_PIECES, write_byte_pairs
from tests.saved_models import ARCH, praise_model
from tests.small_tasks import BLAME, PRAISE, classification_task

pytestmark = pytest.mark.torch


@pytest.fixture
def model(tmp_path: Path) -> SavedModel:
    return praise_model(tmp_path)


@pytest.fixture
def folder(model: SavedModel, tmp_path: Path) -> Path:
    path = tmp_path / "model"
    path.mkdir()
    save(model, path)
    return path


def test_a_model_comes_back_with_equal_logits_and_all_it_says(model: SavedModel, folder: Path) -> None:
    texts: list[Text] = [*PRAISE, *BLAME, ("a lovely film", "The Film"), "The Film ! ! ! ! ! ! ! ! ! ! ! ! ! ! !"]

    loaded = load(folder)

    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors", "tokenizer.json"]
    assert torch.equal(loaded.logits(texts), model.logits(texts))
    assert model.logits(texts).std(dim=0).min() > 0.01
    assert loaded.predict(texts) == model.predict(texts)
    assert set(model.predict(texts)) == {"bad", "good"}
    assert loaded.network.arch == ARCH
    for name in ("task", "kind", "label_names", "sequence_length", "evaluator", "dev_metrics"):
        assert getattr(loaded, name) == getattr(model, name), name


def test_logits_are_those_of_the_tokenized_task(model: SavedModel) -> None:
    task = classification_task()
    data = tokenize_task(task, sequence_length=12, tokenizer=model.tokenizer)

    logits = model.logits([example.sentence for example in task.dev])

    assert torch.equal(logits, predict(model.network, data.dev, device="cpu"))
    assert model.predict([]) == []


def test_a_regression_gives_numbers(model: SavedModel, tmp_path: Path) -> None:
    number = replace(model, kind=TaskKind.REGRESSION, label_names=(), network=build(ARCH, num_labels=1).eval())
    (tmp_path / "number").mkdir()
    save(number, tmp_path / "number")

    (value,) = load(str(tmp_path / "number")).predict([("a film", "the film")])

    assert value == pytest.approx(float(number.logits([("a film", "the film")])))
    assert number.logits([]).shape == (0, 1)


def test_a_network_of_robertas_kind_comes_back(model: SavedModel, tmp_path: Path) -> None:
    size = write_byte_pairs(tmp_path / "pairs")
    arch = replace(ARCH, vocab_size=size, type_vocab_size=1, layer_norm_eps_exponent=5)
    roberta = replace(
        model, network=build(arch, num_labels=2).eval(), tokenizer=read_tokenizer(tmp_path / "pairs", arch)
    )
    (tmp_path / "roberta").mkdir()
    save(roberta, tmp_path / "roberta")

    loaded = load(tmp_path / "roberta")

    assert loaded.network.arch.layer_norm_eps == 1e-5
    pair = (PRAISE[0], PRAISE[1])
    assert torch.equal(loaded.logits([pair, "x"]), roberta.logits([pair, "x"]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "other"}, r"config\.json: not a model that `nas export` wrote"),
        ({"schema_version": 2}, r"config\.json: schema_version 2, this release reads 1"),
        ({"task": None}, r"config\.json: field 'task' is missing"),
        ({"kind": "guess"}, r"config\.json: 'guess' is not a valid TaskKind; export"),
        ({"label_names": 3}, r"config\.json: .*; export the model again"),
        (
            {"label_names": ["a", "b", "c"]},
            r"classifier\.weight has shape \[2, 32\], wanted \[3, 32\]; classifier\.bias",
        ),
    ],
)
def test_a_configuration_that_is_not_the_models_is_refused(folder: Path, changes: dict[str, Any], message: str) -> None:
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(
        json.dumps({name: value for name, value in config.items() if value is not None})
    )

    with pytest.raises(ArtifactError, match=message) as caught:
        load(folder)

    assert "\n" not in str(caught.value)


def test_missing_and_extra_tensors_are_named(folder: Path) -> None:
    path = folder / "model.safetensors"
    tensors, description = unpack(path.read_bytes(), source=path)
    del tensors["pooler.bias"]
    path.write_bytes(pack({**tensors, "other": torch.zeros(1)}, description=description))

    with pytest.raises(ArtifactError, match=r"model\.safetensors: missing pooler\.bias; extra other$"):
        load(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_every_file_must_be_there_and_whole(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"{half")
    with pytest.raises((ArtifactError, TokenizerError), match=rf"{name}: not "):
        load(folder)

    (folder / name).unlink()
    with pytest.raises(ArtifactError, match=rf"{name}: no such file; a model folder is what `nas export` writes"):
        load(folder)


def test_a_tokenizer_of_another_model_is_refused(folder: Path, tmp_path: Path) -> None:
    size = write_byte_pairs(tmp_path / "pairs")
    other = read_tokenizer(tmp_path / "pairs", replace(ARCH, vocab_size=size))
    (folder / "tokenizer.json").write_text(other.document)

    with pytest.raises(TokenizerError, match=rf"has {size} tokens, the word embedding {len(WORD_PIECES)} rows"):
        load(folder)
