"""Messages as typed structs: what every channel's messages have in common, and their JSON.

A message is a frozen struct; its `kind` in JSON is the name of its class.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from harness.ranks import channel

_Read = TypeVar("_Read", bound="TypedMessage")


class TypedMessage(msgspec.Struct, frozen=True, tag_field="kind", tag=True):
    """The base of all messages."""


def to_data(message: TypedMessage) -> channel.Message:
    """Return a message as data that JSON can carry; what JSON does not know is its `repr()`."""
    data: dict[str, Any] = msgspec.to_builtins(message, enc_hook=plain)
    return data


def plain(value: object) -> object:
    """Return a value that msgspec does not take as one that it does.

    Of the types that JSON knows, msgspec 0.22 takes no subclasses, such as text with attributes.
    """
    is_known = isinstance(value, str | int | float)
    return json.loads(json.dumps(value)) if is_known else repr(value)


def frame(message: TypedMessage) -> bytes:
    """Return a message as a frame for a channel."""
    return channel.encode(to_data(message))


def read(reader: channel.FrameReader, convert: Callable[[channel.Message], _Read]) -> list[_Read]:
    """Return all messages that are complete by now; what is none is the reader's fault.

    Args:
        reader: where they arrive.
        convert: makes a message of data, or raises ValueError.
    """
    found = []
    for data in reader.read():
        try:
            found.append(convert(data))
        except ValueError as error:
            reader.fail(f"a message that means nothing: {data!r:.200} ({error})")
            break
    return found
