"""Destroy a rank's gloo groups without waiting for gloo.

gloo's event loop cannot be woken when a connection closes. The closing thread waits for the next
round of the loop, every 10 ms when idle (`unregisterDescriptor` and
`shutdown` in gloo/transport/tcp/loop.cc, torch 2.13). The last reference to a process group closes
its connections one after the other, then its listening socket, then the loop: 30 ms for two ranks.

No test needs to wait for this. `destroy_process_group()` clears torch's records of the groups at
once, and the harness keeps the last reference:

- in a rank that is about to exit, until the process exits and the kernel closes everything;
- in a reused rank, until a thread of the harness has dropped it.

Every group has a device (a loop and a listening socket) of its own, as torch makes it, so a group
that goes down shares nothing with one that comes up. Groups on one device would not be independent:
with TORCH_GLOO_LAZY_INIT=1 all of them wait for their peers under the same numbers on one socket,
and the first of them that is destroyed ends the loop of all.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from harness.model import settings
from harness.model.own_thread import OwnThread
from harness.ranks.descriptors import open_files

# How many groups may be closing at a time. Each has threads and descriptors until it is closed.
_MAX_CLOSING = 8


class GroupCloser:
    """Destroys process groups, and closes gloo's connections when nobody waits for them.

    Attributes:
        test_id: the current test, for the report about groups that stay open.
    """

    def __init__(self) -> None:
        self.test_id = ""
        self._kept_until_exit: list[Any] = []
        self._closing: list[_Closing] = []
        os.register_at_fork(after_in_child=self._forget_in_a_fork)

    def destroy_before_exit(self) -> None:
        """Destroy all process groups in a process that is about to exit."""
        if settings.EXIT in settings.TUNING.value():
            self._kept_until_exit.extend(_gloo_backends(_all_groups()))
        _destroy(None)

    def destroy(self, groups: list[Any] | None = None, files: frozenset[str] = frozenset()) -> None:
        """Destroy process groups in a process that goes on.

        Args:
            groups: the groups; None for all. The list is emptied, so that it holds no references.
            files: the descriptors, as text, that are known to belong to the groups.
        """
        # With HARNESS_LEAKS=error, groups that stay open must be found before the test ends.
        is_strict = settings.LEAKS.value() == "error"
        waits = is_strict or settings.TEARDOWN not in settings.TUNING.value()
        destroyed = _all_groups() if groups is None else groups
        backends = [] if waits else list(_gloo_backends(destroyed))
        del destroyed
        _destroy(groups)
        if groups is not None:
            groups.clear()
        if backends:
            self._close_in_background(backends, files)

    def _close_in_background(self, backends: list[Any], files: frozenset[str]) -> None:
        self._closing = [closing for closing in self._closing if not closing.is_done]
        if len(self._closing) >= _MAX_CLOSING:
            self._closing.pop(0).wait()
        # Other targets ("anon_inode:[eventpoll]") do not distinguish a descriptor from a later one
        # with the same number.
        known = {
            fd: target
            for fd, target in (open_files() if files else ())
            if fd in files and target.startswith(("socket:", "pipe:"))
        }
        self._closing.append(_Closing(self.test_id, backends, known))

    def closing_files(self) -> frozenset[str]:
        """Return the descriptors, as text, of destroyed groups that are not closed yet."""
        return frozenset().union(*(each.files for each in self._closing if not each.is_done))

    def unclosed(self) -> Mapping[str, str]:
        """Return, by test, the destroyed groups that stay open since something refers to them."""
        late = [each for each in self._closing if not each.is_done and not each.is_busy]
        return {f"of {closing.test}": "destroyed, but still referred to" for closing in late}

    def _forget_in_a_fork(self) -> None:
        """Forget the closing groups in a fork, which has neither the threads nor the groups."""
        self._kept_until_exit.extend(self._closing)
        self._closing = []


class _Closing:
    """Process groups that a background thread is closing.

    Args:
        test: the test that has destroyed them.
        backends: the last references to them.
        files: their known descriptors, each with the file that it refers to.
    """

    def __init__(self, test: str, backends: list[Any], files: Mapping[str, str]) -> None:
        self.test = test
        self._files = files
        self._thread = OwnThread(let_go, (backends,), "harness-gloo")
        self._thread.start()

    @property
    def is_busy(self) -> bool:
        return self._thread.is_alive()

    @property
    def is_done(self) -> bool:
        return not self.is_busy and not self.files

    @property
    def files(self) -> frozenset[str]:
        """The descriptors that still refer to the same file."""
        now = dict(open_files()) if self._files else {}
        return frozenset(fd for fd, target in self._files.items() if now.get(fd) == target)

    def wait(self) -> None:
        self._thread.join()


def let_go(references: list[Any]) -> None:
    """Drop the last references to process groups. torch releases the GIL while it closes them."""
    references.clear()


def _destroy(groups: Iterable[Any] | None) -> None:
    import torch.distributed as dist

    if groups is None:
        dist.destroy_process_group()
    for group in groups or ():
        dist.destroy_process_group(group)


def _all_groups() -> list[Any]:
    import torch.distributed as dist

    return list(dist.distributed_c10d._world.pg_map)


def _gloo_backends(groups: Iterable[Any]) -> Iterator[Any]:
    """Yield the gloo backends of the groups; torch shuts down other backends itself."""
    import torch
    import torch.distributed as dist

    if not dist.is_gloo_available():
        return
    for group in groups:
        try:
            backend: Any = group._get_backend(torch.device("cpu"))
        except (AttributeError, RuntimeError):  # it has no backend for the CPU
            continue
        # With TORCH_DISTRIBUTED_DEBUG=DETAIL, torch wraps every backend.
        if isinstance(getattr(backend, "wrapped_pg", backend), dist.ProcessGroupGloo):
            yield backend
