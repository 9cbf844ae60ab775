"""Change a mapping, such as the environment, for the duration of a block."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, MutableMapping


@contextlib.contextmanager
def changed(mapping: MutableMapping[str, str], changes: Mapping[str, str | None]) -> Iterator[None]:
    """Set these values inside the block, then restore the old ones.

    Args:
        mapping: the mapping.
        changes: key to value; None removes the key.
    """
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
