"""Errors a caller of ``device_lab`` may want to catch.

DeviceLabError
├── DeviceNotFoundError        no device with that serial answers
├── DeviceNotNamedError        several devices answer, or none, and none was named
├── DeviceAddressError         an address, or the file that lists them, cannot be read
├── DeviceBusyError            somebody else holds the device
├── DeviceUnfitError           its battery, heat or screen forbid timing on it now
├── DeviceUnreachableError     nothing answers there
│   ├── NotAdbError            something answers that is not adb
│   │   └── WirelessDebuggingError  it is Android's TLS port, which adb-shell does not speak
│   ├── UsbBusyError           another program holds the USB interface
│   ├── UsbPermissionError     this user may not open the USB device
│   └── LibusbMissingError     the system's libusb is not installed
├── DeviceUnauthorizedError    the phone does not accept this computer's key
├── DeviceLostError            the connection dropped or fell silent in the middle of something
├── CommandTimeoutError        a command on the device ran longer than it may
├── RemoteCommandError         a command on the device exited with a non-zero status
├── TransferError              a file did not arrive whole
│   └── DeviceFullError        the device has no space for it
├── AdbKeyError                a file that should hold an adb key does not
├── UnknownRuntimeError        no runtime of that name
├── RuntimeMissingError        the runtime's package is not installed
├── RunnerFailedError          the runner exited with an error
│   ├── OutOfMemoryError       it was killed for memory
│   └── RunnerTimeoutError     it was stopped because it took too long
├── RunnerBuildError           the compiled runner or its bundle cannot be built
├── RunnerOutputError          the runner printed something that is not its contract
├── ThreadCountError           the runner did not use the number of threads asked for
├── ModelMismatchError         candidate and reference cannot be compared
├── DeviceNotQualifiedError    the device cannot tell the reference from itself
├── TooFewBlocksError          there are too few blocks for an interval
└── WrongOutputError           the model's answer differs from torch's: a wrong answer is never a latency
"""

from __future__ import annotations

from collections.abc import Iterable


class DeviceLabError(Exception):
    """Base class of every error raised by ``device_lab``."""


class DeviceNotFoundError(DeviceLabError):
    """No device with that serial answers."""

    def __init__(self, *, serial: str, attached: Iterable[str]) -> None:
        found = ", ".join(sorted(attached)) or "none"
        super().__init__(f"no device with serial {serial!r} (attached: {found}); run `nas devices`")
        self.serial = serial


class DeviceNotNamedError(DeviceLabError):
    """No device was named, and there is not exactly one to take."""

    def __init__(self, *, attached: Iterable[str]) -> None:
        found = ", ".join(sorted(attached))
        advice = f"name one of {found} with `--device`" if found else "attach one, or give `--device HOST:PORT`"
        super().__init__(f"not exactly one phone is ready; {advice}, and see `nas devices`")


class DeviceAddressError(DeviceLabError):
    """An address of a device, or the file that lists them, cannot be read."""

    def __init__(self, *, source: str, seen: str) -> None:
        super().__init__(f"{source}: {seen}")
        self.source = source


class DeviceBusyError(DeviceLabError):
    """Somebody else holds the device; ``host``, ``process_id`` and ``since`` are ``"?"`` where unknown."""

    def __init__(self, *, serial: str, host: str, process_id: str, since: str) -> None:
        super().__init__(
            f"{serial}: held by process {process_id} on {host} since {since}; wait until it has finished, or end it"
        )
        self.serial = serial
        self.host = host
        self.process_id = process_id
        self.since = since


class DeviceUnfitError(DeviceLabError):
    """What is in force on a device forbids timing on it now."""

    def __init__(self, *, serial: str, reasons: Iterable[str]) -> None:
        super().__init__(f"{serial}: {'; '.join(reasons)}")
        self.serial = serial


class DeviceUnreachableError(DeviceLabError):
    """Nothing answers at an address, or on USB under a serial."""

    def __init__(self, *, serial: str, seen: str, advice: str = "check the cable or the address") -> None:
        super().__init__(f"{serial}: cannot connect: {seen}; {advice}")
        self.serial = serial


class NotAdbError(DeviceUnreachableError):
    """Something answers at that address, but it does not speak adb."""

    def __init__(
        self, *, serial: str, seen: str, advice: str = "check the port (adb over TCP is usually 5555)"
    ) -> None:
        super().__init__(serial=serial, seen=seen, advice=advice)


class WirelessDebuggingError(NotAdbError):
    """The port belongs to Android's wireless debugging, which speaks TLS."""

    def __init__(self, *, serial: str) -> None:
        super().__init__(
            serial=serial,
            seen="this is a wireless-debugging port (TLS), which is not supported",
            advice="use USB, or run `adb tcpip 5555` once over USB and connect to port 5555",
        )


class UsbBusyError(DeviceUnreachableError):
    """Another program holds the USB interface, most often an adb server."""

    def __init__(self, *, serial: str) -> None:
        super().__init__(
            serial=serial, seen="another program, most often an adb server, holds it", advice="run `adb kill-server`"
        )


class UsbPermissionError(DeviceUnreachableError):
    """This user may not open the USB device."""

    def __init__(self, *, serial: str) -> None:
        super().__init__(
            serial=serial,
            seen="no permission to open the USB device",
            advice="install Android's udev rules (`apt-get install android-sdk-platform-tools-common`) and replug it",
        )


class LibusbMissingError(DeviceUnreachableError):
    """The system's libusb-1.0 is not installed."""

    def __init__(self, *, serial: str) -> None:
        super().__init__(
            serial=serial,
            seen="libusb-1.0 is not installed",
            advice="run `apt-get install libusb-1.0-0`, or connect over TCP",
        )


class DeviceUnauthorizedError(DeviceLabError):
    """The phone asks for a key, and does not accept the one it was shown."""

    def __init__(self, *, serial: str, seen: str) -> None:
        super().__init__(
            f"{serial}: {seen}; unlock the phone, accept the dialog `Allow USB debugging?` on its screen and try again"
        )
        self.serial = serial


class DeviceLostError(DeviceLabError):
    """The connection dropped, or the device fell silent, in the middle of a command."""

    def __init__(self, *, serial: str, command: str, seen: str = "the connection dropped") -> None:
        super().__init__(f"{serial}: lost the device while running `{command}`: {seen}; check the cable and try again")
        self.serial = serial
        self.command = command


class CommandTimeoutError(DeviceLabError):
    """A command on the device ran longer than it may, and was killed."""

    def __init__(self, *, serial: str, command: str, timeout_s: float) -> None:
        super().__init__(f"{serial}: `{command}` was killed after its limit of {timeout_s:g} s")
        self.serial = serial
        self.command = command
        self.timeout_s = timeout_s


class RemoteCommandError(DeviceLabError):
    """A command on the device exited with a non-zero status."""

    def __init__(self, *, serial: str, command: str, exit_status: int, stdout: bytes, stderr: bytes) -> None:
        text = (stderr.strip() or stdout.strip()).decode(errors="replace")
        last_line = text.splitlines()[-1] if text else "no output"
        super().__init__(f"{serial}: `{command}` exited with {exit_status}: {last_line}")
        self.serial = serial
        self.command = command
        self.exit_status = exit_status
        self.stdout = stdout
        self.stderr = stderr


class TransferError(DeviceLabError):
    """A file did not arrive whole; nothing stands under its final name."""

    def __init__(self, *, serial: str, path: str, seen: str) -> None:
        super().__init__(f"{serial}: {path}: {seen}")
        self.serial = serial
        self.path = path


class DeviceFullError(TransferError):
    """The device has no space for a file."""

    def __init__(self, *, serial: str, path: str, needed_bytes: int, free_bytes: int | None) -> None:
        free = "ran out of space" if free_bytes is None else f"has {free_bytes} free"
        super().__init__(
            serial=serial,
            path=path,
            seen=f"needs {needed_bytes} bytes and the device {free}; delete files on the device",
        )
        self.needed_bytes = needed_bytes
        self.free_bytes = free_bytes


class AdbKeyError(DeviceLabError):
    """A file that should hold an adb key does not."""

    def __init__(self, *, path: str, seen: str) -> None:
        super().__init__(f"{path}: not an adb key: {seen}; move the file away to have a new key made")
        self.path = path


class UnknownRuntimeError(DeviceLabError):
    """No runtime has that name."""

    def __init__(self, *, name: str, known: Iterable[str]) -> None:
        super().__init__(f"unknown runtime {name!r} (known: {', '.join(known)})")
        self.name = name


class RuntimeMissingError(DeviceLabError):
    """The package of a runtime is not installed."""


class RunnerFailedError(DeviceLabError):
    """The runner exited with an error."""


class OutOfMemoryError(RunnerFailedError):
    """The runner was killed for memory."""


class RunnerTimeoutError(RunnerFailedError):
    """The runner was stopped because it took too long."""


class ThreadCountError(DeviceLabError):
    """The runner did not use the number of threads it was asked for."""

    def __init__(self, *, asked: int, used: int) -> None:
        super().__init__(f"num_threads={asked} was asked for, the runner used {used}; a latency belongs to its threads")
        self.asked = asked
        self.used = used


class ModelMismatchError(DeviceLabError):
    """A candidate cannot be compared with the reference."""


class DeviceNotQualifiedError(DeviceLabError):
    """The reference measured against itself is not 1 within the limit."""


class TooFewBlocksError(DeviceLabError):
    """There are too few blocks for an interval."""

    def __init__(self, *, num_kept: int, num_blocks: int) -> None:
        super().__init__(f"{num_kept} of {num_blocks} blocks kept, an interval needs at least 2; measure again")
        self.num_kept = num_kept
        self.num_blocks = num_blocks


class RunnerBuildError(DeviceLabError):
    """The compiled runner of a device, or its bundle, cannot be built."""


class RunnerOutputError(DeviceLabError):
    """The runner printed something that is not its contract."""


class WrongOutputError(DeviceLabError):
    """The model's answer differs from torch's."""
