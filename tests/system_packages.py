"""Programs of the operating system that some tests need and a machine may lack."""

from __future__ import annotations

import os
import shutil

import pytest


def require_program(program: str, *, package: str) -> str:
    """Return the path of ``program``; skip the calling test where it is not installed.

    With ``NAS_REQUIRE_ALL=1`` a missing program fails the test instead, so that
    a machine meant to run everything cannot pass by skipping.

    Args:
        program: Name to look up on ``PATH``.
        package: Debian package that brings it, named in the reason.
    """
    path = shutil.which(program)
    if path is not None:
        return path
    reason = f"{program} is not installed; run `apt-get install {package}`"
    if os.environ.get("NAS_REQUIRE_ALL") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
