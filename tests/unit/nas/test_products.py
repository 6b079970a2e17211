from __future__ import annotations

import pytest
import torch

from nas import products
from nas.products import ROWS_AT_ONCE, affine, slices


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("has_bias", [False, True])
def test_a_product_is_torchs_whether_or_not_onednn_makes_it(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, has_bias: bool
) -> None:
    generator = torch.Generator().manual_seed(0)
    wide, weight = (torch.randn(*shape, dtype=dtype, generator=generator) for shape in ((9, 40), (5, 12)))
    bias = torch.randn(5, dtype=dtype, generator=generator) if has_bias else None
    states = wide[:, 8:20]  # as a group's own channels lie in memory

    mapped = affine(states, weight, bias)

    monkeypatch.setattr(products, "_ONEDNN", None)
    torch.testing.assert_close(mapped, affine(states, weight, bias))
    torch.testing.assert_close(mapped, states @ weight.T + (0 if bias is None else bias))


@pytest.mark.parametrize("num_rows", [0, 1, ROWS_AT_ONCE, ROWS_AT_ONCE + 1, 3 * ROWS_AT_ONCE])
def test_slices_have_every_row_once(num_rows: int) -> None:
    parts = [range(num_rows)[part] for part in slices(num_rows)]

    assert [row for part in parts for row in part] == list(range(num_rows))
    assert all(0 < len(part) <= ROWS_AT_ONCE for part in parts)
