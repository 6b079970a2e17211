from __future__ import annotations

import shutil
import struct
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, external_data_helper

from device_lab.measurement import ModelFile
from device_lab.runner.bundle import build_bundle
from device_lab.runner.contract import RunnerOutput, check_output
from device_lab.runner.profile import OperatorProfile
from device_lab.runner.weights import PERIOD, generated_weights, generated_weights_name
from nas.export import export_onnx, random_network
from search_spaces.architecture import Architecture, Block
from tests.runner_bundles import Installed, emulate_arm64, require_bundle, runner_arguments, tiny_program

pytestmark = [pytest.mark.slow, pytest.mark.torch]

RUNTIMES = ("onnxruntime", "executorch")
ARCH = Architecture(
    hidden_size=32,
    attention_head_size=8,
    blocks=(
        Block(num_attention_heads=4, intermediate_size=64, q_groups=4, k_groups=2, output_groups=8),
        Block(num_attention_heads=2, intermediate_size=48, v_groups=4),
    ),
    vocab_size=90,
    max_position_embeddings=16,
)
# The page size of newer phones; a file aligned to less cannot be mapped there.
LARGEST_PAGE_BYTES = 16384


@pytest.fixture(scope="module")
def cache_folder(request: pytest.FixtureRequest) -> Path:
    """Wheels and bundles outlive a test session, as they do for a user."""
    cache = request.config.cache
    assert cache is not None
    return Path(cache.mkdir("bundles"))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelFile]:
    path = tmp_path_factory.mktemp("models") / "encoder.onnx"
    network = random_network(ARCH, num_labels=3)
    return {
        "onnxruntime": export_onnx(network, path, sequence_length=12, batch_size=2),
        "executorch": tiny_program(),
    }


Install = Callable[[str, str], Installed]


@pytest.fixture
def install(cache_folder: Path, tmp_path: Path) -> Install:
    def unpack(runtime: str, abi: str) -> Installed:
        bundle = require_bundle(runtime, abi=abi, cache_folder=cache_folder)
        folder = tmp_path / "some where else"
        with tarfile.open(bundle.archive) as archive:
            archive.extractall(folder, filter="data")
        emulator = emulate_arm64(tmp_path / "root") if abi == "arm64-v8a" else ()
        return Installed(bundle=bundle, folder=folder, emulator=emulator)

    return unpack


@pytest.mark.parametrize("abi", ["x86_64", "arm64-v8a"])
@pytest.mark.parametrize("num_threads", [1, 2])
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_bundle_answers_as_torch_does_with_the_threads_asked_for(
    install: Install, models: dict[str, ModelFile], runtime: str, num_threads: int, abi: str
) -> None:
    model = models[runtime]
    installed = install(runtime, abi)

    result = installed.run(runner_arguments(model, num_threads=num_threads))

    assert (result.returncode, result.stderr) == (0, "")
    output = RunnerOutput.from_stdout(result.stdout)
    check_output(output.output, expected=model.expected_output)
    assert (output.runtime, output.runtime_version) == (runtime, installed.bundle.runtime_version)
    assert (output.num_threads, output.num_warmup_runs, len(output.samples_ns)) == (num_threads, 1, 3)
    assert 0 < sum(output.samples_ns) <= output.wall_ns
    assert output.cpu_ns is not None
    assert output.cpu_ns > 0
    assert output.peak_rss_bytes is not None
    assert output.peak_rss_bytes > 1_000_000


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_bundle_takes_every_library_from_its_own_folder(install: Install, runtime: str) -> None:
    installed = install(runtime, "x86_64")
    loader, *options, program = installed.bundle.command(installed.folder)

    listing = subprocess.run([loader, *options, "--list", program], capture_output=True, text=True, check=True).stdout

    paths = [line.split("=>")[1].rsplit(" (", 1)[0].strip() for line in listing.splitlines() if "=>" in line]
    assert len(paths) >= 5
    assert {Path(path).parent for path in paths} == {installed.folder}


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_every_arm64_file_fits_a_phone_with_large_pages(cache_folder: Path, runtime: str) -> None:
    bundle = require_bundle(runtime, abi="arm64-v8a", cache_folder=cache_folder)

    alignments = {path.name: _least_segment_alignment(path) for path in bundle.folder.iterdir()}

    assert min(alignments.values()) >= LARGEST_PAGE_BYTES, alignments


@pytest.mark.parametrize(("runtime", "abi"), [("onnxruntime", "x86_64"), ("executorch", "arm64-v8a")])
def test_the_same_inputs_give_the_same_bytes(cache_folder: Path, tmp_path: Path, runtime: str, abi: str) -> None:
    first = require_bundle(runtime, abi=abi, cache_folder=cache_folder)
    elsewhere = tmp_path / "elsewhere"
    if (cache_folder / "wheels").is_dir():
        shutil.copytree(cache_folder / "wheels", elsewhere / "wheels")

    second = build_bundle(runtime, abi=abi, cache_folder=elsewhere)

    assert second.archive != first.archive
    assert second.sha256 == first.sha256
    assert str(tmp_path).encode() not in (second.folder / "runner").read_bytes()


def test_a_bundle_is_built_once(cache_folder: Path) -> None:
    first = require_bundle("onnxruntime", abi="x86_64", cache_folder=cache_folder)
    built_ns = first.archive.stat().st_mtime_ns

    second = build_bundle("onnxruntime", abi="x86_64", cache_folder=cache_folder)

    assert second == first
    assert second.archive.stat().st_mtime_ns == built_ns
    assert not list(cache_folder.glob(".build-*"))


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_what_is_not_a_model_is_one_line_and_exit_status_1(
    install: Install, models: dict[str, ModelFile], tmp_path: Path, runtime: str
) -> None:
    installed = install(runtime, "x86_64")
    good = models[runtime]
    cut = tmp_path / "cut"
    cut.write_bytes(good.path.read_bytes()[: good.path.stat().st_size // 2])
    garbage = tmp_path / "garbage"
    garbage.write_bytes(np.random.default_rng(0).bytes(20_000))

    for path in (cut, garbage, tmp_path / "missing", tmp_path):
        arguments = runner_arguments(good)
        arguments[arguments.index("--model") + 1] = str(path)
        _assert_one_line(installed.run(arguments), exit_status=1)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_an_input_the_model_refuses_is_one_line_and_exit_status_1(
    install: Install, models: dict[str, ModelFile], runtime: str
) -> None:
    installed = install(runtime, "x86_64")
    for name, value in (("--sequence-length", "7"), ("--token-limit", "100000")):
        arguments = runner_arguments(models[runtime])
        arguments[arguments.index(name) + 1] = value

        _assert_one_line(installed.run(arguments), exit_status=1)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("--num-threads", "0", "--num-threads=0 must be a number, at least 1"),
        ("--min-runs", "2.5", "--min-runs=2.5 must be a whole number"),
        ("--min-timed-s", "nan", "--min-timed-s=nan must be a number, at least 0"),
        ("--token-limit", "many", "--token-limit=many must be a number"),
        ("--mode", "fast", "--mode=fast is neither time nor profile"),
        ("--colour", "red", "unknown argument --colour"),
    ],
)
def test_a_wrong_argument_is_named_with_exit_status_2(
    install: Install, models: dict[str, ModelFile], name: str, value: str, reason: str
) -> None:
    arguments = runner_arguments(models["onnxruntime"])
    given = dict(zip(arguments[::2], arguments[1::2], strict=True))
    given[name] = value

    result = install("onnxruntime", "x86_64").run([word for pair in given.items() for word in pair])

    _assert_one_line(result, exit_status=2)
    assert reason in result.stderr


def test_the_profile_counts_every_operator_of_the_model(install: Install, models: dict[str, ModelFile]) -> None:
    result = install("onnxruntime", "x86_64").run([*runner_arguments(models["onnxruntime"]), "--mode", "profile"])

    profile = OperatorProfile.from_stdout(result.stdout)
    convolutions = [operator for operator in profile.operators if operator.type == "Conv"]
    # Six in each block: query, key, value, after attention, intermediate, output.
    assert len(convolutions) == 6 * len(ARCH.blocks)
    assert {operator.num_calls for operator in convolutions} == {profile.num_runs} == {3}
    totals = [operator.total_ns for operator in profile.operators]
    assert totals == sorted(totals, reverse=True)
    assert not list(models["onnxruntime"].path.parent.glob("profile*"))


def test_executorch_tells_its_own_kernels_from_its_delegate(install: Install) -> None:
    result = install("executorch", "x86_64").run([*runner_arguments(tiny_program()), "--mode", "profile"])

    profile = OperatorProfile.from_stdout(result.stdout)
    named = {operator.name: operator for operator in profile.operators}
    # After the embeddings, after attention, after the feed-forward layer.
    assert named["native_layer_norm.out"].num_calls == 3 * profile.num_runs
    assert {operator.type for operator in profile.operators} == {"kernel", "delegate"}


@pytest.mark.parametrize("abi", ["x86_64", "arm64-v8a"])
def test_weights_generated_on_the_device_are_those_computed_here(
    install: Install, models: dict[str, ModelFile], tmp_path: Path, abi: str
) -> None:
    embedded, external = _with_generated_weights(models["onnxruntime"], tmp_path)
    installed = install("onnxruntime", abi)
    arguments = runner_arguments(models["onnxruntime"])
    outputs = []
    for path in (embedded, external):
        arguments[arguments.index("--model") + 1] = str(path)
        result = installed.run(arguments)
        assert result.stderr == ""
        outputs.append(RunnerOutput.from_stdout(result.stdout).output)

    assert outputs[0] == outputs[1]
    assert external.stat().st_size < embedded.stat().st_size / 2
    assert [path.name for path in tmp_path.glob("*.weights")] == []


def test_a_run_leaves_nothing_behind_in_the_home_folder(
    install: Install, models: dict[str, ModelFile], tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()

    result = install("onnxruntime", "x86_64").run(runner_arguments(models["onnxruntime"]), home=home)

    assert result.returncode == 0
    assert list(home.iterdir()) == []


def _assert_one_line(result: subprocess.CompletedProcess[str], *, exit_status: int) -> None:
    assert (result.returncode, result.stdout) == (exit_status, ""), result.stderr
    assert result.stderr.startswith("runner: error: ")
    assert result.stderr.count("\n") == 1
    assert result.stderr.rstrip("\n").isprintable()


def _least_segment_alignment(path: Path) -> int:
    """Return the smallest alignment of the loadable segments of a 64-bit little-endian ELF file."""
    content = path.read_bytes()
    assert content[:5] == b"\x7fELF\x02"
    (offset,) = struct.unpack_from("<Q", content, 32)
    size, count = struct.unpack_from("<HH", content, 54)
    loadable = 1
    alignments = []
    for i in range(count):
        (kind,) = struct.unpack_from("<I", content, offset + i * size)
        (alignment,) = struct.unpack_from("<Q", content, offset + i * size + 48)
        if kind == loadable:
            alignments.append(alignment)
    return int(min(alignments))


def _with_generated_weights(model: ModelFile, folder: Path) -> tuple[Path, Path]:
    """Write the model twice: with the generated numbers inside, and asking for them."""
    proto = onnx.load(model.path)
    tensors = [tensor for tensor in proto.graph.initializer if tensor.data_type == TensorProto.FLOAT and tensor.dims]
    # From the end of the first period into the second.
    first_byte = 4 * (PERIOD - 1000)
    num_bytes = first_byte + sum(len(tensor.raw_data) for tensor in tensors)
    numbers = generated_weights(num_bytes).tobytes()
    offset = first_byte
    for tensor in tensors:
        length = len(tensor.raw_data)
        tensor.raw_data = numbers[offset : offset + length]
        offset += length
    embedded = folder / "embedded.onnx"
    onnx.save(proto, embedded)

    offset = first_byte
    for tensor in tensors:
        length = len(tensor.raw_data)
        external_data_helper.set_external_data(
            tensor, location=generated_weights_name(num_bytes), offset=offset, length=length
        )
        tensor.ClearField("raw_data")
        offset += length
    external = folder / "external.onnx"
    external.write_bytes(proto.SerializeToString())
    return embedded, external
