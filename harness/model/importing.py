"""Import many modules at once, torch above all, quickly."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def imports_uncollected() -> Iterator[None]:
    """Import without the garbage collector, and keep it from what was imported afterwards, too.

    Imports make objects that stay: looking for others among them makes that of torch a sixth
    slower, and each later collection by 0.1 s, in a fork of this process by as many page copies.
    What garbage there is stays as well; freeing it first would cost more than it gives.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
