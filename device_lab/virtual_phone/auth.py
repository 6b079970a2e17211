"""Who may use the phone: a real RSA check, and the dialog for a key it does not know."""

from __future__ import annotations

import asyncio
import secrets
from enum import StrEnum
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, utils

from device_lab.keys import decode_public_key
from device_lab.virtual_phone.protocol import (
    AUTH,
    AUTH_PUBLIC_KEY,
    AUTH_SIGNATURE,
    AUTH_TOKEN,
    Packet,
)
from device_lab.virtual_phone.wire import Wire

_TOKEN_BYTES = 20


class Dialog(StrEnum):
    """What becomes of a host whose key the phone does not know."""

    OFF = "off"  # no key is asked for, as on an emulator
    ACCEPT = "accept"  # the dialog is accepted after a while, and the key remembered
    NEVER = "never"  # nobody answers the dialog


class Gatekeeper:
    """Lets hosts in whose key was accepted before, and asks about the others."""

    def __init__(self, *, known_keys: Path, dialog: Dialog, accept_after_s: float) -> None:
        self._known_keys = known_keys
        self._dialog = dialog
        self._accept_after_s = accept_after_s

    async def admit(self, wire: Wire) -> None:
        """Return once the host at the other end of ``wire`` has proved that it may come in.

        Everything but its answers is ignored until then, as adbd does.
        """
        if self._dialog is Dialog.OFF:
            return
        token = await self._challenge(wire)
        while True:
            packet = await wire.read()
            if packet.command != AUTH:
                continue
            if packet.arg0 == AUTH_SIGNATURE:
                if any(_has_signed(key, token, packet.data) for key in self._keys()):
                    return
                token = await self._challenge(wire)
            elif packet.arg0 == AUTH_PUBLIC_KEY and await self._ask(packet.data.rstrip(b"\0")):
                return

    async def _challenge(self, wire: Wire) -> bytes:
        token = secrets.token_bytes(_TOKEN_BYTES)
        await wire.send(Packet(AUTH, AUTH_TOKEN, 0, token))
        return token

    async def _ask(self, key: bytes) -> bool:
        try:
            decode_public_key(key)
        except ValueError:
            return False
        if self._dialog is Dialog.NEVER:
            return False
        await asyncio.sleep(self._accept_after_s)
        self._known_keys.parent.mkdir(parents=True, exist_ok=True)
        with self._known_keys.open("ab") as stream:
            stream.write(key + b"\n")
        return True

    def _keys(self) -> list[bytes]:
        return self._known_keys.read_bytes().splitlines() if self._known_keys.exists() else []


def _has_signed(key: bytes, token: bytes, signature: bytes) -> bool:
    try:
        decode_public_key(key).verify(signature, token, padding.PKCS1v15(), utils.Prehashed(hashes.SHA1()))
    except InvalidSignature:
        return False
    return True
