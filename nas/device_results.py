"""Everything a store holds of the devices that were timed on, for their pages."""

from __future__ import annotations

import json
from collections.abc import Mapping

import sqlalchemy as sa

from device_lab.measurement import RunSettings
from nas import tables
from nas.documents import from_document
from nas.qualifications import find_qualification
from nas.records import DeviceResults
from nas.store import Store
from search_spaces.reference import REFERENCES

# Of one device, settings and reference, a page has the newest measurements with so many blocks together.
MAX_BLOCKS = 5_000
_SUBJECT = ("device_id", "settings", "reference_arch_id")


def find_device_results(store: Store, *, names: Mapping[str, str]) -> tuple[DeviceResults, ...]:
    """Return what was timed on each device, in the order of their ids.

    Args:
        store: Where to look.
        names: What architectures are called, by ``arch_id``; the published ones
            have their names, and one without a name goes by its ``arch_id``.

    Raises:
        StoreError: If the store cannot be read.
    """
    names = {arch.arch_id: name for name, arch in REFERENCES.items()} | dict(names)
    results = [_results_of(store, *subject, names=names) for subject in _subjects(store)]
    return tuple(each for each in results if each is not None)


def _subjects(store: Store) -> list[tuple[str, str, str]]:
    both = (tables.measurements, tables.qualifications)
    query = sa.union(*(sa.select(*(table.c[name] for name in _SUBJECT)) for table in both))
    rows = store.transaction(lambda connection: connection.execute(query).all())
    return sorted((row.device_id, row.settings, row.reference_arch_id) for row in rows)


def _newest(store: Store, device_id: str, settings_document: str, reference_arch_id: str) -> tuple[list[str], int]:
    """Return the architectures timed last of a subject, whose blocks a page has room for, and how many there are."""
    measurements, blocks = tables.measurements.c, tables.blocks.c
    of_subject = sa.and_(
        measurements.device_id == device_id,
        measurements.settings == settings_document,
        measurements.reference_arch_id == reference_arch_id,
        measurements.document.is_not(None),
    )
    num_blocks = sa.select(sa.func.count()).where(blocks.measurement_id == measurements.measurement_id)
    newest = sa.select(measurements.arch_id, num_blocks.scalar_subquery().label("num_blocks")).where(of_subject)
    newest = newest.order_by(measurements.created_at.desc(), measurements.measurement_id.desc())
    total = sa.select(sa.func.count(measurements.arch_id.distinct())).where(of_subject)

    def read(connection: sa.Connection) -> tuple[list[str], int]:
        chosen: dict[str, None] = {}
        left = MAX_BLOCKS
        # A measurement has two blocks or more, so no more rows than that can be chosen.
        for row in connection.execute(newest.limit(MAX_BLOCKS // 2)):
            left -= row.num_blocks
            if left < 0 and chosen:
                break
            chosen[row.arch_id] = None
        return list(chosen), connection.execute(total).scalar_one()

    return store.transaction(read)


def _results_of(
    store: Store, device_id: str, settings_document: str, reference_arch_id: str, *, names: Mapping[str, str]
) -> DeviceResults | None:
    """Return what is known of one subject; ``None`` where no measurement of it was finished."""
    settings = from_document(RunSettings, json.loads(settings_document))
    certificate = find_qualification(store, device_id=device_id, settings=settings, reference_arch_id=reference_arch_id)
    newest_archs, num_archs = _newest(store, device_id, settings_document, reference_arch_id)
    measured = store.find_measurements(
        device_id=device_id, settings=settings, reference_arch_id=reference_arch_id, arch_ids=newest_archs
    )
    finest = [(names.get(arch_id, arch_id), measurements[-1]) for arch_id, measurements in measured.items()]
    if not finest and certificate is None:
        return None
    newest = certificate.measurement if certificate is not None else finest[-1][1]
    return DeviceResults(
        device=newest.device,
        settings=settings,
        reference=names.get(reference_arch_id, reference_arch_id),
        certificate=certificate,
        measurements=tuple(finest),
        num_older=num_archs - len(newest_archs),
    )
