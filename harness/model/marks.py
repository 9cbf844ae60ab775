"""Decorators that mark tests for the parallel runner: serial tests, shared resources, devices.

They set an attribute on the test or its class. The runner reads it when it schedules tests; under
unittest and pytest the marks have no effect.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T", bound=Callable[..., Any])

#: The only attribute that the harness adds to test classes with ranks and to their instances,
#: beside PyTorch's names and the documented ones, so that users may use any other name. On a class,
#: it is the type of the object that runs a test. On an instance, it is that object, which has all
#: the state of the running test.
RANKS = "__harness_ranks__"

# The attributes of the marks. Names with two underscores on both sides are not mangled in a class
# body, and no user has an attribute like that by chance.
_SERIAL = "__harness_serial__"
_RESOURCES = "__harness_resources__"
_DEVICES = "__harness_devices__"
_PER_RANK = "__harness_device_for_each_rank__"


def serial(test: T) -> T:
    """Mark a test or a test class that must run alone; the runner runs it after all others.

    For tests that measure time, or use most of the machine's memory.
    """
    setattr(test, _SERIAL, True)
    return test


def uses_resources(*names: str) -> Callable[[T], T]:
    """Mark a test or a test class that must not run at the same time as a user of its resources.

    Args:
        names: names of your choice for what tests share: a port, a file, a service.

    Raises:
        TypeError: if there are no names, or one is not a string.
    """
    if not names or not all(isinstance(name, str) for name in names):
        raise TypeError(f"uses_resources() takes names of resources, not {names!r}")

    def decorate(test: T) -> T:
        setattr(test, _RESOURCES, frozenset(names) | getattr(test, _RESOURCES, frozenset()))
        return test

    return decorate


def note_devices(test: T, count: int) -> T:
    """Mark a test that uses `count` devices (GPUs), unless it is marked with more."""
    setattr(test, _DEVICES, max(count, getattr(test, _DEVICES, 0)))
    return test


def note_device_for_each_rank(test: T) -> T:
    """Mark a test each of whose ranks uses one device."""
    setattr(test, _PER_RANK, True)
    return test


def is_serial(*marked: object) -> bool:
    """Whether a test method or its class is marked as serial."""
    return any(getattr(each, _SERIAL, False) for each in marked)


def resources_of(*marked: object) -> frozenset[str]:
    """Return all resources with which a test method and its class are marked."""
    return frozenset().union(*(getattr(each, _RESOURCES, frozenset()) for each in marked))


def devices_of(ranks: int, *marked: object) -> int:
    """Return how many devices a test uses.

    Args:
        ranks: the number of its ranks.
        marked: its method and its class.
    """
    counts = [getattr(each, _DEVICES, 0) for each in marked]
    per_rank = any(getattr(each, _PER_RANK, False) for each in marked)
    return max([*counts, ranks if per_rank else 0])
