"""Files that appear whole or not at all, and a folder of weights named by their hash."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from nas.errors import ArtifactError


def write_atomically(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` so that no reader and no crash ever sees a part of it.

    Raises:
        OSError: If the disk is full or the folder cannot be written; nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        # Ctrl-C included: half a file must not stay.
        temporary.unlink(missing_ok=True)
        raise


class WeightsFolder:
    """Trained weights as safetensors files, each named by the SHA-256 of its content.

    The same weights are kept once, and a file that was changed is found out.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def put(self, tensors: Mapping[str, Tensor], *, description: str) -> str:
        """Keep tensors and return the hash they are found under.

        Args:
            tensors: Tensors by name.
            description: What they are, as JSON; it is part of the file and so of the hash.

        Raises:
            OSError: If the file cannot be written.
        """
        content = pack(tensors, description=description)
        sha256 = hashlib.sha256(content).hexdigest()
        if not self.file(sha256).exists():
            write_atomically(self.file(sha256), content)
        return sha256

    def get(self, sha256: str) -> tuple[dict[str, Tensor], str]:
        """Return the tensors kept under ``sha256``, and their description.

        Raises:
            ArtifactError: If there are none, or the file is not what its name says.
        """
        path = self.file(sha256)
        try:
            content = path.read_bytes()
        except FileNotFoundError as error:
            raise ArtifactError(f"{path}: no weights with this hash; score the architecture again") from error
        seen = hashlib.sha256(content).hexdigest()
        if seen != sha256:
            raise ArtifactError(f"{path}: content has SHA-256 {seen[:12]}, not that of its name; delete the file")
        return unpack(content, source=path)

    def file(self, sha256: str) -> Path:
        """Return the path of the file that holds, or would hold, the weights with this hash."""
        return self.path / f"{sha256}.safetensors"


def pack(tensors: Mapping[str, Tensor], *, description: str) -> bytes:
    """Serialise tensors as safetensors; equal tensors and description give equal bytes."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(tensors.items())}
    # One entry only: safetensors writes several in no fixed order, which would change the hash.
    return save(contiguous, metadata={"description": description})


def unpack(content: bytes, *, source: Path) -> tuple[dict[str, Tensor], str]:
    """Read tensors and their description back from `pack`.

    Raises:
        ArtifactError: If ``content``, read from ``source``, is not a safetensors file.
    """
    try:
        tensors = load(content)
        # The package reads metadata from paths only. The file starts with its header's length and the header.
        header_end = 8 + int.from_bytes(content[:8], "little")
        description: str = json.loads(content[8:header_end])["__metadata__"]["description"]
    except SafetensorError as error:
        raise ArtifactError(f"{source}: not a safetensors file ({error}); delete the file") from error
    except KeyError as error:
        raise ArtifactError(f"{source}: safetensors file without our description; delete the file") from error
    return tensors, description
