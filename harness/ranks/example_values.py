"""Pickle the values of a property test's example, so that every rank gets its own copy.

Hypothesis runs in the parent and the body in the ranks, so values are rejected that cannot be
pickled, or that draw from Hypothesis while the body runs (`st.data()`, `st.randoms()`).
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from typing import Any
from unittest.util import safe_repr

from harness.model.errors import ExampleValueError


class _DrawsError(Exception):
    """A value draws from Hypothesis's engine, which runs in the parent only."""


class _Pickler(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        if type(value).__module__.partition(".")[0] == "hypothesis":
            raise _DrawsError(type(value).__name__)
        return NotImplemented


def pack(values: Mapping[str, Any], test: str) -> bytes:
    """Return the arguments of an example as bytes.

    Args:
        values: argument to value.
        test: name of the test, for the message.

    Raises:
        ExampleValueError: if an argument cannot be sent to the ranks.
    """
    try:
        return _pickled(values)
    except Exception:
        for name, value in values.items():
            _check(name, value, test)
        raise  # each value can be pickled by itself, but not all of them together


def _check(name: str, value: Any, test: str) -> None:
    try:
        _pickled(value)
    except _DrawsError as drawing:
        raise ExampleValueError(
            f"{test}: the argument {name} contains Hypothesis's {drawing}, which draws values "
            "while the body runs. The body runs in the ranks, and Hypothesis in the parent, so "
            "draw all values in the strategy (st.composite, flatmap, st.integers() for a seed)"
        ) from None
    except Exception as error:
        raise ExampleValueError(
            f"{test}: the argument {name} cannot be sent to the ranks, since it cannot be pickled "
            f"({type(error).__name__}: {error}): {safe_repr(value, short=True)}"
        ) from None


def _pickled(value: Any) -> bytes:
    buffer = io.BytesIO()
    _Pickler(buffer, pickle.HIGHEST_PROTOCOL).dump(value)
    return buffer.getvalue()


def unpack(data: bytes) -> dict[str, Any]:
    """Return the arguments from the result of `pack`."""
    values: dict[str, Any] = pickle.loads(data)
    return values
