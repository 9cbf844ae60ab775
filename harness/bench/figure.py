"""Run one side of a comparison in its own process, and read the one number that it prints."""

from __future__ import annotations

import os
import re
import subprocess
import sys


def figure(label: str, module: str, *arguments: str) -> float:
    """Run a module, and return the number that it prints after this label.

    Raises:
        RuntimeError: if it prints none; the message has all that it has printed.
    """
    finished = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        capture_output=True,
        text=True,
        env=on_loopback(),
        check=False,
    )
    found = re.search(rf"^{re.escape(label)}: (\S+)$", finished.stdout, re.MULTILINE)
    if found is None:
        side = " ".join([module, *arguments])
        raise RuntimeError(f"{side} gave no figure:\n{finished.stdout}\n{finished.stderr}")
    return float(found[1])


def on_loopback() -> dict[str, str]:
    """Return the environment with gloo on the loopback interface, for PyTorch's harness too."""
    return {"GLOO_SOCKET_IFNAME": "lo", **os.environ}
