"""One seed for all generators that a test may draw from."""

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
        # Without a device, torch.manual_seed() only adds the noting of stack traces, 3 ms a rank.
        torch.default_generator.manual_seed(value)
    random.seed(value)
    np.random.seed(value % 2**32)
