"""`.. options:: PROGRAM`: every option of a command, from the parser that reads it.

To be used where sections may stand: each group of options becomes one.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

from harness.runner import command_line, merging
from harness.runner.history import command

PARSERS = {
    "harness": lambda: command_line.build_parser("harness"),
    "harness history": lambda: command.build_parser("harness history"),
    "harness merge-reports": lambda: merging.build_parser("harness merge-reports"),
}


def groups_of(parser: argparse.ArgumentParser) -> Iterator[tuple[str, list[argparse.Action]]]:
    """The titles of the parser's groups, with the options to be shown; argparse's own come last."""
    own = parser._optionals
    for group in [*(g for g in parser._action_groups if g is not own), own]:
        actions = [a for a in group._group_actions if a.help is not argparse.SUPPRESS]
        if actions:
            yield ("other options" if group is own else str(group.title)), actions


def signature(action: argparse.Action) -> str:
    """An option as the manual names it: `-j N, --jobs N`."""
    if not action.option_strings:
        return str(action.metavar or action.dest)
    choices = "{" + ",".join(map(str, action.choices)) + "}" if action.choices else None
    value = "" if action.nargs == 0 else f" {action.metavar or choices or action.dest.upper()}"
    return ", ".join(f"{name}{value}" for name in action.option_strings)


class Options(SphinxDirective):
    """Sections with an `option` for each option of a command."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        program = self.arguments[0]
        parser = PARSERS[program]()
        return [self._section(program, title, actions) for title, actions in groups_of(parser)]

    def _section(self, program: str, title: str, actions: list[argparse.Action]) -> nodes.section:
        heading = title[0].upper() + title[1:]
        section = nodes.section(ids=[nodes.make_id(f"{program} {title}")], names=[])
        section += nodes.title(heading, heading)
        lines = [f".. program:: {program}", ""]
        for action in actions:
            text = " ".join((action.help or "").replace("%%", "%").split())
            # Help is plain text for a terminal.
            escaped = text.replace("\\", "\\\\").replace("*", "\\*").replace("`", "\\`")
            lines += [f".. option:: {signature(action)}", "", f"   {escaped}", ""]
        self.state.nested_parse(StringList(lines, source=f"{program} --help"), 0, section)
        return section


def setup(app: Any) -> None:
    app.add_directive("options", Options)
