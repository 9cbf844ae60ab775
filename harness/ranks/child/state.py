"""Compare the state of a reused rank before and after a test.

Only a rank without differences runs another test. `probes` is the table of what is compared;
docs/isolation.md describes it, and what Python cannot see.
"""

from __future__ import annotations

import gc
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from harness.model.clock import Deadline
from harness.ranks.child import process_state, python_state, torch_state
from harness.ranks.child.kept_group import RankGroups

# Threads that have been asked to end, and sockets that are closing, need a moment.
_SETTLING_S = 0.5
_PAUSE_S = 0.002


@dataclass(frozen=True, eq=False)
class Probe:
    """One part of the state.

    Attributes:
        kind: what a message calls it, before the name of what differs.
        take: returns the part, by name.
        is_set_by_us: whether the harness changes it between two tests.
        is_none_before: whether a test must leave nothing at all, whatever was there before it.
        settles: whether a difference may disappear by itself in a moment.
        may_be_imports: whether importing a module may change it. If the test has imported one, a
            difference replaces the world, but is not reported as the test's.
        grows_by_imports: whether importing a module only adds to it, as it would have before the
            test. If the test has imported one, differences are ignored.
    """

    kind: str
    take: Callable[[], Mapping[Any, Any]]
    is_set_by_us: bool = False
    is_none_before: bool = False
    settles: bool = False
    may_be_imports: bool = False
    grows_by_imports: bool = False


_python, _process, _torch = python_state, process_state, torch_state

_ENVIRONMENT = Probe(
    "environment variable", _python.environment, is_set_by_us=True, may_be_imports=True
)


def probes(groups: RankGroups) -> tuple[Probe, ...]:
    """Return the table of what is compared in a rank with these process groups."""
    return (
        _ENVIRONMENT,
        Probe("the", _python.set_for_each_test, is_set_by_us=True),
        Probe("the", _python.interpreter),
        Probe("the", _process.process),
        Probe("hook", _python.hooks, may_be_imports=True),
        Probe("hook", _python.warning_hooks, is_set_by_us=True, may_be_imports=True),
        Probe("built-in", _python.built_ins, may_be_imports=True),
        Probe("context variable", _python.context_variables, may_be_imports=True),
        Probe("mock patch", _python.patches),
        Probe("thread", _process.threads, settles=True),
        Probe("process", _process.processes, settles=True),
        Probe(
            "open file",
            lambda: _process.files(groups.files()),
            settles=True,
            may_be_imports=True,
        ),
        Probe("warnings filter", _python.filters, is_set_by_us=True, may_be_imports=True),
        Probe("logger", _python.loggers, may_be_imports=True),
        Probe("signal handler", _process.signal_handlers, may_be_imports=True),
        Probe("exit handler", _python.exit_handlers, may_be_imports=True),
        Probe("number of", _python.registries, grows_by_imports=True),
        Probe("torch's", _torch.switches),
        Probe("torch's", _torch.hooks, may_be_imports=True),
        Probe("torch setting", _torch.configs, may_be_imports=True),
        Probe(
            "process group",
            groups.left_or_changed,
            is_set_by_us=True,
            is_none_before=True,
            settles=True,
        ),
    )


# Modules are compared apart, by _Modules.
_MODULES = Probe("module", dict)


class RankState:
    """The state of this process at one moment.

    Args:
        probes: the table of what is compared.
        known: an earlier state of this process, if only the harness has changed it since. Only
            the parts that the harness changes are taken again.
    """

    def __init__(self, probes: tuple[Probe, ...], known: RankState | None = None) -> None:
        if known is not None and not known.is_of_now:
            known = None
        self.parts: dict[Probe, Mapping[Any, Any]] = {
            probe: probe.take() if probe.is_set_by_us or known is None else known.parts[probe]
            for probe in probes
        }
        # After the probes: torch.get_default_device() imports a module (torch 2.13).
        self._modules: _Modules = _Modules() if known is None else known._modules
        self._has_environment = False

    @property
    def is_of_now(self) -> bool:
        """Whether nothing has been imported since."""
        return not self._modules.has_more_now

    def take_environment(self) -> None:
        """Take the current environment as the one before the test; only the first call counts."""
        if not self._has_environment:
            self.parts[_ENVIRONMENT] = _ENVIRONMENT.take()
        self._has_environment = True

    def differences(self) -> Differences:
        """Return what is different now; wait a moment for differences that may disappear."""
        found = self._compare()
        give_up = Deadline.after(_SETTLING_S)
        while found.may_settle and not give_up.expired:
            gc.collect()  # a reference cycle may keep a file or a process group
            time.sleep(_PAUSE_S)
            found = self._compare()
        return found

    def _compare(self) -> Differences:
        now = {probe: probe.take() for probe in self.parts}
        has_imported = self._modules.has_more_now
        found = [
            (probe, text)
            for probe, was in self.parts.items()
            if not (probe.grows_by_imports and has_imported)
            for text in _changes(probe.kind, {} if probe.is_none_before else was, now[probe])
        ]
        found += [(_MODULES, text) for text in self._modules.replaced()]
        return Differences(found, has_imported)


class _Modules:
    """The modules at one moment. New modules are no difference; replaced or removed ones are."""

    def __init__(self) -> None:
        self._names = tuple(sys.modules)
        self._modules = tuple(sys.modules.values())

    @property
    def has_more_now(self) -> bool:
        """Whether modules have been imported since."""
        return len(sys.modules) != len(self._names)

    def replaced(self) -> Iterator[str]:
        """Yield, as text, the modules that have been replaced or removed."""
        # sys.modules is in import order, so new modules come last.
        if tuple(islice(sys.modules.values(), len(self._modules))) == self._modules:
            return
        for name, module in zip(self._names, self._modules, strict=True):
            if name not in sys.modules:
                yield f"module {name} gone"
            elif sys.modules[name] is not module:
                yield f"module {name} is {_short(sys.modules[name])}, was {_short(module)}"


class Differences:
    """What a test has left in its rank.

    Args:
        found: each difference as text, and the probe that found it.
        has_imported: whether the test has imported modules.
    """

    def __init__(self, found: list[tuple[Probe, str]], has_imported: bool) -> None:
        self._found = found
        self._has_imported = has_imported

    def __bool__(self) -> bool:
        return bool(self._found)

    @property
    def may_settle(self) -> bool:
        """Whether a difference may disappear by itself in a moment."""
        return any(probe.settles for probe, _ in self._found)

    def texts(self) -> list[str]:
        """Return the differences that are certainly the test's, the first few of each kind."""
        texts: dict[str, list[str]] = {}
        for probe, text in self._found:
            if not (self._has_imported and probe.may_be_imports):
                texts.setdefault(probe.kind, []).append(text)
        return [text for kind, found in texts.items() for text in _first_few(kind, found)]


def _first_few(kind: str, texts: list[str]) -> list[str]:
    more = len(texts) - _MAX_OF_A_KIND
    return texts if more <= 1 else [*texts[:_MAX_OF_A_KIND], f"{kind}: {more} more"]


def _changes(kind: str, before: Mapping[Any, Any], now: Mapping[Any, Any]) -> Iterator[str]:
    if before == now:
        return
    for key in {**before, **now}:
        old, new = before.get(key, _ABSENT), now.get(key, _ABSENT)
        if old == new:
            continue
        name = f"{kind} {_short(key)}"
        if old is _ABSENT:
            yield f"{name} left behind" if new is True else f"{name}: {_short(new)} left behind"
        elif new is _ABSENT:
            yield f"{name} gone"
        else:
            yield f"{name} is {_short(new)}, was {_short(old)}"


_ABSENT = object()
_MAX_TEXT = 80
_MAX_OF_A_KIND = 5


def _short(value: object) -> str:
    # Without addresses, which differ between ranks: equal texts of several ranks are shown once.
    if isinstance(value, str | bytes):
        text = os.fsdecode(value)
    else:
        text = re.sub(r"( at)? 0x[0-9a-f]+", "", repr(value))
    return text if len(text) <= _MAX_TEXT else text[:_MAX_TEXT] + "…"
