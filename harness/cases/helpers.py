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

from harness.model.returned import check_returned
from harness.model.temporarily import changed

#: How the message of an error begins whose address another socket has.
ADDRESS_IN_USE = "Address already in use"
#: The message of an error when a connection was not made in time.
CONNECT_TIMEOUT = "connect() timed out."

T = TypeVar("T", bound=Callable[..., Any])

_TRIES = 10
# Of its own: a test's random numbers must not depend on whether a port was free.
_RANDOM = random.Random()


@contextlib.contextmanager
def captured_output() -> Iterator[tuple[io.StringIO, io.StringIO]]:
    """Have what Python prints to stdout and stderr go to two strings meanwhile; yields them."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        yield out, err


@contextlib.contextmanager
def TemporaryFileName(*args: Any, **kwargs: Any) -> Iterator[str]:
    """The path of a temporary file that goes at the end; arguments as for NamedTemporaryFile."""
    with tempfile.NamedTemporaryFile(*args, **kwargs) as file:
        yield file.name


@contextlib.contextmanager
def TemporaryDirectoryName(suffix: str | None = None) -> Iterator[str]:
    """The path of a temporary folder that goes at the end, with all in it."""
    with tempfile.TemporaryDirectory(suffix=suffix) as folder:
        yield folder


def find_free_port() -> int:
    """A port of the loopback address that is free now, though maybe not for long.

    A server that chooses its port itself (`tcp_store()`, port 0) has no such gap.
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
    """Decorator: call again, ten times at most, if a RuntimeError tells of one of these errors.

    Args:
        func: what to call; left out where the decorator has arguments.
        connect_errors: texts, one of which must be in the error's message.

    Raises:
        RuntimeError: at the last try, from the error of that try.
    """
    if func is None:
        return partial(retry_on_connect_failures, connect_errors=connect_errors)
    texts = (connect_errors,) if isinstance(connect_errors, str) else tuple(connect_errors)
    function = func

    @wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        for tries in itertools.count(1):
            try:
                return function(*args, **kwargs)
            except RuntimeError as error:
                if not any(text in str(error) for text in texts):
                    raise
                if tries == _TRIES:
                    raise RuntimeError(
                        f"{function.__qualname__} has failed {_TRIES} times, at last with: {error}"
                    ) from error
            # Whoever has the port needs a moment, and ranks should not come back all at once.
            time.sleep(_RANDOM.uniform(0, 0.1 * tries))
        raise AssertionError("unreachable")

    return wrapper


def with_dist_debug_levels(levels: Sequence[str]) -> Callable[[T], T]:
    """Decorator: run a rank test once for each level of TORCH_DISTRIBUTED_DEBUG.

    Args:
        levels: some of "OFF", "INFO" and "DETAIL".
    """

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
    """Call a function once for each combination of values, each as a sub-test of a rank test.

    The ranks and their process group serve all of them; a barrier keeps them together.

    Args:
        cls_inst: the test.
        subtest_config: name of a keyword argument to its values.
        test_fn: what to call.
        test_args, test_kwargs: passed on every time.
    """
    for values in itertools.product(*subtest_config.values()):
        chosen = dict(zip(subtest_config, values, strict=True))
        with cls_inst.subTest(**chosen):
            _forget_compiled()
            check_returned(test_fn(*test_args, **test_kwargs, **chosen), test_fn)
            _forget_compiled()
        _barrier()


def _forget_compiled() -> None:
    dynamo = sys.modules.get("torch._dynamo")
    if dynamo is not None:
        dynamo.reset()


def _barrier() -> None:
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        dist.barrier()
