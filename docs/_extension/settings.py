"""The rows of the page of settings as places that other pages, and the index, can point to."""

from __future__ import annotations

from typing import Any

from docutils import nodes

PAGE = "settings"


def _note_rows(app: Any, doctree: nodes.document) -> None:
    if app.env.docname != PAGE:
        return
    standard = app.env.get_domain("std")
    for row in doctree.findall(nodes.row):
        first = next(iter(row.findall(nodes.literal)), None)
        if first is None or row.parent.tagname != "tbody":
            continue
        name = first.astext()
        label = nodes.make_id(f"setting {name}")
        row[0]["ids"].append(label)
        standard.note_object("envvar", name, label, location=row)


def setup(app: Any) -> None:
    app.connect("doctree-read", _note_rows)
