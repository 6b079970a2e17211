from __future__ import annotations

import errno
import inspect
import re

import adb_shell.exceptions as foreign
import pytest

from device_lab.adb_errors import FOREIGN_ERRORS, USB_ERRORS, translate_connect, translate_lost, translate_transfer
from device_lab.errors import (
    DeviceLabError,
    DeviceLostError,
    DeviceUnauthorizedError,
    DeviceUnreachableError,
    LibusbMissingError,
    NotAdbError,
    TransferError,
    UsbBusyError,
    UsbPermissionError,
    WirelessDebuggingError,
)

SILENCE = foreign.TcpTimeoutException("Reading from 127.0.0.1:5555 timed out (10.0 seconds)")
EOF = ConnectionResetError("the device closed the connection")

CONNECTING: dict[str, tuple[Exception, bool, type[DeviceLabError], str]] = {
    "nothing listening": (
        ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"),
        False,
        DeviceUnreachableError,
        "cannot connect: nothing listens there; check the cable or the address",
    ),
    "no route": (
        OSError(errno.EHOSTUNREACH, "No route to host"),
        False,
        DeviceUnreachableError,
        "no route to host; check the cable or the address",
    ),
    "accepts and says nothing": (SILENCE, False, DeviceUnreachableError, "no answer in time; check the cable"),
    "closes in the handshake": (EOF, False, DeviceUnreachableError, "the device closed the connection; check"),
    "speaks something else": (
        foreign.InvalidCommandError("Unknown command: 759452499 = 'b'SSH-'' (arg0 = 1, arg1 = 2, msg = '')"),
        False,
        NotAdbError,
        "does not speak adb; check the port",
    ),
    "wireless debugging": (
        foreign.InvalidCommandError("Unknown command: 1397511251 = 'b'STLS'' (arg0 = 1, arg1 = 0, msg = '')"),
        False,
        WirelessDebuggingError,
        "wireless-debugging port .*; use USB, or run `adb tcpip 5555` once",
    ),
    "key wanted, none given": (
        foreign.DeviceAuthError("Device authentication required, no keys available."),
        False,
        DeviceUnauthorizedError,
        "accept the dialog `Allow USB debugging\\?`",
    ),
    "dialog unanswered": (
        SILENCE,
        True,
        DeviceUnauthorizedError,
        "nobody accepted this computer's key; unlock the phone, accept the dialog",
    ),
    "closes while the dialog waits": (EOF, True, DeviceUnauthorizedError, "accept the dialog"),
    "damaged packet": (
        foreign.InvalidChecksumError("Received checksum 1 != 2"),
        False,
        DeviceUnreachableError,
        "a packet arrived damaged",
    ),
    "no USB device": (
        foreign.UsbDeviceNotFoundError("No device available, or it is in the wrong configuration."),
        False,
        DeviceUnreachableError,
        "No device available",
    ),
    "libusb missing": (
        foreign.InvalidTransportError("To enable USB support you must install this package via pip"),
        False,
        LibusbMissingError,
        "libusb-1.0 is not installed; run `apt-get install libusb-1.0-0`",
    ),
    "odd USB interface": (AssertionError(), False, DeviceUnreachableError, "its USB interface is not one of adb"),
}

LOST: dict[str, tuple[Exception, str]] = {
    "used before connect": (foreign.AdbConnectionError("not established"), "not established"),
    "daemon died": (BrokenPipeError(errno.EPIPE, "Broken pipe"), "broken pipe"),
    "daemon closed": (EOF, "the device closed the connection"),
    "hang": (SILENCE, "no answer in time"),
    "too slow": (foreign.AdbTimeoutError("The command did not complete within 5 seconds"), "no answer in time"),
    "damaged packet": (foreign.InvalidChecksumError("Received checksum 1 != 2"), "a packet arrived damaged"),
    "odd answer": (foreign.InvalidResponseError("Expected one of X, got Y"), "Expected one of X, got Y"),
    "odd word": (KeyError(1234), "1234"),
    "USB read failed": (foreign.UsbReadFailedError("Could not receive data", None), "Could not receive data: None"),
}


def test_no_exception_of_adb_shell_slips_by() -> None:
    raised = {
        error
        for _, error in inspect.getmembers(foreign, inspect.isclass)
        if issubclass(error, Exception) and error.__module__ == foreign.__name__
    }

    assert len(raised) >= 14
    assert raised <= set(FOREIGN_ERRORS)


@pytest.mark.parametrize("error", FOREIGN_ERRORS)
def test_every_foreign_error_becomes_ours_in_one_line(error: type[Exception]) -> None:
    seen = _instance(error)

    for ours in (
        translate_connect(seen, serial="8A3X1", dialog_shown=False),
        translate_lost(seen, serial="8A3X1", command="ls"),
        translate_transfer(seen, serial="8A3X1", path="/data/x", command="push x"),
    ):
        assert isinstance(ours, DeviceLabError)
        assert str(ours).startswith("8A3X1: ")
        assert "\n" not in str(ours)


@pytest.mark.parametrize("situation", CONNECTING)
def test_a_failed_connection_says_what_to_do(situation: str) -> None:
    error, dialog_shown, expected, message = CONNECTING[situation]

    ours = translate_connect(error, serial="8A3X1", dialog_shown=dialog_shown)

    assert type(ours) is expected
    assert re.search(message, str(ours))


@pytest.mark.parametrize("situation", LOST)
def test_a_lost_device_is_named_with_what_it_was_doing(situation: str) -> None:
    error, message = LOST[situation]

    ours = translate_lost(error, serial="8A3X1", command="bench")

    assert type(ours) is DeviceLostError
    assert str(ours) == f"8A3X1: lost the device while running `bench`: {message}; check the cable and try again"


def test_a_refused_push_carries_the_reason_of_the_device() -> None:
    error = foreign.PushFailedError(bytearray(b"couldn't create file: Is a directory"))

    ours = translate_transfer(error, serial="8A3X1", path="/data/x", command="push x")

    assert type(ours) is TransferError
    assert str(ours) == "8A3X1: /data/x: couldn't create file: Is a directory"


def test_a_refused_pull_carries_the_reason_of_the_device() -> None:
    error = foreign.AdbCommandFailureException("Command failed: open failed: No such file or directory")

    ours = translate_transfer(error, serial="8A3X1", path="/data/x", command="pull x")

    assert type(ours) is TransferError
    assert str(ours) == "8A3X1: /data/x: open failed: No such file or directory"


@pytest.mark.skipif(not USB_ERRORS, reason="libusb-1.0 is not installed")
def test_a_usb_interface_in_use_names_the_adb_server() -> None:
    usb1 = pytest.importorskip("usb1")

    busy = translate_connect(usb1.USBErrorBusy(), serial="8A3X1", dialog_shown=False)
    denied = translate_connect(usb1.USBErrorAccess(), serial="8A3X1", dialog_shown=False)
    gone = translate_connect(usb1.USBErrorNoDevice(), serial="8A3X1", dialog_shown=False)

    assert type(busy) is UsbBusyError
    assert "run `adb kill-server`" in str(busy)
    assert type(denied) is UsbPermissionError
    assert "udev rules" in str(denied)
    assert type(gone) is DeviceUnreachableError


def _instance(error: type[Exception]) -> Exception:
    arguments: tuple[object, ...] = ("first\nsecond",)
    if error is foreign.UsbReadFailedError:
        arguments = ("Could not receive data", None)
    elif error is foreign.PushFailedError:
        arguments = (bytearray(b"no"),)
    elif USB_ERRORS and issubclass(error, USB_ERRORS):
        arguments = ()
    return error(*arguments)
