"""Give each thread rank its own random generators: torch's (for the CPU), Python's and NumPy's.

torch, `random` and `numpy.random` have one generator each for the whole process. If thread ranks
shared it, the scheduler would decide which rank draws which number. While a world of threads
exists, each of the three libraries uses one generator per rank, which the threads that the rank
starts share. All other threads use the usual generator.

    torch        operators: a kernel for each that draws (`torch_draws`); functions such as
                 `torch.manual_seed`: `torch.default_generator` becomes a property
    random       the class of the module's one `Random` object is replaced
    numpy        the functions of `numpy.random` are replaced
"""

from __future__ import annotations

import contextlib
import importlib
import random
import threading
from collections.abc import Callable, Iterator
from functools import cache, cached_property, wraps
from types import ModuleType
from typing import Any

import numpy as np
import torch

from harness.ranks.threads import torch_draws


class RankGenerators:
    """The generators of one rank."""

    def __init__(self, seed: int) -> None:
        self.torch = torch.Generator()
        self.python = random.Random(seed)
        self.seed(seed)

    def seed(self, seed: int) -> None:
        """Seed them; they then give the same numbers as those of a process rank with this seed."""
        self.torch.manual_seed(seed)
        self.python.seed(seed)
        self._seed = seed
        vars(self).pop("numpy", None)

    @cached_property
    def numpy(self) -> np.random.RandomState:
        # Created on first use: it takes 0.2 ms, and most tests do not need it.
        return np.random.RandomState(self._seed % 2**32)

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Make the calling thread draw from these generators inside the block."""
        _thread_local.generators = self
        try:
            yield
        finally:
            _thread_local.generators = None


_thread_local = threading.local()


def _own() -> RankGenerators | None:
    """Return the generators of the calling thread; None if it uses the usual ones."""
    return getattr(_thread_local, "generators", None)


# The patches. Worlds that exist at the same time share one set of them: the first installs it, the
# last removes it.

_lock = threading.Lock()
_worlds = 0
_undo = contextlib.ExitStack()


@contextlib.contextmanager
def by_thread() -> Iterator[None]:
    """Let threads have their own generators inside the block. Worlds may overlap in any order."""
    global _worlds
    with _lock:
        if not _worlds:
            _install()
        _worlds += 1
    try:
        yield
    finally:
        with _lock:
            _worlds -= 1
            if not _worlds:
                _undo.close()


def _install() -> None:
    torch_draws.redirect(_own_torch_generator)
    # If one patch fails, the `with` removes those before it; else `_undo` keeps them all.
    with contextlib.ExitStack() as undo:
        undo.enter_context(_with_class(torch, _TorchByThread))
        undo.enter_context(
            _replaced(torch.random, default_generator=_ThreadProxy(_torch_generator))
        )
        undo.enter_context(_with_class(_inst, _RandomByThread))
        undo.enter_context(_replaced(random, **_functions_of_random()))
        undo.enter_context(_replaced(np.random, **_functions_of_numpy()))
        undo.enter_context(_replaced(np.random.mtrand, _rand=_ThreadProxy(_numpy_generator)))
        undo.enter_context(_replaced(threading.Thread, start=_start))
        _undo.push(undo.pop_all())


@contextlib.contextmanager
def _replaced(owner: Any, **values: Any) -> Iterator[None]:
    before = {name: getattr(owner, name) for name in values}
    for name, value in values.items():
        setattr(owner, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(owner, name, value)


@contextlib.contextmanager
def _with_class(instance: Any, cls: type) -> Iterator[None]:
    before = type(instance)
    instance.__class__ = cls
    try:
        yield
    finally:
        instance.__class__ = before


class _ThreadProxy:
    """Forwards attributes to the object that the calling thread uses."""

    def __init__(self, of_thread: Callable[[], Any]) -> None:
        self._of_thread = of_thread

    def __getattr__(self, name: str) -> Any:
        return getattr(self._of_thread(), name)


# torch


def _own_torch_generator() -> torch.Generator | None:
    own = _own()
    return None if own is None else own.torch


def _torch_generator() -> torch.Generator:
    return _own_torch_generator() or torch_draws.DEFAULT


class _TorchByThread(ModuleType):
    """The class of the module `torch` while the patches are installed.

    `torch.manual_seed`, `get_rng_state` and `fork_rng` read `torch.random.default_generator` when
    they are called, so they need no patch of their own, even if a test has imported them before.
    """

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        # Libraries such as cloudpickle pickle modules if their class is exactly ModuleType.
        return importlib.import_module, (self.__name__,)

    @property
    def default_generator(self) -> torch.Generator:
        return _torch_generator()


# Python


# The functions of the module `random` are bound methods of this object (CPython 3.11 to 3.14).
_inst: random.Random = random._inst

# These are implemented in C. All other methods call them.
_PRIMITIVES = ("random", "getrandbits", "seed", "getstate", "setstate")


def _own_or(usual: random.Random) -> random.Random:
    own = _own()
    return usual if own is None else own.python


def _primitive(name: str) -> Callable[..., Any]:
    plain = getattr(random.Random, name)

    @wraps(plain)
    def method(self: random.Random, *args: Any, **kwargs: Any) -> Any:
        return plain(_own_or(self), *args, **kwargs)

    return method


class _GaussNext:
    """The attribute `gauss_next`: gauss() draws two numbers and keeps one for its next call."""

    def __get__(self, usual: random.Random, owner: type) -> float | None:
        return vars(_own_or(usual))["gauss_next"]

    def __set__(self, usual: random.Random, value: float | None) -> None:
        vars(_own_or(usual))["gauss_next"] = value


# The class of `_inst` while the patches are installed. So functions that a test has imported before
# (`from random import randint`) use the thread's generator, too. Only the primitives do not: an
# imported C function refers to the object itself.
_RandomByThread = type(
    "RandomByThread",
    (random.Random,),
    {
        **{name: _primitive(name) for name in _PRIMITIVES},
        "gauss_next": _GaussNext(),
        "__reduce__": lambda self: (random.Random, (), self.getstate()),
    },
)


@cache
def _functions_of_random() -> dict[str, Callable[..., Any]]:
    return {name: vars(_RandomByThread)[name].__get__(_inst) for name in _PRIMITIVES}


# NumPy


# The functions of `numpy.random` are bound methods of this object, or read it from the module
# `mtrand` (NumPy 2).
_rand: np.random.RandomState = np.random.mtrand._rand


def _numpy_generator() -> np.random.RandomState:
    own = _own()
    return _rand if own is None else own.numpy


@cache
def _functions_of_numpy() -> dict[str, Callable[..., Any]]:
    plain = vars(np.random).items()
    return {
        name: _function_of_numpy(name, value)
        for name, value in plain
        if getattr(value, "__self__", None) is _rand
    }


def _function_of_numpy(name: str, plain: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(plain)
    def function(*args: Any, **kwargs: Any) -> Any:
        return getattr(_numpy_generator(), name)(*args, **kwargs)

    return function


# Threads


_original_start = threading.Thread.start


@wraps(_original_start)
def _start(thread: threading.Thread) -> None:
    """Start a thread; if a rank starts it, the thread uses the rank's generators."""
    own = _own()
    if own is not None:
        _share_generators(thread, own)
    _original_start(thread)


def _share_generators(thread: threading.Thread, own: RankGenerators) -> None:
    run = thread.run

    def run_with_own() -> None:
        del thread.run  # the thread and this function would keep each other alive
        with own.in_use():
            run()

    thread.run = run_with_own  # type: ignore[method-assign]
