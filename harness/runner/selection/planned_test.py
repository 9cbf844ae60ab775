"""What the runner has to know of a test to decide when and beside what it runs."""

from __future__ import annotations

import sys
import unittest
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from harness.model import marks, rerun
from harness.runner.results import copy_suffix, owner_of
from harness.runner.selection.pytorch_lists import is_marked_slow

#: A test as any process finds it: the module whose loading gives it, its id, and which of the tests
#: with this id in that module it is, from 0.
Place = tuple[str, str, int]


@dataclass(frozen=True)
class PlannedTest:
    """One test that is to run, as plain data.

    Attributes:
        test_id: its full name, as unittest has it.
        owner: its class.
        module: where its class is defined.
        file: the module's file; empty if it has none.
        ranks: how many ranks it starts; 0 if it has none.
        devices: how many devices (GPUs) it uses.
        is_serial: whether no other test may run beside it.
        resources: what no other test may use meanwhile.
        is_slow: whether it is decorated as slow, in PyTorch's way.
        fixture: the class or module whose fixture it shares with other tests; empty if none.
        loaded_from: the module whose loading gave it; its class may be of another.
        number: which of the tests with its id in that module it is, from 0.
        copy: which of all tests with its id it is, from 0.
        class_copy: which of the classes with its class's name is its class, from 0.
    """

    test_id: str
    owner: str
    module: str = ""
    file: str = ""
    ranks: int = 0
    devices: int = 0
    is_serial: bool = False
    resources: frozenset[str] = frozenset()
    fixture: str = ""
    is_slow: bool = False
    loaded_from: str = ""
    number: int = 0
    copy: int = 0
    class_copy: int = 0

    @property
    def key(self) -> str:
        """A name that no other test has: where several have the same id, they are numbered."""
        return f"{self.test_id}{copy_suffix(self.copy)}"

    @property
    def place(self) -> Place:
        """Where any process finds the test again."""
        return self.loaded_from, self.test_id, self.number

    @property
    def again(self) -> str:
        """A line for the shell that runs this one test again; empty if there is none."""
        return rerun.command(self.module, self.test_id[len(self.module) + 1 :], self.file)

    @property
    def is_plain(self) -> bool:
        """Whether it needs nothing that others might have to wait for."""
        return not (self.ranks or self.devices or self.is_serial or self.resources)

    def to_data(self) -> dict[str, Any]:
        return {**asdict(self), "resources": sorted(self.resources)}


def planned_from_data(data: Mapping[str, Any]) -> PlannedTest:
    """The inverse of `PlannedTest.to_data`."""
    return PlannedTest(**{**data, "resources": frozenset(data["resources"])})


def describe(
    test: unittest.TestCase, place: Place, copy: int = 0, class_copy: int = 0
) -> PlannedTest:
    """What there is to know of a test.

    Args:
        test: the test.
        place: where it was found.
        copy: which of the tests with its id it is.
        class_copy: which of the classes with its class's name is its class.
    """
    method = getattr(test, getattr(test, "_testMethodName", ""), None)
    marked = (method, type(test))
    ranks = _ranks(test)
    return PlannedTest(
        test_id=test.id(),
        owner=owner_of(test.id()),
        module=type(test).__module__,
        file=rerun.file_of(type(test).__module__),
        ranks=ranks,
        devices=max(marks.devices_of(ranks, *marked), _devices_of_class(test, ranks)),
        is_serial=marks.is_serial(*marked),
        resources=marks.resources_of(*marked),
        fixture=_fixture(type(test), class_copy),
        is_slow=is_marked_slow(test),
        loaded_from=place[0],
        number=place[2],
        copy=copy,
        class_copy=class_copy,
    )


def _ranks(test: unittest.TestCase) -> int:
    """The world size of a test case in the manner of PyTorch's, this harness's included."""
    if not hasattr(test, "_spawn_processes") and not hasattr(test, marks.RANKS):
        return 0
    try:
        return max(1, int(test.world_size))  # type: ignore[attr-defined]
    except Exception:  # a property may ask for devices that are not there
        return 1


def _devices_of_class(test: unittest.TestCase, ranks: int) -> int:
    """A class of torch's for each device type says which; each rank takes one of them."""
    kind = getattr(type(test), "device_type", None)
    return max(1, ranks) if isinstance(kind, str) and kind not in {"cpu", "meta", ""} else 0


def _fixture(cls: type[unittest.TestCase], copy: int) -> str:
    """The module, or else the class, whose fixture of the user's own a test needs."""
    module = sys.modules.get(cls.__module__)
    if hasattr(module, "setUpModule") or hasattr(module, "tearDownModule"):
        return cls.__module__
    own = any(_is_of_user(cls, name) for name in ("setUpClass", "tearDownClass"))
    return f"{cls.__module__}.{cls.__qualname__}{copy_suffix(copy)}" if own else ""


def _is_of_user(cls: type, name: str) -> bool:
    home = next((base.__module__ for base in cls.__mro__ if name in vars(base)), "")
    return not home.startswith(("unittest.", "torch.", "harness."))
