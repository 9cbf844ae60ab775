"""What the runner needs to know about a test to schedule it."""

from __future__ import annotations

import sys
import unittest
from dataclasses import dataclass

from harness.model import marks, rerun
from harness.runner.results import copy_suffix, owner_of
from harness.runner.selection.pytorch_lists import is_marked_slow

#: Identifies a test in any process: the module that it is loaded from, its id, and its number among
#: the tests of that module with this id, from 0.
Place = tuple[str, str, int]


@dataclass(frozen=True)
class PlannedTest:
    """One test of the plan, as plain data.

    Attributes:
        test_id: unittest's id of the test.
        owner: its class.
        module: the module that defines its class.
        file: the module's file; empty if it has none.
        ranks: how many ranks it starts; 0 if it has none.
        devices: how many devices (GPUs) it uses.
        is_serial: whether no other test may run at the same time.
        resources: names of resources that no other test may use at the same time.
        is_slow: whether it has PyTorch's `slowTest` decorator.
        fixture: the class or module whose fixture it shares with other tests; empty if none.
        loaded_from: the module that it was loaded from, which may have imported its class.
        number: its number among the tests of that module with its id, from 0.
        copy: its number among all tests with its id, from 0.
        class_copy: the number of its class among the classes with the same name, from 0.
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
        """A unique name: the id, with a number if several tests have the same id."""
        return f"{self.test_id}{copy_suffix(self.copy)}"

    @property
    def place(self) -> Place:
        """Identifies the test in any process."""
        return self.loaded_from, self.test_id, self.number

    @property
    def again(self) -> str:
        """The shell command that runs only this test; empty if there is none."""
        return rerun.command(self.module, self.test_id[len(self.module) + 1 :], self.file)

    @property
    def is_plain(self) -> bool:
        """Whether it needs no ranks, devices or resources, so that it never has to wait."""
        return not (self.ranks or self.devices or self.is_serial or self.resources)


@dataclass(frozen=True)
class Found:
    """The tests that discovery found.

    Attributes:
        tests: in the order of the names on the command line.
        broken, skipped: module to the reason why it has no tests.
        devices: the machine's devices, if any test uses some.
        count: the number of tests, including those that `-k` leaves out.
        remarks: lines for the user about names that look like tests, but are not.
    """

    tests: tuple[PlannedTest, ...]
    broken: dict[str, str]
    skipped: dict[str, str]
    devices: tuple[str, ...]
    count: int
    remarks: tuple[str, ...]


def describe(
    test: unittest.TestCase, place: Place, copy: int = 0, class_copy: int = 0
) -> PlannedTest:
    """Return the plan's data about a test.

    Args:
        test: the test.
        place: identifies it in any process.
        copy: its number among the tests with its id.
        class_copy: the number of its class among the classes with the same name.
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
    """Return the world size of a test with ranks, of this harness or PyTorch's; 0 without ranks."""
    if not hasattr(test, "_spawn_processes") and not hasattr(test, marks.RANKS):
        return 0
    try:
        return max(1, int(test.world_size))  # type: ignore[attr-defined]
    except Exception:  # a property may raise, for example because it needs missing devices
        return 1


def _devices_of_class(test: unittest.TestCase, ranks: int) -> int:
    """Return the devices of a class from torch's instantiate_device_type_tests: one per rank."""
    kind = getattr(type(test), "device_type", None)
    return max(1, ranks) if isinstance(kind, str) and kind not in {"cpu", "meta", ""} else 0


def _fixture(cls: type[unittest.TestCase], copy: int) -> str:
    """Return the module, or else the class, that has a fixture; empty if neither has one.

    Tests that share a fixture run in the same worker, so that it only runs once.
    """
    module = sys.modules.get(cls.__module__)
    # A module's fixture includes those of its classes, so its tests stay together.
    if hasattr(module, "setUpModule") or hasattr(module, "tearDownModule"):
        return cls.__module__
    own = any(_is_users(cls, name) for name in ("setUpClass", "tearDownClass"))
    return f"{cls.__module__}.{cls.__qualname__}{copy_suffix(copy)}" if own else ""


def _is_users(cls: type, name: str) -> bool:
    home = next((base.__module__ for base in cls.__mro__ if name in vars(base)), "")
    return not home.startswith(("unittest.", "torch.", "harness."))
