"""Turn one test method into several tests: PyTorch's `parametrize` and related decorators.

The protocol between the decorators and `instantiate_parametrized_tests` is PyTorch's, so that these
decorators also work with `torch.testing._internal.common_device_type`. A decorated function has an
attribute `parametrize_fn(test, generic_cls, device_cls)`. For every instance it yields the function
to call, the suffix of its name, its arguments, and a function from the arguments to further
decorators.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import wraps
from typing import Any, TypeVar

import torch

__unittest = True  # unittest leaves the frames of such modules out of its tracebacks

T = TypeVar("T", bound=Callable[..., Any])
C = TypeVar("C", bound=type)
Decorators = Callable[[dict[str, Any]], Iterable[Callable[..., Any]]]
Instance = tuple[Callable[..., Any], str, dict[str, Any], Decorators]
ParametrizeFn = Callable[..., Iterator[Instance]]


class TestParametrizer:
    """Base of the decorators that turn one test into several."""

    __test__ = False  # pytest would collect it, because its name starts with "Test"

    def _parametrize_test(
        self, test: Callable[..., Any], generic_cls: type, device_cls: type | None
    ) -> Iterator[Instance]:
        raise NotImplementedError

    def __call__(self, fn: T) -> T:
        inner = getattr(fn, "parametrize_fn", None)
        own = self._parametrize_test
        both = own if inner is None else compose_parametrize_fns(inner, own)
        fn.parametrize_fn = both  # type: ignore[attr-defined]
        return fn


def compose_parametrize_fns(
    old_parametrize_fn: ParametrizeFn, new_parametrize_fn: ParametrizeFn
) -> ParametrizeFn:
    """Return the product of two parametrizations; names follow the decorators from the top down."""

    def composed(
        test: Callable[..., Any], generic_cls: type, device_cls: type | None
    ) -> Iterator[Instance]:
        for inner_test, inner_name, inner_args, inner_decorators in old_parametrize_fn(
            test, generic_cls, device_cls
        ):
            for outer_test, outer_name, outer_args, outer_decorators in new_parametrize_fn(
                inner_test, generic_cls, device_cls
            ):
                twice = sorted(inner_args.keys() & outer_args.keys())
                if twice:
                    raise RuntimeError(
                        f"{test.__qualname__}: {', '.join(twice)} is given by two decorators"
                    )
                yield (
                    outer_test,
                    "_".join(part for part in (outer_name, inner_name) if part),
                    {**inner_args, **outer_args},
                    _both(inner_decorators, outer_decorators),
                )

    return composed


def _both(first: Decorators, second: Decorators) -> Decorators:
    return lambda arguments: [*first(arguments), *second(arguments)]


def instantiate_parametrized_tests(generic_cls: C) -> C:
    """Replace the parametrized tests of a class with their instances. Usable as a class decorator.

    Args:
        generic_cls: the class; it is changed in place and returned.

    Raises:
        AssertionError: if two instances would have the same name.
    """
    # dir(), not vars(): inherited generic tests are instantiated for this class too.
    for name in dir(generic_cls):
        generic = getattr(generic_cls, name)
        if not hasattr(generic, "parametrize_fn"):
            continue
        # Hide the generic test instead of deleting it: it may be inherited, and other classes may
        # instantiate it too.
        setattr(generic_cls, name, None)
        for test, suffix, arguments, decorators in generic.parametrize_fn(
            generic, generic_cls=generic_cls, device_cls=None
        ):
            full_name = f"{test.__name__}_{suffix}" if suffix else test.__name__
            decorated = test
            for decorator in decorators(arguments):
                decorated = decorator(decorated)
            if getattr(generic_cls, full_name, None) is not None:
                raise AssertionError(
                    f"{generic_cls.__qualname__}.{name}: two of its tests are called {full_name}"
                )
            setattr(generic_cls, full_name, _instance(decorated, full_name, arguments))
    return generic_cls


def _instance(
    test: Callable[..., Any], name: str, arguments: dict[str, Any]
) -> Callable[[Any], Any]:
    @wraps(test)
    def instantiated_test(self: Any) -> Any:
        return test(self, **arguments)

    # wraps() copied `parametrize_fn` and the generic test's name; an instance has its own name, and
    # must not be instantiated again.
    instantiated_test.__dict__.pop("parametrize_fn", None)
    instantiated_test.__name__ = name
    instantiated_test.__qualname__ = f"{test.__qualname__.rpartition('.')[0]}.{name}"
    # pytest reads the signature through `__wrapped__`, and would take the parameters for fixtures.
    del instantiated_test.__wrapped__
    return instantiated_test


def is_not_instantiated(test: Any) -> bool:
    """Whether a method has parameters from this module, but no `instantiate_parametrized_tests`.

    It would run without its arguments, or with the wrong world size. Instances made by torch's
    `instantiate_device_type_tests` keep the attribute `parametrize_fn` too; they take the argument
    `param_kwargs` (torch 2.6 to 2.15).
    """
    # composed() and the decorators' own methods are defined in these packages; torch's are not.
    own = getattr(getattr(test, "parametrize_fn", None), "__module__", "") or ""
    if not own.startswith("harness."):
        return False
    function: Any = test
    while function is not None:
        code = getattr(getattr(function, "__func__", function), "__code__", None)
        if code is not None and "param_kwargs" in code.co_varnames[: code.co_argcount]:
            return False
        function = getattr(function, "__wrapped__", None)
    return True


class subtest:
    """One value (or tuple of values) of a parametrization, with its own name and decorators.

    Args:
        arg_values: the value, or one for each parameter.
        name: replaces the generated suffix.
        decorators: applied to this instance of the test.
    """

    __slots__ = ("arg_values", "decorators", "name")

    def __init__(
        self,
        arg_values: Any,
        name: str | None = None,
        decorators: Iterable[Callable[..., Any]] | None = None,
    ) -> None:
        self.arg_values = arg_values
        self.name = name
        self.decorators = list(decorators or ())


class parametrize(TestParametrizer):
    """Run a test once for each value, as separate tests with their own names.

    Args:
        arg_str: the parameters' names, separated by commas.
        arg_values: the values, or tuples if there are several parameters. Use `subtest` to name or
            decorate one of them.
        name_fn: returns the suffix for the values; by default names and values joined by `_`.
    """

    def __init__(
        self,
        arg_str: str,
        arg_values: Iterable[Any],
        name_fn: Callable[..., str] | None = None,
    ) -> None:
        self.arg_names = [name.strip() for name in arg_str.split(",") if name.strip()]
        self.arg_values = arg_values
        self.name_fn = name_fn

    def _parametrize_test(
        self, test: Callable[..., Any], generic_cls: type, device_cls: type | None
    ) -> Iterator[Instance]:
        if not self.arg_names:
            yield test, "", {}, lambda _: ()
            return
        # Stays -1 if there are no values. `arg_values` may be a generator, so it cannot be tested
        # for emptiness first.
        index = -1
        for index, item in enumerate(self.arg_values):
            case = item if isinstance(item, subtest) else subtest(item)
            values = list(case.arg_values) if len(self.arg_names) > 1 else [case.arg_values]
            if len(values) != len(self.arg_names):
                raise RuntimeError(
                    f"{test.__qualname__}: {len(self.arg_names)} parameters "
                    f"({', '.join(self.arg_names)}) but {len(values)} values in {values!r}"
                )
            name = case.name or self._suffix(index, values)
            arguments = dict(zip(self.arg_names, values, strict=True))
            yield copy_of(test), name, arguments, _always(case.decorators)
        if index < 0:
            raise ValueError(
                f"{test.__qualname__}: @parametrize({', '.join(self.arg_names)!r}) has no values; "
                "was it given a generator that has been used before?"
            )

    def _suffix(self, index: int, values: Sequence[Any]) -> str:
        if self.name_fn is not None:
            return self.name_fn(*values)
        parts = zip(self.arg_names, values, strict=True)
        return "_".join(_part(index, name, value) for name, value in parts)


def _part(index: int, name: str, value: Any) -> str:
    """Return the part of a test's name for one parameter, in PyTorch's spelling."""
    if isinstance(value, torch.dtype):
        return str(value).removeprefix("torch.")
    if isinstance(value, torch.device):
        return str(value)
    if hasattr(value, "formatted_name"):  # PyTorch's OpInfo and ModuleInfo
        return str(value.formatted_name)
    if isinstance(value, int | float | str):
        return f"{name}_{str(value).replace('.', '_')}"
    return f"{name}{index}"


def copy_of(test: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that does the same, but has its own marks, such as skips."""

    @wraps(test)
    def copied(*args: Any, **kwargs: Any) -> Any:
        return test(*args, **kwargs)

    return copied


def _always(decorators: list[Callable[..., Any]]) -> Decorators:
    return lambda _: decorators


class reparametrize(TestParametrizer):
    """Change the instances that another parametrization makes.

    Args:
        parametrizer: the other parametrization.
        adapter_fn: takes an instance's suffix and arguments, and returns an iterable of new pairs.
            Pairs that are None are dropped; returning None drops the instance.
    """

    def __init__(
        self,
        parametrizer: TestParametrizer,
        adapter_fn: Callable[[str, dict[str, Any]], Iterable[Any] | None],
    ) -> None:
        self.parametrizer = parametrizer
        self.adapter_fn = adapter_fn

    def _parametrize_test(
        self, test: Callable[..., Any], generic_cls: type, device_cls: type | None
    ) -> Iterator[Instance]:
        for instance, name, arguments, decorators in self.parametrizer._parametrize_test(
            test, generic_cls, device_cls
        ):
            for adapted in self.adapter_fn(name, arguments) or ():
                if adapted is not None:
                    yield instance, *adapted, decorators


class decorateIf(TestParametrizer):
    """Decorate the instances of a test whose arguments meet a condition.

    Args:
        decorator: the decorator.
        predicate_fn: takes an instance's arguments, and returns whether to decorate it.
    """

    def __init__(
        self, decorator: Callable[..., Any], predicate_fn: Callable[[dict[str, Any]], bool]
    ) -> None:
        self.decorator = decorator
        self.predicate_fn = predicate_fn

    def _parametrize_test(
        self, test: Callable[..., Any], generic_cls: type, device_cls: type | None
    ) -> Iterator[Instance]:
        def decorators(arguments: dict[str, Any]) -> list[Callable[..., Any]]:
            return [self.decorator] if self.predicate_fn(arguments) else []

        yield copy_of(test), "", {}, decorators
