"""What the report on each wrong program of `miscommunicates.py` must say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Declared:
    """What a report must say.

    Attributes:
        words: the problem.
        calls: by rank, the beginning of its call; "" for a rank that the report must not blame.
        on_threads: whether thread ranks have the operation.
    """

    words: str
    calls: dict[int, str]
    on_threads: bool = True


FAULTS: dict[str, Declared] = {}
NO_CALL = "does not call it"


def named(words: str, *, on_threads: bool = True, **calls: str) -> Callable[[Any], Any]:
    """Declare what the report of a test must say: `rank0="all_reduce SUM"`."""

    def declare(test: Any) -> Any:
        by_rank = {int(name.removeprefix("rank")): call for name, call in calls.items()}
        FAULTS[test.__name__] = Declared(words, by_rank, on_threads)
        return test

    return declare


def ones(*size: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.ones(*size, dtype=dtype)
