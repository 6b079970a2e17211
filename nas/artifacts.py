"""The folder of tensors beside a store: trained weights named by their hash, teachers and their statistics."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from device_lab.files import write_atomically
from nas.errors import ArtifactError


class ArtifactFolder:
    """Where tensors are kept, each set whole or not at all, as safetensors.

    A file of trained weights is named by the SHA-256 of its content: the same
    weights are kept once, and a file that was changed is found out. Teachers
    and their statistics are named by what defines them.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def weights_file(self, sha256: str) -> Path:
        """Return the path that holds, or would hold, the weights with this hash."""
        return self.path / "weights" / f"{sha256}.safetensors"

    def teacher_file(self, teacher_id: str) -> Path:
        """Return the path that holds, or would hold, the teacher of this id."""
        return self.path / "teachers" / f"{teacher_id}.safetensors"

    def statistics_file(self, statistics_id: str) -> Path:
        """Return the path that holds, or would hold, the moments of a teacher's hidden states."""
        return self.path / "statistics" / f"{statistics_id}.safetensors"

    def put_weights(self, tensors: Mapping[str, Tensor], *, description: str) -> str:
        """Keep weights and return the hash they are found under.

        Args:
            tensors: Weights by name.
            description: What they are, as JSON; it is part of the file and so of the hash.

        Raises:
            OSError: If the file cannot be written.
        """
        content = pack(tensors, description=description)
        sha256 = hashlib.sha256(content).hexdigest()
        if not self.weights_file(sha256).exists():
            write_atomically(self.weights_file(sha256), content)
        return sha256

    def get_weights(self, sha256: str) -> tuple[dict[str, Tensor], str]:
        """Return the weights kept under ``sha256``, and their description.

        Raises:
            ArtifactError: If there are none, or the file is not what its name says.
        """
        path = self.weights_file(sha256)
        try:
            content = path.read_bytes()
        except FileNotFoundError as error:
            raise ArtifactError(f"{path}: no such weights; score their architecture again") from error
        seen = hashlib.sha256(content).hexdigest()
        if seen != sha256:
            raise ArtifactError(f"{path}: content has SHA-256 {seen[:12]}, not that of its name; delete the file")
        return unpack(content, source=path)


def pack(tensors: Mapping[str, Tensor], *, description: str) -> bytes:
    """Serialise tensors as safetensors; equal tensors and description give equal bytes."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(tensors.items())}
    # One entry only: safetensors writes several in no fixed order, which would change the hash.
    return save(contiguous, metadata={"description": description})


def unpack(content: bytes, *, source: Path) -> tuple[dict[str, Tensor], str]:
    """Read tensors and their description back from `pack`.

    Raises:
        ArtifactError: If ``content``, read from ``source``, is not such a file.
    """
    try:
        tensors = load(content)
        # The package reads metadata from paths only. A file starts with its header's length and the header.
        header_end = 8 + int.from_bytes(content[:8], "little")
        description: str = json.loads(content[8:header_end])["__metadata__"]["description"]
    except SafetensorError as error:
        raise ArtifactError(f"{source}: not a safetensors file ({error}); delete the file") from error
    except KeyError as error:
        raise ArtifactError(f"{source}: safetensors file without our description; delete the file") from error
    return tensors, description
