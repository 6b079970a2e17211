"""How a virtual phone is to be."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Self

from device_lab.virtual_phone.auth import Dialog

ABIS = ("x86_64", "arm64-v8a")


@dataclass(frozen=True, slots=True, kw_only=True)
class PhoneOptions:
    """A virtual phone before it starts.

    ``abi`` is ``x86_64`` (programs run natively) or ``arm64-v8a`` (through qemu).
    ``port`` 0 takes a free one. ``known_keys`` are public keys, in Android's form,
    that need no dialog: with ``Dialog.NEVER`` nobody else on this machine gets in,
    where ``Dialog.OFF`` lets every local user run commands as the one who started
    the phone. ``data_bytes`` makes /data a file system of that
    size, for a phone that can really be full; ``None`` leaves it as large as the host's.
    """

    serial: str = "VIRTUAL0"
    abi: str = "x86_64"
    port: int = 0
    dialog: Dialog = Dialog.OFF
    accept_after_s: float = 0.0
    known_keys: tuple[str, ...] = ()
    data_bytes: int | None = None

    def to_json(self) -> str:
        """Return the options as one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote."""
        fields = json.loads(text)
        return cls(**{**fields, "dialog": Dialog(fields["dialog"]), "known_keys": tuple(fields["known_keys"])})
