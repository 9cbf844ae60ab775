"""What a test says about running beside others: decorators that leave a mark for the runner.

Without a runner that runs several tests at once, they change nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T", bound=Callable[..., Any])

#: The one name that the harness keeps on test classes with ranks and on their instances, beside
#: PyTorch's names and the documented ones. On a class: the type of the object that runs a test.
#: On an instance: that object, with all state of the running test.
RANKS = "__harness_ranks__"

_SERIAL = "__harness_serial__"
_RESOURCES = "__harness_resources__"
_DEVICES = "__harness_devices__"
_PER_RANK = "__harness_device_for_each_rank__"


def serial(test: T) -> T:
    """A test, or class of tests, that no other test may run beside.

    For tests that measure time, or use all of the machine's memory. They run after all others.
    """
    setattr(test, _SERIAL, True)
    return test


def uses_resources(*names: str) -> Callable[[T], T]:
    """A test, or class of tests, that must not run beside another that uses the same resource.

    Args:
        names: what they share: a port, a file, a service. Any words, compared as they are.

    Raises:
        TypeError: if there is no name, or one is no text.
    """
    if not names or not all(isinstance(name, str) for name in names):
        raise TypeError(f"uses_resources() takes names of resources, not {names!r}")

    def decorate(test: T) -> T:
        setattr(test, _RESOURCES, frozenset(names) | getattr(test, _RESOURCES, frozenset()))
        return test

    return decorate


def note_devices(test: T, count: int) -> T:
    """Mark a test as one that uses so many devices (GPUs), if it is not marked with more."""
    setattr(test, _DEVICES, max(count, getattr(test, _DEVICES, 0)))
    return test


def note_device_for_each_rank(test: T) -> T:
    """Mark a test as one whose ranks use a device each."""
    setattr(test, _PER_RANK, True)
    return test


def is_serial(*marked: object) -> bool:
    """Whether the test method, or its class, is marked so."""
    return any(getattr(each, _SERIAL, False) for each in marked)


def resources_of(*marked: object) -> frozenset[str]:
    """All resources with which the test method and its class are marked."""
    return frozenset().union(*(getattr(each, _RESOURCES, frozenset()) for each in marked))


def devices_of(ranks: int, *marked: object) -> int:
    """How many devices a test with so many ranks uses, going by its method and its class."""
    counts = [getattr(each, _DEVICES, 0) for each in marked]
    per_rank = any(getattr(each, _PER_RANK, False) for each in marked)
    return max([*counts, ranks if per_rank else 0])
