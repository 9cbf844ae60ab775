"""How unittest and the runner count what became of each test of the corpus."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

# How unittest counts


@dataclass
class Counts:
    """What became of a run.

    Attributes:
        outcomes: how often each outcome was had: (name of a test or a fixture, its status).
        not_run: how many tests a fixture has kept from running.
        code: the exit code.
    """

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    not_run: int = 0
    code: int = 0


def plain_name(name: str) -> str:
    """A test's name without the number that tells it from others, and a module's as it is."""
    name = re.sub(r" #\d+$", "", name)
    return re.sub(r"^unittest\.loader\.(_FailedTest|ModuleSkipped)\.", "", name)


def counts_of_unittest(folder: Path) -> Counts:
    """What `python -m unittest discover` makes of a folder, by test.

    unittest counts failures: a test with two sub-tests that fail counts twice. Here, as in the
    runner, a test counts once. One skip of unittest's for a whole class or module is a skip of each
    of its tests.
    """
    script = Path(__file__).with_name("corpus_unittest.py")
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if not done.stdout:
        raise AssertionError(done.stderr)
    data = json.loads(done.stdout)
    outcomes = Counter((plain_name(name), status) for name, status in data["outcomes"])
    return Counts(outcomes, data["not_run"], done.returncode)


def counts_of_results(path: Path, out: str, code: int) -> Counts:
    """The same of a run of ours, from its file of results and what it printed."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    outcomes = Counter((plain_name(line["test"]), line["status"]) for line in lines)
    not_run = re.search(r"^(\d+) not run", out, re.MULTILINE)
    return Counts(outcomes, int(not_run[1]) if not_run else 0, code)
