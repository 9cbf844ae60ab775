"""A test on each base class for ranks that ships in torch.testing._internal, on CPU."""

import torch
import torch.distributed as dist
from torch.distributed._shard import sharded_tensor
from torch.distributed._shard.sharding_spec import ChunkShardingSpec
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Shard, distribute_tensor
from torch.testing._internal.common_distributed import (
    DistributedTestBase,
    MultiProcContinuousTest,
    MultiProcessTestCase,
    MultiThreadedTestCase,
    spawn_threads_and_init_comms,
)
from torch.testing._internal.common_fsdp import FSDPTest, FSDPTestContinuous, FSDPTestMultiThread
from torch.testing._internal.common_utils import TestCase, run_tests
from torch.testing._internal.distributed._shard.sharded_tensor import (
    ShardedTensorTestBase,
)
from torch.testing._internal.distributed._shard.sharded_tensor import (
    with_comms as with_sharding_comms,
)
from torch.testing._internal.distributed._tensor.common_dtensor import (
    DTensorContinuousTestBase,
    DTensorOpTestBase,
    DTensorTestBase,
    create_local_tensor_test_class,
    with_comms,
)


def check_sum(test):
    x = torch.ones(2)
    dist.all_reduce(x)
    test.assertEqual(x, torch.full((2,), float(dist.get_world_size())))


def check_tensor(test, mesh):
    full = torch.arange(8.0).reshape(4, 2)
    sharded = distribute_tensor(full, mesh, [Shard(0)])
    test.assertEqual((sharded + sharded).full_tensor(), full + full)


class Processes(MultiProcessTestCase):
    world_size = 2

    def setUp(self):
        super().setUp()
        self._spawn_processes()

    def test_sum(self):
        store = dist.FileStore(self.file_name, self.world_size)
        dist.init_process_group("gloo", store=store, rank=self.rank, world_size=self.world_size)
        check_sum(self)


class OnDevice(DistributedTestBase):
    world_size = 2

    def test_sum(self):
        self.create_pg("cpu")
        check_sum(self)


class Continuous(MultiProcContinuousTest):
    world_size = 2

    @classmethod
    def backend_str(cls):
        return "gloo"

    def test_sum(self):
        self.assertEqual(self.pg.size(), 2)
        check_sum(self)

    def test_skip(self):
        self.skipTest("in every rank")


class ContinuousFailing(MultiProcContinuousTest):
    world_size = 2

    @classmethod
    def backend_str(cls):
        return "gloo"

    def test_a_fails(self):
        self.assertEqual(self.rank, 0)

    def test_b_sum(self):
        check_sum(self)


class Threads(MultiThreadedTestCase):
    @property
    def world_size(self):
        return 3

    def setUp(self):
        super().setUp()
        self._spawn_threads()

    def test_sum(self):
        check_sum(self)


class ThreadsOfATest(TestCase):
    @spawn_threads_and_init_comms(world_size=3)
    def test_sum(self):
        check_sum(self)


class Tensors(DTensorTestBase):
    world_size = 2

    @with_comms
    def test_shard(self):
        check_tensor(self, self.build_device_mesh())


class TensorsInThreads(DTensorOpTestBase):
    world_size = 4

    def test_shard(self):
        check_tensor(self, self.build_device_mesh())


class TensorsContinuous(DTensorContinuousTestBase):
    world_size = 2

    def test_shard(self):
        check_tensor(self, self.build_device_mesh())


# Without ranks: one process that acts for all.
TensorsLocal = create_local_tensor_test_class(Tensors)
TensorsLocal.__module__ = __name__


class Sharded(ShardedTensorTestBase):
    world_size = 2

    @with_sharding_comms(init_rpc=False, backend="gloo")
    def test_ones(self):
        spec = ChunkShardingSpec(dim=0, placements=["rank:0/cpu", "rank:1/cpu"])
        shards = sharded_tensor.ones(spec, 4, 4).local_shards()
        self.assertEqual(shards[0].tensor, torch.ones(2, 4))


class FullySharded(FSDPTest):
    world_size = 2

    def test_skips_without_accelerators(self):
        dist.barrier()


class FullyShardedContinuous(FSDPTestContinuous):
    world_size = 2

    def test_skips_without_accelerators(self):
        dist.barrier()


class FullyShardedInThreads(FSDPTestMultiThread):
    world_size = 2

    def test_gradients(self):
        model = torch.nn.Linear(4, 4)
        fully_shard(model, mesh=init_device_mesh("cpu", (2,)))
        model(torch.ones(2, 4)).sum().backward()
        self.assertEqual(model.weight.grad.full_tensor(), torch.full((4, 4), 2.0))


if __name__ == "__main__":
    run_tests()
