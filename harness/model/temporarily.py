"""A mapping, such as the environment, with other values for the length of a block."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, MutableMapping


@contextlib.contextmanager
def changed(mapping: MutableMapping[str, str], changes: Mapping[str, str | None]) -> Iterator[None]:
    """Inside, the mapping has these values, and none for None; afterwards those that it had."""
    before = {name: mapping.get(name) for name in changes}
    _change(mapping, changes)
    try:
        yield
    finally:
        _change(mapping, before)


def _change(mapping: MutableMapping[str, str], changes: Mapping[str, str | None]) -> None:
    for name, value in changes.items():
        if value is not None:
            mapping[name] = value
        else:
            mapping.pop(name, None)
