"""The launch spec: the frozen request that the parent sends to every rank of a test.

It is complete. A rank takes nothing from the process that it was forked from, which may have
another environment, folder and `sys.path` than the parent.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from harness.model.communication import OFF
from harness.model.errors import WorldSizeError
from harness.model.module_sources import ModuleSource
from harness.model.surroundings import Surroundings

#: A variable in the environment of each rank and of the programs that it executes, by which
#: `ranks/leftovers.py` recognizes them. The value is the test's folder.
WORLD_VARIABLE = "HARNESS_WORLD"

#: How many devices all of torchrun's hosts have together, for its ranks and for rank 0's process.
TORCHRUN_DEVICES_VARIABLE = "HARNESS_TORCHRUN_DEVICES"

#: What a test shares with the test before it: nothing, the processes, or also the process group.
PROCESS, GROUP, NONE = ISOLATIONS = ("process", "group", "none")


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """Everything that the ranks of one test need to know; it is the same for all of them.

    Attributes:
        test_id: the test's full name, as unittest prints it.
        module, qualname: the test class.
        method: the name of the test method.
        world_size: the number of ranks.
        file_name: an empty file that a FileStore may use.
        folder: the test's folder.
        world_folder: the world's folder, with the logs: the test's folder, unless later tests reuse
            the ranks.
        surroundings: what each rank takes over from the parent: its environment, folder, path and
            arguments at the time of the launch.
        threads: the number of torch's intra-op threads in each rank.
        timeout_s: time limit for the body, in seconds.
        extras: keyword arguments for the class method that runs in a rank.
        store_host, store_port: the address of the world's TCP store; port 0 if it has none.
        master_port: the port for `MASTER_PORT`, on the same host; 0 if the ranks do not get
            torchrun's variables.
        isolation: "process" if the ranks run this test only. Later tests reuse the ranks with
            "group", and also their process group with "none".
        has_examples: whether the ranks run the method once for each example of a property test.
        node_sizes: the number of ranks on each node; empty if there are no nodes.
        warnings: the parent's warning filters and options; None to keep the rank's own.
        has_real_nodes: whether the nodes are hosts; else they are simulated on this machine.
        sources: the sources of the test's module and its packages (`module_sources`).
        audit: how closely the ranks record what they communicate; one of `AUDIT_LEVELS`.
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
    audit: str = OFF

    @property
    def stays(self) -> bool:
        """Whether later tests may reuse the ranks."""
        return self.isolation != PROCESS

    def in_world(self, folder: str, store_port: int = 0) -> LaunchSpec:
        """Return a copy for a world with this folder and a store at this port."""
        return replace(self, world_folder=folder, store_port=store_port)


def check_world_size(value: object, owner: str) -> int:
    """Return the world size as an int.

    Args:
        value: the value of the class or the decorator.
        owner: the class or the decorator, for the message.

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
