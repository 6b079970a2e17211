from __future__ import annotations

import numpy as np
import pytest

from device_lab.measurement import Interval
from nas.cli.reproduce import _print_table
from nas.reproduction import SQUEEZEBERT_CLAIM, Size, built_size, speedup
from search_spaces.reference import dense_encoder, squeezebert_rule
from tests.fake_run import fake_measurement


def test_a_speedup_is_the_ratio_turned_over_with_its_bounds() -> None:
    turned = speedup(Interval(estimate=0.25, low=0.2, high=0.5))

    assert (turned.estimate, turned.low, turned.high) == (4.0, 2.0, 5.0)


@pytest.mark.torch
def test_what_was_built_is_counted_and_grouped_layers_are_smaller() -> None:
    dense = dense_encoder(hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=256)

    sizes = [built_size(arch, sequence_length=16) for arch in (dense, squeezebert_rule(dense))]

    # Of each layer's six matrices, 64 x 64 four times and 64 x 256 twice, three quarters go from all but one.
    saved = 2 * 3 * (3 * 64 * 64 + 2 * 64 * 256) // 4
    assert sizes[0].parameters - sizes[1].parameters == saved
    assert sizes[0].macs - sizes[1].macs == 16 * saved


def test_the_paper_stands_beside_what_was_measured(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = (
        Size(parameters=109_483_778, macs=11_186_505_216, sequence_length=128),
        Size(parameters=51_091_202, macs=3_712_255_488, sequence_length=128),
    )
    measurement = fake_measurement("squeezebert", ratio=0.4, generator=np.random.default_rng(0), precision="normal")

    _print_table(sizes, {"host": measurement})

    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 80 for line in lines[:5])
    rows = {line[:18].strip(): line[18:].split() for line in lines[:5]}
    assert rows["M parameters"][:3] == ["109.48", "51.09", "2.14x"]
    assert rows["GMACs, by fvcore"] == ["11.187", "3.712", "3.01x"]
    assert float(rows["ms, host"][2].removesuffix("x")) == pytest.approx(2.5, rel=0.03)
    assert rows["ms, host"][4:] == ["4.3x,", "Pixel", "3"]
    assert SQUEEZEBERT_CLAIM.source in lines[-1]
