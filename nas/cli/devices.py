"""``nas devices``: where a model can be timed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from nas.cli.console import print_json, stderr, stdout
from nas.cli.options import AsJson, NumVirtual

if TYPE_CHECKING:
    from device_lab.devices import AttachedPhone
    from device_lab.measurement import DeviceInfo


def devices(
    *,
    device: Annotated[list[str] | None, typer.Option(help="look for a phone at HOST:PORT too")] = None,
    virtual: NumVirtual = 0,
    as_json: AsJson = False,
) -> None:
    """List this machine and the phones on USB, at the addresses given, and in the file of devices.

    Example: nas devices --virtual
    """
    from device_lab.devices import list_phones
    from device_lab.host import host_conditions, host_info
    from nas.cli.places import announce, virtual_phones

    with ExitStack() as stack:
        started = stack.enter_context(virtual_phones(virtual))
        phones = list_phones([*(device or ()), *(phone.address for phone in started)], announce=announce)
    info, conditions = host_info(), host_conditions()
    if as_json:
        host = {"name": "host", "info": _info(info), "conditions": dict(conditions.readings), "problem": None}
        print_json([host, *map(_document, phones)])
        return
    table = Table(box=None, pad_edge=False)
    for column in ("device", "backend", "model", "soc", "cores", "ABI", "system"):
        # What has to be typed or copied stays in one piece.
        table.add_column(column, overflow="fold", no_wrap=column in ("device", "backend", "ABI"))
    _add_row(table, "host", info)
    for phone in phones:
        if phone.info is not None:
            _add_row(table, phone.info.device_id, phone.info)
    stdout.print(table)
    _print_problems(phones)


def _add_row(table: Table, name: str, info: DeviceInfo) -> None:
    table.add_row(name, info.backend, info.model, info.soc, str(info.num_cores), info.abi, info.os_version)


def _print_problems(phones: Sequence[AttachedPhone]) -> None:
    for phone in phones:
        if phone.problem is not None:
            stderr.print(str(phone.problem), markup=False, soft_wrap=True)


def _document(phone: AttachedPhone) -> dict[str, Any]:
    return {
        "name": phone.address if phone.info is None else phone.info.device_id,
        "addresses": [phone.address, *phone.other_addresses],
        "info": None if phone.info is None else _info(phone.info),
        "problem": None if phone.problem is None else str(phone.problem),
    }


def _info(info: DeviceInfo) -> Any:
    from nas.documents import to_document

    return to_document(info)
