"""What the parent asks of a rank: the frozen request that travels to the new process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.model.errors import WorldSizeError

#: In the environment of every rank and of what it executes; the value is the test's folder.
WORLD_VARIABLE = "HARNESS_WORLD"


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """Everything that the ranks of one test need to know, the same for all of them.

    Attributes:
        test_id: the test's full name, as unittest prints it.
        module, qualname: where the test class is found.
        method: the name of the test method.
        world_size: number of ranks.
        file_name: the empty file that a FileStore may use.
        folder: the test's own folder; logs are written there.
        environ: the whole environment that the rank shall have.
        cwd, sys_path, argv: the parent's, at the time of the launch.
        threads: intra-op threads for torch in each rank.
        timeout_s: seconds that the body may take.
        entry: the class method that is called in a rank.
        extras: keyword arguments for it.
    """

    test_id: str
    module: str
    qualname: str
    method: str
    world_size: int
    file_name: str
    folder: str
    environ: Mapping[str, str]
    cwd: str
    sys_path: tuple[str, ...]
    argv: tuple[str, ...]
    threads: int
    timeout_s: float
    entry: str = "_run"
    extras: Mapping[str, Any] = field(default_factory=dict)


def check_world_size(value: object, owner: str) -> int:
    """The world size as an int.

    Args:
        value: what the class or the decorator gave.
        owner: whose it is, for the message.

    Raises:
        WorldSizeError: if it is not an integer above zero; the message names owner and value.
    """
    if isinstance(value, str) and value.isdecimal():
        value = int(value)  # straight from an environment variable, as some of PyTorch's tests do
    if isinstance(value, bool) or not isinstance(value, int):
        raise WorldSizeError(
            f"{owner} has world_size {value!r}: it must be an integer above zero, "
            f"not {type(value).__name__}"
        )
    if value < 1:
        raise WorldSizeError(f"{owner} has world_size {value}: it must be an integer above zero")
    return value
