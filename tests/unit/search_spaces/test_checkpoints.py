from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from search_spaces.architecture import Architecture
from search_spaces.bert import build
from search_spaces.checkpoints import (
    config_from_architecture,
    read_checkpoint,
    state_from_tensors,
    tensors_from_state,
)
from search_spaces.errors import CheckpointError
from search_spaces.reference import dense_encoder, squeezebert_rule

DENSE = dense_encoder(hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=32)
ARCHS = {"bert": DENSE, "squeezebert": squeezebert_rule(DENSE)}


def _tensors(arch: Architecture, family: str) -> dict[str, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build(arch, num_labels=3)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter)
    return tensors_from_state(network.state_dict(), family=family)


def _write(folder: Path, family: str, *, tensors: dict[str, Tensor] | None = None, **changes: Any) -> Path:
    config = config_from_architecture(ARCHS[family], num_labels=3) | changes
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors or _tensors(ARCHS[family], family), folder / "model.safetensors")
    return folder


@pytest.mark.torch
@pytest.mark.parametrize("family", ARCHS)
def test_a_checkpoint_comes_back_as_it_was_written(tmp_path: Path, family: str) -> None:
    tensors = _tensors(ARCHS[family], family)

    checkpoint = read_checkpoint(_write(tmp_path, family, tensors=tensors))

    assert checkpoint.arch == ARCHS[family]
    assert checkpoint.num_labels == 3
    build(checkpoint.arch, num_labels=3).load_state_dict(checkpoint.state)
    back = tensors_from_state(checkpoint.state, family=family)
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in tensors.items())


@pytest.mark.torch
def test_no_two_tensors_of_a_network_share_a_name_on_the_hub() -> None:
    for family, arch in ARCHS.items():
        assert len(_tensors(arch, family)) == len(build(arch, num_labels=3).state_dict())


@pytest.mark.torch
def test_bare_encoders_pretraining_heads_and_old_names_are_read(tmp_path: Path) -> None:
    tensors = {
        name.removeprefix("bert.")
        .replace("LayerNorm.weight", "LayerNorm.gamma")
        .replace("LayerNorm.bias", "LayerNorm.beta"): tensor.half()
        for name, tensor in _tensors(DENSE, "bert").items()
        if not name.startswith("classifier.")
    }
    extra = {"cls.predictions.bias": torch.zeros(4), "embeddings.position_ids": torch.arange(512)[None]}

    checkpoint = read_checkpoint(_write(tmp_path, "bert", tensors=tensors | extra))

    assert checkpoint.num_labels is None
    assert "classifier.weight" not in checkpoint.state
    assert checkpoint.state["layers.1.output_layer_norm.weight"].dtype == torch.float32
    assert torch.equal(
        checkpoint.state["layers.1.output_layer_norm.weight"].half(), tensors["encoder.layer.1.output.LayerNorm.gamma"]
    )


@pytest.mark.torch
def test_an_encoder_pretrained_on_masked_words_needs_no_pooler(tmp_path: Path) -> None:
    tensors = {
        name: tensor
        for name, tensor in _tensors(DENSE, "bert").items()
        if "pooler" not in name and "classi" not in name
    }

    assert "pooler.weight" not in read_checkpoint(_write(tmp_path, "bert", tensors=tensors)).state

    tensors["bert.pooler.dense.bias"] = torch.zeros(16)
    with pytest.raises(CheckpointError, match=r"missing pooler\.dense\.weight$"):
        read_checkpoint(_write(tmp_path, "bert", tensors=tensors))


@pytest.mark.torch
@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        ({"0": "no", "1": "perhaps", "2": "yes"}, ("no", "perhaps", "yes")),
        ({"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}, ()),
        ({"0": "no", "1": "yes"}, ()),
        (None, ()),
    ],
)
def test_labels_have_the_names_the_configuration_gives_them(
    tmp_path: Path, names: dict[str, str] | None, wanted: tuple[str, ...]
) -> None:
    assert read_checkpoint(_write(tmp_path, "bert", id2label=names)).label_names == wanted


@pytest.mark.torch
def test_every_missing_extra_and_misshapen_tensor_is_named() -> None:
    tensors = _tensors(DENSE, "bert")
    del tensors["bert.pooler.dense.bias"]
    del tensors["bert.encoder.layer.1.output.dense.weight"]
    tensors["bert.encoder.layer.7.output.dense.weight"] = torch.zeros(2)
    tensors["bert.embeddings.LayerNorm.weight"] = torch.zeros(5)

    with pytest.raises(CheckpointError) as caught:
        state_from_tensors(tensors, DENSE, family="bert", num_labels=3, source="here")

    assert str(caught.value) == (
        "here: missing encoder.layer.1.output.dense.weight; missing pooler.dense.bias; "
        "extra encoder.layer.7.output.dense.weight; embeddings.LayerNorm.weight has shape [5], wanted [16]"
    )


@pytest.mark.torch
def test_the_position_table_of_a_roberta_is_named_with_the_shape_it_has_there() -> None:
    tensors = {"embeddings.position_embeddings.weight": torch.zeros(512, 16)}

    with pytest.raises(CheckpointError, match=r"position_embeddings\.weight has shape \[512, 16\], wanted \[514, 16\]"):
        state_from_tensors(tensors, DENSE, family="roberta", num_labels=3, source="here", first_position=2)


def test_groups_with_another_epsilon_fit_no_configuration() -> None:
    with pytest.raises(CheckpointError, match=r"has groups and layer_norm_eps=1e-05; SqueezeBERT's .* have 1e-12"):
        config_from_architecture(replace(ARCHS["squeezebert"], layer_norm_eps_exponent=5), num_labels=2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model_type": "electra"},
            r"config\.json: model_type='electra' is not supported \(known: bert, roberta, squeezebert\)",
        ),
        ({"hidden_act": "gelu_new"}, r"hidden_act='gelu_new' is not supported, our network has 'gelu'"),
        ({"layer_norm_eps": 2e-5}, r"layer_norm_eps=2e-05 is not supported, our networks have a power of ten"),
        ({"layer_norm_eps": 0}, r"layer_norm_eps=0 is not supported"),
        ({"model_type": "squeezebert", "layer_norm_eps": 1e-5}, r"layer_norm_eps=1e-05 .*, our network has 1e-12"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type='relative_key' is not supported"),
        ({"embedding_size": 8}, "embedding_size=8 is not supported, our network has 16"),
        ({"num_attention_heads": 3}, r"config\.json: num_attention_heads=3 must be a positive divisor"),
        ({"hidden_size": "wide"}, r"config\.json: .*"),
    ],
)
@pytest.mark.torch
def test_a_configuration_we_do_not_compute_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(_write(tmp_path, "bert", **changes))


def test_a_missing_field_of_a_configuration_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert", "hidden_size": 16}')

    with pytest.raises(CheckpointError, match=r"config\.json: field 'num_hidden_layers' is missing"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("content", ["{half", "[1]", "\ud800"])
def test_a_configuration_that_is_no_json_object_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_bytes(content.encode("utf-8", "surrogatepass"))

    with pytest.raises(CheckpointError, match=r"config\.json: (not JSON|a configuration is a JSON object, got list)"):
        read_checkpoint(tmp_path)


def test_a_folder_without_a_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json: no such file; a checkpoint folder holds"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (
            "pytorch_model.bin",
            r"pytorch_model\.bin is a pickle, which can run code; convert it with `python -c \".*\"`",
        ),
        ("model.safetensors.index.json", r"several files are not supported; save them as one model\.safetensors"),
        ("readme.txt", r"model\.safetensors is missing; a checkpoint folder holds"),
    ],
)
@pytest.mark.torch
def test_weights_in_another_form_are_refused_with_the_way_out(tmp_path: Path, file: str, message: str) -> None:
    (_write(tmp_path, "bert") / "model.safetensors").unlink()
    (tmp_path / file).write_bytes(b"\x80\x04.")

    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(tmp_path)


@pytest.mark.torch
def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    (_write(tmp_path, "bert") / "model.safetensors").write_bytes(b"\x80\x04.")

    with pytest.raises(CheckpointError, match=r"model\.safetensors: not a safetensors file \(.*\); download it again"):
        read_checkpoint(tmp_path)


def test_blocks_that_differ_have_no_configuration_on_the_hub() -> None:
    arch = Architecture(hidden_size=16, attention_head_size=4, blocks=(DENSE.blocks[0], ARCHS["squeezebert"].blocks[0]))

    with pytest.raises(CheckpointError, match=rf"architecture {arch.arch_id} has blocks that differ"):
        config_from_architecture(arch, num_labels=2)
