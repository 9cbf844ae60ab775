"""Replace PyTorch's test classes with classes that use this harness's ranks.

For test files and helpers that import PyTorch's names. PyTorch's TestCase stays the base class, so
its `assertEqual` and its policies still apply. Only two things change: how a test gets its ranks,
and the decorators that decide whether it needs any.
"""

from __future__ import annotations

import sys
from typing import Any

from harness.cases import thread_mixin
from harness.cases.classes import restore_after
from harness.cases.continuous_mixin import ContinuousTestMixin
from harness.cases.decorators import hardware, skips
from harness.cases.process_mixin import RankTestMixin
from harness.cases.thread_mixin import ThreadTestMixin


class _PutsBackMixin(RankTestMixin):
    """Restores WORLD_SIZE, which PyTorch's DistributedTestBase sets and never restores."""

    def setUp(self) -> None:
        super().setUp()
        restore_after(self, "WORLD_SIZE")


_CLASSES: dict[str, type] = {
    "MultiProcessTestCase": _PutsBackMixin,
    "MultiProcContinuousTest": ContinuousTestMixin,
    "MultiThreadedTestCase": ThreadTestMixin,
}
# The harness evaluates these in the parent, before it starts any process. PyTorch's versions run in
# every rank, and report by an exit code.
_FUNCTIONS = {
    "import_transformers_or_skip": hardware,
    "nccl_skip_if_lt_x_gpu": skips,
    "require_n_gpus_for_nccl_backend": hardware,
    "requires_gloo": skips,
    "requires_mpi": skips,
    "requires_nccl": skips,
    "requires_ucc": skips,
    "requires_xccl": skips,
    "skip_if_lt_x_gpu": skips,
    "skip_if_no_gpu": skips,
    "skip_if_odd_worldsize": skips,
    "skip_if_small_worldsize": skips,
    "skip_if_win32": skips,
    "spawn_threads_and_init_comms": thread_mixin,
}


def install() -> None:
    """Replace the names in PyTorch's modules, also where other test helpers have imported them.

    Call this before a test file is imported: in the parent, in the fork server and in spawned
    ranks. A second call does nothing.
    """
    from torch.testing._internal import common_distributed as theirs

    # Already replaced: forks of the fork server inherit the change.
    if issubclass(theirs.MultiProcessTestCase, RankTestMixin):
        return
    ours: dict[str, Any] = {
        **{name: getattr(module, name) for name, module in _FUNCTIONS.items()},
        **{name: _on_their_base(name, mixin, theirs) for name, mixin in _CLASSES.items()},
    }
    # Not every version of torch has all of these names: requires_xccl came with 2.15.
    found = [(getattr(theirs, name), new) for name, new in ours.items() if hasattr(theirs, name)]
    for old, new in found:
        _exchange(old, new)


def _on_their_base(name: str, mixin: type, theirs: Any) -> type:
    """Return a class with PyTorch's name and base, and this harness's ranks."""
    body = {
        "__module__": theirs.__name__,
        "__doc__": mixin.__doc__,
        # PyTorch's TestCase stops a whole run after a CUDA error, which would have broken its
        # process. Here the error only breaks a rank.
        "_should_stop_test_suite": lambda self: False,
    }
    return type(name, (mixin, theirs.TestCase), body)


def _exchange(old: Any, new: Any) -> None:
    """Replace the old object in all imported modules of PyTorch's test helpers."""
    # Subclasses that exist already (DistributedTestBase) keep their old base unless it is changed.
    if isinstance(old, type):
        derived: type
        for derived in type.__subclasses__(old):
            derived.__bases__ = tuple(new if base is old else base for base in derived.__bases__)
    for name, module in list(sys.modules.items()):
        if name.startswith("torch.testing._internal."):
            for attribute, value in list(vars(module).items()):
                if value is old:
                    setattr(module, attribute, new)
