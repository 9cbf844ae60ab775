"""Define what a fork server imports before it forks, and its report.

torch imports its heaviest modules at their first use, which would be in each rank of each test. So
the plan also contains the modules that the test's source suggests. A wrong guess only costs time.
Ranks report the modules that they had to import themselves, for the next server.
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

#: Carries the plan, as JSON, to the fork server, which removes it from its environment.
PLAN_VARIABLE = "HARNESS_FORK_SERVER_PLAN"

#: Libraries read these when they are loaded. A fork cannot change them any more, so a test with
#: other values needs another server.
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
    """The request to a fork server.

    Attributes:
        modules: names to import, in this order.
        main_path: the script to run as `__mp_main__`, if test classes live in it.
        main_name: the module to run as `__mp_main__`, for `python -m NAME`.
        sys_path, argv: the parent's.
        pythonpath: what PYTHONPATH is in the parent; None if unset.
        session: the folders to remove when the process that started the server has been killed.
        environ: the variables that are read while libraries load.
        sources: the files of the test modules that the parent has imported by path.
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
        """Return the plan as JSON, with the path of the pipe for the server's report."""
        return json.dumps({"answer_to": answer_to, **asdict(self)})

    @classmethod
    def from_text(cls, text: str) -> tuple[PreloadPlan, str]:
        """Return the plan and the pipe's path; the inverse of `to_text`."""
        data: dict[str, Any] = json.loads(text)
        answer_to = data.pop("answer_to")
        for name in ("modules", "sys_path", "argv", "session", "sources"):
            data[name] = tuple(data[name])
        data["environ"] = tuple(tuple(pair) for pair in data["environ"])
        return cls(**data), answer_to


#: Importing it replaces PyTorch's classes by ours. It must come before all test modules.
DROPIN_MODULE = "harness.dropin.active"


def import_time_environ() -> tuple[tuple[str, str], ...]:
    """Return the variables of this process that only a new interpreter reads."""
    return tuple((name, os.environ[name]) for name in READ_AT_LOADING if name in os.environ)


def main_module() -> tuple[str | None, str | None]:
    """Return path and name by which `__main__` can be run again; None where it cannot."""
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return None, spec.name
    path = getattr(main, "__file__", None)
    return (os.path.abspath(path) if path else None), None


@dataclass(frozen=True)
class PreloadReport:
    """The report of a fork server after its imports.

    Attributes:
        unsafe: why it must not be forked; empty if it may.
        errors: for each module that could not be imported, the traceback.
        imported: the names of all imported modules.
    """

    unsafe: str = ""
    errors: dict[str, str] = field(default_factory=dict)
    imported: frozenset[str] = frozenset()

    def to_text(self) -> str:
        return json.dumps({**asdict(self), "imported": sorted(self.imported)})

    @classmethod
    def from_text(cls, text: bytes) -> PreloadReport:
        """Return the report; the inverse of `to_text`. Raises ValueError if the text is cut off."""
        data: dict[str, Any] = json.loads(text)
        return cls(**{**data, "imported": frozenset(data["imported"])})


def covers(plan: PreloadPlan, report: PreloadReport, wanted: PreloadPlan) -> bool:
    """Whether a server with this plan and report has imported everything in the wanted plan.

    A module that it could not import counts as imported: another server would fail, too.
    """
    no_main = wanted.main_path is None and wanted.main_name is None
    same_main = (plan.main_path, plan.main_name) == (wanted.main_path, wanted.main_name)
    had = report.imported | set(plan.modules)
    return (
        had.issuperset(wanted.modules) and (no_main or same_main) and plan.environ == wanted.environ
    )


# Words in the source, and the modules that torch 2.13 then imports at the first use:
# - backward() with an explicit gradient imports symbolic_shapes, with sympy: 0.5 s in each rank;
# - DistributedDataParallel, FSDP and compiled functions import dynamo as well: 1.5 s in each rank.
_SIGNS: tuple[tuple[tuple[bytes, ...], str], ...] = (
    ((b"backward", b"autograd", b"gradcheck"), "torch.fx.experimental.symbolic_shapes"),
    (
        (b"DistributedDataParallel", b"FullyShardedDataParallel", b"fully_shard", b"torch.compile"),
        "torch._dynamo",
    ),
)


def foreseen(modules: Iterable[str]) -> list[str]:
    """Return torch's modules that ranks of these test modules will probably import."""
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
