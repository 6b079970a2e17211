from __future__ import annotations

import pytest

from device_lab.virtual_phone.faults import Fault, FaultBoard, Kind, Stage
from device_lab.virtual_phone.protocol import HEADER, Packet, ProtocolError, checksum, decode_header

# OPEN of the shell by stream 1, counted by hand: "shell:\0" sums to 0x73+0x68+0x65+0x6c+0x6c+0x3a = 0x252.
OPEN_SHELL = bytes.fromhex("4f50454e 01000000 00000000 07000000 52020000 b0afbab1 7368656c6c3a00")


def test_a_packet_has_the_bytes_of_the_protocol() -> None:
    assert Packet(b"OPEN", 1, 0, b"shell:\0").encode() == OPEN_SHELL


def test_a_header_is_read_back() -> None:
    header = decode_header(OPEN_SHELL[: HEADER.size], max_length=7)

    assert (header.command, header.arg0, header.arg1, header.length, header.checksum) == (b"OPEN", 1, 0, 7, 0x252)


def test_a_wrong_magic_is_refused() -> None:
    damaged = OPEN_SHELL[:20] + b"\0\0\0\0"

    with pytest.raises(ProtocolError, match="magic 0x0 does not belong to command b'OPEN'"):
        decode_header(damaged, max_length=4096)


def test_a_payload_longer_than_agreed_is_refused() -> None:
    with pytest.raises(ProtocolError, match="payload of 7 bytes, at most 6"):
        decode_header(OPEN_SHELL[: HEADER.size], max_length=6)


@pytest.mark.parametrize("length", [0, 1, 255, 256, 257, 70_001])
def test_a_checksum_is_the_sum_of_the_bytes(length: int) -> None:
    data = b"\xff" * length

    assert checksum(data) == 255 * length


def test_a_fault_strikes_as_often_as_ordered_and_at_its_stage_only() -> None:
    board = FaultBoard()
    fault = Fault(kind=Kind.CLOSE, stage=Stage.PUSH, after_bytes=5, times=2)
    board.add(fault)

    assert board.take(Stage.PULL) is None
    assert [board.take(Stage.PUSH) for _ in range(3)] == [fault, fault, None]


def test_a_refusal_waits_for_the_service_to_be_opened() -> None:
    board = FaultBoard()
    board.add(Fault(kind=Kind.REFUSE, stage=Stage.SHELL))

    assert board.take(Stage.SHELL) is None
    assert board.take(Stage.SHELL, refusal=True) is not None


def test_cleared_faults_do_not_strike() -> None:
    board = FaultBoard()
    board.add(Fault(kind=Kind.CLOSE, stage=Stage.PUSH))
    board.clear()

    assert board.take(Stage.PUSH) is None
