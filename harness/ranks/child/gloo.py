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

_kept_until_exit: list[Any] = []
_closing: list[_Closing] = []
_test = ""


def begin(test_id: str) -> None:
    """Record the current test, for the report about groups that stay open."""
    global _test
    _test = test_id


def destroy_before_exit() -> None:
    """Destroy all process groups in a process that is about to exit."""
    if settings.EXIT in settings.TUNING.value():
        _kept_until_exit.extend(_gloo_backends(_all_groups()))
    _destroy(None)


def destroy(groups: list[Any] | None = None, files: frozenset[str] = frozenset()) -> None:
    """Destroy process groups in a process that goes on.

    Args:
        groups: the groups; None for all. The list is emptied, so that it holds no references.
        files: the descriptors, as text, that are known to belong to the groups.
    """
    # With HARNESS_LEAKS=error, groups that stay open must be found before the test ends.
    waits = settings.TEARDOWN not in settings.TUNING.value() or settings.LEAKS.value() == "error"
    backends = [] if waits else list(_gloo_backends(_all_groups() if groups is None else groups))
    _destroy(groups)
    if groups is not None:
        groups.clear()
    if backends:
        _close_in_background(backends, files)


def closing_files() -> frozenset[str]:
    """Return the descriptors, as text, of destroyed groups that are not closed yet."""
    return frozenset().union(*(closing.files for closing in _closing if not closing.is_done))


def unclosed() -> Mapping[str, str]:
    """Return, by test, the destroyed groups that stay open since something still refers to them."""
    late = [closing for closing in _closing if not closing.is_done and not closing.is_busy]
    return {f"of {closing.test}": "destroyed, but still referred to" for closing in late}


class _Closing:
    """Process groups that a background thread is closing.

    Args:
        backends: the last references to them.
        files: their known descriptors, each with the file that it refers to.
    """

    def __init__(self, backends: list[Any], files: Mapping[str, str]) -> None:
        self.test = _test
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
    """Drop the last references to process groups; torch releases the GIL while it closes them."""
    references.clear()


def _close_in_background(backends: list[Any], files: frozenset[str]) -> None:
    _closing[:] = [closing for closing in _closing if not closing.is_done]
    if len(_closing) >= _MAX_CLOSING:
        _closing.pop(0).wait()
    # Other targets ("anon_inode:[eventpoll]") do not distinguish a descriptor from a later one with
    # the same number.
    known = {
        fd: target
        for fd, target in (open_files() if files else ())
        if fd in files and target.startswith(("socket:", "pipe:"))
    }
    _closing.append(_Closing(backends, known))


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


def _forget_in_a_fork() -> None:
    """Forget the closing groups in a fork, which has neither the threads nor the groups."""
    _kept_until_exit.extend(_closing)
    _closing.clear()


os.register_at_fork(after_in_child=_forget_in_a_fork)
