"""The one figure that a side of a comparison finds out, as a process of its own."""

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
    """The environment, with gloo on the loopback interface under PyTorch's harness, too."""
    return {"GLOO_SOCKET_IFNAME": "lo", **os.environ}
