"""Give a rank the stores of its tests: in a file, or in the server of a reusable world."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from harness.model import settings
from harness.model.spec import LaunchSpec

# torch's TCPStore accepts at most 8 MiB at a time (torch 2.13).
_PART = 4 << 20


class RankStore:
    """The stores of a rank's test. In a reusable world, they are parts of one TCPStore.

    A rank that waits at a FileStore looks every 10 ms; a TCPStore answers at once.
    """

    def __init__(self) -> None:
        self._client: Any = None
        self._folder = self._prefix = self._example = ""
        self._count = 0

    def begin_test(self, spec: LaunchSpec) -> None:
        """Keep the stores that are made from now on apart from those of earlier tests."""
        self._folder, self._prefix = spec.folder, os.path.basename(spec.folder)
        self._count, self._example = 0, ""
        if self._client is None and spec.store_port:
            from harness.ranks.stores import connect

            self._client = connect(spec.store_port, host=spec.store_host)

    def begin_example(self, number: int) -> None:
        """Keep the stores that are made from now on apart from those of earlier examples.

        Args:
            number: the number of the example, the same on all ranks.
        """
        self._count, self._example = 0, f"{number}/"

    def for_group(self, file_name: str, world_size: int) -> Any:
        """Return a store for a default process group; a new one at each call.

        Args:
            file_name: the test's empty file.
            world_size: the number of ranks that use the store.
        """
        if self._client is None or settings.STORE not in settings.TUNING.value():
            from torch._C._distributed_c10d import FileStore

            self._count += 1
            path = file_name if self._count == 1 else f"{file_name}.{self._count}"
            return FileStore(path, world_size)
        return self.part_of(self._client)

    def part_of(self, store: Any) -> Any:
        """Return a part of a store for the current test alone; a new one at each call.

        All ranks of the test must call it equally often.
        """
        from torch._C._distributed_c10d import PrefixStore

        self._count += 1
        return PrefixStore(f"{self._prefix}/{self._example}{self._count}", store)

    def hand_out(self, name: str, data: bytes) -> None:
        """Give data to all ranks of the test: in the store if there is one, else in a file."""
        if self._client is None:
            self._file(name).write_bytes(data)
            return
        parts = [data[i : i + _PART] for i in range(0, len(data), _PART)]
        for number, part in enumerate(parts):
            self._client.set(f"{self._prefix}/{name}/{number}", part)
        self._client.set(f"{self._prefix}/{name}", str(len(parts)))

    def handed_out(self, name: str) -> bytes:
        """Return the data that a rank has handed out; it must have done so already."""
        if self._client is None:
            return self._file(name).read_bytes()
        return b"".join(self._client.get(key) for key in self._keys(name))

    def take_back(self, name: str) -> None:
        """Delete what has been handed out, once all ranks have read it."""
        if self._client is None:
            self._file(name).unlink()
            return
        for key in self._keys(name):
            self._client.delete_key(key)

    def _keys(self, name: str) -> list[str]:
        count = int(self._client.get(f"{self._prefix}/{name}"))
        return [f"{self._prefix}/{name}/{number}" for number in range(count)]

    def _file(self, name: str) -> Path:
        # In the harness's own folder: the test may have changed `file_name`.
        return Path(self._folder, f"harness-{name}")
