"""`.. api:: NAME …` and `.. facade:: MODULE`: public names, described by their docstrings.

The build complains of every public name that no page describes, and of one that two describe.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import unittest
from collections import Counter
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.pycode import ModuleAnalyzer
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

import harness

logger = logging.getLogger(__name__)

PACKAGE = Path(harness.__path__[0])
_DESCRIBED = "harness_api"
_QUALIFIED = re.compile(r"(Raises) \((.*)\):")


def public_names() -> list[str]:
    """The names that a user may import from `harness`."""
    return [name for name in harness.__all__ if name != "__version__"]


def names_of_facade(module: str) -> list[str]:
    """The names of a façade that `harness` itself does not have."""
    names = importlib.import_module(module).__all__
    return [name for name in names if name not in harness.__all__]


class Api(SphinxDirective):
    """Describes the names that are its content."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        return self._describe("harness", " ".join(self.content).split())

    def _describe(self, module: str, names: list[str]) -> list[nodes.Node]:
        described = self.env.metadata[self.env.docname].setdefault(_DESCRIBED, [])
        described += [f"{module}.{name}" for name in names]
        lines = [".. highlight:: python", ""]
        lines += [line for name in names for line in _directive(module, name)]
        box = nodes.container()
        self.state.nested_parse(StringList(lines, source=module), 0, box)
        return list(box.children)


class Facade(Api):
    """Describes those names of a module that `harness` does not have."""

    has_content = False
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        return self._describe(self.arguments[0], names_of_facade(self.arguments[0]))


def _directive(module: str, name: str) -> list[str]:
    """The lines that have Sphinx describe one name."""
    value = getattr(importlib.import_module(module), name)
    if inspect.isclass(value):
        return [f".. autoclass:: {module}.{name}", *_members(value), ""]
    if inspect.isfunction(value):
        return [f".. autofunction:: {module}.{name}", ""]
    kind = type(value).__name__
    comment = _comment_on(module, name)
    return [f".. py:data:: {module}.{name}", f"   :type: {kind}", "", f"   {comment}", ""]


def _members(value: type) -> list[str]:
    """What is to be told of a class beside its docstring."""
    if issubclass(value, BaseException):
        return ["   :show-inheritance:"]
    if not issubclass(value, unittest.TestCase):
        return []
    lines = ["   :members:", "   :exclude-members: setUp, tearDown, maxDiff"]
    bases = {base.__name__ for base in value.__mro__[1:]} & set(harness.__all__)
    if bases <= {"TestCase"}:
        # What it has from classes that are not public is its own to a reader.
        return [*lines, "   :inherited-members: TestCase"]
    return [*lines, "   :show-inheritance:"]


def _without_arguments(
    _app: Any, _what: str, _name: str, value: Any, _options: Any, *_signature: Any
) -> tuple[str, None] | None:
    """unittest makes the test cases; nobody else wants to know their constructors' arguments."""
    is_case = inspect.isclass(value) and issubclass(value, unittest.TestCase)
    return ("", None) if is_case else None


def _name_sections(
    app: Any, _what: str, name: str, _value: Any, _options: Any, lines: list[str]
) -> None:
    """Put headings such as `Raises (in the rank):` into words that Sphinx takes for headings."""
    for i, line in enumerate(lines):
        if match := _QUALIFIED.fullmatch(line):
            heading = f"{match[1]} {match[2].replace(',', '')}"
            if heading not in {title for title, _ in app.config.napoleon_custom_sections}:
                logger.warning("%s has a heading that docs/conf.py does not: %s", name, heading)
            lines[i] = f"{heading}:"


def _comment_on(module: str, name: str) -> str:
    """What the `#:` comment on a constant says where it is defined."""
    told = ModuleAnalyzer.for_module(_home(module, name)).find_attr_docs().get(("", name))
    if not told:
        logger.warning("%s.%s has no #: comment above its definition", module, name)
    return " ".join(" ".join(told or ()).split())


def _home(module: str, name: str) -> str:
    """The module that a name is imported from, by the table of contents that lists it."""
    is_top = module == "harness"
    path = PACKAGE / ("__init__.pyi" if is_top else f"{module.rpartition('.')[2]}.py")
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and name in {alias.name for alias in node.names}:
            return f"harness.{node.module}" if node.level else str(node.module)
    raise LookupError(f"{path} does not import {name}")


def _complain(_app: Any, env: Any) -> None:
    told = Counter(
        name for metadata in env.metadata.values() for name in metadata.get(_DESCRIBED, ())
    )
    for name in public_names():
        if told[f"harness.{name}"] != 1:
            times = told[f"harness.{name}"]
            logger.warning("harness.%s is public, and described by %d pages", name, times)


def setup(app: Any) -> None:
    app.add_directive("api", Api)
    app.add_directive("facade", Facade)
    # Before Sphinx makes sense of the sections.
    app.connect("autodoc-process-docstring", _name_sections, priority=100)
    app.connect("autodoc-process-signature", _without_arguments)
    app.connect("env-check-consistency", _complain)
