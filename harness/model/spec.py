"""What the parent asks of a rank: the frozen request that travels to the new process."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from harness.model.errors import WorldSizeError
from harness.model.module_sources import ModuleSource
from harness.model.surroundings import Surroundings

#: In the environment of every rank and of what it executes; the value is the test's folder.
WORLD_VARIABLE = "HARNESS_WORLD"

#: How many devices all of torchrun's hosts have together, for its ranks and for rank 0's process.
TORCHRUN_DEVICES_VARIABLE = "HARNESS_TORCHRUN_DEVICES"

#: How much of a world a test shares with the test before it: nothing, its processes, or these and
#: their process group.
PROCESS, GROUP, NONE = ISOLATIONS = ("process", "group", "none")


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
        world_folder: the folder of the world, which is the test's own unless the ranks stay.
        surroundings: what each rank gets from the parent, as of the time of the launch.
        threads: intra-op threads for torch in each rank.
        timeout_s: seconds that the body may take.
        extras: keyword arguments for the class method that is called in a rank.
        store_host, store_port: where the store of the world serves, if it has one; else port 0.
        master_port: on the same host, that of the store that ranks find by torchrun's variables;
            0 if they are given none.
        isolation: "process" for ranks that run this one test; "group" and "none" for ranks that
            stay for the tests after it, without or with their process group.
        has_examples: whether the ranks run the method once for each example that they are sent.
        node_sizes: how many ranks each node has, if ranks are to know of nodes; else empty.
        warnings: the parent's filters of warnings and what belongs to them; None leaves the rank's.
        has_real_nodes: whether these nodes are hosts, rather than parts of this machine that
            pass for some.
        sources: where the parent has the test's module and its packages from.
    """

    test_id: str
    module: str
    qualname: str
    method: str
    world_size: int
    file_name: str
    folder: str
    world_folder: str
    surroundings: Surroundings
    threads: int
    timeout_s: float
    extras: Mapping[str, Any] = field(default_factory=dict)
    isolation: str = PROCESS
    store_port: int = 0
    has_examples: bool = False
    store_host: str = "127.0.0.1"
    master_port: int = 0
    node_sizes: tuple[int, ...] = ()
    has_real_nodes: bool = False
    warnings: Mapping[str, Any] | None = None
    sources: tuple[ModuleSource, ...] = ()

    @property
    def stays(self) -> bool:
        """Whether the ranks stay for another test."""
        return self.isolation != PROCESS

    def in_world(self, folder: str, store_port: int = 0) -> LaunchSpec:
        """The same test in a world with this folder and this store on the loopback address."""
        return replace(self, world_folder=folder, store_port=store_port)


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
    if inspect.ismethod(value):
        raise WorldSizeError(
            f"{owner}.world_size is a method: make it a property (@property) or a class attribute"
        )
    if isinstance(value, bool) or not isinstance(value, int):
        raise WorldSizeError(
            f"{owner} has world_size {value!r}: it must be an integer above zero, "
            f"not {type(value).__name__}"
        )
    if value < 1:
        raise WorldSizeError(f"{owner} has world_size {value}: it must be an integer above zero")
    return value
