"""What a fork server imports before it may fork ranks, and what it answers.

torch imports its heaviest modules when they are first used, which for fresh ranks would be in every
rank of every test. So the plan contains what the test's source suggests will be used. A wrong guess
only costs time. Ranks report the modules that they had to import themselves.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any

from harness.model.module_sources import ModuleSource

#: Carries the plan, as JSON, to the fork server; gone from the environment once it has been read.
PLAN_VARIABLE = "HARNESS_FORK_SERVER_PLAN"

#: Libraries read these while they are being loaded, so a fork of a server that was started with
#: other values cannot be given the new ones; it takes another server.
READ_AT_LOADING = (
    "CUDA_MODULE_LOADING",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "TORCH_CPP_LOG_LEVEL",
    "TORCH_DEVICE_BACKEND_AUTOLOAD",
    "TORCH_LOGS",
)


@dataclass(frozen=True)
class PreloadPlan:
    """The frozen request to one fork server.

    Attributes:
        modules: names to import, in this order.
        main_path: the script to run as `__mp_main__`, if test classes live in it.
        main_name: the module to run as `__mp_main__`, for `python -m NAME`.
        sys_path, argv: the parent's.
        pythonpath: what PYTHONPATH is in the parent; None if unset.
        session: the folders to remove when the process that started the server has been killed.
        environ: the variables that are read while libraries load.
        sources: where the parent has the test modules from that it has imported itself.
    """

    modules: tuple[str, ...]
    main_path: str | None = None
    main_name: str | None = None
    sys_path: tuple[str, ...] = ()
    argv: tuple[str, ...] = ()
    pythonpath: str | None = None
    session: tuple[str, ...] = ()
    environ: tuple[tuple[str, str], ...] = ()
    sources: tuple[ModuleSource, ...] = ()

    def to_text(self, answer_to: str) -> str:
        """The plan as JSON, with the pipe on which the server shall answer."""
        return json.dumps({"answer_to": answer_to, **asdict(self)})

    @classmethod
    def from_text(cls, text: str) -> tuple[PreloadPlan, str]:
        """The inverse of `to_text`: the plan and the pipe's path."""
        data: dict[str, Any] = json.loads(text)
        answer_to = data.pop("answer_to")
        for name in ("modules", "sys_path", "argv", "session", "sources"):
            data[name] = tuple(data[name])
        data["environ"] = tuple(tuple(pair) for pair in data["environ"])
        return cls(**data), answer_to


#: Importing it exchanges PyTorch's classes for ours; to be done before any test is imported.
DROPIN_MODULE = "harness.dropin.active"


def import_time_environ() -> tuple[tuple[str, str], ...]:
    """The variables of this process that only a new interpreter would heed."""
    return tuple((name, os.environ[name]) for name in READ_AT_LOADING if name in os.environ)


def main_module() -> tuple[str | None, str | None]:
    """Path and name by which this process's `__main__` can be run again; None where it cannot."""
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return None, spec.name
    path = getattr(main, "__file__", None)
    return (os.path.abspath(path) if path else None), None


@dataclass(frozen=True)
class PreloadReport:
    """What a fork server says once it has imported everything.

    Attributes:
        unsafe: why it must not be forked; empty if it may be.
        errors: module to traceback, for those that could not be imported.
        imported: the names of all modules that it holds.
    """

    unsafe: str = ""
    errors: dict[str, str] = field(default_factory=dict)
    imported: frozenset[str] = frozenset()

    def to_text(self) -> str:
        return json.dumps({**asdict(self), "imported": sorted(self.imported)})

    @classmethod
    def from_text(cls, text: bytes) -> PreloadReport:
        """The inverse of `to_text`. Raises ValueError for what is cut short."""
        data: dict[str, Any] = json.loads(text)
        return cls(**{**data, "imported": frozenset(data["imported"])})


def covers(plan: PreloadPlan, report: PreloadReport, wanted: PreloadPlan) -> bool:
    """Whether a server with this plan and report has all that the wanted plan asks for.

    A module that it has tried to import in vain does not count as missing: another server would
    fare no better.
    """
    no_main = wanted.main_path is None and wanted.main_name is None
    same_main = (plan.main_path, plan.main_name) == (wanted.main_path, wanted.main_name)
    had = report.imported | set(plan.modules)
    return (
        had.issuperset(wanted.modules) and (no_main or same_main) and plan.environ == wanted.environ
    )


# Sign in the source, and what torch 2.13 then imports at first use:
# - backward() of anything with an explicit gradient: symbolic_shapes, with sympy, 0.5 s a rank;
# - the first DistributedDataParallel, FSDP or compiled function: dynamo as well, 1.5 s a rank.
_SIGNS: tuple[tuple[tuple[bytes, ...], str], ...] = (
    ((b"backward", b"autograd", b"gradcheck"), "torch.fx.experimental.symbolic_shapes"),
    (
        (b"DistributedDataParallel", b"FullyShardedDataParallel", b"fully_shard", b"torch.compile"),
        "torch._dynamo",
    ),
)


def foreseen(modules: Iterable[str]) -> list[str]:
    """The modules of torch to import beforehand for ranks of these test modules."""
    found = dict.fromkeys(name for module in modules for name in _foreseen(module))
    return list(found)


@cache
def _foreseen(module: str) -> tuple[str, ...]:
    source = _source_of(module)
    return tuple(name for signs, name in _SIGNS if any(sign in source for sign in signs))


def _source_of(module: str) -> bytes:
    try:
        with open(_file_of(module), "rb") as file:
            return file.read()
    except (OSError, ImportError, AttributeError, TypeError, ValueError):
        return b""


def _file_of(module: str) -> str:
    if module in sys.modules:
        return str(sys.modules[module].__file__)
    spec = importlib.util.find_spec(module)
    return str(spec.origin if spec else None)
