from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from device_lab.host import HostDevice
from device_lab.runner.profile import OperatorProfile, OperatorTime
from device_lab.runtimes import find_runtime
from nas.export import export_onnx, random_network
from nas.profiles import find_profiles, save_profile
from nas.profiling import onnx_positions, operator_costs, profile_model
from nas.records import ModelProfile
from nas.store import Store, sqlite_url
from nas.timed_models import TimedModels
from nas.timing import device_settings
from search_spaces.reference import squeezebert_rule
from tests.fake_run import HOST, SETTINGS
from tests.small_tasks import TINY

RULE = squeezebert_rule(TINY)
NUM_LAYERS = TINY.num_hidden_layers


def printed(**times_ns: int) -> OperatorProfile:
    """What a runner says of ten inferences with one call of each operator."""
    operators = tuple(
        OperatorTime(name=name, type=name.split("_")[0], num_calls=10, total_ns=10 * time_ns)
        for name, time_ns in times_ns.items()
    )
    return OperatorProfile(runtime="onnxruntime", runtime_version="1", num_runs=10, operators=operators)


@pytest.mark.torch
def test_an_operator_is_for_what_its_weights_or_its_neighbours_are_for(tmp_path: Path) -> None:
    model = export_onnx(random_network(RULE, num_labels=2), tmp_path / "model.onnx", sequence_length=8)

    positions = onnx_positions(model.path)

    by_kind = Counter((name.split("_")[0], position) for name, position in positions.items())
    linear = ("query", "key", "value", "after attention", "FFN in", "FFN out")
    assert {by_kind["Conv", position] for position in linear} == {NUM_LAYERS}
    assert by_kind["MatMul", "attention"] == 2 * NUM_LAYERS
    assert by_kind["Softmax", "attention"] == by_kind["Gelu", "FFN in"] == NUM_LAYERS
    assert by_kind["Reshape", "value"] == by_kind["Reshape", "attention"] == NUM_LAYERS
    assert by_kind["LayerNormalization", "add and normalise"] == by_kind["Add", "add and normalise"] == 2 * NUM_LAYERS
    assert positions["logits"] == "classifier"
    assert "" not in positions.values()


@pytest.mark.slow
@pytest.mark.torch
def test_this_machine_times_every_operator_of_a_model_without_its_weights(tmp_path: Path) -> None:
    device = HostDevice(find_runtime("onnxruntime"))
    models = TimedModels(tmp_path, runtime="onnxruntime", sequence_length=8, num_labels=2)
    settings = device_settings(device, num_threads=1, sequence_length=8)

    profile = profile_model(models.export(RULE), device, settings)

    calls = {(cost.kind, cost.position): cost.num_calls for cost in profile.operators}
    assert calls["Conv", "query"] == calls["Softmax", "attention"] == NUM_LAYERS
    assert "" not in {cost.position for cost in profile.operators}
    assert all(cost.time_ns >= 0 for cost in profile.operators)
    assert sum(cost.time_ns for cost in profile.operators) > 0
    assert (profile.device, profile.settings) == (device.info, settings)
    assert profile.num_runs == profile.num_processes * 20
    assert not list(tmp_path.glob("profile*")), "the engine's trace stays behind"


def test_joined_operators_keep_the_place_of_the_one_that_names_them() -> None:
    positions = {"MatMul_17": "attention", "Gemm_115": "classifier", "Conv_1": "query"}
    names = ("MatMul_17/MatmulTransposeFusion//MatMulScaleFusion/", "fused Gemm_115", "Conv_1", "reorder")

    (costs,) = [operator_costs([printed(**dict.fromkeys(names, 5))], positions)]

    assert {cost.position for cost in costs} == {"attention", "classifier", "query", ""}


def test_a_process_that_was_disturbed_does_not_count() -> None:
    quiet = printed(Conv_1=100, Add_2=10)
    disturbed = printed(Conv_1=100, Add_2=90_000)

    costs = operator_costs([quiet, disturbed, quiet], {})

    assert {cost.kind: cost.time_ns for cost in costs} == {"Conv": 100, "Add": 10}


def test_operators_of_one_kind_at_one_position_are_added_up() -> None:
    (cost,) = operator_costs([printed(Conv_1=100, Conv_2=30)], {"Conv_1": "query", "Conv_2": "query"})

    assert (cost.kind, cost.position, cost.time_ns, cost.num_calls) == ("Conv", "query", 130, 2)


def test_the_kind_of_an_executorch_operator_is_its_name() -> None:
    operator = OperatorTime(name="native_layer_norm.out", type="kernel", num_calls=4, total_ns=8)
    profile = OperatorProfile(runtime="executorch", runtime_version="1", num_runs=2, operators=(operator,))

    (cost,) = operator_costs([profile], {})

    assert (cost.kind, cost.position, cost.num_calls, cost.time_ns) == ("native_layer_norm.out", "", 2, 4)


def test_the_newest_profile_of_a_network_is_found_by_its_device_and_settings(tmp_path: Path) -> None:
    store = Store(sqlite_url(tmp_path / "store.db"))
    first = ModelProfile(
        device=HOST,
        settings=SETTINGS,
        taken_at="2026-01-05T10:00:00+00:00",
        num_processes=1,
        num_runs=10,
        pocketbert_version="0",
        operators=operator_costs([printed(Conv_1=100)], {"Conv_1": "query"}),
    )
    second = replace(first, taken_at="2026-01-05T11:00:00+00:00")
    elsewhere = replace(first, settings=replace(SETTINGS, num_threads=2))

    for profile, arch_id in ((first, "a"), (second, "a"), (first, "b"), (elsewhere, "c")):
        save_profile(store, profile, arch_id=arch_id)

    found = find_profiles(store, device_id=HOST.device_id, settings=SETTINGS)
    assert found == {"a": second, "b": first}
    assert find_profiles(store, device_id="another", settings=SETTINGS) == {}
    store.close()
