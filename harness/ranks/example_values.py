"""Pickle the values of a property test's example, so that every rank gets its own copy.

Values that cannot be pickled are rejected, and so are values that would draw from Hypothesis while
a rank runs the body.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from typing import Any
from unittest.util import safe_repr

from harness.model.errors import ExampleValueError


class _DrawsError(Exception):
    """A value that draws from Hypothesis's engine, which only the parent has."""


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
        ExampleValueError: names the argument that cannot be sent to the ranks, and says why.
    """
    try:
        return _pickled(values)
    except Exception:
        for name, value in values.items():
            _check(name, value, test)
        raise  # each value can be pickled alone


def _check(name: str, value: Any, test: str) -> None:
    try:
        _pickled(value)
    except _DrawsError as drawing:
        raise ExampleValueError(
            f"{test}: the argument {name} holds a {drawing} of Hypothesis's, which draws while the "
            "body runs; ranks run the body, and one engine cannot serve them all in step: draw "
            "everything in the strategy (st.composite, flatmap, st.integers() for a seed)"
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
    """Return the arguments that `pack` has packed."""
    values: dict[str, Any] = pickle.loads(data)
    return values
