"""On how many nodes a test's ranks are, or believe to be: decorator and class attribute."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from harness.cases.decorators.overrides import said, saying
from harness.model.errors import SettingError

T = TypeVar("T", bound=Callable[..., Any])


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
    return saying("nodes", _check(count, f"@nodes({count!r})"))


def nodes_of(case: Any, method: Callable[..., Any]) -> int | None:
    """The number of nodes of a test: its decorator's, else its class's; None if nobody says.

    Raises:
        SettingError: if the class says something else than a number of nodes.
    """
    return said(case, method, "nodes", _check)


def _check(count: object, owner: str) -> int:
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise SettingError(f"{owner}: a number of nodes must be a whole number above zero")
    return count
