"""Places that hold artifacts: a folder, or a bucket behind a URL. What is written is there whole or not at all.

Each is an artifact store of Optuna's that can also be listed. The bucket goes
through fsspec, which torch brings along: one class for every object store,
and it can list and date what it holds, which Optuna's own stores cannot.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Protocol
from urllib.parse import SplitResult, urlsplit

from fsspec.core import url_to_fs
from optuna.artifacts.exceptions import ArtifactNotFound

from device_lab.files import atomic_path
from nas.errors import ArtifactError, MissingExtraError
from nas.passwords import hide_passwords

# Object stores, where an upload is seen whole or not at all. A file server shows half a file while it is written.
OBJECT_STORES = ("s3", "gs")
_FORMS = "a folder, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX"
# As much as S3 takes in one request: several would leave parts behind where a process is killed between them.
_S3_UPLOAD = {"chunksize": 5 * 2**29}
_ADVICE = (
    ("credential", "give them in ~/.aws/credentials or in the environment, as for other programs"),
    ("Access Key", "check the credentials in ~/.aws/credentials or in the environment"),
    ("ccess Denied", "let this user read, write and list there"),
    ("Forbidden", "let this user read, write and list there"),
    ("bucket does not exist", "make the bucket, or mend its name"),
)
_CONNECTION_ADVICE = "check the URL, the connection and the credentials; then give the same command again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One artifact where it is kept: its id there, and when it was last written."""

    artifact_id: str
    size_bytes: int
    modified_at: datetime


class ArtifactStore(Protocol):
    """An artifact store of Optuna's that can be listed. An id is a relative path, such as ``weights/NAME``."""

    @property
    def place(self) -> str:
        """Where it is, without passwords."""
        ...

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """Open an artifact.

        Raises:
            ArtifactNotFound: If it is not there.
            OSError: If it cannot be read.
        """
        ...

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Keep an artifact, in place of one of the same id. Readers see the one or the other.

        Raises:
            OSError: If it cannot be written; then nothing of it is kept.
        """
        ...

    def remove(self, artifact_id: str) -> None:
        """Delete an artifact.

        Raises:
            ArtifactNotFound: If it is not there.
            OSError: If it cannot be deleted.
        """
        ...

    def move(self, artifact_id: str, to: str) -> None:
        """Give an artifact another id, in place of what has it. Raises as `remove` does."""
        ...

    def find(self, artifact_id: str) -> Entry | None:
        """Return what is known of an artifact, or ``None`` if it is not there.

        Raises:
            OSError: If that cannot be told.
        """
        ...

    def entries(self, folder: str = "") -> list[Entry]:
        """Return all artifacts, or those whose id begins with a folder, sorted by id.

        Raises:
            OSError: If they cannot be listed.
        """
        ...


class FolderStore:
    """Artifacts in a folder, which several processes, and several machines, may share."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def place(self) -> str:
        """See `ArtifactStore`."""
        return str(self.path)

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """See `ArtifactStore`."""
        with self._found(artifact_id):
            return (self.path / artifact_id).open("rb")

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """See `ArtifactStore`."""
        with atomic_path(self.path / artifact_id) as temporary, temporary.open("wb") as file:
            shutil.copyfileobj(content_body, file)

    def remove(self, artifact_id: str) -> None:
        """See `ArtifactStore`."""
        with self._found(artifact_id):
            (self.path / artifact_id).unlink()

    def move(self, artifact_id: str, to: str) -> None:
        """See `ArtifactStore`."""
        (self.path / to).parent.mkdir(parents=True, exist_ok=True)
        with self._found(artifact_id):
            (self.path / artifact_id).replace(self.path / to)

    def find(self, artifact_id: str) -> Entry | None:
        """See `ArtifactStore`."""
        try:
            status = (self.path / artifact_id).stat()
        except FileNotFoundError:
            return None
        return Entry(
            artifact_id=artifact_id,
            size_bytes=status.st_size,
            modified_at=datetime.fromtimestamp(status.st_mtime, UTC),
        )

    def entries(self, folder: str = "") -> list[Entry]:
        """See `ArtifactStore`."""
        files = (path for path in sorted((self.path / folder).rglob("*")) if path.is_file())
        found = (self.find(path.relative_to(self.path).as_posix()) for path in files)
        return [entry for entry in found if entry is not None]

    @contextmanager
    def _found(self, artifact_id: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise ArtifactNotFound(f"{self.path / artifact_id}: no such artifact") from error


class BucketStore:
    """Artifacts in an object store, through fsspec.

    Args:
        url: One that `open_artifact_store` has checked.

    Raises:
        MissingExtraError: If the driver is not installed.
        OSError: If it cannot be used.
    """

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        protocol = url.partition("://")[0]
        self._options: dict[str, Any] = _S3_UPLOAD if protocol == "s3" else {}
        try:
            self._files, self._root = self._call(url_to_fs, self._url, use_listings_cache=False)
        except ImportError as error:
            raise MissingExtraError(feature=f"artifacts at {protocol}://", extra=protocol) from error

    @property
    def place(self) -> str:
        """See `ArtifactStore`."""
        return hide_passwords(self._url)

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """See `ArtifactStore`. All of it is read at once."""
        return BytesIO(self._call(self._files.cat_file, self._path(artifact_id)))

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """See `ArtifactStore`."""
        try:
            self._call(self._files.pipe_file, self._path(artifact_id), content_body.read(), **self._options)
        except ArtifactNotFound as error:
            raise OSError(self._explain(error.__cause__ or error)) from error

    def remove(self, artifact_id: str) -> None:
        """See `ArtifactStore`. Some object stores do not tell whether it was there."""
        self._call(self._files.rm_file, self._path(artifact_id))

    def move(self, artifact_id: str, to: str) -> None:
        """See `ArtifactStore`."""
        self._call(self._files.mv, self._path(artifact_id), self._path(to))

    def find(self, artifact_id: str) -> Entry | None:
        """See `ArtifactStore`."""
        try:
            found = self._call(self._files.info, self._path(artifact_id))
        except ArtifactNotFound:
            return None
        return None if found["type"] != "file" else self._entry(found)

    def entries(self, folder: str = "") -> list[Entry]:
        """See `ArtifactStore`."""
        try:
            found = self._call(self._files.find, self._path(folder).rstrip("/"), detail=True)
        except ArtifactNotFound:
            return []
        return sorted((self._entry(each) for each in found.values()), key=lambda entry: entry.artifact_id)

    def _entry(self, found: dict[str, Any]) -> Entry:
        modified_at = found.get("LastModified") or found["mtime"]
        return Entry(
            artifact_id=found["name"].removeprefix(f"{self._root}/"),
            size_bytes=int(found["size"]),
            modified_at=modified_at if modified_at.tzinfo else modified_at.replace(tzinfo=UTC),
        )

    def _path(self, artifact_id: str) -> str:
        return f"{self._root}/{artifact_id}"

    def _call(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Call fsspec, and translate what goes wrong.

        Raises:
            ArtifactNotFound: If there is no such artifact.
            OSError: If the store cannot be used.
        """
        try:
            return function(*arguments, **options)
        except FileNotFoundError as error:
            raise ArtifactNotFound(f"{self.place}: no such artifact") from error
        except ImportError:
            raise
        # Each driver has errors of its own, which have no common base.
        except Exception as error:
            raise OSError(self._explain(error)) from error

    def _explain(self, error: BaseException) -> str:
        reason = hide_passwords(" ".join(str(error).split()) or type(error).__name__)
        advice = next((advice for words, advice in _ADVICE if words in reason), _CONNECTION_ADVICE)
        return f"artifacts at {self.place} cannot be used: {reason}; {advice}"


def open_artifact_store(place: str) -> ArtifactStore:
    """Return the store at ``place``: a path, or the URL of a folder or a bucket. Nothing is connected or made yet.

    Raises:
        ArtifactError: If it is neither, or has a password in it.
        MissingExtraError: If its driver is not installed.
    """
    if "://" not in place:
        return FolderStore(Path(place))
    try:
        url = urlsplit(place)
    except ValueError as error:
        raise ArtifactError(f"--artifacts is no URL ({hide_passwords(str(error))}); give {_FORMS}") from error
    if url.scheme == "file":
        return FolderStore(Path(url.path))
    _refuse(url)
    return BucketStore(place)


def read(store: ArtifactStore, artifact_id: str) -> bytes | None:
    """Return the content of an artifact, or ``None`` if it is not there.

    Raises:
        OSError: If it cannot be read.
    """
    try:
        with store.open_reader(artifact_id) as file:
            return file.read()
    except ArtifactNotFound:
        return None


def _refuse(url: SplitResult) -> None:
    """Refuse what is no bucket of an object store. No message repeats more of it than its scheme."""
    if url.scheme not in OBJECT_STORES:
        raise ArtifactError(f"artifacts cannot be kept at {url.scheme}://; give {_FORMS}")
    if "@" in url.netloc + url.path or url.query or url.fragment:
        raise ArtifactError(
            f"--artifacts {url.scheme}://...: user names, passwords and options do not belong there; leave them to "
            "the environment, or to the file other programs take them from"
        )
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]+", url.netloc):
        raise ArtifactError(f"--artifacts {url.scheme}://... names no bucket; give {_FORMS}")
