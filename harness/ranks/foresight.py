"""Which parts of torch a test module's ranks are going to import while they run.

torch leaves its heaviest modules until they are first used, which for fresh ranks is in every rank
of every test. A look at the test's source tells what will be used; a wrong guess costs time only,
and what was not foreseen is learnt from the ranks.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable
from functools import cache

# Sign in the source, and what torch 2.13 then imports at first use:
# - backward() of anything with an explicit gradient: symbolic_shapes, with sympy, 0.5 s a rank;
# - the first DistributedDataParallel, FSDP or compiled function: dynamo as well, 1.5 s a rank.
_SIGNS: tuple[tuple[tuple[bytes, ...], str], ...] = (
    ((b"backward", b"autograd", b"gradcheck"), "torch.fx.experimental.symbolic_shapes"),
    (
        (b"DistributedDataParallel", b"FullyShardedDataParallel", b"fully_shard", b"torch.compile"),
        "torch._dynamo",
    ),
)


def foreseen(modules: Iterable[str]) -> list[str]:
    """The modules of torch to import beforehand for ranks of these test modules."""
    found = dict.fromkeys(name for module in modules for name in _foreseen(module))
    return list(found)


@cache
def _foreseen(module: str) -> tuple[str, ...]:
    source = _source_of(module)
    return tuple(name for signs, name in _SIGNS if any(sign in source for sign in signs))


def _source_of(module: str) -> bytes:
    try:
        with open(_file_of(module), "rb") as file:
            return file.read()
    except (OSError, ImportError, AttributeError, TypeError, ValueError):
        return b""


def _file_of(module: str) -> str:
    if module in sys.modules:
        return str(sys.modules[module].__file__)
    spec = importlib.util.find_spec(module)
    return str(spec.origin if spec else None)
