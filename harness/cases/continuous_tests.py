"""The mixin for PyTorch's classes whose ranks find a process group of the class's own choosing.

PyTorch's keeps one world for all tests of a class, and after one failure skips the rest of them.
Here tests share a world as long as each leaves it as it was; after one that does not, the next gets
a fresh one.
"""

from __future__ import annotations

import inspect
import os
import unittest
from datetime import timedelta
from typing import Any, ClassVar

import torch
import torch.distributed as dist

from harness.cases.devices import backend_is_available
from harness.cases.hooks import CONTINUOUS_HOOKS
from harness.cases.rank_tests import RankTestMixin
from harness.cases.require_torch import require_distributed
from harness.cases.world_tests import UNSET
from harness.model.spec import NONE
from harness.ranks import child_kept_group, child_stay
from harness.ranks.child_store import store_for_group

# Those that torch may have been built without.
_OPTIONAL_BACKENDS = frozenset({"gloo", "mpi", "nccl", "ucc", "xccl"})


class ContinuousTestMixin(RankTestMixin):
    """Bring up a process group in every rank before its test; see `MultiProcContinuousTest`."""

    _HOOKS = CONTINUOUS_HOOKS
    # Classes that serve both bases (torch's FSDP tests) have a `_run` of their own for the other.
    _ENTRY = "_run_with_group"
    _USUAL_ISOLATION = NONE

    rank: int = UNSET
    world_size: int = UNSET
    #: How long the process group waits.
    timeout: timedelta = timedelta(seconds=120)
    #: Always False: a failure does not keep the other tests of the class from being run.
    poison_pill: ClassVar[bool] = False
    _processes_spawned: ClassVar[bool] = False

    pg: Any
    rdvz_file: str | None = None

    @classmethod
    def backend_str(cls) -> str | None:
        """The backend; None for torch's choice by the tensors' device."""
        return None

    @classmethod
    def device_type(cls) -> str:
        """The type of device that the tests run on."""
        accelerator = torch.accelerator.current_accelerator()
        return "cpu" if accelerator is None else accelerator.type

    @classmethod
    def opts(cls, high_priority_stream: bool = False) -> Any:
        """Options of the process group; None for the backend's own."""
        return None

    @classmethod
    def _init_pg(cls, rank: int, world_size: int, rdvz_file: str) -> None:
        """Bring up the default process group in a rank."""
        os.environ["LOCAL_RANK"] = str(rank)
        dist.init_process_group(
            backend=cls.backend_str(),
            world_size=world_size,
            rank=rank,
            store=store_for_group(rdvz_file, world_size),
            pg_options=cls.opts(),
            timeout=cls.timeout,
        )
        cls.pg = dist.distributed_c10d._get_default_group()

    # The parent's side

    def setUp(self) -> None:
        super().setUp()
        if not isinstance(inspect.getattr_static(self, "world_size"), property):
            self.world_size = self._chosen_world_size()

    def _spawn_processes(self) -> None:
        backend = self.backend_str() if callable(self.backend_str) else self.backend_str
        if backend in _OPTIONAL_BACKENDS and not backend_is_available(backend):
            raise unittest.SkipTest(f"torch was built without the {backend} backend")
        super()._spawn_processes()

    def _chosen_world_size(self) -> int:
        """What the class says; else a rank for each device.

        Raises:
            unittest.SkipTest: if there is no device.
        """
        if self.world_size != UNSET:
            return self.world_size
        # instantiate_device_type_tests puts a string in the method's place.
        kind = self.device_type() if callable(self.device_type) else self.device_type
        count = int(torch.get_device_module(kind).device_count())
        if count == 0:
            raise unittest.SkipTest(f"this machine has no {kind} device")
        return count

    # The rank's side

    @classmethod
    def _run_with_group(
        cls, rank: int, test_name: str, file_name: str, parent_pipe: Any, **kwargs: Any
    ) -> None:
        """The entry of a rank."""
        self = cls(test_name)
        self.rank = cls.rank = rank
        self.file_name = cls.rdvz_file = file_name
        world_size = self.world_size
        cls.world_size = world_size  # also where it was a property, as PyTorch's workers do

        def bring_up() -> None:
            require_distributed()
            cls._init_pg(rank, world_size, file_name)

        child_kept_group.bring_up(cls.isolation or NONE, cls._group_key(), bring_up)
        os.environ["LOCAL_RANK"] = str(rank)
        child_stay.note_environment()
        cls.pg = dist.distributed_c10d._get_default_group()
        self.run_test(test_name, parent_pipe)

    def _leave_process_group(self, exits: bool) -> None:
        # Whoever holds the group holds its sockets; a group that is kept is found again.
        type(self).pg = None
        super()._leave_process_group(exits)

    @classmethod
    def _group_key(cls) -> object:
        """What must be the same for two classes to share a process group."""
        is_ours = cls._init_pg.__func__ is ContinuousTestMixin._init_pg.__func__  # type: ignore[attr-defined]
        is_plain = is_ours and cls.opts.__func__ is ContinuousTestMixin.opts.__func__  # type: ignore[attr-defined]
        owner = None if is_plain else f"{cls.__module__}.{cls.__qualname__}"
        backend = cls.backend_str() if callable(cls.backend_str) else cls.backend_str
        return ("continuous", owner, backend, cls.timeout)
