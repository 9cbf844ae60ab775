"""Seed all random generators that a test may use."""

from __future__ import annotations

import random

import numpy as np
import torch

from harness.model import settings


def set_rng_seed(seed: int | None = None) -> None:
    """Seed Python's, NumPy's and torch's (CPU and devices) generators.

    Args:
        seed: the seed; by default the run's own (`--seed`, HARNESS_SEED, 1234).
    """
    value = settings.SEED.value() if seed is None else seed
    if torch.accelerator.is_available():
        torch.manual_seed(value)
    else:
        # torch.manual_seed() records a stack trace for lazily initialized devices, which costs 3 ms
        # in every rank (torch 2.13). Without a device there is nothing more to seed.
        torch.default_generator.manual_seed(value)
    random.seed(value)
    np.random.seed(value % 2**32)  # NumPy rejects larger seeds
