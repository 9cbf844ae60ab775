"""What Hypothesis calls when it is imported: the profiles, if the harness is in use at all.

Apart from the rooms because it must not import torch into programs that only use Hypothesis.
"""

from __future__ import annotations

import sys


def on_import() -> None:
    """Load the harness's profiles if this process uses the harness's TestCase."""
    profiles = sys.modules.get("harness.cases.properties.profiles")
    if profiles is not None:
        profiles.load()
