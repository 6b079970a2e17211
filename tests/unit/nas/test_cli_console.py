from __future__ import annotations

import gc

import pytest

from nas.cli.console import uncollected


def test_garbage_is_looked_for_again_after_a_block_without_it() -> None:
    with uncollected():
        assert not gc.isenabled()

    assert gc.isenabled()


def test_an_error_in_the_block_brings_the_collector_back() -> None:
    with pytest.raises(KeyError), uncollected():
        raise KeyError

    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        with uncollected():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
