"""The RSA keys by which a phone recognises this computer.

A key a person already accepted on the phone is used first: ``~/.android/adbkey``
of the official adb, then the files ``ADB_VENDOR_KEYS`` names. Only where there is
none is a key of the project made, once; nothing here ever writes over a file.
"""

from __future__ import annotations

import base64
import contextlib
import os
import secrets
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa, utils

from device_lab.errors import AdbKeyError

KEY_BITS = 2048
_WORDS = KEY_BITS // 32
# Android's RSAPublicKey: words, -1/n mod 2^32, n and R^2 mod n as little-endian words, exponent.
_PUBLIC_KEY = struct.Struct(f"<II{KEY_BITS // 8}s{KEY_BITS // 8}sI")


class AdbKey:
    """A private key that answers a phone's challenge. A signer, as ``adb-shell`` calls it."""

    def __init__(self, private_key: rsa.RSAPrivateKey) -> None:
        self._private_key = private_key

    @classmethod
    def generate(cls) -> Self:
        """Return a new random key."""
        return cls(rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS))

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Read the private key in a PEM file, as the official adb writes it.

        Raises:
            AdbKeyError: If the file cannot be read or holds no RSA key of 2048 bits.
        """
        try:
            private_key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        except (OSError, TypeError, ValueError, UnsupportedAlgorithm) as error:
            raise AdbKeyError(path=str(path), seen=str(error).partition("\n")[0]) from error
        if not isinstance(private_key, rsa.RSAPrivateKey) or private_key.key_size != KEY_BITS:
            raise AdbKeyError(path=str(path), seen=f"phones accept RSA keys of {KEY_BITS} bits only")
        return cls(private_key)

    def to_pem(self) -> bytes:
        """Return the private key in the form the official adb reads."""
        return self._private_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def Sign(self, data: bytes) -> bytes:  # noqa: N802 - the name adb-shell calls
        """Return the signature of a phone's 20-byte token."""
        return self._private_key.sign(data, padding.PKCS1v15(), utils.Prehashed(hashes.SHA1()))

    def GetPublicKey(self) -> bytes:  # noqa: N802 - the name adb-shell calls
        """Return the public key in Android's form, with a name for the dialog on the phone."""
        return encode_public_key(self._private_key.public_key()) + b" pocketbert@" + os.uname().nodename.encode()


def encode_public_key(key: rsa.RSAPublicKey) -> bytes:
    """Return a public key in Android's binary form, base64-encoded."""
    numbers = key.public_numbers()
    word = 1 << 32
    packed = _PUBLIC_KEY.pack(
        _WORDS,
        word - pow(numbers.n, -1, word),
        numbers.n.to_bytes(KEY_BITS // 8, "little"),
        pow(1 << KEY_BITS, 2, numbers.n).to_bytes(KEY_BITS // 8, "little"),
        numbers.e,
    )
    return base64.b64encode(packed)


def decode_public_key(text: bytes) -> rsa.RSAPublicKey:
    """Read a public key in Android's form; whatever follows the first space is its name.

    Raises:
        ValueError: If the text is not such a key.
    """
    try:
        words, _, modulus, _, exponent = _PUBLIC_KEY.unpack(base64.b64decode(text.split(b" ")[0], validate=True))
    except struct.error as error:
        raise ValueError(f"an Android public key has {_PUBLIC_KEY.size} bytes") from error
    if words != _WORDS:
        raise ValueError(f"an Android public key has {_WORDS} words, this one {words}")
    return rsa.RSAPublicNumbers(exponent, int.from_bytes(modulus, "little")).public_key()


def load_keys(*, home: Path, environment: Mapping[str, str]) -> tuple[AdbKey, ...]:
    """Return the keys to offer a phone, those a person may have accepted already first.

    Args:
        home: The user's home folder.
        environment: Where ``ADB_VENDOR_KEYS`` and ``XDG_CONFIG_HOME`` are looked up.

    Raises:
        AdbKeyError: If a file that should hold a key does not.
    """
    paths = [path for path in (home / ".android" / "adbkey", *_vendor_paths(environment)) if path.exists()]
    if not paths:
        config = Path(environment.get("XDG_CONFIG_HOME") or home / ".config")
        return (ensure_key(config / "pocketbert" / "adbkey"),)
    return tuple(AdbKey.from_file(path) for path in paths)


def ensure_key(path: Path) -> AdbKey:
    """Return the key at ``path``, made there first if the file does not exist.

    The file appears whole and with mode 0600, or not at all. Of two processes
    that make it at once, both return the key of the first.

    Raises:
        AdbKeyError: If the file exists and holds no key, or cannot be written.
    """
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            _write_new(path, AdbKey.generate().to_pem())
        except OSError as error:
            raise AdbKeyError(path=str(path), seen=f"cannot write it: {error.strerror}") from error
    return AdbKey.from_file(path)


def _write_new(path: Path, content: bytes) -> None:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    # The mode is given to open itself: a chmod afterwards would leave a moment in which others can read.
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        # Unlike a rename, a link fails where a file already stands.
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(draft)
    finally:
        draft.unlink()


def _vendor_paths(environment: Mapping[str, str]) -> list[Path]:
    paths: list[Path] = []
    for entry in environment.get("ADB_VENDOR_KEYS", "").split(os.pathsep):
        path = Path(entry)
        if entry and path.is_dir():
            paths.extend(sorted(path.glob("*.adb_key")))
        elif entry:
            paths.append(path)
    return paths
