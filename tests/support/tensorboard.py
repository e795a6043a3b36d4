"""A TensorBoard of its own, asked over HTTP."""

import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


@contextmanager
def tensorboard(folder: Path, *options: str) -> Iterator[str]:
    """The address of a TensorBoard on that folder, on a port that it finds free itself."""
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed")
    command = [
        sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--host", "127.0.0.1",
        "--port", "0", *options,
    ]  # fmt: skip
    log = folder.parent / f"{folder.name}.log"
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        end = time.monotonic() + 60
        while time.monotonic() < end and process.poll() is None:
            found = re.search(r"http://127\.0\.0\.1:\d+", log.read_text())
            if found:
                yield found[0]
                return
            time.sleep(0.2)
        pytest.skip(f"TensorBoard does not start here: {log.read_text()[-300:]}")
    finally:
        process.terminate()
        process.wait(20)


def get(address: str) -> Any:
    """The answer, from JSON."""
    with urllib.request.urlopen(address, timeout=20) as answer:
        return json.loads(answer.read())
