"""Random generators of its own for each thread rank: torch's for the CPU, Python's and NumPy's.

torch, `random` and `numpy.random` have one generator each for the whole process, and whose turn it
is to draw is up to the scheduler. While a world of threads lives, each of the three looks at the
thread that asks: a rank, with the threads that it starts, has its own, all others have the usual.
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
        """Have them give what the usual ones of a process rank give after this seed."""
        self.torch.manual_seed(seed)
        self.python.seed(seed)
        self._seed = seed
        vars(self).pop("numpy", None)

    @cached_property
    def numpy(self) -> np.random.RandomState:
        # To make one takes 0.2 ms, and most tests do without.
        return np.random.RandomState(self._seed % 2**32)

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Have the calling thread draw from these meanwhile."""
        _here.generators = self
        try:
            yield
        finally:
            _here.generators = None


_here = threading.local()


def _own() -> RankGenerators | None:
    """Those of the calling thread; None if it has the usual ones."""
    return getattr(_here, "generators", None)


# The patches: one set of them for all worlds that live at a time

_lock = threading.Lock()
_worlds = 0
_undo = contextlib.ExitStack()


@contextlib.contextmanager
def by_thread() -> Iterator[None]:
    """Let threads have generators of their own meanwhile. Worlds may overlap in any order."""
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
    torch_draws.redirect(_own_of_torch)
    with contextlib.ExitStack() as undo:
        undo.enter_context(_of_class(torch, _TorchByThread))
        undo.enter_context(_replaced(torch.random, default_generator=_ThreadProxy(_torchs)))
        undo.enter_context(_of_class(_inst, _RandomByThread))
        undo.enter_context(_replaced(random, **_functions_of_random()))
        undo.enter_context(_replaced(np.random, **_functions_of_numpy()))
        undo.enter_context(_replaced(np.random.mtrand, _rand=_ThreadProxy(_numpys)))
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
def _of_class(what: Any, cls: type) -> Iterator[None]:
    before = type(what)
    what.__class__ = cls
    try:
        yield
    finally:
        what.__class__ = before


class _ThreadProxy:
    """Stands for the object that the calling thread has."""

    def __init__(self, of_thread: Callable[[], Any]) -> None:
        self._of_thread = of_thread

    def __getattr__(self, name: str) -> Any:
        return getattr(self._of_thread(), name)


# torch


def _own_of_torch() -> torch.Generator | None:
    own = _own()
    return None if own is None else own.torch


def _torchs() -> torch.Generator:
    return _own_of_torch() or torch_draws.DEFAULT


class _TorchByThread(ModuleType):
    """What the module `torch` is meanwhile.

    Its functions (`torch.manual_seed`, `get_rng_state`, `fork_rng`) use the default generator that
    `torch.random` has, whatever module has bound them.
    """

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        # Some pickle modules, by their exact class.
        return importlib.import_module, (self.__name__,)

    @property
    def default_generator(self) -> torch.Generator:
        return _torchs()


# Python


# All of the module's functions are methods of this one object.
_inst: random.Random = random._inst

# What these do is done in C, and what the others do is made of it.
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
    """`gauss_next`: gauss() draws two numbers and keeps one for its next call."""

    def __get__(self, usual: random.Random, owner: type) -> float | None:
        return vars(_own_or(usual))["gauss_next"]

    def __set__(self, usual: random.Random, value: float | None) -> None:
        vars(_own_or(usual))["gauss_next"] = value


# The class of the one object meanwhile. So functions that a module has bound before (`from random
# import randint`) follow too, but for the primitives: the C function knows the object only.
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


# All of the module's functions are methods of this one object, or use what the module has for it.
_rand: np.random.RandomState = np.random.mtrand._rand


def _numpys() -> np.random.RandomState:
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
        return getattr(_numpys(), name)(*args, **kwargs)

    return function


# Threads


_start_plainly = threading.Thread.start


@wraps(_start_plainly)
def _start(thread: threading.Thread) -> None:
    """A thread that a rank starts draws as the rank does, as in a process of its own."""
    own = _own()
    if own is not None:
        _adopt(thread, own)
    _start_plainly(thread)


def _adopt(thread: threading.Thread, own: RankGenerators) -> None:
    run = thread.run

    def run_with_own() -> None:
        del thread.run  # it would hold the thread, and the thread it
        with own.in_use():
            run()

    thread.run = run_with_own  # type: ignore[method-assign]
