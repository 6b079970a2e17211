from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from device_lab.errors import RuntimeMissingError
from device_lab.runtimes.executorch import write_program


@pytest.mark.torch
def test_exporting_without_the_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "executorch.exir", None)

    with pytest.raises(RuntimeMissingError, match=r"pip install 'pocketbert\[executorch\]'"):
        write_program(torch.nn.Identity(), tmp_path / "m.pte", example_inputs=(torch.zeros(1),))

    assert list(tmp_path.iterdir()) == []
