"""The mixin for `MultiProcContinuousTest`: the process group is up before each test starts.

PyTorch's class keeps one world for all tests of a class, and skips the rest after one failure. Here
tests share a world as long as each leaves it unchanged; after one that does not, the next test gets
a fresh world.
"""

from __future__ import annotations

import inspect
import os
import unittest
from datetime import timedelta
from typing import Any, ClassVar

import torch
import torch.distributed as dist

from harness.cases.decorators.devices import current_accelerator, why_backend_cannot_run
from harness.cases.hooks import CONTINUOUS_HOOKS
from harness.cases.process_mixin import RankTestMixin
from harness.cases.process_ranks import ProcessRanks
from harness.cases.require_torch import require_distributed
from harness.cases.world_mixin import UNSET
from harness.model.spec import NONE
from harness.ranks import this_rank
from harness.ranks.this_rank import ProcessRank

# Backends that torch may have been built without. Other names are backends that the test registers.
_OPTIONAL_BACKENDS = frozenset({"gloo", "mpi", "nccl", "nccl-lazy", "nccl2", "ucc", "xccl"})


class ContinuousRanks(ProcessRanks):
    """The processes of one test, whose process group is up before the test starts."""

    hooks = CONTINUOUS_HOOKS
    usual_isolation = NONE

    @classmethod
    def enter(
        cls,
        test_class: Any,
        rank: int,
        test_name: str,
        file_name: str,
        pipe: ProcessRank,
        **kwargs: Any,
    ) -> None:
        # Don't call `_run` here. Classes that serve both MultiProcessTestCase and this class
        # (torch's FSDP tests) define a `_run` that only fits the former.
        # The class attributes too: PyTorch's tests read `self.rank` in class methods.
        case = test_class(test_name)
        case.rank = test_class.rank = rank
        case.file_name = test_class.rdvz_file = file_name
        world_size = case.world_size
        # This also replaces a property by its value, as PyTorch's workers do.
        test_class.world_size = world_size

        def bring_up() -> None:
            require_distributed()
            test_class._init_pg(rank, world_size, file_name)

        pipe.bring_up_group(test_class.isolation or NONE, _group_key(test_class), bring_up)
        os.environ["LOCAL_RANK"] = str(rank)
        pipe.note_environment()
        test_class.pg = dist.distributed_c10d._get_default_group()
        case.run_test(test_name, pipe)

    def leave_process_group(self, rank: ProcessRank) -> None:
        # A reference to the group keeps its sockets open. `enter` sets it again for the next test.
        type(self.case).pg = None
        super().leave_process_group(rank)


class ContinuousTestMixin(RankTestMixin):
    """Initialize a process group in every rank before its test; see `MultiProcContinuousTest`."""

    __harness_ranks__ = ContinuousRanks

    rank: int = UNSET
    world_size: int = UNSET
    #: The process group's timeout.
    timeout: timedelta = timedelta(seconds=120)
    #: Always False: after a failure the other tests of the class still run.
    poison_pill: ClassVar[bool] = False
    _processes_spawned: ClassVar[bool] = False

    pg: Any
    rdvz_file: str | None = None

    @classmethod
    def backend_str(cls) -> str | None:
        """Return the backend; None lets torch choose one by the tensors' device."""
        return None

    @classmethod
    def device_type(cls) -> str:
        """Return the device type of the tests: the machine's accelerator, or else "cpu"."""
        accelerator = current_accelerator()
        return "cpu" if accelerator is None else accelerator.type

    @classmethod
    def opts(cls, high_priority_stream: bool = False) -> Any:
        """Return options for the process group; None for the backend's defaults."""
        return None

    @classmethod
    def _init_pg(cls, rank: int, world_size: int, rdvz_file: str) -> None:
        """Initialize the default process group in a rank."""
        os.environ["LOCAL_RANK"] = str(rank)
        dist.init_process_group(
            backend=cls.backend_str(),
            world_size=world_size,
            rank=rank,
            store=this_rank.store().for_group(rdvz_file, world_size),
            pg_options=cls.opts(),
            timeout=cls.timeout,
        )
        cls.pg = dist.distributed_c10d._get_default_group()

    # The parent's side

    def setUp(self) -> None:
        super().setUp()
        # A property has no setter, and computes the world size itself.
        if not isinstance(inspect.getattr_static(self, "world_size"), property):
            self.world_size = _chosen_world_size(self)

    def _spawn_processes(self) -> None:
        # Some of PyTorch's tests set `backend_str` to a string instead of overriding the method.
        backend = self.backend_str() if callable(self.backend_str) else self.backend_str
        reason = why_backend_cannot_run(backend) if backend in _OPTIONAL_BACKENDS else None
        if reason is not None:
            raise unittest.SkipTest(reason)
        super()._spawn_processes()


def _chosen_world_size(case: ContinuousTestMixin) -> int:
    """Return the class's world size, or else the number of devices.

    Raises:
        unittest.SkipTest: if there is no device.
    """
    if case.world_size != UNSET:
        return case.world_size
    kind = _device_type_of_ranks(case)
    count = int(torch.get_device_module(kind).device_count())
    if count == 0:
        raise unittest.SkipTest(f"this machine has no {kind} device")
    return count


def _device_type_of_ranks(case: ContinuousTestMixin) -> str:
    """Return the type of device that each rank gets one of."""
    # torch's instantiate_device_type_tests replaces the method with a string.
    if not callable(case.device_type):
        return case.device_type
    if inspect.getattr_static(case, "device_type") is not vars(ContinuousTestMixin)["device_type"]:
        return case.device_type()
    # A class without a world size wants one rank for each GPU if torch was built for GPUs. As with
    # PyTorch's harness, it is skipped on a machine that has none.
    built_for = torch.accelerator.current_accelerator()
    return "cpu" if built_for is None else built_for.type


def _group_key(test_class: Any) -> object:
    """Return a key that is equal for two classes which may share a process group.

    A class that overrides `_init_pg` or `opts` shares its group only with itself: two overrides
    cannot be compared.
    """
    ours: Any = ContinuousTestMixin
    is_ours = test_class._init_pg.__func__ is ours._init_pg.__func__
    is_plain = is_ours and test_class.opts.__func__ is ours.opts.__func__
    owner = None if is_plain else f"{test_class.__module__}.{test_class.__qualname__}"
    backend = test_class.backend_str
    return ("continuous", owner, backend() if callable(backend) else backend, test_class.timeout)
