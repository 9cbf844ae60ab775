"""Import torch faster, by pausing the garbage collector during the import."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def imports_without_gc() -> Iterator[None]:
    """Pause the garbage collector inside the block; exclude all objects from later collections.

    An import creates objects that live as long as the process. Searching them for garbage makes
    the import of torch a sixth slower, and each later collection takes 0.1 s longer. In a fork,
    such a collection also writes to every object's header, so the kernel copies every page.
    `gc.freeze()` excludes garbage, too, but a collection before it would take longer than it saves.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
