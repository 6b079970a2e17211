from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest
from adb_shell.auth.keygen import encode_pubkey, keygen
from adb_shell.auth.sign_cryptography import CryptographySigner
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, utils

from device_lab.errors import AdbKeyError
from device_lab.keys import AdbKey, decode_public_key, ensure_key, load_keys

TOKEN = bytes(range(20))


@pytest.fixture(scope="module")
def key() -> AdbKey:
    return AdbKey.generate()


def test_a_new_key_is_private_from_its_first_moment(tmp_path: Path) -> None:
    old_umask = os.umask(0)
    try:
        ensure_key(tmp_path / "config" / "adbkey")
    finally:
        os.umask(old_umask)

    path = tmp_path / "config" / "adbkey"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [entry.name for entry in path.parent.iterdir()] == ["adbkey"]


def test_an_existing_key_is_used_and_never_written(tmp_path: Path, key: AdbKey) -> None:
    path = tmp_path / "adbkey"
    path.write_bytes(key.to_pem())
    before = path.stat()

    assert ensure_key(path).GetPublicKey() == key.GetPublicKey()
    assert path.stat() == before


def test_a_file_that_is_no_key_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "adbkey"
    path.write_text("precious")

    with pytest.raises(AdbKeyError, match=r"adbkey: not an adb key: .*; move the file away"):
        ensure_key(path)
    assert path.read_text() == "precious"


def test_of_two_that_make_a_key_at_once_both_get_the_same(tmp_path: Path) -> None:
    found: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: found.append(ensure_key(tmp_path / "adbkey").GetPublicKey())) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 4
    assert len(set(found)) == 1


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")

    with pytest.raises(AdbKeyError, match="cannot write it"):
        ensure_key(tmp_path / "file" / "adbkey")


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "adbkey"
    path.write_bytes(
        ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )

    with pytest.raises(AdbKeyError, match="phones accept RSA keys of 2048 bits only"):
        AdbKey.from_file(path)


def test_keys_a_person_accepted_before_come_first(tmp_path: Path) -> None:
    own, vendor, other = AdbKey.generate(), AdbKey.generate(), AdbKey.generate()
    (tmp_path / ".android").mkdir()
    (tmp_path / ".android" / "adbkey").write_bytes(own.to_pem())
    (tmp_path / "vendor").mkdir()
    (tmp_path / "vendor" / "b.adb_key").write_bytes(vendor.to_pem())
    (tmp_path / "vendor" / "ignored.txt").write_text("no key")
    (tmp_path / "single").write_bytes(other.to_pem())
    listed = os.pathsep.join([str(tmp_path / "vendor"), str(tmp_path / "single"), "", "/no/such/file"])

    keys = load_keys(home=tmp_path, environment={"ADB_VENDOR_KEYS": listed})

    assert [k.GetPublicKey() for k in keys] == [k.GetPublicKey() for k in (own, vendor, other)]
    assert not (tmp_path / ".config").exists()


def test_without_any_key_the_project_makes_one_and_keeps_it(tmp_path: Path) -> None:
    first = load_keys(home=tmp_path, environment={})
    second = load_keys(home=tmp_path, environment={})

    assert (tmp_path / ".config" / "pocketbert" / "adbkey").is_file()
    assert [k.GetPublicKey() for k in first] == [k.GetPublicKey() for k in second]


def test_the_config_folder_may_lie_elsewhere(tmp_path: Path) -> None:
    load_keys(home=tmp_path / "home", environment={"XDG_CONFIG_HOME": str(tmp_path / "xdg")})

    assert (tmp_path / "xdg" / "pocketbert" / "adbkey").is_file()


def test_a_signature_is_the_one_adb_shell_makes(tmp_path: Path, key: AdbKey) -> None:
    keygen(str(tmp_path / "adbkey"))
    ours, theirs = AdbKey.from_file(tmp_path / "adbkey"), CryptographySigner(str(tmp_path / "adbkey"))

    assert ours.Sign(TOKEN) == theirs.Sign(TOKEN)
    assert ours.GetPublicKey().split(b" ")[0] == theirs.GetPublicKey().split(b" ")[0]


def test_a_public_key_survives_androids_form(tmp_path: Path, key: AdbKey) -> None:
    (tmp_path / "adbkey").write_bytes(key.to_pem())
    public = decode_public_key(key.GetPublicKey())

    public.verify(key.Sign(TOKEN), TOKEN, padding.PKCS1v15(), utils.Prehashed(hashes.SHA1()))
    with pytest.raises(InvalidSignature):
        public.verify(key.Sign(TOKEN), TOKEN[::-1], padding.PKCS1v15(), utils.Prehashed(hashes.SHA1()))
    assert len(encode_pubkey(str(tmp_path / "adbkey"))) == 524


@pytest.mark.parametrize("text", [b"", b"AAAA name", b"not base64!"])
def test_what_is_no_public_key_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"Android public key|base64|padding"):
        decode_public_key(text)


def test_a_private_key_has_the_form_of_the_official_adb(key: AdbKey) -> None:
    assert key.to_pem().startswith(b"-----BEGIN PRIVATE KEY-----\n")
