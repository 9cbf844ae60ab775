"""Small helpers for tests, with PyTorch's names."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import random
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial, wraps
from typing import Any, TypeVar, overload

from harness.model.decorator_arguments import require_arguments
from harness.model.returned import check_returned
from harness.model.temporarily import changed

#: The error message starts with this if another socket uses the address.
ADDRESS_IN_USE = "Address already in use"
#: The error message if a connection was not made in time.
CONNECT_TIMEOUT = "connect() timed out."

T = TypeVar("T", bound=Callable[..., Any])

_MAX_ATTEMPTS = 10
# A private generator: a test's random numbers must not depend on whether a port was free.
_RANDOM = random.Random()


@contextlib.contextmanager
def captured_output() -> Iterator[tuple[io.StringIO, io.StringIO]]:
    """Capture what Python prints to stdout and stderr; yields the two StringIO objects."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        yield out, err


@contextlib.contextmanager
def TemporaryFileName(*args: Any, **kwargs: Any) -> Iterator[str]:
    """Yield the path of a temporary file, removed at the end; arguments of NamedTemporaryFile."""
    with tempfile.NamedTemporaryFile(*args, **kwargs) as file:
        yield file.name


@contextlib.contextmanager
def TemporaryDirectoryName(suffix: str | None = None) -> Iterator[str]:
    """Yield the path of a temporary folder, removed at the end with its contents."""
    with tempfile.TemporaryDirectory(suffix=suffix) as folder:
        yield folder


def find_free_port() -> int:
    """Return a free port of the loopback address; another process may take it at any time.

    Prefer a server that binds to port 0, such as `tcp_store()`: it does not have this race.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("localhost", 0))
        return int(sock.getsockname()[1])


@overload
def retry_on_connect_failures(func: T, connect_errors: Sequence[str] | str = ...) -> T: ...


@overload
def retry_on_connect_failures(
    func: None = None, connect_errors: Sequence[str] | str = ...
) -> Callable[[T], T]: ...


def retry_on_connect_failures(
    func: Callable[..., Any] | None = None, connect_errors: Sequence[str] | str = (ADDRESS_IN_USE,)
) -> Any:
    """Decorator: make up to ten attempts while a RuntimeError contains one of these texts.

    Args:
        func: what to call; left out where the decorator has arguments.
        connect_errors: texts, one of which must be in the error's message.

    Raises:
        RuntimeError: if the last attempt fails too; its cause is the last error.
    """
    if func is None:
        return partial(retry_on_connect_failures, connect_errors=connect_errors)
    texts = (connect_errors,) if isinstance(connect_errors, str) else tuple(connect_errors)
    function = func

    @wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        for attempt in itertools.count(1):
            try:
                return function(*args, **kwargs)
            except RuntimeError as error:
                if not any(text in str(error) for text in texts):
                    raise
                if attempt == _MAX_ATTEMPTS:
                    raise RuntimeError(
                        f"{function.__qualname__} failed all {_MAX_ATTEMPTS} attempts; the last "
                        f"error: {error}"
                    ) from error
            # Back off: the port's owner needs time to release it. The random delay keeps the
            # ranks from retrying all at once.
            time.sleep(_RANDOM.uniform(0, 0.1 * attempt))
        raise AssertionError("unreachable")

    return wrapper


def with_dist_debug_levels(levels: Sequence[str]) -> Callable[[T], T]:
    """Decorator: run a rank test once for each level of TORCH_DISTRIBUTED_DEBUG.

    Args:
        levels: some of "OFF", "INFO" and "DETAIL".

    Raises:
        TypeError: if the decorator is written without an argument.
    """
    require_arguments(levels, '@with_dist_debug_levels(["DETAIL"])')

    def decorator(func: T) -> T:
        @wraps(func)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            result = None
            for level in levels:
                with _debug_level(level):
                    result = func(*args, **kwargs)
                    _barrier()
            return result

        return wrapper  # type: ignore[return-value]

    return decorator


@contextlib.contextmanager
def _debug_level(level: str) -> Iterator[None]:
    # c10d caches the level, so it has to read the environment again, also afterwards.
    from torch._C._distributed_c10d import set_debug_level_from_env

    try:
        with changed(os.environ, {"TORCH_DISTRIBUTED_DEBUG": level}):
            set_debug_level_from_env()
            yield
    finally:
        set_debug_level_from_env()


def run_subtests(
    cls_inst: Any,
    subtest_config: Mapping[str, Sequence[Any]],
    test_fn: Callable[..., Any],
    *test_args: Any,
    **test_kwargs: Any,
) -> None:
    """Call a function once for each combination of values, each as a subtest of a rank test.

    All subtests use the same ranks and process group; a barrier follows each of them.

    Args:
        cls_inst: the test.
        subtest_config: name of a keyword argument to its values.
        test_fn: what to call.
        test_args, test_kwargs: passed on every time.
    """
    for values in itertools.product(*subtest_config.values()):
        chosen = dict(zip(subtest_config, values, strict=True))
        with cls_inst.subTest(**chosen):
            # Dynamo's cache and its recompile limit would carry over between the subtests.
            _reset_dynamo()
            check_returned(test_fn(*test_args, **test_kwargs, **chosen), test_fn)
            _reset_dynamo()
        _barrier()


def _reset_dynamo() -> None:
    dynamo = sys.modules.get("torch._dynamo")
    if dynamo is not None:
        dynamo.reset()


def _barrier() -> None:
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        dist.barrier()
