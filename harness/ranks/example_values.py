"""The values of an example on their way to the ranks: every rank gets a copy of its own.

What cannot be copied, and what would draw from Hypothesis while a rank runs its body, is refused.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from typing import Any
from unittest.util import safe_repr

from harness.model.errors import ExampleValueError


class _DrawsError(Exception):
    """A value that draws from Hypothesis's engine, which the parent alone has."""


class _Pickler(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        if type(value).__module__.partition(".")[0] == "hypothesis":
            raise _DrawsError(type(value).__name__)
        return NotImplemented


def pack(values: Mapping[str, Any], test: str) -> bytes:
    """The arguments of an example as bytes.

    Args:
        values: argument to value.
        test: name of the test, for the message.

    Raises:
        ExampleValueError: naming the argument that cannot go to the ranks, and why.
    """
    try:
        return _pickled(values)
    except Exception:
        for name, value in values.items():
            _check(name, value, test)
        raise  # one by one they can


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
    """The inverse of `pack`."""
    values: dict[str, Any] = pickle.loads(data)
    return values
