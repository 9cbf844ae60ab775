"""Draws data, bytes and XML that differ from sound ones in a few places."""

from __future__ import annotations

import copy
import json
from typing import Any
from xml.etree import ElementTree

from hypothesis import strategies as st

ODD = st.sampled_from(
    [None, True, False, 0, -1, 2, -5.5, 1e308, float("nan"), float("inf"), 10**30, 10**400, "",
     "x", "5", "passed", "\ud800", "\x00", "\x1b[1m", "x" * 10_000, [], {}, [[]], [1, 2], {"a": 1}]
)  # fmt: skip

ANY_JSON = st.recursive(
    st.one_of(ODD, st.integers(), st.floats(), st.text()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(), inner, max_size=4)
    ),
    max_leaves=10,
)
PLACES = st.integers(0, 2**32)


def changed_data(data: Any) -> st.SearchStrategy[str]:
    """JSON of the data after a few changes, each at any depth."""
    changes = st.lists(
        st.tuples(PLACES, st.sampled_from(["delete", "replace", "double", "rename"]), ANY_JSON),
        min_size=1,
        max_size=3,
    )
    return changes.map(lambda found: json.dumps(_changed(data, found)))


def _changed(data: Any, changes: list[tuple[int, str, Any]]) -> Any:
    data = copy.deepcopy(data)
    for place, kind, value in changes:
        if spots := _spots(data):
            inner, key = spots[place % len(spots)]
            if kind == "delete":
                del inner[key]
            elif kind == "replace":
                # A copy: the value may be one of ODD, and the next change would change that.
                inner[key] = copy.deepcopy(value)
            elif kind == "double" and isinstance(inner, list):
                inner.insert(key, copy.deepcopy(inner[key]))
            elif isinstance(inner, dict):
                inner[f"{key}x"] = inner.pop(key)
    return data


def _spots(data: Any) -> list[tuple[Any, Any]]:
    if not isinstance(data, dict | list):
        return []
    keys = list(data) if isinstance(data, dict) else range(len(data))
    return [spot for key in keys for spot in ((data, key), *_spots(data[key]))]


def changed_bytes(content: bytes) -> st.SearchStrategy[bytes]:
    """The bytes with some overwritten, or cut off, or a piece taken out or doubled."""
    at = st.integers(0, max(0, len(content) - 1))

    def flipped(flips: list[tuple[int, int]]) -> bytes:
        array = bytearray(content)
        for place, value in flips:
            array[place] = value
        return bytes(array)

    pieces = st.tuples(at, at, st.integers(0, 2))
    return st.one_of(
        st.lists(st.tuples(at, st.integers(0, 255)), min_size=1, max_size=20).map(flipped),
        at.map(lambda end: content[:end]),
        pieces.map(lambda p: content[: p[0]] + content[p[0] : p[1]] * p[2] + content[p[1] :]),
        st.binary(max_size=200),
    )


def changed_xml(content: bytes) -> st.SearchStrategy[bytes]:
    """The XML with elements deleted or doubled, attributes and texts changed."""
    values = st.sampled_from(["", "x", "-1", "nan", "1e308", "9" * 5000, "5", "1/0", "3/2", "true"])
    kinds = st.sampled_from(["delete", "double", "set", "unset", "text", "tag"])

    def change(changes: list[tuple[int, int, str, str]]) -> bytes:
        root = ElementTree.fromstring(content)
        for place, name, kind, value in changes:
            pairs = [(parent, child) for parent in root.iter() for child in parent]
            if not pairs:
                break
            parent, child = pairs[place % len(pairs)]
            child = root if place % 50 == 0 else child
            names = sorted(child.attrib) or ["name"]
            if kind == "delete" and child is not root:
                parent.remove(child)
            elif kind == "double" and child is not root:
                parent.append(child)
            elif kind == "set":
                child.set(names[name % len(names)], value)
            elif kind == "unset":
                child.attrib.pop(names[name % len(names)], None)
            elif kind == "text":
                child.text = value
            else:
                child.tag = ["testcase", "testsuite", "properties", "failure", "odd"][name % 5]
        return ElementTree.tostring(root)

    changes = st.lists(st.tuples(PLACES, PLACES, kinds, values), min_size=1, max_size=3)
    return changes.map(change)
