from __future__ import annotations

import pytest

from device_lab.phone import fastest_cores

# A phone with four slow cores, three fast ones and one faster still.
CLOCKS = {0: 1800, 1: 1800, 2: 1800, 3: 1800, 4: 2400, 5: 2400, 6: 2400, 7: 2850}


@pytest.mark.parametrize(
    ("num_threads", "mask"), [(1, 0b1000_0000), (2, 0b1111_0000), (4, 0b1111_0000), (5, None), (9, None)]
)
def test_whole_clusters_are_taken_until_every_thread_has_a_core(num_threads: int, mask: int | None) -> None:
    assert fastest_cores(CLOCKS, num_threads=num_threads) == mask


def test_cores_of_one_speed_are_not_told_apart() -> None:
    assert fastest_cores({0: 2000, 1: 2000}, num_threads=1) is None


def test_a_phone_that_hides_its_clocks_is_not_pinned() -> None:
    assert fastest_cores({}, num_threads=1) is None
