"""Compare values for `assertEqual`: tensors, numbers, and collections of them.

`torch.testing.assert_close` compares tensors and numbers. This module adds what PyTorch's own
TestCase accepts beyond that: strings, sets and other objects; a number with a tensor of one
element; a bool with a number; a sequence of numbers with a tensor; NumPy arrays with tensors.

`_compare` descends into mappings and sequences with a path of keys, which the message shows.
`_plain` first converts each pair of values to forms that can be compared.
"""

from __future__ import annotations

import cmath
import contextlib
import enum
import sys
import unittest
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.testing import _comparison

Path = tuple[Any, ...]

_TEXT = (str, bytes, bytearray)
_SCALAR = (bool, int, float, complex, np.number, np.bool_)
_ARRAY = (torch.Tensor, np.ndarray)


@dataclass(frozen=True)
class Tolerance:
    """How close two values must be to count as equal; see `torch.testing.assert_close`.

    Attributes:
        atol, rtol: absolute and relative tolerance; None for the dtype's default.
        min_atol, min_rtol: lower bounds for them, from the class's `precision` and `rel_tol`.
        equal_nan: whether two NaNs are equal.
        exact_dtype, exact_device, exact_layout, exact_stride: whether these must agree too.
        exact_is_coalesced: whether sparse tensors must both be coalesced or both not.
    """

    atol: float | None = None
    rtol: float | None = None
    min_atol: float = 0.0
    min_rtol: float = 0.0
    equal_nan: bool = True
    exact_dtype: bool = True
    exact_device: bool = False
    exact_layout: bool = False
    exact_stride: bool = False
    exact_is_coalesced: bool = False


def assert_equal(actual: Any, expected: Any, how: Tolerance) -> None:
    """Raise AssertionError unless the values are equal; the message says where they differ."""
    _compare(_plain(actual, expected), _plain(expected, actual), how, ())


def _plain(value: Any, other: Any) -> Any:
    """Convert a value to a form that can be compared with the other value."""
    # assert_close does not take strided nested tensors; their components are ordinary tensors.
    if isinstance(value, torch.Tensor) and value.is_nested and value.layout == torch.strided:
        return value.unbind()
    if _is_sequence(value) and isinstance(other, torch.Tensor) and not other.is_nested:
        return _like(torch.as_tensor(value), other)
    # An array of a dtype that torch lacks (strings, objects) is compared as a list, and so is what
    # it is compared with.
    if isinstance(value, np.ndarray) and not _torch_has(value.dtype):
        return value.tolist()
    if isinstance(other, np.ndarray) and not _torch_has(other.dtype) and isinstance(value, _ARRAY):
        return value.tolist()
    return value


def _like(values: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Convert numbers to the other tensor's dtype and device, unless that would change them.

    PyTorch's assertEqual truncates here, so that [1.5] equals torch.tensor([1]).
    """
    if values.is_complex() and not other.is_complex():
        return values.to(other.device)
    cast = values.to(other.dtype)
    # The tolerance covers rounding to a float of lower precision, but not truncation to an integer.
    inexact = other.is_floating_point() or other.is_complex()
    if inexact or torch.equal(cast.to(values.dtype), values):
        values = cast
    return values.to(other.device)


def _compare(actual: Any, expected: Any, how: Tolerance, path: Path) -> None:
    if isinstance(actual, Mapping) and isinstance(expected, Mapping):
        _compare_mappings(actual, expected, how, path)
    elif _is_sequence(actual) and _is_sequence(expected):
        _compare_sequences(actual, expected, how, path)
    elif isinstance(actual, (*_SCALAR, *_ARRAY)) and isinstance(expected, (*_SCALAR, *_ARRAY)):
        _compare_numbers(actual, expected, how, path)
    else:
        _compare_objects(actual, expected, path)


def _is_sequence(value: Any) -> bool:
    modules = (torch.nn.ModuleList, torch.nn.Sequential, torch.nn.ParameterList)
    return isinstance(value, modules) or (
        isinstance(value, Sequence) and not isinstance(value, _TEXT)
    )


def _compare_mappings(
    actual: Mapping[Any, Any], expected: Mapping[Any, Any], how: Tolerance, path: Path
) -> None:
    missing = [key for key in expected if key not in actual]
    extra = [key for key in actual if key not in expected]
    if missing or extra:
        _fail(
            f"the keys of the mappings differ: missing {_listed(missing)}, extra {_listed(extra)}",
            path,
        )
    for key in actual:
        a, b = actual[key], expected[key]
        _compare(_plain(a, b), _plain(b, a), how, (*path, key))


def _compare_sequences(
    actual: Sequence[Any], expected: Sequence[Any], how: Tolerance, path: Path
) -> None:
    if len(actual) != len(expected):
        _fail(f"the sequences have {len(actual)} and {len(expected)} elements", path)
    for index, (a, b) in enumerate(zip(actual, expected, strict=True)):
        _compare(_plain(a, b), _plain(b, a), how, (*path, index))


def _compare_numbers(actual: Any, expected: Any, how: Tolerance, path: Path) -> None:
    if isinstance(actual, _ARRAY) and isinstance(expected, _ARRAY):
        _assert_close(_tensor(actual), _tensor(expected), how, path)
        return
    a, b = _number(actual, path), _number(expected, path)
    if isinstance(actual, _BOOL) or isinstance(expected, _BOOL):
        if bool(a) != bool(b):
            _fail(f"{actual!r} is not {expected!r}", path)
    else:
        _assert_close(a, b, how, path)


_BOOL = (bool, np.bool_)


def _tensor(array: Any) -> torch.Tensor:
    return (
        array if isinstance(array, torch.Tensor) else torch.as_tensor(np.ascontiguousarray(array))
    )


def _number(value: Any, path: Path) -> Any:
    """Return the Python number of a scalar, or of an array with one element."""
    if isinstance(value, _ARRAY):
        count = value.numel() if isinstance(value, torch.Tensor) else value.size
        if count != 1:
            raise ValueError(
                f"a number can only be compared with an array of one element, not of {count}"
                f"{_at(path)}"
            )
        value = value.item()
    if isinstance(value, np.generic):
        value = value.item()
    return int(value) if isinstance(value, bool | enum.IntEnum) else value


def _assert_close(actual: Any, expected: Any, how: Tolerance, path: Path) -> None:
    rtol, atol = _tolerances(actual, expected, how)
    # First the fast paths, which can only say "equal". If they do not, assert_close decides, and
    # writes the message.
    numbers = not isinstance(actual, torch.Tensor)
    if (
        _numbers_are_close(actual, expected, rtol, atol)
        if numbers
        else _are_close(actual, expected, rtol, atol, how)
    ):
        return
    if not numbers and how.exact_is_coalesced and _coalesced(actual) != _coalesced(expected):
        _fail("one of the sparse tensors is coalesced, the other is not", path)
    with _without_dtensor():
        torch.testing.assert_close(
            actual,
            expected,
            rtol=rtol,
            atol=atol,
            equal_nan=how.equal_nan,
            check_dtype=how.exact_dtype and not numbers,
            check_device=how.exact_device,
            check_layout=how.exact_layout,
            check_stride=how.exact_stride,
            msg=lambda generated: generated + _at(path),
        )


@contextlib.contextmanager
def _without_dtensor() -> Iterator[None]:
    """Keep `assert_close` from importing torch.distributed.tensor, and with it sympy.

    Without this, the import takes most of a second in every rank whose assertion fails (torch
    2.13). It only serves to check whether a value is a DTensor. If nobody has imported that class,
    no value is one.
    """
    unneeded = "torch.distributed.tensor" not in sys.modules
    if not unneeded or not getattr(_comparison, "_HAS_DTENSOR", False):
        yield
        return
    _comparison._HAS_DTENSOR = False
    try:
        yield
    finally:
        _comparison._HAS_DTENSOR = True


def _are_close(
    actual: torch.Tensor, expected: torch.Tensor, rtol: float, atol: float, how: Tolerance
) -> bool:
    """Whether two ordinary tensors are certainly close; if False, `assert_close` has to decide.

    This gives the same answer many times faster.
    """
    ordinary = (torch.Tensor, torch.nn.Parameter)
    if type(actual) not in ordinary or type(expected) not in ordinary:
        return False
    if (actual.shape, actual.dtype, actual.device, actual.layout) != (
        expected.shape,
        expected.dtype,
        expected.device,
        torch.strided,
    ):
        return False
    # `torch.equal` and `allclose` do not support these, or ignore what has to be compared.
    if actual.is_quantized or actual.is_meta or how.exact_stride or how.exact_layout:
        return False
    if torch.equal(actual, expected):
        return True
    if actual.dtype not in _DEFAULTS:
        return False
    return torch.allclose(actual, expected, rtol=rtol, atol=atol, equal_nan=how.equal_nan)


def _coalesced(tensor: torch.Tensor) -> bool:
    return tensor.layout == torch.sparse_coo and tensor.is_coalesced()


def _numbers_are_close(actual: Any, expected: Any, rtol: float, atol: float) -> bool:
    if actual == expected:
        return True
    if not (isinstance(actual, int) or cmath.isfinite(actual)):
        return False
    if not (isinstance(expected, int) or cmath.isfinite(expected)):
        return False
    return bool(abs(actual - expected) <= atol + rtol * abs(expected))


def _tolerances(actual: Any, expected: Any, how: Tolerance) -> tuple[float, float]:
    """Return rtol and atol: the caller's or the dtypes' defaults, at least the class's minimum."""
    if (how.rtol is None) != (how.atol is None):
        raise ValueError("give both rtol and atol, or neither")
    if how.rtol is not None and how.atol is not None:
        return max(how.rtol, how.min_rtol), max(how.atol, how.min_atol)
    rtol, atol = how.min_rtol, how.min_atol
    for dtype in (_dtype_of(actual), _dtype_of(expected)):
        own_rtol, own_atol = _DEFAULTS.get(dtype, (0.0, 0.0))
        rtol, atol = max(rtol, own_rtol), max(atol, own_atol)
    return rtol, atol


def _dtype_of(value: Any) -> torch.dtype:
    if isinstance(value, torch.Tensor):
        return value.dtype
    # A Python float in a test usually stands for a float32 result, as in PyTorch's TestCase.
    return {float: torch.float32, complex: torch.complex64}.get(type(value), torch.int64)


# rtol and atol by dtype, from the table in the documentation of torch.testing.assert_close.
_DEFAULTS: dict[torch.dtype, tuple[float, float]] = {
    torch.float16: (1e-3, 1e-5),
    torch.bfloat16: (1.6e-2, 1e-5),
    torch.float32: (1.3e-6, 1e-5),
    torch.float64: (1e-7, 1e-7),
    torch.complex32: (1e-3, 1e-5),
    torch.complex64: (1.3e-6, 1e-5),
    torch.complex128: (1e-7, 1e-7),
}


def _compare_objects(actual: Any, expected: Any, path: Path) -> None:
    """Compare with unittest's assertEqual, for its messages: diffs of strings, sets and so on."""
    # Not the test itself: a test class may override assertEqual, which would call this again.
    plain = unittest.TestCase()
    plain.maxDiff = None
    try:
        plain.assertEqual(actual, expected)
    except AssertionError as error:
        _fail(str(error), path)


def _torch_has(dtype: np.dtype[Any]) -> bool:
    return isinstance(getattr(torch, dtype.name, None), torch.dtype)


def _at(path: Path) -> str:
    return "\n\nThe difference is at item " + "".join(f"[{key!r}]" for key in path) if path else ""


def _fail(message: str, path: Path) -> None:
    raise AssertionError(message + _at(path))


def _listed(keys: list[Any]) -> str:
    return ", ".join(map(repr, keys)) or "none"


def message_with(msg: str | Callable[[str], str] | None, generated: str, long: bool) -> str:
    """Return the message to show: the generated one, the caller's, or both, like unittest.

    Args:
        msg: the caller's text, or a function from the generated message to the one to show.
        generated: what the comparison found.
        long: unittest's `longMessage`: append the text to the generated message.
    """
    if msg is None:
        return generated
    if callable(msg):
        return msg(generated)
    return f"{generated}\n{msg}" if long else msg
