"""The store on which a rank's process group meets: a file's, or that of a world that stays."""

from __future__ import annotations

import os
from typing import Any

from harness.model.spec import LaunchSpec

_client: Any = None
_prefix = ""


def begin(spec: LaunchSpec) -> None:
    """A test begins: stores made from now on are its own."""
    global _prefix, _client
    _prefix = os.path.basename(spec.folder)
    if _client is None and spec.store_port:
        from harness.ranks.stores import connect

        _client = connect(spec.store_port)


def store_for_group(file_name: str, world_size: int) -> Any:
    """A store for the default process group of the present test.

    In a file, a rank that waits for another looks every 10 ms; the ranks of a world that stays have
    a server instead.

    Args:
        file_name: the test's empty file.
        world_size: number of ranks that use it.
    """
    from torch._C._distributed_c10d import FileStore, PrefixStore

    if _client is None:
        return FileStore(file_name, world_size)
    return PrefixStore(_prefix, _client)
