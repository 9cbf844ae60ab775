"""Run a property test: Hypothesis's engine in the parent, the test's body in the ranks.

For one run, `_body_in_ranks` replaces the body that the engine calls. The replacement sends the
example to all ranks, waits for all of them, and raises their verdict from the line where the first
culprit failed. So Hypothesis tells bugs apart and shrinks each, even if it crashes or hangs a rank.

What happens to an example (`_run_example`), by the ranks' verdict:

    passed                  return; the engine draws the next example
    failed, crashed, hung   raise a failure that the engine shrinks; remember the example
    rejected by `assume()`  raise UnsatisfiedAssumption; the engine draws another example
    skipped                 raise SkipTest; Hypothesis lets it through, and the test is skipped
    xfail or pytest.exit    raise past the engine (`_Abort`): the test ends
    out of time             if nothing failed yet, end the test; otherwise pass all new examples
                            without running them, so that the engine finishes shrinking
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import unittest
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any
from unittest import mock

import hypothesis
from hypothesis import core as hypothesis_core
from hypothesis.control import current_build_context, should_note
from hypothesis.errors import UnsatisfiedAssumption
from hypothesis.reporting import current_reporter, with_reporter

from harness.cases.places import place_of_test, raise_at
from harness.cases.properties.example_budget import ExampleBudget
from harness.cases.properties.example_failures import raise_example, raise_failures
from harness.cases.properties.example_worlds import ExampleRequest, ExampleResult, ExampleWorld
from harness.cases.properties.given_body import layer_of
from harness.cases.raising import Shown, exit_error, warn_of_faults, xfail_error
from harness.model.clock import now
from harness.model.errors import PropertyError, RanksTimedOutError
from harness.model.example import Remarks
from harness.model.outcome import Failed, Passed, Raised
from harness.model.verdict import VerdictKind, is_echo
from harness.ranks.example_values import pack

__unittest = True  # unittest leaves the frames of such modules out of its tracebacks


# Hypothesis suggests `@seed(…)` if the engine stops for a reason other than a failing example.
_SEED = "@seed("


class _Abort(BaseException):
    """Carries an error past the engine, which would otherwise try to shrink it.

    A BaseException, because Hypothesis takes any Exception of the body for a failing example.
    """

    def __init__(self, error: BaseException) -> None:
        super().__init__(error)
        self.error = error


class _RankArgument:
    """Placeholder for an argument that decorators outside `@given` add in each rank."""

    def __repr__(self) -> str:
        return "(added in each rank)"


class PropertyTest:
    """One run of a property test.

    Args:
        case: the test, as it runs in the parent.
        method: its method, with all its decorators.
        world: runs the examples.
        budget: the time limits.
    """

    def __init__(
        self,
        case: unittest.TestCase,
        method: Callable[..., Any],
        world: ExampleWorld,
        budget: ExampleBudget,
    ) -> None:
        self._case = case
        self._layer = layer_of(method)
        # The world outlives examples; see `example_worlds`.
        self._world = world
        self._budget = budget
        self._name = method.__name__
        # The choices drawn for the examples that failed. Hypothesis runs some of them again. They
        # must run even when time is up: if one passed, Hypothesis would report a flaky test.
        self._failing: set[str] = set()

    def run(self) -> None:
        """Run the test with Hypothesis.

        Raises:
            unittest.SkipTest: if the ranks skip an example.
            HarnessError: one of the `Ranks…Error` classes, for the failures that Hypothesis found.
            ExampleValueError: if values cannot be sent to ranks.
            hypothesis.errors.HypothesisException: if the test itself is wrong, such as a failed
                health check.
        """
        reported: list[str] = []
        self._budget.begin()
        try:
            with self._body_in_ranks(), self._reporting(reported):
                self._layer(self._case, **self._rank_arguments())
        except _Abort as abort:
            if isinstance(abort.error, PropertyError):
                raise_at(place_of_test(self._case), abort.error.with_traceback(None))
            raise abort.error from None
        except unittest.SkipTest:
            raise
        except Exception as error:
            raise_failures(self._case, error, reported, self._budget)

    def _rank_arguments(self) -> dict[str, _RankArgument]:
        """Return placeholders for the parameters that neither `self` nor `@given` fills."""
        _, *others = inspect.signature(self._layer).parameters.values()
        named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        return {p.name: _RankArgument() for p in others if p.kind in named}

    @contextlib.contextmanager
    def _body_in_ranks(self) -> Iterator[None]:
        """Replace the body that Hypothesis calls with one that asks the ranks.

        `hypothesis.inner_test` is Hypothesis's documented attribute for this. The attribute with
        the settings is private.
        """
        handle, layer = self._layer.hypothesis, self._layer
        body, settings = handle.inner_test, layer._hypothesis_internal_use_settings

        @functools.wraps(body)
        def run_in_ranks(*args: Any, **kwargs: Any) -> Any:
            return self._run_example(kwargs)

        handle.inner_test = run_in_ranks
        # Every run of the test has a new instance. Without this, Hypothesis fails the second run
        # with the health check `differing_executors`.
        layer._hypothesis_internal_use_settings = hypothesis.settings(
            settings,
            suppress_health_check=[
                *settings.suppress_health_check,
                hypothesis.HealthCheck.differing_executors,
            ],
        )
        try:
            with _without_tracing():
                yield
        finally:
            handle.inner_test = body
            layer._hypothesis_internal_use_settings = settings

    @contextlib.contextmanager
    def _reporting(self, reported: list[str]) -> Iterator[None]:
        """Filter what Hypothesis prints; append to `reported` what belongs in the report.

        Under `@reproduce_failure`, everything goes to the report. The suggestion of a seed waits
        until the test ends: it is dropped if the test is skipped or aborted, and printed otherwise.
        """
        reproduces = self._layer._hypothesis_internal_use_reproduce_failure is not None
        print_it = current_reporter()
        held: list[object] = []

        def report(text: object) -> None:
            if reproduces:
                reported.append(str(text))
            elif _SEED in str(text):
                held.append(text)
            else:
                print_it(text)

        with with_reporter(report):
            try:
                yield
            except (_Abort, unittest.SkipTest):
                held.clear()
                raise
            finally:
                for text in held:
                    print_it(text)

    def _run_example(self, arguments: dict[str, Any]) -> Any:
        """Run the body in the ranks with one example; raise what the module's docstring says."""
        context = current_build_context()
        # `is_final` marks the last run of each minimal failing example, for the report. Only this
        # run may take the time to collect stacks.
        is_final, drawn = context.is_final, repr(context.data.choices)
        if self._budget.is_used_up and not is_final and drawn not in self._failing:
            self._skip_example()
            return None
        try:
            # Only the drawn values go to the ranks; the placeholders stay here.
            values = {name: arguments[name] for name in self._layer.hypothesis._given_kwargs}
            result = self._result_of(pack(values, self._name), is_final)
        except Exception as error:
            raise _Abort(error) from None
        # Before the verdict is raised: Hypothesis attaches notes to the failure.
        _forward_remarks(result.remarks)
        if result.verdict.is_trouble:
            if (leaving := exit_error(result.verdict)) is not None:
                raise _Abort(leaving)
            # Hypothesis runs failing examples again to check that they fail each time.
            self._failing.add(drawn)
            raise_example(self._case, result.verdict)
        if result.verdict.kind is VerdictKind.SKIPPED:
            if result.verdict.is_xfail:
                raise _Abort(xfail_error(result.verdict.reason))
            _reject_or_skip(result)
        # Hypothesis fails a test whose body returns a value; let it see what the ranks returned.
        returned = next((r.returned for r in result.remarks if r.returned), None)
        return None if returned is None else Shown(returned)

    def _result_of(self, values: bytes, is_final: bool) -> ExampleResult:
        self._world.ensure_up()
        request = ExampleRequest(
            values,
            wants_notes=should_note(),
            limit_s=self._budget.example_s,
            deadlock_s=self._budget.deadlock_s,
            thorough=is_final,
        )
        # The time of a hang is the limit itself, so it says nothing about how slow examples are.
        began_s = now()
        result = _with_disagreement(self._world.run(request))
        kind = result.verdict.kind
        hung = kind in {VerdictKind.TIMED_OUT, VerdictKind.DEADLOCKED}
        if not hung:
            self._budget.ended(now() - began_s)
        warn_of_faults(self._case, result.verdict)
        if result.verdict.is_trouble:
            if result.left_running:
                self._budget.use_up()
            self._budget.failed(hung)
            if not is_final:
                # Restart the ranks now, so that the next example's time does not include it.
                self._world.ensure_up()
        return result

    def _skip_example(self) -> None:
        """Skip an example because time is up; the engine ends with the failures found so far.

        Raises:
            RanksTimedOutError: in an `_Abort`, if no example has failed.
        """
        if not self._failing:
            raise _Abort(
                RanksTimedOutError(
                    f"not all examples ran within {self._budget.all_s:g} s; none of them failed: "
                    "run fewer examples (@settings(max_examples=…)), or allow more time "
                    "(HARNESS_PROPERTY_TIMEOUT)"
                )
            )


def _reject_or_skip(result: ExampleResult) -> None:
    """Raise for ranks that all left the body early: by a failed assumption, or to skip the test."""
    rejected = next((r for r in result.remarks if r.rejected), None)
    if rejected is None:
        raise unittest.SkipTest(result.verdict.reason)
    # Hypothesis groups failed assumptions by location for its statistics.
    error = UnsatisfiedAssumption(rejected.rejected)
    error.location = rejected.location
    raise error


def _with_disagreement(result: ExampleResult) -> ExampleResult:
    """Change the verdict to DISAGREED if an assumption failed on some ranks only.

    The other ranks may then wait for those that left, and fail or hang as a consequence. Such
    failures count as collateral. A failure of their own takes precedence.
    """
    verdict, remarks = result.verdict, result.remarks
    rejecting = [rank for rank, remark in enumerate(remarks) if remark.rejected]
    if len(rejecting) in {0, len(remarks)}:
        return result
    others = [r for r in verdict.reports if r.rank not in rejecting]
    if any(isinstance(r.outcome, Failed | Raised) and not is_echo(r.outcome) for r in others):
        return result
    echoes = [r.rank for r in others if not isinstance(r.outcome, Passed)]
    changed = replace(
        verdict,
        kind=VerdictKind.DISAGREED,
        culprits=(*rejecting, *echoes),
        collateral=frozenset(echoes),
    )
    return replace(result, verdict=changed)


def _forward_remarks(remarks: Sequence[Remarks]) -> None:
    """Forward the ranks' calls of note(), event() and target() to Hypothesis in the parent.

    target() takes one value for each label, so the highest of all ranks counts.
    """
    same = all(r.notes == remarks[0].notes for r in remarks)
    for rank, remark in enumerate(remarks[:1] if same else remarks):
        for text in remark.notes:
            hypothesis.note(text if same else f"rank {rank}: {text}")
    for value in dict.fromkeys(value for remark in remarks for value in remark.events):
        payloads = [remark.events[value] for remark in remarks if value in remark.events]
        hypothesis.event(value, payloads[0])
    for label in dict.fromkeys(label for remark in remarks for label in remark.targets):
        highest = max(remark.targets[label] for remark in remarks if label in remark.targets)
        hypothesis.target(highest, label=label)


@contextlib.contextmanager
def _without_tracing() -> Iterator[None]:
    """Turn off Hypothesis's tracing of the lines that an example runs.

    The body runs in the ranks, so the trace would only contain the harness's lines. The method is
    private; if a later version of Hypothesis lacks it, this does nothing.
    """
    state = hypothesis_core.StateForActualGivenExecution
    if not hasattr(state, "_should_trace"):
        yield
        return
    with mock.patch.object(state, "_should_trace", return_value=False):
        yield
