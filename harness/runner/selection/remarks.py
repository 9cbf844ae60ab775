"""Remarks for the user about the selection: patterns without matches, tests that do not run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from harness.diagnosis.words import count
from harness.model import settings
from harness.runner.selection.expressions import any_matcher
from harness.runner.selection.files import is_path, lies_in, parts_of
from harness.runner.selection.near_names import nearest
from harness.runner.selection.pytest_style import on_unseen, shortened_list
from harness.runner.workers.worker_spec import Wanted

if TYPE_CHECKING:
    from harness.runner.selection.discovery import Loaded


def remarks_on(loaded: Loaded, wanted: Wanted, ids: Sequence[str]) -> list[str]:
    """Return the remarks, each one line.

    Args:
        loaded: the imported modules.
        wanted: the requested tests.
        ids: the tests that the names select, before `-k`.
    """
    found = (_on_style, _on_parametrized, _on_names, _on_patterns)
    return [line for remarks in found for line in remarks(loaded, wanted, ids)]


def _on_style(loaded: Loaded, wanted: Wanted, ids: Sequence[str]) -> Iterator[str]:
    """Yield remarks about tests for pytest in files that run as a whole."""
    matches = any_matcher(wanted.patterns)
    whole = [name for name in wanted.names if is_path(name) and not parts_of(name)[1]]
    files = {file.module: file for file in wanted.files}
    for module, names in loaded.unseen.items():
        file = files.get(module)
        is_asked_for = file is None or any(lies_in(file, name) for name in whole)
        meant = [name for name in names if matches(f"{module}.{name}")]
        if meant and (is_asked_for or not wanted.names):
            yield on_unseen(meant, str(file.path) if file else module)


def _on_parametrized(loaded: Loaded, wanted: Wanted, ids: Sequence[str]) -> Iterator[str]:
    """Yield remarks about TestCase methods with pytest.mark.parametrize, which has no effect."""
    chosen = set(filter(any_matcher(wanted.patterns), ids))
    for module, names in loaded.parametrized.items():
        meant = [name for name in names if f"{module}.{name}" in chosen]
        if meant:
            yield (
                f"{module}: {shortened_list(meant)}: pytest.mark.parametrize has no effect on a "
                "method of a TestCase: use harness.parametrize, and instantiate_parametrized_tests "
                "on the class"
            )


def _on_names(loaded: Loaded, wanted: Wanted, ids: Sequence[str]) -> Iterator[str]:
    """Yield remarks about tests named together with their whole file, so that all of it runs."""
    whole = [name for name in wanted.names if is_path(name) and not parts_of(name)[1]]
    dotted = [name for name in wanted.names if not is_path(name)]
    for file in wanted.files if dotted else ():
        path = next((name for name in whole if lies_in(file, name)), "")
        for name in dotted:
            inside = name.removeprefix(f"{file.module}.")
            tests = loaded.tests.get(file.module, ())
            if path and any(f".{inside}." in f"{test_id}." for (_, test_id, _), _ in tests):
                yield (
                    f"{path} is named as well as {name}, so all of its tests run: name "
                    f"{file.path}::{inside} for this alone"
                )


def _on_patterns(loaded: Loaded, wanted: Wanted, ids: Sequence[str]) -> Iterator[str]:
    """Yield remarks about patterns of `-k` that match none of the tests."""
    for pattern in wanted.patterns:
        if ids and not any(map(any_matcher([pattern]), ids)):
            tests = count(len(ids), "test")
            yield f"-k {settings.quoted(pattern)} matches none of {tests}{nearest(pattern, ids)}"
