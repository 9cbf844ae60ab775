"""Tests under Hypothesis's `@given` over ranks: the engine in the parent, the bodies in the ranks.

The engine calls what it takes for the test's body; here that sends the example to all ranks, waits
for all of them, and raises what they add up to, from the line where the first of them went wrong:
so Hypothesis tells one bug from another, and shrinks each, whatever it does to a rank.
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
from harness.cases.properties.example_failures import raise_example, raise_found
from harness.cases.properties.example_worlds import Answer, ExampleWorld, Question
from harness.cases.raising import Shown, exit_error, xfail_error
from harness.model.clock import now
from harness.model.errors import PropertyError, RanksTimedOutError
from harness.model.example import Remarks
from harness.model.outcome import Failed, Passed, Raised
from harness.model.verdict import VerdictKind, is_echo
from harness.ranks.child.given_body import layer_of
from harness.ranks.example_values import pack

__unittest = True  # unittest leaves the frames of such modules out of its tracebacks


# What Hypothesis says when the engine stops for another reason than a failing example.
_SEED = "@seed("


class _Abort(BaseException):
    """Takes an error past the engine, which would make it smaller."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(error)
        self.error = error


class _OfTheRank:
    """Stands for an argument that decorators around `@given` add in each rank."""

    def __repr__(self) -> str:
        return "(added in each rank)"


class PropertyTest:
    """One run of a property test.

    Args:
        case: the test, as it runs in the parent.
        method: its method, with all its decorators.
        world: runs the examples.
        budget: the time there is.
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
        self._world = world
        self._budget = budget
        self._name = method.__name__
        # What was drawn for the examples that have failed: Hypothesis runs some of them again,
        # and must not find that they pass.
        self._failing: set[str] = set()

    def run(self) -> None:
        """Have Hypothesis run the test.

        Raises:
            unittest.SkipTest: if the ranks skip an example.
            HarnessError: one of the `Ranks…Error` classes for what Hypothesis has found.
            ExampleValueError: if values cannot be sent to ranks.
            hypothesis.errors.HypothesisException: what Hypothesis has to say of the test itself.
        """
        told: list[str] = []
        self._budget.begin()
        try:
            with self._asking_ranks(), self._reporting(told):
                self._layer(self._case, **self._arguments_of_the_ranks())
        except _Abort as abort:
            if isinstance(abort.error, PropertyError):
                raise_at(place_of_test(self._case), abort.error.with_traceback(None))
            raise abort.error from None
        except unittest.SkipTest:
            raise
        except Exception as error:
            raise_found(self._case, error, told, self._budget)

    def _arguments_of_the_ranks(self) -> dict[str, _OfTheRank]:
        _, *others = inspect.signature(self._layer).parameters.values()
        named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        return {p.name: _OfTheRank() for p in others if p.kind in named}

    @contextlib.contextmanager
    def _asking_ranks(self) -> Iterator[None]:
        """Inside, what Hypothesis takes for the body asks the ranks."""
        handle, layer = self._layer.hypothesis, self._layer
        body, settings = handle.inner_test, layer._hypothesis_internal_use_settings

        @functools.wraps(body)
        def ask(*args: Any, **kwargs: Any) -> Any:
            return self._ask(kwargs)

        handle.inner_test = ask
        # Every run of the test has an instance of its own, of which Hypothesis warns.
        layer._hypothesis_internal_use_settings = hypothesis.settings(
            settings,
            suppress_health_check=[
                *settings.suppress_health_check,
                hypothesis.HealthCheck.differing_executors,
            ],
        )
        try:
            with _untraced():
                yield
        finally:
            handle.inner_test = body
            layer._hypothesis_internal_use_settings = settings

    @contextlib.contextmanager
    def _reporting(self, told: list[str]) -> Iterator[None]:
        """Keep what Hypothesis would print that is of no use, or that belongs in the report.

        How to reproduce a test that is skipped, or that ranks cannot run; and the example that
        `@reproduce_failure` gives.
        """
        reproduces = self._layer._hypothesis_internal_use_reproduce_failure is not None
        print_it = current_reporter()
        held: list[object] = []

        def report(text: object) -> None:
            if reproduces:
                told.append(str(text))
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

    def _ask(self, arguments: dict[str, Any]) -> Any:
        """Have the ranks run the body; raise what becomes of it."""
        context = current_build_context()
        is_final, drawn = context.is_final, repr(context.data.choices)
        if self._budget.is_used_up and not is_final and drawn not in self._failing:
            self._give_up()
            return None
        try:
            values = {name: arguments[name] for name in self._layer.hypothesis._given_kwargs}
            answer = self._answer(pack(values, self._name), is_final)
        except Exception as error:
            raise _Abort(error) from None
        _retell(answer.remarks)
        if answer.verdict.is_trouble:
            if (leaving := exit_error(answer.verdict)) is not None:
                raise _Abort(leaving)
            self._failing.add(drawn)
            raise_example(self._case, answer.verdict)
        if answer.verdict.kind is VerdictKind.SKIPPED:
            if answer.verdict.is_xfail:
                raise _Abort(xfail_error(answer.verdict.reason))
            _reject_or_skip(answer)
        returned = next((r.returned for r in answer.remarks if r.returned), None)
        return None if returned is None else Shown(returned)

    def _answer(self, values: bytes, is_final: bool) -> Answer:
        self._world.revive()
        question = Question(
            values,
            wants_notes=should_note(),
            limit_s=self._budget.example_s,
            deadlock_s=self._budget.deadlock_s,
            thorough=is_final,
        )
        began_s = now()
        answer = _disagreeing(self._world.run(question))
        kind = answer.verdict.kind
        hung = kind in {VerdictKind.TIMED_OUT, VerdictKind.DEADLOCKED}
        if not hung:
            self._budget.ended(now() - began_s)
        if answer.verdict.is_trouble:
            if answer.left_running:
                self._budget.use_up()
            self._budget.failed(hung)
            if not is_final:
                self._world.revive()  # what that takes is not the next example's
        return answer

    def _give_up(self) -> None:
        """No more examples are tried; the engine comes to an end with what it has found.

        Raises:
            RanksTimedOutError: in an `_Abort`, if that is nothing.
        """
        if not self._failing:
            raise _Abort(
                RanksTimedOutError(
                    f"the examples had not all run after {self._budget.all_s:g} s, none has "
                    "failed: have Hypothesis try fewer (@settings(max_examples=…)), or give them "
                    "more time (HARNESS_PROPERTY_TIMEOUT)"
                )
            )


def _reject_or_skip(answer: Answer) -> None:
    """All ranks have left the body early: because of an assumption, or to skip the test."""
    rejected = next((r for r in answer.remarks if r.rejected), None)
    if rejected is None:
        raise unittest.SkipTest(answer.verdict.reason)
    error = UnsatisfiedAssumption(rejected.rejected)
    error.location = rejected.location
    raise error


def _disagreeing(answer: Answer) -> Answer:
    """The answer; if an assumption holds on some ranks alone, that is what is wrong with it.

    Ranks that go on may then wait for those that do not, and what becomes of that is only an echo.
    """
    verdict, remarks = answer.verdict, answer.remarks
    rejecting = [rank for rank, said in enumerate(remarks) if said.rejected]
    if len(rejecting) in {0, len(remarks)}:
        return answer
    others = [r for r in verdict.reports if r.rank not in rejecting]
    if any(isinstance(r.outcome, Failed | Raised) and not is_echo(r.outcome) for r in others):
        return answer
    echoes = [r.rank for r in others if not isinstance(r.outcome, Passed)]
    changed = replace(
        verdict,
        kind=VerdictKind.DISAGREED,
        culprits=(*rejecting, *echoes),
        collateral=frozenset(echoes),
    )
    return replace(answer, verdict=changed)


def _retell(remarks: Sequence[Remarks]) -> None:
    """Tell Hypothesis what the bodies have told it in the ranks."""
    same = all(r.notes == remarks[0].notes for r in remarks)
    for rank, said in enumerate(remarks[:1] if same else remarks):
        for text in said.notes:
            hypothesis.note(text if same else f"rank {rank}: {text}")
    for value in dict.fromkeys(value for said in remarks for value in said.events):
        payloads = [said.events[value] for said in remarks if value in said.events]
        hypothesis.event(value, payloads[0])
    for label in dict.fromkeys(label for said in remarks for label in said.targets):
        highest = max(said.targets[label] for said in remarks if label in said.targets)
        hypothesis.target(highest, label=label)


@contextlib.contextmanager
def _untraced() -> Iterator[None]:
    """Keep Hypothesis from tracing which lines an example runs: here they are never the body's."""
    state = hypothesis_core.StateForActualGivenExecution
    if not hasattr(state, "_should_trace"):
        yield
        return
    with mock.patch.object(state, "_should_trace", return_value=False):
        yield
