"""Make torch's operators draw from the calling thread's own generator.

Only operators whose CPU kernel takes a generator draw random numbers. Everything else that is
random (dropout, `nn.init`, `torch.rand`, an LSTM) calls these. So this module registers a kernel
for each of them, which passes the generator of the calling thread to the CPU kernel.

The kernels are registered for the dispatch key BackendSelect, which comes directly before the CPU's
(torch 2.13). It is below autograd, tracing, compilation, dispatch modes and tensor subclasses, so
none of these notice the kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch
import torch.library

_KEY = "BackendSelect"

# torch's type stubs lack most of what is used here.
_C: Any = torch._C

#: The generator from which operators draw if they get no other.
DEFAULT = torch.default_generator
_DEFAULTS_ADDRESS = DEFAULT._cdata  # type: ignore[attr-defined]


@cache
def redirect(own_generator: Callable[[], torch.Generator | None]) -> object:
    """Make the operators draw from the generator that a function returns.

    The kernels stay registered until the process ends: torch cannot safely remove a kernel while
    another thread may be in it. Outside thread ranks they cost some microseconds for each draw.

    Args:
        own_generator: returns the generator of the calling thread; None for the default one.

    Returns:
        the library; the kernels are registered as long as it exists.
    """
    library = torch.library.Library("aten", "IMPL", _KEY)
    for op, position in operators_that_draw():
        library.impl(op, _kernel(op, position, own_generator), _KEY, with_keyset=True)
    return library


def operators_that_draw() -> Iterator[tuple[Any, int]]:
    """Yield each operator with the position of the generator in its arguments."""
    for name in _C._dispatch_get_registrations_for_dispatch_key("CPU"):
        packet, _, overload = name.partition(".")
        if not packet.startswith("aten::"):
            continue
        arguments = [each.name for each in _C._get_schema(packet, overload).arguments]
        if "generator" in arguments:
            op = getattr(getattr(torch.ops.aten, packet[6:]), overload or "default")
            yield op, arguments.index("generator")


def _is_default(generator: Any) -> bool:
    """Whether this is torch's default generator; `random_split` and others pass it explicitly."""
    # The dispatcher creates another Python object for the same C++ generator, so compare addresses.
    return bool(generator._cdata == _DEFAULTS_ADDRESS)


def _kernel(
    op: Any, position: int, own_generator: Callable[[], torch.Generator | None]
) -> Callable[..., Any]:
    below = _C._dispatch_keyset_full_after(_C.DispatchKey.BackendSelect)
    cpu = _C.DispatchKey.CPU

    def kernel(keys: Any, *args: Any, **kwargs: Any) -> Any:
        own = own_generator()
        if own is not None and keys.has(cpu):
            passed = args[position] if position < len(args) else kwargs.get("generator")
            if passed is None or _is_default(passed):
                args, kwargs = args[:position], {**kwargs, "generator": own}
        return op.redispatch(keys & below, *args, **kwargs)

    return kernel
