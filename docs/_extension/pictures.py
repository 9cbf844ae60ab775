"""Puts pictures of the folder `pictures` into the page itself, where they take on its colours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from docutils import nodes


def _inline(app: Any, doctree: nodes.document, _docname: str) -> None:
    if app.builder.format != "html":
        return
    for image in list(doctree.findall(nodes.image)):
        if image["uri"].startswith("pictures/"):
            text = (Path(app.srcdir) / image["uri"]).read_text()
            image.replace_self(nodes.raw("", f'<div class="picture">{text}</div>', format="html"))


def setup(app: Any) -> None:
    app.connect("doctree-resolved", _inline)
