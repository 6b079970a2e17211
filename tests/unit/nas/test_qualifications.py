from __future__ import annotations

from pathlib import Path

import pytest

from device_lab.errors import DeviceNotQualifiedError
from device_lab.measurement import (
    Backend,
    Block,
    Conditions,
    DeviceInfo,
    Measurement,
    ProcessRun,
    Reason,
    RunSettings,
)
from device_lab.qualification import Qualification
from device_lab.statistics import PRECISIONS
from nas.documents import from_document, to_document
from nas.qualifications import find_qualification, require_qualification, save_qualification
from nas.store import Store, sqlite_url

SETTINGS = RunSettings(runtime="engine", runtime_version="1.2", num_threads=1, sequence_length=8)
SUBJECT = {"device_id": "phone", "reference_arch_id": "reference"}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(sqlite_url(tmp_path / "store.db"))


def run(name: str, nanoseconds: int) -> ProcessRun:
    return ProcessRun(run_id=name, samples_ns=(nanoseconds,) * 3, num_warmup_runs=1, num_threads=1, wall_ns=9, cpu_ns=9)


def certificate(*, candidate_ns: int = 1000, baseline_ns: int = 900) -> Qualification:
    blocks = tuple(
        Block(
            index=i,
            reference_before=run(f"r{i}", 1000),
            candidate=run(f"c{i}", candidate_ns),
            reference_after=run(f"r{i + 1}", 1000),
        )
        for i in range(4)
    )
    unread = Conditions(taken_at="now", readings=())
    return Qualification(
        baseline_runs=tuple(run(f"b{i}", baseline_ns) for i in range(9)),
        measurement=Measurement(
            device=DeviceInfo(
                device_id="phone", backend=Backend.DEVICE, model="m", soc="s", os_version="o", abi="a", num_cores=8
            ),
            settings=SETTINGS,
            precision=PRECISIONS["normal"],
            model_sha256="r",
            reference_sha256="r",
            blocks=blocks,
            reason=Reason.GOAL_MET,
            num_cooldowns=0,
            conditions_before=unread,
            conditions_after=unread,
        ),
    )


def test_a_certificate_is_read_back_with_every_raw_sample(store: Store) -> None:
    save_qualification(store, certificate(), settings=SETTINGS, reference_arch_id="reference")

    found = find_qualification(store, settings=SETTINGS, **SUBJECT)

    assert found == certificate()
    assert found is not None
    assert found.cold_baseline_ns == 900


def test_the_newest_certificate_counts(store: Store) -> None:
    for baseline_ns in (900, 800):
        kept = certificate(baseline_ns=baseline_ns)
        save_qualification(store, kept, settings=SETTINGS, reference_arch_id="reference")

    found = find_qualification(store, settings=SETTINGS, **SUBJECT)

    assert found is not None
    assert found.cold_baseline_ns == 800


@pytest.mark.parametrize("field", ["runtime", "runtime_version", "num_threads", "sequence_length"])
def test_a_certificate_is_for_its_own_settings_only(store: Store, field: str) -> None:
    save_qualification(store, certificate(), settings=SETTINGS, reference_arch_id="reference")
    document = to_document(SETTINGS)
    document[field] = document[field] + 1 if isinstance(document[field], int) else "other"
    other = from_document(RunSettings, document)

    assert find_qualification(store, settings=other, **SUBJECT) is None


@pytest.mark.parametrize("field", list(SUBJECT))
def test_a_certificate_is_for_its_own_device_and_reference_only(store: Store, field: str) -> None:
    save_qualification(store, certificate(), settings=SETTINGS, reference_arch_id="reference")

    assert find_qualification(store, settings=SETTINGS, **{**SUBJECT, field: "other"}) is None


def test_a_device_without_a_certificate_is_refused_with_the_command_that_makes_one() -> None:
    with pytest.raises(DeviceNotQualifiedError, match=r"phone has no certificate .* run `nas qualify`, or give --unq"):
        require_qualification(None, device_id="phone", command="nas qualify")


def test_a_certificate_that_speaks_against_the_device_is_refused_with_its_figures() -> None:
    with pytest.raises(DeviceNotQualifiedError, match=r"phone did not qualify: .* gave 1\.100 \(1\.100 to 1\.100\)"):
        require_qualification(certificate(candidate_ns=1100), device_id="phone", command="nas qualify")


def test_a_good_certificate_is_handed_on() -> None:
    good = certificate()

    assert require_qualification(good, device_id="phone", command="nas qualify") is good
