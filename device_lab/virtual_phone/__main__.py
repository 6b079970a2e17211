"""``python -m device_lab.virtual_phone``: serve one virtual phone until SIGTERM or Ctrl-C."""

from __future__ import annotations

import argparse
import signal
import sys
from typing import NoReturn

from device_lab.errors import DeviceLabError
from device_lab.virtual_phone.auth import Dialog
from device_lab.virtual_phone.launch import start_virtual_phone
from device_lab.virtual_phone.options import ABIS, PhoneOptions


def main() -> int:
    """Print the address of a virtual phone, and keep it until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m device_lab.virtual_phone", description=main.__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one (default)")
    parser.add_argument("--serial", default="VIRTUAL0")
    parser.add_argument("--abi", choices=ABIS, default="x86_64", help="arm64-v8a runs programs through qemu")
    parser.add_argument(
        "--dialog", choices=[*Dialog], type=Dialog, default=Dialog.OFF, help="for a key it does not know"
    )
    parser.add_argument("--accept-after", type=float, default=0.0, metavar="SECONDS", help="with --dialog accept")
    parser.add_argument("--data-bytes", type=int, default=None, help="size of /data (default: as large as this disk)")
    given = parser.parse_args()
    options = PhoneOptions(
        serial=given.serial,
        abi=given.abi,
        port=given.port,
        dialog=given.dialog,
        accept_after_s=given.accept_after,
        data_bytes=given.data_bytes,
    )
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, _leave)
    try:
        with start_virtual_phone(options) as phone:
            sys.stdout.write(phone.address + "\n")
            sys.stdout.flush()
            while True:
                signal.pause()
    except DeviceLabError as error:
        sys.stderr.write(f"virtual_phone: error: {error}\n")
        return 1


def _leave(*_: object) -> NoReturn:
    raise SystemExit(0)  # passes through the context manager, which stops the daemon and removes its files


if __name__ == "__main__":
    sys.exit(main())
