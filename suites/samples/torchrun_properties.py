"""Property tests for worlds that torchrun has started: what passes, and what is to be found."""

from __future__ import annotations

import os

import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import MultiProcessTestCase

# Some are longer than what goes through a channel at once.
LONG = st.integers(10, 100_000).map(lambda size: bytes(size))


class TestProperties(MultiProcessTestCase):
    world_size = 2

    @settings(max_examples=20)
    @given(numbers=st.lists(st.integers(-100, 100), max_size=5))
    def test_1_passes(self, numbers):
        self.init_process_group()
        x = torch.tensor([*numbers, self.rank])
        dist.all_reduce(x)
        self.assertEqual(x.tolist(), [2 * n for n in numbers] + [1])

    @settings(max_examples=10)
    @given(text=LONG)
    def test_2_long_values(self, text):
        self.assertRanksAgree(torch.tensor(len(text)))

    @settings(max_examples=20)
    @given(n=st.integers(0, 30))
    def test_3_wrong_on_one_rank(self, n):
        self.init_process_group()
        print(f"rank {self.rank} has {n}")
        x = torch.tensor(n)
        dist.all_reduce(x)
        if n >= 7 and self.rank == 1:
            x += 1
        self.assertEqual(x.item(), 2 * n)

    @settings(max_examples=10)
    @given(n=st.integers(0, 5))
    def test_4_kills_a_rank(self, n):
        self.init_process_group()
        if n >= 3 and self.rank == 1:
            os.abort()
        dist.barrier()

    def test_5_afterwards(self):
        self.init_process_group()
        dist.barrier()
