"""Correct rank tests whose ranks communicate through torch's own libraries.

The audit must find nothing.
"""

from __future__ import annotations

import os
import tempfile

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks, powerSGD_hook
from torch.distributed.algorithms.join import Join
from torch.distributed.algorithms.model_averaging.averagers import PeriodicModelAverager
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleGPipe
from torch.distributed.tensor import Shard, distribute_tensor
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)
from torch.nn.parallel import DistributedDataParallel

from harness import MultiProcessTestCase
from suites.samples.communicates import Threads


class Net(nn.Module):
    """Two layers; with `which`, only one of two branches."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.branches = nn.ModuleList([nn.Linear(8, 4), nn.Linear(8, 4)])

    def forward(self, x, which=None):
        x = self.first(x).relu()
        if which is None:
            return self.branches[0](x) + self.branches[1](x)
        return self.branches[which](x)


class Training(MultiProcessTestCase):
    world_size = 2
    isolation = "group"

    def steps(self, model, count=3, **kwargs):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(count):
            model(torch.rand(2, 8), **kwargs).sum().backward()
            optimizer.step()
            optimizer.zero_grad()

    def test_ddp(self):
        self.init_process_group()
        self.steps(DistributedDataParallel(Net()))

    def test_ddp_with_many_buckets(self):
        self.init_process_group()
        self.steps(
            DistributedDataParallel(Net(), bucket_cap_mb=0.0001, gradient_as_bucket_view=True)
        )

    def test_ddp_static_graph(self):
        self.init_process_group()
        self.steps(DistributedDataParallel(Net(), static_graph=True))

    def test_ddp_unused_parameters(self):
        self.init_process_group()
        # The ranks use other branches.
        self.steps(DistributedDataParallel(Net(), find_unused_parameters=True), which=self.rank)

    def test_ddp_no_sync(self):
        self.init_process_group()
        model = DistributedDataParallel(Net())
        with model.no_sync():
            for _ in range(1 + self.rank):
                model(torch.rand(2, 8)).sum().backward()
        self.steps(model)

    def test_ddp_buffers(self):
        self.init_process_group()
        self.steps(DistributedDataParallel(nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8))))

    def test_fp16_hook(self):
        self.init_process_group()
        model = DistributedDataParallel(Net())
        model.register_comm_hook(None, default_hooks.fp16_compress_hook)
        self.steps(model)

    def test_power_sgd_hook(self):
        self.init_process_group()
        # With several buckets, the hook's callbacks may occupy all of gloo's threads (torch 2.13).
        model = DistributedDataParallel(Net())
        state = powerSGD_hook.PowerSGDState(None, 1, start_powerSGD_iter=2)
        model.register_comm_hook(state, powerSGD_hook.powerSGD_hook)
        self.steps(model, 4)

    def test_own_hook(self):
        self.init_process_group()
        model = DistributedDataParallel(Net())
        group = dist.new_group()

        def mean(state, bucket):
            work = dist.all_reduce(bucket.buffer(), group=group, async_op=True)
            return work.get_future().then(lambda done: done.value()[0] / 2)

        model.register_comm_hook(None, mean)
        self.steps(model)

    def test_model_averaging(self):
        self.init_process_group()
        model = Net()
        averager = PeriodicModelAverager(period=2, warmup_steps=1)
        for _ in range(4):
            model(torch.rand(2, 8)).sum().backward()
            averager.average_parameters(model.parameters())

    def test_zero(self):
        self.init_process_group()
        model = DistributedDataParallel(Net())
        optimizer = ZeroRedundancyOptimizer(model.parameters(), torch.optim.Adam, lr=0.1)
        for _ in range(2):
            model(torch.rand(2, 8)).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        optimizer.consolidate_state_dict(to=0)

    def test_join(self):
        self.init_process_group()
        model = DistributedDataParallel(Net())
        optimizer = ZeroRedundancyOptimizer(model.parameters(), torch.optim.SGD, lr=0.1)
        with Join([model, optimizer]):
            for _ in range(2 + self.rank):
                model(torch.rand(2, 8)).sum().backward()
                optimizer.step()
                optimizer.zero_grad()

    def test_fully_shard(self):
        self.init_process_group()
        mesh = init_device_mesh("cpu", (self.world_size,))
        model = nn.Sequential(nn.Linear(8, 7), nn.Linear(7, 8), nn.Linear(8, 8))
        for layer in model:
            fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)
        model[0].set_modules_to_forward_prefetch([model[1]])
        model[2].set_modules_to_backward_prefetch([model[1]])
        self.steps(model)

    def test_tensor_parallel(self):
        self.init_process_group()
        mesh = init_device_mesh("cpu", (self.world_size,))
        model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
        parallelize_module(model, mesh, {"0": ColwiseParallel(), "2": RowwiseParallel()})
        self.steps(model)

    def pipeline(self, schedule_class):
        self.init_process_group()
        stage = PipelineStage(nn.Linear(8, 8), self.rank, 2, torch.device("cpu"))
        schedule = schedule_class(stage, n_microbatches=4, loss_fn=nn.functional.mse_loss)
        for _ in range(2):
            if self.rank == 0:
                schedule.step(torch.rand(8, 8))
            else:
                schedule.step(target=torch.rand(8, 8), losses=[])

    def test_pipeline_gpipe(self):
        self.pipeline(ScheduleGPipe)

    def test_pipeline_1f1b(self):
        self.pipeline(Schedule1F1B)

    def folder(self):
        folder = [tempfile.mkdtemp(dir=os.path.dirname(self.file_name)) if self.rank == 0 else ""]
        dist.broadcast_object_list(folder, src=0)
        return folder[0]

    def test_checkpoint(self):
        self.init_process_group()
        mesh = init_device_mesh("cpu", (self.world_size,))
        full = torch.arange(30.0).view(5, 6)
        folder = self.folder()
        dcp.save({"x": distribute_tensor(full, mesh, [Shard(0)])}, checkpoint_id=folder)
        loaded = {"x": distribute_tensor(torch.zeros(5, 6), mesh, [Shard(1)])}
        dcp.load(loaded, checkpoint_id=folder)
        self.assertEqual(loaded["x"].full_tensor(), full)

    def test_checkpoint_later(self):
        self.init_process_group()
        group = dist.new_group()
        saving = dcp.async_save(
            {"x": torch.ones(3)}, checkpoint_id=self.folder(), process_group=group
        )
        x = torch.ones(2)
        for _ in range(3):
            dist.all_reduce(x)
        saving.result()
        self.assertEqual(x[0].item(), 8.0)

    def test_rpc_beside_collectives(self):
        from torch.distributed import rpc

        self.init_process_group()
        options = rpc.TensorPipeRpcBackendOptions(init_method=f"file://{self.file_name}rpc")
        rpc.init_rpc(
            f"worker{self.rank}", rank=self.rank, world_size=2, rpc_backend_options=options
        )
        x = torch.ones(2)
        work = dist.all_reduce(x, async_op=True)
        total = rpc.rpc_sync(f"worker{1 - self.rank}", torch.add, (torch.ones(2), 1))
        work.wait()
        rpc.shutdown()
        self.assertEqual(total + x, torch.full((2,), 4.0))


class TrainingInProcesses(Training):
    isolation = "process"


class TrainingInThreads(Threads):
    world_size = 2

    def test_ddp(self):
        model = DistributedDataParallel(nn.Linear(8, 4))
        for _ in range(2):
            model(torch.rand(2, 8)).sum().backward()

    def test_tensor_parallel(self):
        mesh = init_device_mesh("cpu", (self.world_size,))
        model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
        parallelize_module(model, mesh, {"0": ColwiseParallel(), "2": RowwiseParallel()})
        model(torch.rand(2, 8)).sum().backward()
