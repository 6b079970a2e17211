"""Tensors beside a store: trained weights named by their hash, teachers and their statistics by what defines them.

They lie in a folder of this machine. Where several machines work together it
is the cache of a place that all of them share.
"""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path

from optuna.artifacts.exceptions import ArtifactNotFound
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from nas.artifact_stores import ArtifactStore, FolderStore, read
from nas.errors import ArtifactError, DamagedArtifactError, StoreWarning

WEIGHTS, TEACHERS, STATISTICS = "weights", "teachers", "statistics"
QUARANTINE = "quarantine"
USERS = "stores"
SUFFIX, CHECKPOINT_SUFFIX = ".safetensors", ".checkpoint"
# The hash of a file with zeros in the hash's own place, at the beginning of its description.
_SEAL = re.compile(rb'"sha256:([0-9a-f]{64}) ')
# What is left of a hash with one wrong character. Descriptions of older releases begin otherwise.
_BROKEN_SEAL = re.compile(r".{0,40}[0-9a-f]{32}")

Opened = tuple[dict[str, Tensor], str]
"""Tensors by name, and what they are."""


class ArtifactFolder:
    """Where tensors are kept, each set whole or not at all, as safetensors.

    A file of trained weights is named by the SHA-256 of its content: the same
    weights are kept once. Teachers and their statistics are named by what
    defines them, and carry the SHA-256 of their content. What was changed is
    found out, put aside into `QUARANTINE` and fetched again.

    Args:
        path: The folder of this machine.
        shared: Where other machines find what is made here, and this one what they made.
    """

    def __init__(self, path: Path, *, shared: ArtifactStore | None = None) -> None:
        self.path = path
        self.shared = shared
        self._cache = FolderStore(path)

    def weights_file(self, sha256: str) -> Path:
        """Return the path that holds, or would hold, the weights with this hash."""
        return self.path / _weights_id(sha256)

    def teacher_file(self, teacher_id: str) -> Path:
        """Return the path that holds, or would hold, the teacher of this id."""
        return self.path / artifact_id(TEACHERS, teacher_id)

    def put_weights(self, tensors: Mapping[str, Tensor], *, description: str) -> str:
        """Keep weights and return the hash they are found under.

        Args:
            tensors: Weights by name.
            description: What they are, as JSON; it is part of the file and so of the hash.

        Raises:
            OSError: If they cannot be written, here or where they are shared.
        """
        content = pack(tensors, description=description)
        sha256 = hashlib.sha256(content).hexdigest()
        # Where they are known already, too: it makes them young again, and nobody removes what is young.
        for store in self.stores:
            store.write(_weights_id(sha256), BytesIO(content))
        return sha256

    def get_weights(self, sha256: str) -> Opened:
        """Return the weights kept under ``sha256``, and their description.

        Raises:
            ArtifactError: If there are none, or the file is not what its name says.
            OSError: If they cannot be read.
        """

        def check(content: bytes) -> Opened:
            seen = hashlib.sha256(content).hexdigest()
            if seen != sha256:
                raise ArtifactError(f"content has SHA-256 {seen[:12]}, not that of its name")
            return _unpack(content)

        found = self._find(_weights_id(sha256), check)
        if found is None:
            places = " or ".join(store.place for store in self.stores)
            raise ArtifactError(
                f"{sha256}.safetensors: no such weights in {places}; give --artifacts if they are shared elsewhere, "
                "or score their architecture again in another run"
            )
        return found

    def keep(self, kind: str, name: str, tensors: Mapping[str, Tensor], *, description: str) -> Opened:
        """Keep a teacher, or statistics, unless somebody was first, and return what is kept.

        Several may have made it at the same time: all go on with the one that is found afterwards.

        Args:
            kind: `TEACHERS` or `STATISTICS`.
            name: What it is found by.
            tensors: Tensors by name.
            description: What they are.

        Raises:
            OSError: If it cannot be written, here or where it is shared.
        """
        known = artifact_id(kind, name)
        last = self.stores[-1]
        if last.find(known) is None:
            last.write(known, BytesIO(seal(tensors, description=description)))
        if self.shared is not None:
            self.path.joinpath(known).unlink(missing_ok=True)
        found = self.find(kind, name)
        if found is None:
            raise OSError(f"{last.place}/{known}: reads otherwise than it was written; check the disk")
        return found

    def find(self, kind: str, name: str) -> Opened | None:
        """Return what `keep` kept, or ``None`` if it has to be made: it is nowhere, or damaged wherever it is.

        Raises:
            OSError: If it cannot be read.
        """
        known = artifact_id(kind, name)
        try:
            found = self._find(known, unseal)
        except DamagedArtifactError as error:
            _warn(f"{error}; it has to be made anew")
            return None
        if found is not None and self.shared is not None and self.shared.find(known) is None:
            # It was made before anything was shared, or removed there meanwhile.
            content = read(self._cache, known)
            if content is not None:
                self.shared.write(known, BytesIO(content))
        return found

    @property
    def stores(self) -> tuple[ArtifactStore, ...]:
        """Where artifacts are kept: the folder, and the place it is shared at."""
        return (self._cache,) if self.shared is None else (self._cache, self.shared)

    def add_user(self, identity: str) -> None:
        """Note that a store refers to what is kept here: nothing is removed unless that store was read.

        Raises:
            OSError: If it cannot be written, here or where it is shared.
        """
        for store in self.stores:
            store.write(user_id(identity), BytesIO(identity.encode()))

    def users(self) -> list[str]:
        """Return the stores that refer to what is kept here, as `add_user` was told them.

        Raises:
            OSError: If they cannot be read.
        """
        marks = ((store, each.artifact_id) for store in self.stores for each in store.entries(USERS))
        found = {read(store, mark) for store, mark in marks}
        return sorted(content.decode(errors="replace") for content in found if content)

    def _find(self, known: str, check: Callable[[bytes], Opened]) -> Opened | None:
        """Return what is here or where it is shared; ``check`` raises where it is damaged.

        Raises:
            DamagedArtifactError: If all there is was damaged.
        """
        content, fault = read(self._cache, known), ""
        if content is not None:
            try:
                return check(content)
            except ArtifactError as error:
                fault = self._put_aside(self._cache, known, error)
        if self.shared is None:
            if fault:
                raise DamagedArtifactError(fault)
            return None
        return self._fetch(self.shared, known, check, fault)

    def _fetch(self, shared: ArtifactStore, known: str, check: Callable[[bytes], Opened], fault: str) -> Opened | None:
        if fault:
            _warn(f"{fault}; fetching it anew")
        # What is wrong once may be the connection; what is wrong twice lies there.
        for is_last in (False, True):
            content = read(shared, known)
            if content is None:
                if fault:
                    raise DamagedArtifactError(f"{fault}; {shared.place} has none")
                return None
            try:
                opened = check(content)
            except ArtifactError as error:
                if is_last:
                    raise DamagedArtifactError(self._put_aside(shared, known, error)) from error
                continue
            self._cache.write(known, BytesIO(content))
            return opened
        return None

    def _put_aside(self, store: ArtifactStore, known: str, error: ArtifactError) -> str:
        """Move what is damaged out of the way and say so; where it may not be moved, it stays."""
        aside = f"{QUARANTINE}/{known}"
        try:
            store.move(known, aside)
        except ArtifactNotFound:
            return f"{store.place}/{known}: {error}; another process moved it to {aside}"
        except OSError as reason:
            return f"{store.place}/{known}: {error}; it cannot be moved aside ({reason})"
        return f"{store.place}/{known}: {error}; moved to {aside}"


def artifact_id(kind: str, name: str) -> str:
    """Return what an artifact is called in every store."""
    return f"{kind}/{name}{SUFFIX}"


def user_id(identity: str) -> str:
    """Return what the mark of a store is called in every store of artifacts."""
    return f"{USERS}/{hashlib.sha256(identity.encode()).hexdigest()[:16]}.txt"


def pack(tensors: Mapping[str, Tensor], *, description: str) -> bytes:
    """Serialise tensors as safetensors; equal tensors and description give equal bytes."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(tensors.items())}
    # One entry only: safetensors writes several in no fixed order, which would change the hash.
    return save(contiguous, metadata={"description": description})


def unpack(content: bytes, *, source: Path) -> Opened:
    """Read tensors and their description back from `pack`.

    Raises:
        ArtifactError: If ``content``, read from ``source``, is not such a file.
    """
    try:
        return _unpack(content)
    except ArtifactError as error:
        raise ArtifactError(f"{source}: {error}; delete the file") from error


def seal(tensors: Mapping[str, Tensor], *, description: str) -> bytes:
    """Serialise tensors as `pack` does, with the SHA-256 of the whole file before the description."""
    zeros = "0" * 64
    blank = pack(tensors, description=f"sha256:{zeros} {description}")
    return blank.replace(zeros.encode(), hashlib.sha256(blank).hexdigest().encode(), 1)


def unseal(content: bytes) -> Opened:
    """Read tensors and their description back from `seal`, or from `pack`: older files have no hash.

    Raises:
        ArtifactError: If ``content`` is no such file, or not the one that was written.
    """
    header_end = 8 + int.from_bytes(content[:8], "little")
    mark = _SEAL.search(content, 8, header_end)
    if mark is not None:
        blank = content[: mark.start(1)] + b"0" * 64 + content[mark.end(1) :]
        if hashlib.sha256(blank).hexdigest().encode() != mark[1]:
            raise ArtifactError("content has not the SHA-256 it was written with")
    tensors, description = _unpack(content)
    if mark is None and _BROKEN_SEAL.match(description):
        raise ArtifactError("content has lost the SHA-256 it was written with")
    return tensors, description if mark is None else description.partition(" ")[2]


def _unpack(content: bytes) -> Opened:
    try:
        tensors = load(content)
        # The package reads metadata from paths only. A file starts with its header's length and the header.
        header_end = 8 + int.from_bytes(content[:8], "little")
        description: str = json.loads(content[8:header_end])["__metadata__"]["description"]
    except SafetensorError as error:
        raise ArtifactError(f"not a safetensors file ({error})") from error
    except KeyError as error:
        raise ArtifactError("safetensors file without our description") from error
    return tensors, description


def _weights_id(sha256: str) -> str:
    return artifact_id(WEIGHTS, sha256)


def _warn(message: str) -> None:
    warnings.warn(message, StoreWarning, stacklevel=4)
