"""What Sphinx lacks for this manual: options, names and settings from the code, and links."""

from __future__ import annotations

from typing import Any

from _extension import api, links, options, pictures, settings


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""
    for part in (api, links, options, pictures, settings):
        part.setup(app)
    return {"parallel_read_safe": False, "parallel_write_safe": True}
