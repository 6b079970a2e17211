from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nas.artifacts import ArtifactFolder, pack, unpack
from nas.errors import ArtifactError

TENSORS = {"b": torch.arange(6.0).view(2, 3).T, "a": torch.tensor([1.5])}


def test_weights_come_back_with_their_description(tmp_path: Path) -> None:
    folder = ArtifactFolder(tmp_path)

    sha256 = folder.put_weights(TENSORS, description='{"arch": "é"}')
    tensors, description = folder.get_weights(sha256)

    assert description == '{"arch": "é"}'
    assert set(tensors) == {"a", "b"}
    assert torch.equal(tensors["b"], TENSORS["b"])
    assert [path.name for path in (tmp_path / "weights").iterdir()] == [f"{sha256}.safetensors"]


def test_equal_weights_have_one_name_whatever_their_order(tmp_path: Path) -> None:
    folder = ArtifactFolder(tmp_path)

    assert folder.put_weights(TENSORS, description="x") == folder.put_weights(
        dict(reversed(TENSORS.items())), description="x"
    )
    assert folder.put_weights(TENSORS, description="y") != folder.put_weights(TENSORS, description="x")


def test_changed_weights_are_found_out(tmp_path: Path) -> None:
    folder = ArtifactFolder(tmp_path)
    sha256 = folder.put_weights(TENSORS, description="x")
    folder.weights_file(sha256).write_bytes(pack({"a": torch.zeros(1)}, description="x"))

    with pytest.raises(ArtifactError, match=rf"{sha256}\.safetensors: content has SHA-256 .*; delete the file"):
        folder.get_weights(sha256)


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"abc\.safetensors: no such weights; score their architecture again"):
        ArtifactFolder(tmp_path).get_weights("abc")


def test_bytes_that_are_no_safetensors_are_refused() -> None:
    with pytest.raises(ArtifactError, match=r"here: not a safetensors file \(.*\); delete the file"):
        unpack(b"not tensors at all", source=Path("here"))
