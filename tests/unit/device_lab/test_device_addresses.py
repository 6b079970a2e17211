from __future__ import annotations

from pathlib import Path

import pytest

from device_lab.addresses import CONFIG_VARIABLE, TcpAddress, configured_addresses
from device_lab.errors import DeviceAddressError


@pytest.mark.parametrize(
    ("text", "host", "port", "shown"),
    [
        ("192.168.1.20:5556", "192.168.1.20", 5556, "192.168.1.20:5556"),
        ("pixel.local", "pixel.local", 5555, "pixel.local:5555"),
        ("[fe80::1]:5555", "fe80::1", 5555, "[fe80::1]:5555"),
    ],
)
def test_an_address_is_read(text: str, host: str, port: int, shown: str) -> None:
    address = TcpAddress.parse(text, source="--device")

    assert (address.host, address.port, str(address)) == (host, port, shown)


@pytest.mark.parametrize("text", ["", ":5555", "a:0", "a:65536", "a:b", "fe80::1", "a b:5555", "host:5555:1"])
def test_an_address_that_is_none_is_named_with_where_it_stands(text: str) -> None:
    with pytest.raises(DeviceAddressError, match=r"^--device: .* is not HOST:PORT$"):
        TcpAddress.parse(text, source="--device")


def test_without_a_file_there_are_no_addresses(tmp_path: Path) -> None:
    assert configured_addresses(home=tmp_path, environment={}) == ()


def test_the_file_in_the_users_folder_is_read(tmp_path: Path) -> None:
    (tmp_path / "pocketbert").mkdir()
    (tmp_path / "pocketbert/devices.toml").write_text('addresses = ["a:1", "b"]\n')

    found = configured_addresses(home=tmp_path / "home", environment={"XDG_CONFIG_HOME": str(tmp_path)})

    assert list(map(str, found)) == ["a:1", "b:5555"]


def test_a_file_the_environment_names_comes_first(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('addresses = ["c:3"]\n')

    found = configured_addresses(home=tmp_path, environment={CONFIG_VARIABLE: str(tmp_path / "mine.toml")})

    assert list(map(str, found)) == ["c:3"]


@pytest.mark.parametrize(
    ("content", "seen"),
    [
        ("addresses = [", "not TOML"),
        ("addresses = 5", "a list of texts, and nothing else"),
        ("addresses = [5]", "a list of texts, and nothing else"),
        ("phones = []", "a list of texts, and nothing else"),
        ('addresses = ["a:b"]', "'a:b' is not HOST:PORT"),
    ],
)
def test_a_file_of_something_else_is_named(tmp_path: Path, content: str, seen: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(content)

    with pytest.raises(DeviceAddressError, match=f"^{path}: .*{seen}"):
        configured_addresses(path, home=tmp_path, environment={})


def test_a_file_somebody_named_must_exist(tmp_path: Path) -> None:
    with pytest.raises(DeviceAddressError, match=r"none\.toml: cannot read it: No such file"):
        configured_addresses(tmp_path / "none.toml", home=tmp_path, environment={})
