"""Puts our ranks in the place of PyTorch's, for test files and helpers that import PyTorch's names.

The only place in the project that changes what belongs to others. PyTorch's TestCase stays the base
class, so that its `assertEqual` and its policies hold; what is exchanged is how a test gets ranks,
and the decorators that decide whether it needs any.
"""

from __future__ import annotations

import sys
from typing import Any

from harness.cases import skips
from harness.cases.rank_tests import RankTestMixin

# Ours ask in the parent, before any process exists; theirs in every rank, by its exit code.
_DECORATORS = (
    "nccl_skip_if_lt_x_gpu",
    "requires_gloo",
    "requires_mpi",
    "requires_nccl",
    "requires_ucc",
    "skip_if_lt_x_gpu",
    "skip_if_odd_worldsize",
    "skip_if_small_worldsize",
    "skip_if_win32",
)


def install() -> None:
    """Exchange the names, in PyTorch's modules and wherever they have been imported to.

    Called before a test file is imported: in the parent, in the fork server and in spawned ranks.
    A second call does nothing.
    """
    from torch.testing._internal import common_distributed as theirs

    if issubclass(theirs.MultiProcessTestCase, RankTestMixin):
        return
    ours: dict[str, Any] = {name: getattr(skips, name) for name in _DECORATORS}
    ours["MultiProcessTestCase"] = _rank_test_case(theirs)
    for old, new in [(getattr(theirs, name), new) for name, new in ours.items()]:
        _exchange(old, new)


def _rank_test_case(theirs: Any) -> type:
    class MultiProcessTestCase(RankTestMixin, theirs.TestCase):
        """PyTorch's class of this name, with our ranks."""

        # One failing test is no reason to leave out the others.
        def _should_stop_test_suite(self) -> bool:
            return False

    MultiProcessTestCase.__module__ = theirs.__name__
    MultiProcessTestCase.__qualname__ = "MultiProcessTestCase"
    return MultiProcessTestCase


def _exchange(old: Any, new: Any) -> None:
    """Put the new object wherever a module of PyTorch's test helpers has the old one."""
    if isinstance(old, type):
        derived: type
        for derived in type.__subclasses__(old):
            derived.__bases__ = tuple(new if base is old else base for base in derived.__bases__)
    for name, module in list(sys.modules.items()):
        if name.startswith("torch.testing._internal."):
            for attribute, value in list(vars(module).items()):
                if value is old:
                    setattr(module, attribute, new)
