"""Isolation, nodes and time limit of a test: by decorator, class attribute, or setting.

A decorator of the method overrides an attribute of the class, which overrides the setting.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from harness.cases.decorators import flags
from harness.cases.decorators.divergence import diverges_on_purpose
from harness.model import settings
from harness.model.communication import AUDIT_LEVELS, OFF
from harness.model.decorator_arguments import require_arguments
from harness.model.errors import SettingError
from harness.model.spec import ISOLATIONS

T = TypeVar("T", bound=Callable[..., Any])
V = TypeVar("V")


def override_decorator(name: str, value: object) -> Callable[[T], T]:
    """Return a decorator that overrides a value for one test; on a class, it sets the attribute.

    Args:
        name: the class attribute.
        value: the value, already checked.
    """

    def mark(test: T) -> T:
        setattr(test, name if isinstance(test, type) else _mark(name), value)
        return test

    return mark


def override_of(
    case: Any, method: Callable[..., Any], name: str, checked: Callable[[object, str], V]
) -> V | None:
    """Return the value of a test's decorator, or else of its class; None if neither is set.

    Args:
        case: the test.
        method: its method.
        name: the class attribute.
        checked: returns the attribute's value, or raises. Its second argument says where the value
            comes from, for the message.
    """
    marked: V | None = getattr(method, _mark(name), None)
    own = getattr(case, name, None)
    if marked is not None or own is None:
        return marked
    return checked(own, f"{type(case).__qualname__}.{name} = {own!r}")


def _mark(name: str) -> str:
    return f"_harness_{name}"


def isolation(kind: str) -> Callable[[T], T]:
    """Decorator: set the isolation of this test, or of a class's tests.

    Args:
        kind: "process" for new processes, "group" for reused processes with a new process group,
            "none" for reused processes with their process group.

    Raises:
        SettingError: if it is another value.
        TypeError: if the decorator is written without an argument.
    """
    require_arguments(kind, '@isolation("group")')
    return override_decorator("isolation", _check(kind, f"@isolation({kind!r})"))


def isolation_of(case: Any, method: Callable[..., Any], usual: str) -> str:
    """Return the isolation of a test: its decorator's, its class's, the setting's, or the default.

    Raises:
        SettingError: if the value of the class or the environment is not an isolation.
    """
    own = override_of(case, method, "isolation", _check)
    if own is not None:
        return own
    return settings.ISOLATION.value() if settings.ISOLATION.is_set() else usual


def _check(kind: object, owner: str) -> str:
    if kind not in ISOLATIONS:
        raise SettingError(f"{owner}: isolation must be one of {', '.join(ISOLATIONS)}")
    return str(kind)


def nodes(count: int) -> Callable[[T], T]:
    """Decorator: spread the ranks of a test, or of a class's tests, over several nodes.

    On one machine the nodes are simulated: each rank gets torchrun's variables (LOCAL_RANK,
    LOCAL_WORLD_SIZE, GROUP_RANK, …) in its environment, its node's share of the devices, and its
    node's host name. If torchrun has started ranks on as many hosts, the nodes are these hosts.

    Args:
        count: the number of nodes; ranks are spread as evenly as possible.

    Raises:
        SettingError: if it is not a whole number above zero.
        TypeError: if the decorator is written without an argument.
    """
    require_arguments(count, "@nodes(2)")
    return override_decorator("nodes", _check_nodes(count, f"@nodes({count!r})"))


def nodes_of(case: Any, method: Callable[..., Any]) -> int | None:
    """Return the number of nodes of a test: its decorator's, or else its class's; None if unset.

    Raises:
        SettingError: if the class's value is not a number of nodes.
    """
    return override_of(case, method, "nodes", _check_nodes)


def _check_nodes(count: object, owner: str) -> int:
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise SettingError(f"{owner}: a number of nodes must be a whole number above zero")
    return count


def audit(level: str) -> Callable[[T], T]:
    """Decorator: set how closely the communication of this test, or of a class's tests, is checked.

    Args:
        level: "off", "record" for what torch's flight recorder knows, or "full".

    Raises:
        SettingError: if it is another value.
        TypeError: if the decorator is written without an argument.
    """
    require_arguments(level, '@audit("off")')
    return override_decorator("audit_level", _check_level(level, f"@audit({level!r})"))


def audit_of(case: Any, method: Callable[..., Any]) -> str:
    """Return the level of the audit of a test: its decorator's, its class's, or the setting's.

    Raises:
        SettingError: if the value of the class or the environment is not a level.
    """
    if diverges_on_purpose(case, method):
        return OFF
    own = override_of(case, method, "audit_level", _check_level)
    return settings.AUDIT.value() if own is None else own


def _check_level(level: object, owner: str) -> str:
    if level not in AUDIT_LEVELS:
        raise SettingError(f"{owner}: a level of the audit is one of {', '.join(AUDIT_LEVELS)}")
    return str(level)


# A thread sanitizer makes everything slower; PyTorch's number.
_TSAN_S = 500

#: Time limit for the body of a test in seconds, from the environment at import.
TIMEOUT_DEFAULT: float = _TSAN_S if flags.TEST_WITH_TSAN else settings.TIMEOUT_S.value()

#: Test method name to seconds, for tests that take longer (PyTorch's list).
TIMEOUT_OVERRIDE: dict[str, float] = {
    "test_ddp_uneven_inputs": 400,
    "test_DistributedDataParallel": 500,
}
if flags.TEST_WITH_ROCM:
    TIMEOUT_OVERRIDE["test_join_kwargs"] = 200

# Added to the test's own timeout. The harness must time out before the process group: its report
# covers every rank, the group's error only one. The margin is long because peers wait in
# collectives while somebody debugs one rank.
_GROUP_MARGIN_S = 24 * 3600.0


def timeout(seconds: float) -> Callable[[T], T]:
    """Decorator: set the time limit for the body of a test, or of a class's tests.

    It overrides the command line; on a test, it also overrides its class.

    Args:
        seconds: the time from when all ranks have started until the last one has finished.

    Raises:
        SettingError: if it is not a positive number.
        TypeError: if the decorator is written without an argument.
    """
    require_arguments(seconds, "@timeout(5)")
    # Checked here, where the decorator is written, and not when the test runs.
    return override_decorator("timeout_s", check_timeout(seconds, f"@timeout({seconds!r})"))


def check_timeout(value: object, owner: str) -> float:
    """Return the timeout in seconds. Raises SettingError, naming the owner, if it is not one."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        value = 0.0  # not a number: let the range check below reject it
    if 0 < value <= settings.MAX_SECONDS:
        return float(value)
    rule = f"a positive number of seconds, at most {settings.MAX_SECONDS}"
    raise SettingError(f"{owner}: a timeout must be {rule}")


def timeout_of(case: Any, method: Callable[..., Any]) -> float:
    """Return a test's time limit in seconds: its decorator's, its class's, or the setting's.

    Raises:
        SettingError: if the class's `timeout_s` or the environment's value is not a duration.
    """
    own = override_of(case, method, "timeout_s", check_timeout)
    return get_timeout(str(case.id())) if own is None else own


def get_timeout(test_id: str) -> float:
    """Return the time limit of the test with this id, if neither decorator nor class sets one."""
    default = _TSAN_S if flags.TEST_WITH_TSAN else settings.TIMEOUT_S.value()
    return TIMEOUT_OVERRIDE.get(test_id.split(".")[-1], default)


def group_timeout_s(test_timeout_s: float) -> float:
    """Return the timeout of a process group in a test with this time limit, in seconds."""
    return test_timeout_s + _GROUP_MARGIN_S
