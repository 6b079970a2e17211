"""``nas measure`` and ``nas qualify`` on virtual phones: labels, the store, lost phones, runners that misbehave."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from device_lab.measurement import Block, ModelFile
from device_lab.virtual_phone.launch import VirtualPhone, start_virtual_phone
from device_lab.virtual_phone.options import PhoneOptions
from nas.store import Store
from nas.timed_models import TimedModels
from tests.command_line import CommandLine
from tests.phone_commands import DENSE, RULE, SEQUENCE_LENGTH, Nas, num_saved, only_model, stored_measurements, wait_for
from tests.postgresql_server import PostgresqlServer
from tests.runner_bundles import require_bundle
from tests.scripted_runners import write_runner
from tests.virtual_phones import is_left_running, needs_namespaces

pytestmark = [pytest.mark.slow, pytest.mark.torch]

SERIALS = ("FIRST", "SECOND")
# Constant times settle at the first look.
NUM_BLOCKS = 5


@pytest.fixture(scope="module")
def phones() -> Iterator[list[VirtualPhone]]:
    with ExitStack() as stack:
        yield [stack.enter_context(start_virtual_phone(PhoneOptions(serial=serial))) for serial in SERIALS]


@pytest.fixture(autouse=True)
def own_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Keys, locks and addresses of the test's own; bundles outlive a test session, as they do for a user."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for variable in ("CACHE", "CONFIG"):
        monkeypatch.setenv(f"XDG_{variable}_HOME", str(tmp_path / variable.lower()))
    assert request.config.cache is not None
    bundles = Path(request.config.cache.mkdir("bundles"))
    monkeypatch.setattr("nas.cli.places.default_cache_folder", lambda: bundles)


@pytest.fixture
def both(phones: list[VirtualPhone], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[VirtualPhone]:
    """Two phones that ``--device all`` finds."""
    listed = tmp_path / "devices.toml"
    listed.write_text(f"addresses = {[phone.address for phone in phones]}\n")
    monkeypatch.setenv("POCKETBERT_DEVICES", str(listed))
    return phones


@pytest.fixture
def models(tmp_path: Path) -> dict[int, ModelFile]:
    """The files `nas measure` writes for a program of the user's own, by the nanoseconds they shall take."""
    timed = TimedModels(
        tmp_path / "expected",
        runtime="onnxruntime",
        sequence_length=SEQUENCE_LENGTH,
        num_labels=2,
        with_weights=True,
    )
    return {1_000_000: timed.export(RULE), 2_000_000: timed.export(DENSE)}


@pytest.fixture
def nas(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Nas:
    return Nas(CommandLine(capsys, tmp_path / "runs"), tmp_path)


def test_two_virtual_phones_measure_at_once_with_the_real_engine(
    nas: Nas, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert request.config.cache is not None
    require_bundle("onnxruntime", abi="x86_64", cache_folder=Path(request.config.cache.mkdir("bundles")))

    results = nas.measure("--virtual", "2", "--unqualified")

    assert len(results) == 2
    assert [name.partition("-")[0] for name in results] == ["VIRTUAL0", "VIRTUAL1"]
    with_blocks = set()
    for name, document in results.items():
        model = only_model(document)
        assert document["device"]["backend"] == model["backend"] == "virtual-phone"
        assert (document["error"], model["error"]) == (None, None)
        assert 0 < model["ratio"]["low"] <= model["ratio"]["estimate"] <= model["ratio"]["high"]
        assert model["latency_ms"]["p50"]["estimate"] > 0
        assert model["conditions_before"]["core_mask"] == "all"
        (stored,) = stored_measurements(nas, name)
        assert len(stored) == model["num_blocks"] >= NUM_BLOCKS
        with_blocks |= {block.candidate.run_id for block in stored}
    assert len(with_blocks) == sum(only_model(document)["num_blocks"] for document in results.values())


def test_a_program_of_the_users_own_takes_the_place_of_a_bundle(
    nas: Nas, both: list[VirtualPhone], models: dict[int, ModelFile], tmp_path: Path
) -> None:
    runner = write_runner(tmp_path / "runner", models)

    results = nas.measure("--device", "all", "--runner", str(runner), "--unqualified")

    assert list(results) == list(SERIALS)
    for document in results.values():
        model = only_model(document)
        assert model["ratio"] == {"estimate": 2.0, "low": 2.0, "high": 2.0, "level": 0.95}
        assert (model["num_blocks"], model["reason"]) == (NUM_BLOCKS, "goal_met")
        assert model["settings"]["runtime_version"].startswith("program-")


def test_a_program_of_the_users_own_times_on_this_machine_too(
    nas: Nas, models: dict[int, ModelFile], tmp_path: Path
) -> None:
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    write_runner(right, models)
    write_runner(wrong, models, add_to_output=0.01)

    (document,) = nas.measure("--runner", str(right)).values()
    model = only_model(document)
    refused = nas("measure", "--runner", str(wrong))

    assert (model["backend"], model["ratio"]["estimate"]) == ("host", 2.0)
    assert model["settings"]["runtime_version"].startswith("program-")
    assert (model["outputs"], model["flags"]) == ("outputs checked in every run", [])
    assert (refused.code, refused.stdout) == (1, "")
    assert "torch gives" in refused.stderr


def test_the_table_names_every_phone_with_its_backend(
    nas: Nas, both: list[VirtualPhone], models: dict[int, ModelFile], tmp_path: Path
) -> None:
    runner = write_runner(tmp_path / "runner", models)

    finished = nas("measure", "--device", "all", "--runner", str(runner), "--unqualified")

    assert finished.code == 0
    for serial in SERIALS:
        assert f"{serial}: virtual-x86_64, Android 13, SDK 33 (virtual-phone), onnxruntime" in finished.stdout


def test_an_unqualified_phone_is_refused_with_the_command_that_qualifies_it(
    nas: Nas, phones: list[VirtualPhone], models: dict[int, ModelFile], tmp_path: Path
) -> None:
    runner = write_runner(tmp_path / "runner", models)
    address = phones[0].address
    chosen = ("--device", address, "--runner", str(runner))

    refused = nas.measure(*chosen, code=1)["FIRST"]["error"]
    command = refused.partition("run `")[2].partition("`")[0]
    # The same phone by its address, for nothing else lists it here.
    qualified = nas.command_line(*command.replace("FIRST", address).split()[1:], "--precision", "coarse", "--json")
    measured = nas.measure(*chosen)

    assert "FIRST has no certificate" in refused
    assert command.startswith("nas qualify --device FIRST --against ")
    (certificate,) = json.loads(qualified.stdout)
    assert certificate["is_qualified"]
    assert (certificate["ratio"]["estimate"], certificate["cold_baseline_ms"]) == (1.0, 1.0)
    assert only_model(measured["FIRST"])["ratio"]["estimate"] == 2.0


def test_certificates_and_measurements_of_a_phone_may_be_kept_in_postgresql(
    nas: Nas,
    phones: list[VirtualPhone],
    models: dict[int, ModelFile],
    tmp_path: Path,
    postgresql_server: PostgresqlServer,
) -> None:
    runner = write_runner(tmp_path / "runner", models)
    stored = ("--storage", postgresql_server.new_database())
    chosen = ("--device", phones[0].address, "--runner", str(runner), *stored)

    qualified = nas("qualify", *chosen, "--json")
    measured = nas.measure(*chosen)
    # Nothing is measured twice, whoever asks.
    runner.unlink()
    write_runner(runner, models)
    again = nas.measure(*chosen)
    reported = nas.command_line.in_folder("report", "measurements", *stored)

    (certificate,) = json.loads(qualified.stdout)
    assert certificate["is_qualified"]
    assert only_model(measured["FIRST"])["ratio"]["estimate"] == 2.0
    assert only_model(again["FIRST"]) == only_model(measured["FIRST"])
    assert reported.code == 0, reported
    assert not (nas.command_line.runs_folder / "measurements" / "store.db").exists()


def test_a_phone_that_cannot_tell_the_reference_from_itself_gets_no_good_certificate(
    nas: Nas, phones: list[VirtualPhone], models: dict[int, ModelFile], tmp_path: Path
) -> None:
    # Every other process of the reference takes three times as long.
    toggle = "f=/data/local/tmp/toggle; if [ -e $f ]; then rm $f; else touch $f; set -- x slow; fi"
    slow = models[1_000_000]
    text = write_runner(tmp_path / "runner", models, before=toggle).read_text()
    slow_case = text.partition(f"*/{slow.path.name}) ")[2].partition("\n")[0].replace("1000000", "3000000")
    (tmp_path / "runner").write_text(text.replace('case "$2" in', f'case "$2" in\nslow) {slow_case}'))
    chosen = ("--device", phones[0].address, "--runner", str(tmp_path / "runner"))

    qualified = nas("qualify", *chosen, "--json")
    refused = nas.measure(*chosen, code=1)["FIRST"]["error"]

    assert qualified.code == 1
    assert not json.loads(qualified.stdout)[0]["is_qualified"]
    assert "FIRST did not qualify" in refused or "blocks kept" in refused


def disturb(monkeypatch: pytest.MonkeyPatch, *, after_blocks: int, do: Callable[[], None]) -> list[Block]:
    """Have ``do`` happen when so many blocks are in the store; return the list of all that get there."""
    saved: list[Block] = []
    save_block = Store.save_block

    def save(store: Store, measurement_id: int, block: Block) -> None:
        save_block(store, measurement_id, block)
        saved.append(block)
        if len(saved) == after_blocks:
            do()

    monkeypatch.setattr(Store, "save_block", save)
    return saved


@needs_namespaces
def test_a_phone_lost_in_a_session_is_recorded_and_resumed_at_the_next_block(
    nas: Nas,
    phones: list[VirtualPhone],
    models: dict[int, ModelFile],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runner = write_runner(tmp_path / "runner", models)
    chosen = ("--device", phones[0].address, "--runner", str(runner), "--unqualified")
    saved = disturb(monkeypatch, after_blocks=2, do=lambda: phones[0].reboot())

    lost = only_model(nas.measure(*chosen, code=1)["FIRST"])
    (kept,) = stored_measurements(nas, "FIRST")
    resumed = only_model(nas.measure(*chosen)["FIRST"])
    (whole,) = stored_measurements(nas, "FIRST")
    again = only_model(nas.measure(*chosen)["FIRST"])

    assert (lost["reason"], lost["num_blocks"]) == ("disconnected", 2)
    assert (resumed["reason"], resumed["num_blocks"]) == ("goal_met", NUM_BLOCKS)
    assert whole[:2] == kept == tuple(saved[:2])
    assert [block.index for block in whole] == list(range(NUM_BLOCKS))
    assert len({block.candidate.run_id for block in whole}) == NUM_BLOCKS
    assert again["num_blocks"] == len(saved) == NUM_BLOCKS


@needs_namespaces
def test_a_lost_phone_does_not_stop_the_other(
    nas: Nas,
    both: list[VirtualPhone],
    models: dict[int, ModelFile],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runner = write_runner(tmp_path / "runner", models)
    disturb(monkeypatch, after_blocks=1, do=lambda: both[1].reboot())

    results = nas.measure("--device", "all", "--runner", str(runner), "--unqualified", code=1)

    assert only_model(results["FIRST"])["reason"] == "goal_met"
    # It goes down when the first block of either phone is kept, so it may have none itself.
    told = json.dumps(results["SECOND"])
    assert "disconnected" in told or "lost the device" in told
    assert "goal_met" not in told


@pytest.mark.parametrize(
    ("before", "options", "message"),
    [
        ("", {"add_to_output": 0.5}, "logit 0 is "),
        ("", {"num_threads": 3}, "num_threads=1 was asked for, the runner used 3"),
        ("echo hello; exit 0", {}, "runner printed 'hello' instead of its line of JSON"),
        ("exit 0", {}, "runner printed '' instead of its line of JSON"),
        ("echo no model for you >&2; exit 3", {}, "the runner exited with 3: no model for you"),
        ("kill -SEGV $$", {}, "the runner exited with 139: "),
        ("kill -KILL $$", {}, "the runner ran out of memory"),
    ],
)
def test_a_runner_that_misbehaves_is_an_error_and_never_a_latency(
    nas: Nas,
    phones: list[VirtualPhone],
    models: dict[int, ModelFile],
    tmp_path: Path,
    before: str,
    options: dict[str, Any],
    message: str,
) -> None:
    runner = write_runner(tmp_path / "runner", models, before=before, **options)

    finished = nas("measure", "--device", phones[0].address, "--runner", str(runner), "--unqualified", "--json")

    assert finished.code == 1
    (document,) = json.loads(finished.stdout)
    assert message in only_model(document)["error"]
    assert stored_measurements(nas, "FIRST") == []
    assert not is_left_running(phones[0], "--min-runs")


@needs_namespaces
def test_a_full_phone_says_so_and_keeps_nothing_half_written(
    nas: Nas, models: dict[int, ModelFile], tmp_path: Path
) -> None:
    runner = write_runner(tmp_path / "runner", models)
    with runner.open("a") as script:
        script.write("#" * 400_000)
    with start_virtual_phone(PhoneOptions(serial="FULL", data_bytes=300_000)) as phone:
        finished = nas("measure", "--device", phone.address, "--runner", str(runner), "--unqualified", "--json")

    assert finished.code == 1
    (document,) = json.loads(finished.stdout)
    error = document["error"] or only_model(document)["error"]
    assert "delete files on the device" in error


def test_an_abi_without_a_bundle_is_named_with_those_there_are(
    nas: Nas, phones: list[VirtualPhone], monkeypatch: pytest.MonkeyPatch
) -> None:
    from device_lab import identity

    original = identity.device_info

    def without_bundle(adb: Any) -> Any:
        from dataclasses import replace

        return replace(original(adb), abi="armeabi-v7a")

    monkeypatch.setattr("device_lab.devices.device_info", without_bundle)

    error = nas.measure("--device", phones[0].address, "--unqualified", code=1)["FIRST"]["error"]

    assert error == (
        "no bundle can be built for abi='armeabi-v7a' (known: arm64-v8a, x86_64); give a program by --runner"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--device", "8A3X1"), "no device with serial '8A3X1' (attached: "),
        (("--device", "all"), "no device with serial 'all' (attached: none)"),
        (("--device", "127.0.0.1:1"), "127.0.0.1:1: cannot connect: nothing listens there"),
        (("--device", "all", "--virtual", "1"), "--virtual and --device all choose twice"),
        (("--runtime", "ncnn"), "unknown runtime 'ncnn' (known: executorch, litert, onnxruntime)"),
        (("--runtime", "ncnn", "--runner", "/bin/true"), "unknown runtime 'ncnn' (known: executorch, litert, onnx"),
    ],
)
def test_a_choice_that_cannot_be_met_is_one_line(nas: Nas, arguments: tuple[str, ...], message: str) -> None:
    assert message in nas("measure", *arguments).error


def test_a_spent_budget_is_gone_on_with_by_the_same_command(
    nas: Nas, phones: list[VirtualPhone], models: dict[int, ModelFile], tmp_path: Path
) -> None:
    runner = write_runner(tmp_path / "runner", models)
    chosen = ("--device", phones[0].address, "--runner", str(runner), "--unqualified")

    # The first round is always run; it gives one block.
    short = only_model(nas.measure(*chosen, "--budget-minutes", "0", code=1)["FIRST"])
    whole = only_model(nas.measure(*chosen)["FIRST"])

    assert (short["reason"], short["num_blocks"], short["ratio"]) == ("budget", 1, None)
    assert (whole["reason"], whole["num_blocks"]) == ("goal_met", NUM_BLOCKS)


@needs_namespaces
@pytest.mark.parametrize("count", [1, 2])
def test_ctrl_c_keeps_blocks_gives_the_phones_back_and_exits_with_130(
    nas: Nas, both: list[VirtualPhone], models: dict[int, ModelFile], tmp_path: Path, count: int
) -> None:
    runner = write_runner(tmp_path / "runner", models, before="sleep 0.7")
    device = "all" if count == 2 else both[0].address
    words = nas.arguments("measure", "--device", device, "--runner", str(runner), "--unqualified")
    command = [sys.executable, "-c", "from nas.cli.main import main; main()", *words]
    command += ["--runs-folder", str(nas.command_line.runs_folder)]

    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_for(lambda: any(num_saved(nas, serial) for serial in SERIALS[:count]), process)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)

    assert (process.returncode, stdout) == (130, "")
    assert "stopped; finished blocks are kept" in stderr
    assert "Traceback" not in stderr
    for phone in both[:count]:
        assert not is_left_running(phone, "--min-runs")
        before = num_saved(nas, phone.options.serial)
        # The phone is free, and what was kept is gone on with.
        runner_now = ("--runner", str(runner), "--unqualified")
        resumed = only_model(nas.measure("--device", phone.address, *runner_now)[phone.options.serial])
        assert resumed["num_blocks"] == NUM_BLOCKS >= before


def test_devices_lists_virtual_phones_labelled_as_such(nas: Nas) -> None:
    finished = nas.command_line("devices", "--virtual", "2", "--json")

    host, *listed = json.loads(finished.stdout)
    assert (host["name"], host["info"]["backend"]) == ("host", "host")
    assert [phone["name"].partition("-")[0] for phone in listed] == ["VIRTUAL0", "VIRTUAL1"]
    assert {phone["info"]["backend"] for phone in listed} == {"virtual-phone"}


def test_a_place_where_nobody_answers_is_listed_with_its_reason(nas: Nas) -> None:
    finished = nas.command_line("devices", "--device", "127.0.0.1:1")

    assert finished.code == 0
    assert "127.0.0.1:1: cannot connect: nothing listens there" in finished.stderr
