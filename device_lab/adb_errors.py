"""The one place where errors of adb-shell, libusb and the socket become ours.

What a foreign error means depends on what was being done: a time-out while a
dialog waits on the phone is not the time-out of a lost cable. So there are two
translations, one for connecting and one for everything after it.
"""

from __future__ import annotations

from adb_shell import exceptions

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

try:
    import usb1  # type: ignore[import-untyped]

    USB_ERRORS: tuple[type[Exception], ...] = (usb1.USBError,)
except (ImportError, OSError):  # the package is there, the system's libusb is not
    USB_ERRORS = ()

_FROM_ADB_SHELL: tuple[type[Exception], ...] = (
    exceptions.AdbCommandFailureException,
    exceptions.AdbConnectionError,
    exceptions.AdbTimeoutError,
    exceptions.DeviceAuthError,
    exceptions.DevicePathInvalidError,
    exceptions.InvalidChecksumError,
    exceptions.InvalidCommandError,
    exceptions.InvalidResponseError,
    exceptions.InvalidTransportError,
    exceptions.PushFailedError,
    exceptions.TcpTimeoutException,
    exceptions.UsbDeviceNotFoundError,
    exceptions.UsbReadFailedError,
    exceptions.UsbWriteFailedError,
)

FOREIGN_ERRORS: tuple[type[Exception], ...] = (
    *_FROM_ADB_SHELL,
    *USB_ERRORS,
    OSError,
    # adb-shell unpacks what arrives without checking: KeyError for an unknown file-sync word,
    # ValueError for a header of the wrong length.
    KeyError,
    ValueError,
    # Its USB transport asserts that the interface has both endpoints.
    AssertionError,
)
"""Everything adb-shell lets out of a call."""

_STLS = f"Unknown command: {int.from_bytes(b'STLS', 'little')} "


def translate_connect(error: Exception, *, serial: str, dialog_shown: bool) -> DeviceLabError:
    """Return our error for one that ended an attempt to connect.

    Args:
        error: One of `FOREIGN_ERRORS`.
        serial: The serial or address of the device.
        dialog_shown: Whether the phone had been shown a key it did not know.
    """
    if dialog_shown:
        return DeviceUnauthorizedError(serial=serial, seen="nobody accepted this computer's key")
    if isinstance(error, exceptions.DeviceAuthError):
        return DeviceUnauthorizedError(serial=serial, seen="the phone asks for a key and none was given")
    if isinstance(error, exceptions.InvalidCommandError):
        if str(error).startswith(_STLS):
            return WirelessDebuggingError(serial=serial)
        return NotAdbError(serial=serial, seen="what answers does not speak adb")
    if isinstance(error, exceptions.InvalidTransportError):
        return LibusbMissingError(serial=serial)
    if USB_ERRORS and isinstance(error, USB_ERRORS):
        return _translate_usb(error, serial=serial)
    return DeviceUnreachableError(serial=serial, seen=_reason(error))


def translate_lost(error: Exception, *, serial: str, command: str) -> DeviceLabError:
    """Return our error for one that ended something on an open connection.

    Args:
        error: One of `FOREIGN_ERRORS`.
        serial: The serial or address of the device.
        command: What was being done.
    """
    return DeviceLostError(serial=serial, command=command, seen=_reason(error))


def translate_transfer(error: Exception, *, serial: str, path: str, command: str) -> DeviceLabError:
    """Return our error for one that ended a transfer: the device's refusal, or a lost connection."""
    if isinstance(error, (exceptions.PushFailedError, exceptions.AdbCommandFailureException)):
        return TransferError(serial=serial, path=path, seen=_reason(error))
    return translate_lost(error, serial=serial, command=command)


def _translate_usb(error: Exception, *, serial: str) -> DeviceLabError:
    if isinstance(error, usb1.USBErrorBusy):
        return UsbBusyError(serial=serial)
    if isinstance(error, usb1.USBErrorAccess):
        return UsbPermissionError(serial=serial)
    return DeviceUnreachableError(serial=serial, seen=_reason(error))


def _reason(error: Exception) -> str:
    """Return what an error says, on one line, in words a person can use."""
    if isinstance(error, exceptions.TcpTimeoutException | exceptions.AdbTimeoutError):
        return "no answer in time"
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there"
    if isinstance(error, exceptions.InvalidChecksumError):
        return "a packet arrived damaged"
    if isinstance(error, exceptions.PushFailedError):
        return _first_line(bytes(error.args[0]).decode(errors="replace"))
    if isinstance(error, exceptions.AdbCommandFailureException):
        return _first_line(str(error).removeprefix("Command failed: "))
    if isinstance(error, AssertionError):
        return "its USB interface is not one of adb"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return _first_line(str(error)) or type(error).__name__


def _first_line(text: str) -> str:
    return text.partition("\n")[0]
