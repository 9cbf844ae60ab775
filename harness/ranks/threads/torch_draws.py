"""Have torch's operators draw from the calling thread's own generator.

Of all that torch marks as `nondeterministic_seeded`, only the operators whose kernel for the CPU
takes a generator do draw; the rest (dropout, `nn.init`, `torch.rand`, an LSTM) call these. So this
module registers a kernel for each of them, which passes the generator of the calling thread.

The kernels stand at torch's dispatch key BackendSelect, the last before the CPU's. It lies below
autograd, tracing, compilation, dispatch modes and tensor subclasses: none of them can notice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch
import torch.library

_KEY = "BackendSelect"

# torch's stubs lack most of it.
_C: Any = torch._C

#: The generator that operators draw from unless they are given another.
DEFAULT = torch.default_generator
_DEFAULTS_ADDRESS = DEFAULT._cdata  # type: ignore[attr-defined]


@cache
def redirect(own_generator: Callable[[], torch.Generator | None]) -> object:
    """Have the operators draw from what the function returns, or from the default if None.

    Once for the life of the process: while another thread may be in a kernel, it cannot be taken
    away. Where there is no generator of one's own, a draw takes some microseconds more.

    Returns:
        what keeps the kernels registered.
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
    """Whether it is torch's default generator, which `random_split` and others pass explicitly."""
    # What comes here from a call is another Python object for the same generator.
    return bool(generator._cdata == _DEFAULTS_ADDRESS)


def _kernel(
    op: Any, position: int, own_generator: Callable[[], torch.Generator | None]
) -> Callable[..., Any]:
    below = _C._dispatch_keyset_full_after(_C.DispatchKey.BackendSelect)
    cpu = _C.DispatchKey.CPU

    def kernel(keys: Any, *args: Any, **kwargs: Any) -> Any:
        own = own_generator()
        if own is not None and keys.has(cpu):
            given = args[position] if position < len(args) else kwargs.get("generator")
            if given is None or _is_default(given):
                args, kwargs = args[:position], {**kwargs, "generator": own}
        return op.redispatch(keys & below, *args, **kwargs)

    return kernel
