"""One gloo device for all process groups of a rank that stays.

torch gives every process group of gloo a device of its own: a thread with a loop that ends only
when it comes round, after up to 10 ms. With one device for all, that wait is left out of every
test's end. A device holds nothing of a group but its sockets, which go with the group.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any


def share_device() -> None:
    """Have the process groups that torch makes from now on share a device."""
    import torch.distributed as dist

    if not dist.is_available() or not dist.is_gloo_available():
        return
    c10d: Any = dist.distributed_c10d
    if isinstance(c10d.ProcessGroupGloo, type):  # else it is done
        c10d.ProcessGroupGloo = _OnOneDevice(c10d.ProcessGroupGloo)


class _OnOneDevice:
    """Stands where torch looks for the class of gloo's process groups.

    Args:
        cls: that class.
    """

    def __init__(self, cls: Any) -> None:
        self._cls = cls
        self._devices = _make_devices(cls)

    def __call__(
        self, store: Any, rank: int, size: int, *arguments: Any, timeout: timedelta | None = None
    ) -> Any:
        if arguments or timeout is None:
            kwargs = {} if timeout is None else {"timeout": timeout}
            return self._cls(store, rank, size, *arguments, **kwargs)
        options = self._cls._Options()
        options._devices = self._devices
        options._threads = 2 * len(self._devices)
        options._timeout = timeout
        return self._cls(store, rank, size, options)

    def __instancecheck__(self, instance: object) -> bool:
        return isinstance(instance, self._cls)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cls, name)


def _make_devices(cls: Any) -> list[Any]:
    """The devices that torch would make: one for each interface named, else the host's."""
    names = os.environ.get("GLOO_SOCKET_IFNAME", "")
    if not names:
        return [cls.create_default_device()]
    return [cls.create_device(interface=name) for name in names.split(",")]
