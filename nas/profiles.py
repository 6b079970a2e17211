"""Profiles in the store: of each network on a device under the same settings the newest counts."""

from __future__ import annotations

import json

import sqlalchemy as sa

from device_lab.measurement import RunSettings
from nas import tables
from nas.documents import from_document, to_document
from nas.records import ModelProfile
from nas.store import Store, now, settings_key
from nas.store_engine import insert_new


def save_profile(store: Store, profile: ModelProfile, *, arch_id: str) -> None:
    """Keep a profile beside those there are.

    Raises:
        StoreError: If the store cannot be written.
    """
    row = {
        "key": tables.new_key(),
        "device_id": profile.device.device_id,
        "settings": settings_key(profile.settings),
        "arch_id": arch_id,
        "document": json.dumps(to_document(profile)),
        "created_at": now(),
    }
    store.transaction(lambda connection: insert_new(connection, tables.profiles, [row]))


def find_profiles(store: Store, *, device_id: str, settings: RunSettings) -> dict[str, ModelProfile]:
    """Return the newest profile of each network that has one on a device under these settings, by ``arch_id``.

    Raises:
        StoreError: If the store cannot be read.
    """
    subject = {"device_id": device_id, "settings": settings_key(settings)}
    query = sa.select(tables.profiles.c.arch_id, tables.profiles.c.document).filter_by(**subject)
    query = query.order_by("created_at", "profile_id")
    rows = store.transaction(lambda connection: connection.execute(query).all())
    newest = {row.arch_id: row.document for row in rows}
    return {arch_id: from_document(ModelProfile, json.loads(document)) for arch_id, document in newest.items()}
