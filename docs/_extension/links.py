"""Makes links of what the pages only name: other pages, settings, options, public names.

The pages are read as plain text too, where `docs/isolation.md` or `HARNESS_SEED` says enough.
"""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx.util import logging
from sphinx.util.nodes import make_refnode

logger = logging.getLogger(__name__)

_PAGE = re.compile(r"docs/(\w+)\.md")
_SETTING = re.compile(r"([A-Z][A-Z_]+)(=.*)?")
_OPTION = re.compile(r"(--?[a-z][a-z-]*)([ =].*)?")
_NAME = re.compile(r"@?(?:harness\.)?(?P<name>[A-Za-z][\w.]*)(\(.*\))?", re.DOTALL)
_OWN = re.compile(r"self\.(\w+)(\(.*\))?", re.DOTALL)
# Where the pages do not say whose name they mean.
_USUAL_CLASS = "harness.MultiProcessTestCase"
_OWNERS = ("harness", _USUAL_CLASS, "harness.common_distributed", "harness.common_utils")
# Beside README.md, these are read as pages.
_ROOT_FILES = {"CONTRIBUTING.md": "contributing", "CHANGELOG.md": "changes"}


class Targets:
    """What can be pointed to: from a text to a page and a place in it."""

    def __init__(self, env: Any) -> None:
        self._env = env
        self._names = env.get_domain("py").objects
        self._options = env.get_domain("std").progoptions
        self._settings = env.get_domain("std").objects

    def page(self, text: str) -> str | None:
        """The page that a path means."""
        match = _PAGE.fullmatch(text)
        name = match[1] if match else _ROOT_FILES.get(text)
        return name if name in self._env.all_docs else None

    def place(self, text: str) -> tuple[str, str] | None:
        """The page and the place in it where what is named is described."""
        if match := _SETTING.fullmatch(text):
            return self._settings.get(("envvar", match[1]))
        if match := _OPTION.fullmatch(text):
            return self._options.get(("harness", match[1]))
        if match := _OWN.fullmatch(text):
            return self._object(f"{_USUAL_CLASS}.{match[1]}")
        match = _NAME.fullmatch(text)
        if match and _is_distinct(text, match["name"]):
            found = (self._object(f"{owner}.{match['name']}") for owner in _OWNERS)
            return next(filter(None, found), None)
        return None

    def _object(self, full: str) -> tuple[str, str] | None:
        found = self._names.get(full)
        return (found.docname, found.node_id) if found else None


def _is_distinct(text: str, name: str) -> bool:
    """Whether a text means the public name and no plain word, such as `timeout`."""
    return text != name or not name.islower() or "_" in name


def _link(app: Any, doctree: nodes.document, docname: str) -> None:
    targets = Targets(app.env)
    for literal in list(doctree.findall(nodes.literal)):
        if not _may_be_link(literal):
            continue
        text = literal.astext()
        if _PAGE.fullmatch(text) and targets.page(text) is None:
            logger.warning("there is no page %s", text, location=literal)
        if page := targets.page(text):
            title = app.env.titles[page].astext()
            link = make_refnode(app.builder, docname, page, "", nodes.inline("", title))
        elif place := targets.place(text):
            page, label = place
            link = make_refnode(app.builder, docname, page, label, literal.deepcopy())
        else:
            continue
        if page != docname or link.get("refid"):
            literal.replace_self(link)


def _may_be_link(node: nodes.Node) -> bool:
    parent = node.parent
    while parent is not None:
        if isinstance(parent, nodes.reference | nodes.title | nodes.Inline | nodes.raw):
            return False
        if parent.tagname in ("desc_signature", "desc_name"):
            return False
        parent = parent.parent
    return True


def setup(app: Any) -> None:
    app.connect("doctree-resolved", _link)
