"""Isolation, nodes and time limit of a test: by decorator, class attribute, or setting.

A decorator of the method beats an attribute of the class, which beats the setting.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from harness.cases.decorators import flags
from harness.model import settings
from harness.model.errors import SettingError
from harness.model.spec import ISOLATIONS

T = TypeVar("T", bound=Callable[..., Any])
V = TypeVar("V")


def saying(name: str, value: object) -> Callable[[T], T]:
    """A decorator by which a test says it; of a class, it sets the attribute.

    Args:
        name: of the class's attribute.
        value: what is said, which is known to make sense.
    """

    def mark(test: T) -> T:
        setattr(test, name if isinstance(test, type) else _mark(name), value)
        return test

    return mark


def said(
    case: Any, method: Callable[..., Any], name: str, checked: Callable[[object, str], V]
) -> V | None:
    """What a test's decorator says, else its class; None if nobody says anything.

    Args:
        case: the test.
        method: its method.
        name: of the class's attribute.
        checked: returns the attribute's value, or raises; is told whose it is, for the message.
    """
    marked: V | None = getattr(method, _mark(name), None)
    own = getattr(case, name, None)
    if marked is not None or own is None:
        return marked
    return checked(own, f"{type(case).__qualname__}.{name} = {own!r}")


def _mark(name: str) -> str:
    return f"_harness_{name}"


def isolation(kind: str) -> Callable[[T], T]:
    """Decorator: the isolation of this one test, or of a class's tests, whatever else is said.

    Args:
        kind: "process" for ranks of its own, "group" for processes that have run other tests and a
            process group of its own, "none" for a process group that other tests have used.

    Raises:
        SettingError: if it is none of these.
    """
    return saying("isolation", _check(kind, f"@isolation({kind!r})"))


def isolation_of(case: Any, method: Callable[..., Any], usual: str) -> str:
    """The isolation of a test: its decorator's, its class's, the setting's, or the usual one.

    Raises:
        SettingError: if the class or the environment says something else than an isolation.
    """
    own = said(case, method, "isolation", _check)
    if own is not None:
        return own
    return settings.ISOLATION.value() if settings.ISOLATION.is_set() else usual


def _check(kind: object, owner: str) -> str:
    if kind not in ISOLATIONS:
        raise SettingError(f"{owner}: an isolation is one of {', '.join(ISOLATIONS)}")
    return str(kind)


def nodes(count: int) -> Callable[[T], T]:
    """Decorator: spread the ranks of a test, or of a class's tests, over so many nodes.

    On one machine, nodes are parts of it that pass for some: each rank finds what torchrun would
    tell it (LOCAL_RANK, LOCAL_WORLD_SIZE, GROUP_RANK, …) in its environment, a node's share of the
    devices, and a host name of the node's. On ranks that torchrun has started on as many hosts, the
    nodes are these hosts.

    Args:
        count: how many; ranks are spread as evenly as can be.

    Raises:
        SettingError: if that is not a whole number above zero.
    """
    return saying("nodes", _check_nodes(count, f"@nodes({count!r})"))


def nodes_of(case: Any, method: Callable[..., Any]) -> int | None:
    """The number of nodes of a test: its decorator's, else its class's; None if nobody says.

    Raises:
        SettingError: if the class says something else than a number of nodes.
    """
    return said(case, method, "nodes", _check_nodes)


def _check_nodes(count: object, owner: str) -> int:
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise SettingError(f"{owner}: a number of nodes must be a whole number above zero")
    return count


# A thread sanitizer makes everything slower; PyTorch's number.
_TSAN_S = 500

#: Seconds that the body of a test may take, as the environment said when this was imported.
TIMEOUT_DEFAULT: float = _TSAN_S if flags.TEST_WITH_TSAN else settings.TIMEOUT_S.value()

#: Test method name to seconds, for tests that are known to take longer (PyTorch's list).
TIMEOUT_OVERRIDE: dict[str, float] = {
    "test_ddp_uneven_inputs": 400,
    "test_DistributedDataParallel": 500,
}
if flags.TEST_WITH_ROCM:
    TIMEOUT_OVERRIDE["test_join_kwargs"] = 200

# Over the test's own timeout: the harness must be first to notice, since it sees every rank and the
# process group only itself, and somebody may sit in a debugger while the peers wait.
_GROUP_MARGIN_S = 24 * 3600.0


def timeout(seconds: float) -> Callable[[T], T]:
    """Decorator: what the body of a test, or of a class's tests, may take.

    It holds whatever the command line says; on a test, also whatever its class says.

    Args:
        seconds: from when all ranks have started until the last one has finished.

    Raises:
        SettingError: if that is not a positive number.
    """
    return saying("timeout_s", check_timeout(seconds, f"@timeout({seconds!r})"))


def check_timeout(value: object, owner: str) -> float:
    """The timeout in seconds. Raises SettingError, naming the owner, for anything but one."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        value = 0.0  # no duration at all
    if 0 < value <= settings.MAX_SECONDS:
        return float(value)
    rule = f"a positive number of seconds, at most {settings.MAX_SECONDS}"
    raise SettingError(f"{owner}: a timeout must be {rule}")


def timeout_of(case: Any, method: Callable[..., Any]) -> float:
    """Seconds that a test's body may take: its decorator's, its class's, or what holds for all.

    Raises:
        SettingError: if the class's `timeout_s` or the environment's value is not a duration.
    """
    own = said(case, method, "timeout_s", check_timeout)
    return get_timeout(str(case.id())) if own is None else own


def get_timeout(test_id: str) -> float:
    """Seconds that the test with this id may take, if neither decorator nor class says."""
    default = _TSAN_S if flags.TEST_WITH_TSAN else settings.TIMEOUT_S.value()
    return TIMEOUT_OVERRIDE.get(test_id.split(".")[-1], default)


def group_timeout_s(test_timeout_s: float) -> float:
    """Seconds that a process group may wait in a test with this timeout."""
    return test_timeout_s + _GROUP_MARGIN_S
