"""Run one test with several world sizes, backends or devices, as separate tests.

Classes that use these decorators need `@instantiate_parametrized_tests`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

import torch

from harness.cases.decorators.devices import accelerator_count, backend_is_available, device_count
from harness.cases.decorators.parametrize import Instance, TestParametrizer, copy_of
from harness.cases.decorators.skips import REQUIRED_WORLD_SIZE, skip_unless_runnable
from harness.model.decorator_arguments import require_arguments
from harness.model.spec import check_world_size

__unittest = True  # unittest leaves the frames of such modules out of its tracebacks


class world_sizes(TestParametrizer):
    """Run a rank test once with each world size, as tests named `…_world_size_N`.

    Args:
        sizes: the world sizes.

    Raises:
        WorldSizeError: if a size is not an integer above zero.
        ValueError: if there are none.
        TypeError: if the decorator is written without arguments.
    """

    def __init__(self, *sizes: int) -> None:
        require_arguments(next(iter(sizes), None), "@world_sizes(2, 4)")
        if not sizes:
            raise ValueError("@world_sizes() needs at least one world size")
        self.sizes = [check_world_size(size, "@world_sizes") for size in sizes]

    def _parametrize_test(
        self, test: Callable[..., Any], generic_cls: type, device_cls: type | None
    ) -> Iterator[Instance]:
        for size in self.sizes:
            instance = copy_of(test)
            # The test's constructor reads this mark (`adopt_world_size`), so that the world size is
            # right before setUp.
            setattr(instance, REQUIRED_WORLD_SIZE, size)
            yield instance, f"world_size_{size}", {}, lambda _: ()


class backends(TestParametrizer):
    """Run a test once with each backend, as tests named `…_gloo`, `…_nccl`.

    The test gets the name as the argument `backend`, for `self.init_process_group(backend)`. A
    variant is skipped if torch was built without its backend, or if it needs more devices than the
    machine has (NCCL needs one for each rank).

    Args:
        names: c10d backends, including those that plugins register.

    Raises:
        ValueError: if there are none.
        TypeError: if the decorator is written without arguments.
    """

    def __init__(self, *names: str) -> None:
        require_arguments(next(iter(names), None), '@backends("gloo", "nccl")')
        if not names:
            raise ValueError("@backends() needs at least one backend")
        self.names = names

    def _parametrize_test(
        self, test: Callable[..., Any], generic_cls: type, device_cls: type | None
    ) -> Iterator[Instance]:
        for name in self.names:
            yield _on_backend(test, name), name, {}, lambda _: ()


def _on_backend(test: Callable[..., Any], backend: str) -> Callable[..., Any]:
    def condition(case: Any) -> str | None:
        if not backend_is_available(backend):
            return f"torch was built without the {backend} backend"
        if backend in _ONE_DEVICE_A_RANK and accelerator_count() < case.world_size:
            return (
                f"{backend} needs {case.world_size} devices, this machine has {accelerator_count()}"
            )
        return None

    @skip_unless_runnable(condition)
    @wraps(test)
    def on_backend(self: Any, *args: Any, **kwargs: Any) -> Any:
        return test(self, *args, backend=backend, **kwargs)

    return on_backend


# Two ranks of these backends cannot share a device: NCCL reports "Duplicate GPU detected".
_ONE_DEVICE_A_RANK = frozenset({"nccl", "nccl-lazy", "nccl2", "xccl", "hccl"})


class devices(TestParametrizer):
    """Run a test once on each type of device, as tests named `…_cpu`, `…_cuda`.

    The test gets the device as the argument `device`, a `torch.device`. Ranks take the devices of
    the machine in turn; if there are more ranks than devices, several share one. A variant is
    skipped if the machine has no device of its type.

    Args:
        types: device types, such as "cpu" and "cuda".

    Raises:
        ValueError: if there are none.
        TypeError: if the decorator is written without arguments.
    """

    def __init__(self, *types: str) -> None:
        require_arguments(next(iter(types), None), '@devices("cpu", "cuda")')
        if not types:
            raise ValueError("@devices() needs at least one device type")
        self.types = types

    def _parametrize_test(
        self, test: Callable[..., Any], generic_cls: type, device_cls: type | None
    ) -> Iterator[Instance]:
        for device_type in self.types:
            yield _on_device(test, device_type), device_type, {}, lambda _: ()


def _on_device(test: Callable[..., Any], device_type: str) -> Callable[..., Any]:
    def condition(case: Any) -> str | None:
        if device_count(device_type):
            return None
        return f"needs a {device_type.upper()} device, this machine has none"

    @skip_unless_runnable(condition)
    @wraps(test)
    def on_device(self: Any, *args: Any, **kwargs: Any) -> Any:
        return test(self, *args, device=_device_of(self, device_type), **kwargs)

    return on_device


def _device_of(case: Any, device_type: str) -> torch.device:
    if device_type == "cpu":
        return torch.device("cpu")
    return torch.device(device_type, max(0, getattr(case, "rank", 0)) % device_count(device_type))
