"""A real S3 API for the tests: moto's server in a process of its own, on a port of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

# Recognisable in whatever is printed.
SECRET = "hunter2/secret+key"
BUCKET = "lab"
_START_TIMEOUT_S = 60


class S3Server:
    """An S3 API on 127.0.0.1 with the bucket `BUCKET`; its log lies in ``folder``."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port = int(listener.getsockname()[1])
        with (folder / "log").open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)],
                stdout=log,
                stderr=log,
            )
        self._wait()
        self.environment = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": "tester",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    def make_bucket(self) -> None:
        """Make the bucket, or leave it as it is."""
        with urlopen(Request(f"http://127.0.0.1:{self.port}/{BUCKET}", method="PUT"), timeout=5):
            pass

    def stop(self) -> None:
        """Stop the server."""
        self._process.terminate()
        self._process.wait(_START_TIMEOUT_S)

    def _wait(self) -> None:
        start_s = time.monotonic()
        while True:
            try:
                with urlopen(f"http://127.0.0.1:{self.port}/moto-api/", timeout=5):
                    return
            except (URLError, ConnectionError, TimeoutError):
                assert self._process.poll() is None, "the server ended"
                assert time.monotonic() - start_s < _START_TIMEOUT_S, "the server does not answer"
                time.sleep(0.1)
