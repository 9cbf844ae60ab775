"""How long a test may take: the decorator, the class attribute, and PyTorch's names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from harness.cases.decorators import flags
from harness.cases.decorators.overrides import said, saying
from harness.model import settings
from harness.model.errors import SettingError

T = TypeVar("T", bound=Callable[..., Any])

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
