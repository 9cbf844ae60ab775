"""Rank tests that ask for nodes; each rank writes what it is told of them to a file."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import torch
import torch.distributed as dist

from harness import MultiProcessTestCase, isolation, nodes
from harness.cases.decorators.skips import requires_world_size

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK")


class Recording(MultiProcessTestCase):
    world_size = 4

    def record(self):
        told = {name: os.environ.get(name) for name in (*NAMES, "CUDA_VISIBLE_DEVICES")}
        told |= {"host": socket.gethostname(), "pid": os.getpid()}
        self.assertEqual(socket.getfqdn(), socket.getfqdn(socket.gethostname()))
        Path(os.environ["SAMPLE_OUT"], f"rank{self.rank}").write_text(repr(told))

    @nodes(2)
    def test_place(self):
        self.record()

    @nodes(3)
    def test_uneven(self):
        self.record()

    @nodes(2)
    def test_by_the_environment(self):
        dist.init_process_group("gloo")
        x = torch.ones(1)
        dist.all_reduce(x)
        self.assertEqual(x.item(), 4)
        self.assertTrue(dist.is_torchelastic_launched())
        self.record()

    @nodes(5)
    def test_too_many_nodes(self):
        raise AssertionError("it ran")

    @nodes(2)
    @isolation("group")
    @requires_world_size(2, allow_cpu=True)
    def test_stays_1(self):
        dist.init_process_group("gloo")
        self.record()

    @nodes(2)
    @isolation("group")
    @requires_world_size(2, allow_cpu=True)
    def test_stays_2(self):
        dist.init_process_group("gloo")
        self.record()

    @isolation("group")
    @requires_world_size(2, allow_cpu=True)
    def test_stays_without_nodes(self):
        self.record()


@nodes(3)
class OnThreeNodes(MultiProcessTestCase):
    world_size = 3

    def test_groups(self):
        self.assertEqual(os.environ["GROUP_RANK"], str(self.rank))
        self.assertEqual(os.environ["GROUP_WORLD_SIZE"], "3")


class OnNoNode(MultiProcessTestCase):
    nodes = 0

    def test_place(self):
        raise AssertionError("it ran")
