"""Every option with values that it cannot have: one sentence and exit code 2, and no test runs."""

from __future__ import annotations

import argparse
import os
import re
import unittest
from collections.abc import Iterator

from harness.model import settings
from harness.model.errors import UsageError
from harness.runner import command_line, merging
from harness.runner.history import command as history_command
from suites.selftest.support import ROOT, CommandTestCase, Finished

HUGE = "9" * 5000
LONG = "x" * 5000

NUMBER = dict.fromkeys(("", "x", "-1", "1.5", "1e3", HUGE), "must be a whole number from")
SECONDS = dict.fromkeys(
    ("", "x", "-1", "nan", "inf", "1e300", HUGE),
    "must be a positive number of seconds, at most 1000000",
)
CHOICE = dict.fromkeys(("", "x", LONG), "invalid choice")
OUTPUT = {
    "": "is not a path",
    "folder": "is a folder",
    "folder/": "is a folder",
    "no/such/folder/x": "there is no folder",
    "test_x.py": "it is a Python file",
    LONG: "File name too long",
}
FOLDER = {
    "": "is not a path",
    "no/such": "no/such",
    "test_x.py": "there is no folder",
    LONG: "folder",
}

#: By option: a value that it cannot have, and words of the message. Each option that takes a value
#: is in here, or TestEveryOption fails.
RUN = {
    "NAME": {
        "": "is not a name",
        " ": "is not a name",
        "no/such": "there is no file or folder no/such",
        "none.py": "there is no file or folder none.py",
        "data.txt/x": "data.txt/x",
        "./data.txt": "is not a Python file",
        "nowhere": "no test is called 'nowhere'",
        LONG: "no test is called",
        f"./{LONG}": "there is no file or folder",
    },
    "-k": {"": "a name is missing", "a and": "a name is missing", f"{LONG})": "closes nothing"},
    "--shard": dict.fromkeys(
        ("", "1", "0/2", "3/2", "-1/2", "1/x", "1/2/3", "1/99999999999", f"1/{HUGE}"),
        "is not K/N with K from 1 to N",
    ),
    "--repeat": {**NUMBER, "0": "must be a whole number from 1"},
    "--stress": {**SECONDS, "0": "must be a positive number"},
    "--jobs": {**NUMBER, "1001": "from 0 to 1000"},
    "--max-ranks": {**NUMBER, "0": "must be a whole number from 1"},
    "--devices": {"": "names no device", ",": "names no device", "0,1,0": "names a device twice"},
    "--isolation": CHOICE,
    "--audit": CHOICE,
    "--seed": dict.fromkeys(
        ("", "x", "1.5", str(2**64), str(-(2**63) - 1), HUGE),
        "must be a whole number from -9223372036854775808 to 18446744073709551615",
    ),
    "--retries": NUMBER,
    "--flaky": CHOICE,
    "--maxfail": {**NUMBER, "0": "must be a whole number from 1"},
    "--max-skips": NUMBER,
    "--timeout": {**SECONDS, "0": "must be a positive number"},
    "--test-timeout": {**SECONDS, "0": "must be a positive number"},
    "--run-timeout": {**SECONDS, "0": "must be a positive number"},
    "--slow-after": SECONDS,
    "--junit": OUTPUT,
    "--html": OUTPUT,
    "--trace": OUTPUT,
    "--records": OUTPUT,
    "--results": OUTPUT,
    "--history": {
        "": "is not a path",
        "folder": "is a folder",
        os.devnull: "is not a regular file",
    },
    "--torch-checkout": FOLDER,
}
HISTORY = {
    "--history": {"": "is not a path", "folder": "is a folder", "test_x.py": "is not a database"},
    "--limit": {**NUMBER, "0": "must be a whole number from 1"},
}
MERGE = {
    "FILE": {
        "": "is not a path",
        "none": "No such file",
        "folder": "Is a directory",
        "test_x.py": "test_x.py cannot be merged",
        LONG: "File name too long",
    },
    "--max-skips": NUMBER,
    **{f"--{name}": OUTPUT for name in ("junit", "html", "trace", "records")},
}


def option_of(action: argparse.Action) -> str:
    return action.option_strings[-1] if action.option_strings else str(action.metavar)


class TestThePage(unittest.TestCase):
    """docs/runner.md, whose tables of options are written by hand; docs/options.md is generated."""

    def test_its_tables_have_the_options_of_the_parser(self):
        parser = command_line.build_parser("harness")
        shown = [action for action in parser._actions if action.help is not argparse.SUPPRESS]
        wanted = {
            name
            for action in shown
            if action.dest not in {"help", "version"}
            for name in action.option_strings[-1:]
        }
        page = (ROOT / "docs" / "runner.md").read_text()
        cells = [row.split(" | ")[0] for row in page.splitlines() if row.startswith("| `-")]
        found = set(re.findall(r"(?<![\w-])--?\w[\w-]*", " ".join(cells)))
        short = {name for action in shown for name in action.option_strings[:-1]}
        self.assertEqual(found - short, wanted)


class TestEveryOption(CommandTestCase):
    def setUp(self):
        super().setUp()
        self.write(
            "test_x.py",
            """
            import unittest
            class TestX(unittest.TestCase):
                def test(self):
                    open("has run", "w").close()
            """,
        )
        self.write("data.txt", "text")
        (self.folder / "folder").mkdir()

    def refused(self, *arguments: str, **env: str) -> Finished:
        """The command says what is wrong in one sentence, and runs nothing."""
        done = self.harness(*arguments, **env)
        self.assertEqual((done.code, done.out), (2, ""), done.err[-2000:])
        self.assertEqual(len(done.err.splitlines()), 1, done.err[-2000:])
        self.assertLess(len(done.err), 12_000)
        self.assertFalse((self.folder / "has run").exists())
        self.assert_clean(done)
        return done

    def cases(self, parser, table) -> Iterator[tuple[list[str], str]]:
        """The bad command lines of all options of the parser, and words of what is said to each."""
        actions = [a for a in parser._actions if a.dest not in {"help", "version"}]
        values = {option_of(action) for action in actions if action.nargs != 0}
        self.assertEqual(values, set(table), "each option that takes a value has a row here")
        for action in actions:
            option = option_of(action)
            if action.nargs == 0 and option.startswith("--"):
                yield [f"{option}=x"], "ignored explicit argument"
            elif action.nargs != 0 and action.option_strings:
                yield [option], "expected one argument"
            for value, text in table.get(option, {}).items():
                if option.startswith("--"):
                    yield [f"{option}={value}"], text
                else:
                    yield [option if action.option_strings else "--", value], text

    def check(self, command, parser, table, *first):
        for arguments, text in self.cases(parser, table):
            with self.subTest(arguments=[word[:30] for word in arguments]):
                try:
                    parser.parse_args([*first, *arguments])
                except UsageError as error:  # most: no need for a process that says so
                    self.assertIn(text, str(error))
                    self.assertLess(len(str(error)), 700)
                else:
                    self.assertIn(text, self.refused(*command, *first, *arguments).err)

    def test_run(self):
        self.check((), command_line.build_parser("harness"), RUN)

    def test_what_the_parser_refuses_ends_the_command(self):
        for words in (["--jobs", "x"], ["--repeat", HUGE], ["history", "--limit", "0"]):
            self.refused(*words)

    def test_history(self):
        self.check(("history",), history_command.build_parser("harness"), HISTORY)

    def test_merge_reports(self):
        self.harness("test_x.py", "--records", "records.json")
        (self.folder / "has run").unlink()
        before = sorted(os.listdir(self.folder))
        parser = merging.build_parser("harness")
        self.check(("merge-reports",), parser, MERGE, "records.json")
        self.assertEqual(sorted(os.listdir(self.folder)), before, "no report was written")

    def test_an_unknown_option(self):
        for words in (["--no-such"], [f"--{LONG}"], ["--a\nb"], ["-Z"]):
            self.assertIn("unrecognized arguments", self.refused(*words).err)

    def test_files_of_a_run_that_are_one(self):
        for words, text in (
            (["--junit", "x", "--html", "x"], "both name"),
            (["--junit", "x", "--history", "x"], "--junit and --history both name x"),
            (["--html", "x", "--results", "x"], "--html and --results both name x"),
        ):
            self.assertIn(text, self.refused(*words).err)

    def test_options_that_compare_would_drop(self):
        for words in (["--junit", "x"], ["--shard", "1/2"], ["--retries", "1"], ["--shuffle"]):
            done = self.refused("--torch-checkout", ".", "--compare", *words)
            self.assertIn(f"--compare does not support {words[0]}", done.err)

    def test_settings(self):
        """A bad variable is told before the first test, not by each test that needs it."""
        for setting in settings.ALL:
            if setting.env in {"HARNESS_PRELOAD", "HARNESS_WORLD_SECRET"}:
                # Any text is a list of modules; one that is missing is warned of. A secret is
                # checked where it is used, and never printed.
                continue
            for value in ("no such value", HUGE):
                with self.subTest(setting.env):
                    done = self.refused("test_x.py", **{setting.env: value})
                    self.assertIn(f"{setting.env}='", done.err)


if __name__ == "__main__":
    unittest.main()
