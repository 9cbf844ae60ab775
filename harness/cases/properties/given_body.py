"""Run a test method under Hypothesis's `@given` in a rank, with the example from the parent.

Only the parent runs Hypothesis's engine. A rank calls the method as usual, so all decorators around
`@given` run around each example, and an exception that one of them catches is caught. Where
Hypothesis would start to draw, it runs one explicit example instead. The body can use everything
that Hypothesis offers, including a `@given` function of its own, which gets an engine. This module
is imported only for such tests.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import unittest
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

import hypothesis
import hypothesis.core
from hypothesis._settings import local_settings
from hypothesis.control import current_build_context
from hypothesis.errors import UnsatisfiedAssumption
from hypothesis.reporting import with_reporter

from harness.model import settings
from harness.model.errors import PropertyError
from harness.model.example import Example
from harness.model.returned import check_returned
from harness.ranks.example_values import unpack

# An attribute of the `hypothesis` handle, which decorators around `@given` copy: the function that
# `@given` made.
_LAYER = "_harness_layer"

_current = threading.local()


def note_layer(function: Any) -> None:
    """Record which function `@given` made of a test, and copy the marks on it.

    Later that function may be out of sight: generators of tests hide what they have wrapped. And
    Hypothesis hands on what decorators under `@given` (a timeout, say) have noted only if its name
    is public.
    """
    with contextlib.suppress(PropertyError):
        layer_of(function)
    for name, value in vars(function.hypothesis.inner_test).items():
        if not name.startswith(("_hypothesis", "__wrapped")) and name not in vars(function):
            setattr(function, name, value)


def layer_of(function: Any) -> Any:
    """The function that `@given` made, below whatever decorators there are.

    Raises:
        PropertyError: if it cannot be found.
    """
    handle = function.hypothesis
    known = getattr(handle, _LAYER, None)
    if known is not None:
        return known
    layer = getattr(function, "__func__", function)
    while not _is_hypothesis_own(layer):
        if not hasattr(layer, "__wrapped__"):
            raise PropertyError(
                f"cannot find the @given of {function.__qualname__}: decorators around it must "
                "use functools.wraps(), and generated tests be made in the class's body"
            )
        layer = layer.__wrapped__
    setattr(handle, _LAYER, layer)
    return layer


def _is_hypothesis_own(function: Any) -> bool:
    # Hypothesis marks its own functions so, to hide them in tracebacks.
    return function.__globals__.get("__hypothesistracebackhide__") is True


class _Call:
    """One call of the body."""

    def __init__(self, example: Example) -> None:
        self.example = example
        self.has_run = False
        self.error: BaseException | None = None
        self._traceback: TracebackType | None = None
        self._notes: list[str] = []

    def run(self, body: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call the body with the example's values instead of the placeholders."""
        self.has_run, self.error = True, None  # a decorator may call the body again
        remarks = self.example.remarks
        remarks.rejected = remarks.location = ""
        keep = remarks.notes.append if self.example.wants_notes else _drop
        try:
            with with_reporter(lambda text: keep(str(text))):
                returned = body(*args, **{**kwargs, **unpack(self.example.values)})
            check_returned(returned, body)
            remarks.returned = "" if returned is None else repr(returned)
        except BaseException as error:
            self._keep(error)
            raise
        finally:
            data = current_build_context().data
            remarks.events.update(data.events)
            remarks.targets.update(data.target_observations)

    def _keep(self, error: BaseException) -> None:
        if isinstance(error, UnsatisfiedAssumption):
            remarks = self.example.remarks
            remarks.rejected = str(getattr(error, "reason", None) or "an assumption")
            remarks.location = str(getattr(error, "location", None) or "")
            return
        self.error = error
        here = error.__traceback__
        self._traceback = here.tb_next if here is not None else None
        self._notes = list(getattr(error, "__notes__", ()))

    def restore_error(self) -> None:
        """Remove from the body's exception what Hypothesis has added."""
        if self.error is not None:
            vars(self.error)["__notes__"] = self._notes
            self.error = self.error.with_traceback(self._traceback)


def _drop(text: str) -> None:
    """Discard Hypothesis's report."""


def run_example(method: Callable[[], Any], example: Example, seed: Callable[[], None]) -> None:
    """Run a test method under `@given` with this example, in the calling thread.

    Call it inside `explicitly`.

    Args:
        method: the bound method, with all its decorators.
        example: the values; its `remarks` collect what the body reports to Hypothesis.
        seed: seeds the rank's generators, which Hypothesis has seeded its own way.

    Raises:
        unittest.SkipTest: if an assumption does not hold; `example.remarks` tells it from others.
        BaseException: whatever the method raises: what its body raises, unless a decorator has
            swallowed that, and what its decorators raise.
    """
    call = _Call(example)
    _current.call, _current.seed = call, seed
    raised: BaseException | None = None
    try:
        method()
    except BaseException as error:
        call.restore_error()
        raised = error
    finally:
        _current.call = None
    # A decorator may complain that the body has not raised what it expects. Nothing is expected of
    # an example that is rejected.
    if example.remarks.rejected:
        raise unittest.SkipTest(f"the example is rejected: {example.remarks.rejected}")
    if raised is not None:
        raise raised
    if not call.has_run:
        raise PropertyError("the test method returned without running the body under @given")


@contextlib.contextmanager
def explicitly(method: Any, body: Callable[..., Any]) -> Iterator[None]:
    """Inside, the method runs the example of the `run_example` that calls it, and no engine.

    Args:
        method: the test method, with all its decorators.
        body: what is under `@given`.
    """
    layer = layer_of(method)
    handle = layer.hypothesis

    @functools.wraps(body)
    def dispatch(*args: Any, **kwargs: Any) -> Any:
        call: _Call = _current.call
        _current.seed()
        with local_settings(of_the_body):
            return call.run(body, args, kwargs)

    changed: dict[str, Any] = {
        "_hypothesis_internal_use_settings": _settings(),
        "_hypothesis_internal_use_reproduce_failure": None,
        "_hypothesis_internal_print_given_args": False,
        "hypothesis_explicit_examples": [],
    }
    before = {name: getattr(layer, name) for name in changed if hasattr(layer, name)}
    of_the_body = _settings_of_the_body(layer._hypothesis_internal_use_settings)
    inner = handle.inner_test
    for name, value in changed.items():
        setattr(layer, name, value)
    # The explicit example needs placeholders for the values; `dispatch` replaces them.
    hypothesis.example(**dict.fromkeys(handle._given_kwargs))(layer)
    handle.inner_test = dispatch
    # An engine that the body uses must start from the seed in each example, like all random
    # generators. Otherwise an example could fail now and pass when Hypothesis replays it.
    core: Any = hypothesis.core
    forced, core.global_force_seed = core.global_force_seed, settings.SEED.value()
    try:
        yield
    finally:
        core.global_force_seed = forced
        handle.inner_test = inner
        for name in changed:
            if name in before:
                setattr(layer, name, before[name])
            else:
                delattr(layer, name)


def _settings_of_the_body(own: hypothesis.settings) -> hypothesis.settings:
    """The settings that a `@given` takes over which the body calls: the test's own.

    With `_settings`, which say how this module has the body run, it would run no example at all and
    skip the test. Hypothesis refuses such a `@given` unless the outer test suppresses its health
    check `nested_given`. The check is about the time of its engine, which does not run the outer
    test here; HARNESS_PROPERTY_TIMEOUT limits that time.
    """
    suppressed = [*own.suppress_health_check, hypothesis.HealthCheck.nested_given]
    return hypothesis.settings(own, suppress_health_check=suppressed)


@functools.cache
def _settings() -> hypothesis.settings:
    return hypothesis.settings(
        phases=[hypothesis.Phase.explicit],
        database=None,
        deadline=None,
        verbosity=hypothesis.Verbosity.normal,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
