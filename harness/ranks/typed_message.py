"""The base class of all messages, and their conversion to JSON.

A message is a frozen struct. In JSON, its `kind` is the name of its class.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from harness.ranks import channel

_Read = TypeVar("_Read", bound="TypedMessage")


class TypedMessage(msgspec.Struct, frozen=True, tag_field="kind", tag=True):
    """Base class of all messages."""


def to_data(message: TypedMessage) -> channel.Message:
    """Return a message as data for JSON; values that JSON does not know become their `repr()`."""
    data: dict[str, Any] = msgspec.to_builtins(message, enc_hook=plain)
    return data


def plain(value: object) -> object:
    """Convert a value that msgspec does not accept.

    msgspec 0.22 rejects subclasses of JSON's types, such as a `str` with attributes. Those become
    plain values.
    """
    is_known = isinstance(value, str | int | float)
    return json.loads(json.dumps(value)) if is_known else repr(value)


def frame(message: TypedMessage) -> bytes:
    """Return a message as a frame for a channel."""
    return channel.encode(to_data(message))


def read(reader: channel.FrameReader, convert: Callable[[channel.Message], _Read]) -> list[_Read]:
    """Return all messages that are complete by now.

    Data that is not a message sets `reader.fault`, and ends the reading.

    Args:
        reader: the reader of the channel.
        convert: converts data to a message; raises ValueError if it is none.
    """
    found = []
    for data in reader.read():
        try:
            found.append(convert(data))
        except ValueError as error:
            reader.fail(f"an unknown message: {data!r:.200} ({error})")
            break
    return found
