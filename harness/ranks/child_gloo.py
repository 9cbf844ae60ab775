"""How a rank's process groups of gloo end: without waiting, and not before all their ranks are up.

torch gives every process group of gloo a device of its own: a thread with a loop that looks round
when something arrives, else every 10 ms. A group that is destroyed waits for the loop to look round
once for each of its connections, and its device once more. Here all groups of a rank are on one
device, which lives as long as the rank and holds nothing of a group but its sockets; and while
groups are destroyed, a pair of connections of this process to itself keeps the loop busy.

For gloo a group is up as soon as the connections of this rank are. A rank whose body is short may
be done with it while a peer still brings it up, and to close connections then fails that peer. So
every rank notes in the group's store that it is up, and looks for the others' notes before it
leaves.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from harness.diagnosis.snapshot import GLOO


def share_device() -> None:
    """Have the process groups that torch makes from now on share a device."""
    import torch.distributed as dist

    if not dist.is_available() or not dist.is_gloo_available():
        return
    c10d: Any = dist.distributed_c10d
    if isinstance(c10d.ProcessGroupGloo, type):  # else it is done
        c10d.ProcessGroupGloo = _OnOneDevice(c10d.ProcessGroupGloo)


def prepare() -> None:
    """Open now what else is opened when it is first used, and would seem to be a test's."""
    shared = _shared()
    if shared is not None:
        with contextlib.suppress(Exception):  # it is told when it is needed
            _ = shared.pair


def await_peers() -> None:
    """Wait until the groups that this rank has made since the last time are up on all ranks."""
    while _notes:
        if not _notes.pop().await_all():
            forget_peers()  # a peer that is late for one group is late for all


def forget_peers() -> None:
    """Do not wait for anybody: this rank's body has failed, and its peers may wait for it."""
    _notes.clear()


@contextlib.contextmanager
def awake() -> Iterator[None]:
    """Keep the shared device's loop looking round, if there is one.

    Whatever is wrong with it costs time and nothing else.
    """
    shared, done = _shared(), threading.Event()
    thread = threading.Thread(target=_keep_awake, args=(shared, done), name=GLOO, daemon=True)
    if shared is not None:
        thread.start()
    try:
        yield
    finally:
        done.set()
        if shared is not None:
            thread.join(_PATIENCE.total_seconds())


def _keep_awake(shared: _OnOneDevice, done: threading.Event) -> None:
    with contextlib.suppress(Exception):
        pair = shared.pair
        while not done.is_set():
            pair.exchange()


# No exchange of a process with itself takes longer, unless something is wrong with its device; and
# no peer that is alive is this much later.
_PATIENCE = timedelta(seconds=2)


def _shared() -> _OnOneDevice | None:
    import torch.distributed as dist

    found = getattr(dist.distributed_c10d, "ProcessGroupGloo", None)
    return found if isinstance(found, _OnOneDevice) else None


class _OnOneDevice:
    """Stands where torch looks for the class of gloo's process groups.

    Args:
        cls: that class.
    """

    def __init__(self, cls: Any) -> None:
        self._cls = cls

    @functools.cached_property
    def devices(self) -> list[Any]:
        """The devices that torch would make: one for each interface named, else the host's."""
        names = os.environ.get("GLOO_SOCKET_IFNAME", "")
        if not names:
            return [self._cls.create_default_device()]
        return [self._cls.create_device(interface=name) for name in names.split(",")]

    @functools.cached_property
    def pair(self) -> _Pair:
        """Connections of this process to itself on the (first) device."""
        return _Pair(self._cls, self.devices[:1])

    def __call__(self, store: Any, rank: int, size: int, *arguments: Any, **kwargs: Any) -> Any:
        options = self._cls._Options()
        timeout = kwargs.get("timeout")
        others = {name: value for name, value in kwargs.items() if name != "timeout"}
        # Newer torch has more arguments than the timeout; what cannot be said of a group with
        # options is torch's to do.
        if arguments or timeout is None or not all(hasattr(options, name) for name in others):
            group = self._cls(store, rank, size, *arguments, **kwargs)
        else:
            for name, value in others.items():
                setattr(options, name, value)
            options._devices = self.devices
            options._threads = 2 * len(self.devices)
            options._timeout = timeout
            group = self._cls(store, rank, size, options)
        _notes.append(_Note(store, size))
        return group

    def __instancecheck__(self, instance: object) -> bool:
        return isinstance(instance, self._cls)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cls, name)


class _Note:
    """This rank's note in a group's store that the group is up here.

    Args:
        store: the group's alone.
        size: the number of its ranks.
    """

    def __init__(self, store: Any, size: int) -> None:
        self._store = store
        with contextlib.suppress(Exception):  # a store of the test's own may do what it likes
            if store.add("harness/up", 1) == size:
                store.set(_ALL_UP, "")

    def await_all(self) -> bool:
        """Wait until it is up everywhere; returns whether it is."""
        try:
            self._store.wait([_ALL_UP], _PATIENCE)
        except Exception:  # late, or the store's server has gone
            return False
        return True


_ALL_UP = "harness/all up"
_notes: list[_Note] = []


class _Pair:
    """Two ends in this process of a connection that is on a device.

    Args:
        cls: the class of gloo's process groups.
        devices: the device.
    """

    def __init__(self, cls: Any, devices: list[Any]) -> None:
        import torch
        from torch._C._distributed_c10d import HashStore

        store = HashStore()
        store.set_timeout(_PATIENCE)
        self._ends: list[Any] = [None, None]
        self._tensors = [torch.zeros(1, device="cpu"), torch.zeros(1, device="cpu")]

        def open_end(number: int) -> None:
            options = cls._Options()
            options._devices = devices
            options._threads = 1
            options._timeout = _PATIENCE
            self._ends[number] = cls(store, number, 2, options)

        # Each waits for the other.
        other = threading.Thread(target=open_end, args=(1,), name=GLOO, daemon=True)
        other.start()
        open_end(0)
        other.join()

    def exchange(self) -> None:
        """Send a number from one end to the other."""
        received = self._ends[1].recv([self._tensors[1]], 0, 0)
        sent = self._ends[0].send([self._tensors[0]], 1, 0)
        sent.wait()
        received.wait()
