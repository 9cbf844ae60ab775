"""The manual says what is true: its examples are run, its command lines are ones that are taken."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
import unittest
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from harness.runner import command_line, merging
from harness.runner.history import command as history_command
from suites.selftest.manual import Block, Kind, blocks_of, command_lines, pages, shows
from suites.selftest.support import ROOT, CommandTestCase, Finished

ALL = {page: blocks_of(page) for page in pages()}


def has_commands(blocks: list[Block]) -> bool:
    return any(block.kind in (Kind.RUN, Kind.OUTPUT_OF) for block in blocks)


def is_run_on_its_page(file: Block) -> bool:
    """Whether a command of the page names the file, or takes all test files there are."""
    later = [b for b in ALL[file.page] if b.line > file.line]
    commands = [b.argument for b in later if b.kind is Kind.OUTPUT_OF]
    commands += [line for b in later if b.kind is Kind.RUN for line in b.commands]
    stem = re.escape(Path(file.argument).stem)
    named = re.compile(rf"\b{stem}\b|^python -m (harness|pytest|unittest)$")
    return any(named.search(command) for command in commands)


class ShellTestCase(CommandTestCase):
    """Runs commands as a reader would type them, except that there is no terminal."""

    # In a session of its own, since a debugger would find the terminal of who runs this test.
    _WITHOUT_TERMINAL = "import os, sys; os.setsid(); os.execvp(sys.argv[1], sys.argv[1:])"

    def shell(self, script: str) -> Finished:
        """A script's output, stderr within stdout."""
        path = os.pathsep.join((os.path.dirname(sys.executable), os.environ["PATH"]))
        words = ["bash", "-ec", f"exec 2>&1\n{script}"]
        command = [sys.executable, "-c", self._WITHOUT_TERMINAL, *words]
        return self.run_command(*command, PATH=path, ROOT=str(ROOT))


class TestEveryPage(ShellTestCase):
    """Each page that shows commands has a test of its own, made below."""

    def check(self, page: Path) -> None:
        printed = ""
        for block in ALL[page]:
            if block.kind is Kind.FILE:
                (self.folder / block.argument).write_text(block.text)
            elif block.kind is Kind.RUN:
                printed = self.run_block("\n".join(block.commands), block, codes=(0,))
            elif block.kind is Kind.OUTPUT_OF:
                self.assert_shown(block, self.run_block(block.argument, block, codes=(0, 1)))
            elif block.kind is Kind.OUTPUT:
                self.assert_shown(block, printed)

    def run_block(self, script: str, block: Block, codes: tuple[int, ...]) -> str:
        done = self.shell(script)
        self.assertIn(done.code, codes, f"{block}: {script}\n{done.out}")
        self.assert_clean(done)
        return done.out

    def assert_shown(self, block: Block, printed: str) -> None:
        if not shows(block.text, printed):
            self.fail(f"{block} shows\n\n{block.text}\nbut what was printed is\n\n{printed}")


def _check_of(page: Path) -> Callable[[TestEveryPage], None]:
    return lambda self: self.check(page)


for _page, _blocks in ALL.items():
    if has_commands(_blocks):
        setattr(TestEveryPage, f"test_{_page.stem.lower()}", _check_of(_page))


class TestOtherFiles(ShellTestCase):
    def test_those_that_no_command_of_their_page_runs(self):
        """All in one run, since each run has to import torch."""
        files = [b for blocks in ALL.values() for b in blocks if b.kind is Kind.FILE]
        others = [file for file in files if not is_run_on_its_page(file)]
        self.assertGreater(len(others), 4)
        for file in others:
            self.assertTrue(file.argument.startswith("test_"), f"{file}: no command runs it")
            path = self.folder / file.argument
            self.assertFalse(path.exists(), f"{file}: another page has a {file.argument} too")
            path.write_text(file.text)
        done = self.harness("-v")
        self.assertEqual(done.code, 0, done.out + done.err)
        for file in others:
            self.assertRegex(done.out, rf"(passed|skipped) .* {Path(file.argument).stem}\.")
        # Torch's cache of compiled code is meant to stay: the next run is faster for it.
        done.left_files = [f for f in done.left_files if not f.startswith("torchinductor_")]
        self.assert_clean(done)


class TestBlocks(unittest.TestCase):
    def test_every_block_is_run_or_says_why_not(self):
        unknown = [str(b) for blocks in ALL.values() for b in blocks if b.kind is Kind.UNKNOWN]
        self.assertEqual(
            unknown,
            [],
            "these blocks are neither run nor marked: see suites/selftest/manual.py for the marks",
        )

    def test_readers_see_the_command_of_each_output(self):
        """A comment that names the command is invisible, so the text before it names it too."""
        for page, blocks in ALL.items():
            lines = page.read_text().splitlines()
            for block in blocks:
                if block.kind is Kind.OUTPUT_OF:
                    command = block.argument.rpartition(" && ")[2]
                    before = [
                        b.line for b in blocks if b.line < block.line and b.kind != block.kind
                    ]
                    text = " ".join(lines[max(before, default=0) : block.line - 1])
                    visible = re.sub("<!--.*?-->", "", text)
                    self.assertIn(f"`{command}`", visible, str(block))

    def test_output_comes_after_commands(self):
        for blocks in ALL.values():
            runs = False
            for block in blocks:
                runs = runs or block.kind is Kind.RUN
                self.assertTrue(runs or block.kind is not Kind.OUTPUT, str(block))

    def test_what_a_mark_means(self):
        text = """
```python
# test_a.py
import torch
```

<!-- run: python -m harness
     test_a.py -->
```
1 passed
```

<!-- not run: it needs
     a GPU -->
```
nvidia-smi
```

<!-- not run -->
```
why?
```

```
python -m harness
```

```{note}
Sphinx reads this.
```

    an indented block
"""
        found = [(b.kind, b.argument) for b in blocks_of(ROOT / "README.md", text)]
        self.assertEqual(
            found,
            [
                (Kind.FILE, "test_a.py"),
                (Kind.OUTPUT_OF, "python -m harness test_a.py"),
                (Kind.NOT_RUN, "it needs a GPU"),
                (Kind.UNKNOWN, ""),
                (Kind.UNKNOWN, ""),
                (Kind.UNKNOWN, ""),
            ],
        )

    def test_what_is_shown(self):
        printed = "first\nended after 3.2 s  \nthen\nmore\nat /tmp/x/a.py:3\nlast\n"
        for block in (
            "ended after 0.1 s\n",
            "ended after 9 s\nthen\n",
            "first\n…\nlast",
            "at …a.py:3",
            "last",
        ):
            self.assertTrue(shows(block, printed), block)
        for block in ("first\nthen", "at …a.py:4", "then\n…\nfirst", "ended before 3.2 s"):
            self.assertFalse(shows(block, printed), block)


class TestCommandLines(unittest.TestCase):
    def test_every_one_is_taken(self):
        """Also those that are not run: each option that is shown exists, and fits the others."""
        count = 0
        for page in pages():
            for line in command_lines(page):
                with self.subTest(page=page.name, line=line):
                    self.parse(shlex.split(line, comments=True))
                    count += 1
        self.assertGreater(count, 40)

    def test_every_option_is_on_the_runners_page(self):
        text = (ROOT / "docs" / "runner.md").read_text()
        for action in command_line.build_parser("harness")._actions:
            names = [n for n in action.option_strings if action.help != argparse.SUPPRESS]
            for name in set(names) - {"-h", "--help", "--version"}:
                self.assertRegex(text, rf"(?<![\w-]){name}(?![\w-])")

    def parse(self, words: list[str]) -> None:
        program = words[1:3] if words[1] == "-m" else words[1:2]
        arguments = words[1 + len(program) :]
        if program[-1] == "harness.bench":
            from harness.bench.__main__ import build_parser

            build_parser().parse_args(arguments or ["start"])
        elif arguments[:1] == ["history"]:
            history_command.build_parser("history").parse_args(arguments[1:])
        elif arguments[:1] == ["merge-reports"]:
            merging.build_parser("merge-reports").parse_args(arguments[1:])
        elif "…" not in arguments and "--help" not in arguments:
            array = {"SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_TASK_COUNT": "8"}
            with mock.patch.dict(os.environ, array):
                command_line.parse(arguments, "harness")


if __name__ == "__main__":
    unittest.main()
