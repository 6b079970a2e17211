"""``nas devices``: where a model can be timed."""

from __future__ import annotations

from rich.table import Table

from nas.cli.console import print_json, stdout
from nas.cli.options import AsJson


def devices(*, as_json: AsJson = False) -> None:
    """List the devices a model can be timed on.

    Example: nas devices
    """
    from device_lab.host import host_conditions, host_info
    from nas.documents import to_document

    info, conditions = host_info(), host_conditions()
    if as_json:
        print_json([{"name": "host", "info": to_document(info), "conditions": dict(conditions.readings)}])
        return
    table = Table(box=None, pad_edge=False)
    for column in ("device", "backend", "soc", "cores", "ABI", "system", "load"):
        table.add_column(column, overflow="fold")
    load = conditions["load_1min"]
    table.add_row("host", info.backend, info.soc, str(info.num_cores), info.abi, info.os_version, load)
    stdout.print(table)
