"""The store on which a rank's process group meets: a file's, or that of a world that stays."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from harness.model import settings
from harness.model.spec import LaunchSpec

# torch's store takes no more at a time than 8 MiB.
_PART = 4 << 20

_client: Any = None
_folder = ""
_prefix = ""
_count = 0
_part = ""


def begin(spec: LaunchSpec) -> None:
    """A test begins: stores made from now on are its own."""
    global _folder, _prefix, _client, _count, _part
    _folder, _prefix = spec.folder, os.path.basename(spec.folder)
    _count, _part = 0, ""
    if _client is None and spec.store_port:
        from harness.ranks.stores import connect

        _client = connect(spec.store_port, host=spec.store_host)


def hand_out(name: str, data: bytes) -> None:
    """Give all ranks of the test some data, by the store if there is one, else in a file."""
    if _client is None:
        _file(name).write_bytes(data)
        return
    parts = [data[i : i + _PART] for i in range(0, len(data), _PART)]
    for number, part in enumerate(parts):
        _client.set(f"{_prefix}/{name}/{number}", part)
    _client.set(f"{_prefix}/{name}", str(len(parts)))


def handed_out(name: str) -> bytes:
    """What a rank has handed out, which has to have been done by now."""
    if _client is None:
        return _file(name).read_bytes()
    count = int(_client.get(f"{_prefix}/{name}"))
    return b"".join(_client.get(f"{_prefix}/{name}/{number}") for number in range(count))


def take_back(name: str) -> None:
    """Have the room again that it takes."""
    if _client is None:
        _file(name).unlink()
        return
    for number in range(int(_client.get(f"{_prefix}/{name}"))):
        _client.delete_key(f"{_prefix}/{name}/{number}")


def _file(name: str) -> Path:
    # In the harness's own folder, whatever the test has made of `file_name`.
    return Path(_folder, f"harness-{name}")


def begin_part(number: int) -> None:
    """A part of the test begins that has stores of its own.

    Args:
        number: of the part, the same on all ranks.
    """
    global _part, _count
    _part, _count = f"{number}/", 0


def store_for_group(file_name: str, world_size: int) -> Any:
    """A store for a default process group of the present test; another one at every call.

    In a file, a rank that waits for another looks every 10 ms; the ranks of a world that stays have
    a server instead.

    Args:
        file_name: the test's empty file.
        world_size: number of ranks that use it.
    """
    global _count
    from torch._C._distributed_c10d import FileStore, PrefixStore

    _count += 1
    if _client is None or settings.STORE not in settings.TUNING.value():
        return FileStore(file_name if _count == 1 else f"{file_name}.{_count}", world_size)
    return PrefixStore(f"{_prefix}/{_part}{_count}", _client)


def part_of(store: Any) -> Any:
    """A part of a store for the present test alone; another one at every call.

    To be called by all ranks of the test equally often.
    """
    global _count
    from torch._C._distributed_c10d import PrefixStore

    _count += 1
    return PrefixStore(f"{_prefix}/{_part}{_count}", store)
