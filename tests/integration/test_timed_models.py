"""Model files whose weights nobody sends: small, the same every time, and still answering as torch does."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from device_lab.host import HostDevice
from device_lab.measurement import ModelFile
from device_lab.runner.contract import RunRequest, check_output
from device_lab.runner.weights import find_generated_weights, generated_weights
from device_lab.runtimes import find_runtime
from nas.errors import MissingExtraError
from nas.timed_models import TimedModels
from search_spaces.reference import dense_encoder, squeezebert_rule

pytestmark = pytest.mark.torch

DENSE = dense_encoder(hidden_size=128, num_hidden_layers=2, num_attention_heads=4, intermediate_size=512)
ONCE = RunRequest(num_threads=1, min_runs=1, min_timed_s=0.0, max_warmup_s=0.0)


def export(folder: Path, *, with_weights: bool = False) -> ModelFile:
    models = TimedModels(folder, runtime="onnxruntime", sequence_length=12, num_labels=3, with_weights=with_weights)
    return models.export(squeezebert_rule(DENSE))


@pytest.mark.slow
@pytest.mark.parametrize("with_weights", [False, True])
def test_the_host_answers_as_torch_does_with_and_without_the_weights_in_the_file(
    tmp_path: Path, with_weights: bool
) -> None:
    model = export(tmp_path, with_weights=with_weights)

    output = HostDevice(find_runtime("onnxruntime")).run(model, ONCE)

    check_output(output.output, expected=model.expected_output)
    # Logits near zero would pass whatever the network did.
    assert max(map(abs, model.expected_output)) > 0.05


def test_a_file_without_weights_is_a_tenth_of_one_with_them(tmp_path: Path) -> None:
    bare, whole = export(tmp_path), export(tmp_path, with_weights=True)

    assert 10 * bare.path.stat().st_size < whole.path.stat().st_size
    assert bare.expected_output == whole.expected_output
    assert find_generated_weights(whole.path) is None
    num_bytes = find_generated_weights(bare.path)
    assert num_bytes is not None
    assert num_bytes > whole.path.stat().st_size * 0.9


def test_two_exports_give_the_same_bytes(tmp_path: Path) -> None:
    assert export(tmp_path / "first").sha256 == export(tmp_path / "second").sha256


def test_an_architecture_is_written_once(tmp_path: Path) -> None:
    models = TimedModels(tmp_path, runtime="onnxruntime", sequence_length=12, num_labels=3)

    first = models.export(DENSE)
    first.path.unlink()

    assert models.export(DENSE) is first


def test_generated_numbers_do_not_depend_on_how_they_are_cut_into_pieces() -> None:
    few, many = generated_weights(4 * 1000), generated_weights(4 * 200_000)

    assert np.array_equal(few, many[:1000])
    assert len(np.unique(many)) > 190_000


def test_a_missing_exporter_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "executorch.exir", None)
    models = TimedModels(tmp_path, runtime="executorch", sequence_length=12, num_labels=3)

    with pytest.raises(MissingExtraError, match=r"pip install 'pocketbert\[executorch\]'"):
        models.export(DENSE)
    assert list(tmp_path.iterdir()) == []
