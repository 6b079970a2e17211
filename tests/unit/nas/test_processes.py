from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nas.cli.joining import take_gpu
from nas.cli.torchrun import Started
from nas.errors import SettingsError
from nas.processes import ALONE, Processes, share_of


@given(num_rows=st.integers(1, 70), count=st.integers(1, 9))
def test_the_rows_of_a_batch_are_shared_out_once_each_and_weigh_alike(num_rows: int, count: int) -> None:
    shares = [share_of(num_rows, rank=rank, count=count) for rank in range(count)]
    own = [share for share in shares if share.weight > 0]

    assert [row for share in own for row in range(share.first, share.stop)] == list(range(num_rows))
    # The mean over the processes of each one's weighted mean is the mean over the rows.
    assert [share.weight / count / (share.stop - share.first) for share in own] == pytest.approx(
        [1 / num_rows] * len(own)
    )
    assert {(share.first, share.stop) for share in shares if share.weight == 0} <= {(0, 1)}
    assert max(share.stop - share.first for share in shares) - min(share.stop - share.first for share in shares) <= 1


def test_one_process_has_the_whole_batch_and_the_loss_as_it_is() -> None:
    share = share_of(7, rank=0, count=1)

    assert (share.first, share.stop, share.weight) == (0, 7, 1.0)
    assert ALONE.mean(torch.tensor(0.25)) == 0.25


def test_more_processes_than_examples_of_a_batch_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"9 processes share out batches of 8 examples, .* start at most 8"):
        Processes(rank=0, count=9).require_rows(8)

    Processes(rank=0, count=8).require_rows(8)


def test_a_file_that_is_not_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()

    assert ALONE.read(tmp_path / "none") is None
    assert ALONE.read(tmp_path / "empty") == b""


def test_each_process_needs_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)

    take_gpu(Started(rank=3, count=4, local_rank=1, local_count=2))
    with pytest.raises(SettingsError, match="3 processes on this machine need a GPU each, PyTorch finds 2; start one"):
        take_gpu(Started(rank=0, count=3, local_rank=0, local_count=3))

    assert taken == [1]
