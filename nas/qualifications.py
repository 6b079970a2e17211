"""Certificates of devices in the store: the reference measured against itself, with every raw sample.

A certificate belongs to a device, a runtime with its version and threads, a
sequence length and a reference. The newest one counts.
"""

from __future__ import annotations

import json

import sqlalchemy as sa

from device_lab.errors import DeviceNotQualifiedError
from device_lab.measurement import RunSettings
from device_lab.qualification import Qualification
from nas import tables
from nas.documents import from_document, to_document
from nas.store import Store, now, settings_key
from nas.store_engine import insert_new


def save_qualification(
    store: Store, qualification: Qualification, *, settings: RunSettings, reference_arch_id: str
) -> None:
    """Keep a certificate, whether it speaks for the device or against it.

    Raises:
        StoreError: If the store cannot be written.
    """
    row = {
        "key": tables.new_key(),
        "device_id": qualification.measurement.device.device_id,
        "settings": settings_key(settings),
        "reference_arch_id": reference_arch_id,
        "document": json.dumps(to_document(qualification)),
        "created_at": now(),
    }
    store.transaction(lambda connection: insert_new(connection, tables.qualifications, [row]))


def find_qualification(
    store: Store, *, device_id: str, settings: RunSettings, reference_arch_id: str
) -> Qualification | None:
    """Return the newest certificate of a device, or ``None`` if it has none.

    Raises:
        StoreError: If the store cannot be read.
    """
    subject = {"device_id": device_id, "settings": settings_key(settings), "reference_arch_id": reference_arch_id}
    query = sa.select(tables.qualifications.c.document).filter_by(**subject)
    query = query.order_by(sa.desc("created_at"), sa.desc("qualification_id")).limit(1)
    document = store.transaction(lambda connection: connection.execute(query).scalar())
    return None if document is None else from_document(Qualification, json.loads(document))


def require_qualification(qualification: Qualification | None, *, device_id: str, command: str) -> Qualification:
    """Return a certificate that speaks for its device.

    Args:
        qualification: What `find_qualification` found.
        device_id: The device.
        command: What the user runs to qualify it.

    Raises:
        DeviceNotQualifiedError: If there is none, or the newest one speaks against the device.
    """
    if qualification is None:
        raise DeviceNotQualifiedError(
            f"{device_id} has no certificate for this runtime, thread count and reference; run `{command}`, "
            "or give --unqualified"
        )
    if not qualification.is_qualified:
        ratio = qualification.ratio
        raise DeviceNotQualifiedError(
            f"{device_id} did not qualify: the reference against itself gave {ratio.estimate:.3f} "
            f"({ratio.low:.3f} to {ratio.high:.3f}); run `{command}` on the cool, idle device, or give --unqualified"
        )
    return qualification
