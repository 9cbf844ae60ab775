"""Many small suites for every way in which tests, fixtures and sub-tests can end.

The runner has to agree with unittest about each of them. `suites()` returns their sources, one
module each; a new kind of suite is a new function in `_KINDS`. None of them names a library that
the runner would import beforehand, so that a run of all takes seconds.
"""

from __future__ import annotations

import functools
import itertools
import random
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

#: A statement for each way in which a piece of a test or a fixture can end.
ENDS = {
    "passes": "pass",
    "fails": "raise AssertionError('wrong')",
    "raises": "raise ValueError('bad')",
    "skips": "raise unittest.SkipTest('no need')",
    "exits": "raise SystemExit(0)",
}

#: unittest lets a fixture that raises SystemExit end the whole run.
FIXTURE_ENDS = {name: code for name, code in ENDS.items() if name != "exits"}
HEAD = "import unittest\n"


@functools.cache
def suites() -> dict[str, str]:
    """The source of each suite, by the name of its module."""
    found: dict[str, str] = {}
    for kind in _KINDS:
        for number, source in enumerate(kind()):
            found[f"test_{kind.__name__.strip('_')}_{number}"] = HEAD + source
    return found


# Fixtures


def class_source(
    name: str, set_up: str = "passes", tear_down: str = "passes", cleanup: str = "passes"
) -> str:
    """A class of two tests with fixtures that end like this."""
    return textwrap.dedent(f"""
        class {name}(unittest.TestCase):
            @classmethod
            def cleanup_of_class(cls):
                {ENDS[cleanup]}
            @classmethod
            def setUpClass(cls):
                cls.addClassCleanup(cls.cleanup_of_class)
                {ENDS[set_up]}
            @classmethod
            def tearDownClass(cls):
                {ENDS[tear_down]}
            def test_a(self): pass
            def test_b(self): pass
        """)


def _class_fixtures() -> Iterator[str]:
    """For each end of a class: classes that begin in each way after it, and it after each."""
    for tear_down, cleanup in itertools.product(FIXTURE_ENDS, repeat=2):
        parts = []
        for number, set_up in enumerate(FIXTURE_ENDS):
            parts.append(class_source(f"Test{number}a", "passes", tear_down, cleanup))
            parts.append(class_source(f"Test{number}b", set_up, tear_down, cleanup))
        yield "".join(parts)


def _module_fixtures() -> Iterator[str]:
    for set_up, tear_down in itertools.product(FIXTURE_ENDS, repeat=2):
        cleanup = "raises" if set_up == tear_down else "passes"
        yield (
            textwrap.dedent(f"""
            def cleanup_of_module():
                {ENDS[cleanup]}
            def setUpModule():
                unittest.addModuleCleanup(cleanup_of_module)
                {ENDS[set_up]}
            def tearDownModule():
                {ENDS[tear_down]}
            """)
            + class_source("TestA")
            + class_source("TestB", "skips")
            + class_source("TestC", "passes", "fails")
        )


# Tests


def _tests() -> Iterator[str]:
    """Tests of which two pieces end in some way each, as they are and as expected failures."""
    pieces = ("setUp", "body", "tearDown", "cleanup")
    for decorator in ("", "@unittest.expectedFailure"):
        classes = []
        for one, other in itertools.combinations(pieces, 2):
            for end, last in itertools.product(ENDS, repeat=2):
                code = {**dict.fromkeys(pieces, "pass"), one: ENDS[end], other: ENDS[last]}
                classes.append(f"""
class Test_{one}_{end}_{other}_{last}(unittest.TestCase):
    def setUp(self):
        self.addCleanup(self.clean_up)
        {code["setUp"]}
    {decorator}
    def test(self):
        {code["body"]}
    def tearDown(self):
        {code["tearDown"]}
    def clean_up(self):
        {code["cleanup"]}
""")
        yield "".join(classes)


def _sub_tests() -> Iterator[str]:
    """Tests with sub-tests that end in every sequence of ways, and then end themselves."""
    ends = [name for name in ENDS if name != "exits"]
    for decorator in ("", "@unittest.expectedFailure"):
        for last in ("passes", "fails", "skips"):
            methods = []
            for sequence in itertools.product(ends, repeat=2):
                body = "".join(
                    f"        with self.subTest(i={i}):\n            {ENDS[end]}\n"
                    for i, end in enumerate(sequence)
                )
                name = "_".join(sequence)
                methods.append(
                    f"    {decorator}\n    def test_{name}(self):\n{body}        {ENDS[last]}\n"
                )
            yield f"class TestSubTests(unittest.TestCase):\n{''.join(methods)}"


def _decorated() -> Iterator[str]:
    yield """
@unittest.skip("class")
class TestSkipped(unittest.TestCase):
    @classmethod
    def setUpClass(cls): raise ValueError("not called")
    def test_a(self): pass
    def test_b(self): pass

class TestMethods(unittest.TestCase):
    @unittest.skip("method")
    def test_a(self): pass
    @unittest.skipIf(True, "")
    def test_b(self): pass
    @unittest.skip("both")
    @unittest.expectedFailure
    def test_c(self): pass

class TestAsync(unittest.IsolatedAsyncioTestCase):
    async def test_a(self): pass
    async def test_b(self): self.fail("bad")
    async def test_c(self):
        with self.subTest(i=1): self.skipTest("one")

class TestRunsItself(unittest.TestCase):
    def run(self, result=None):
        super().run(result)
        return result
    def test_a(self): pass
    def test_b(self): self.fail("bad")
"""


# What is loaded


def _same_ids() -> Iterator[str]:
    yield """
def make(code):
    class TestMade(unittest.TestCase):
        def test(self): exec(code)
        def test_other(self): pass
    return TestMade
TestA, TestB, TestC = make("pass"), make("raise ValueError"), make("raise unittest.SkipTest")
"""
    yield """
def make(set_up, tear_down):
    class TestMade(unittest.TestCase):
        @classmethod
        def setUpClass(cls): exec(set_up)
        @classmethod
        def tearDownClass(cls): exec(tear_down)
        def test_a(self): pass
        def test_b(self): pass
    return TestMade
ways = ["pass", "raise ValueError", "raise unittest.SkipTest"]
made = [make(a, b) for a in ways for b in ways]
def load_tests(loader, tests, pattern):
    for cls in made: tests.addTests(loader.loadTestsFromTestCase(cls))
    return tests
"""
    yield """
from test_loaded_0 import TestLoaded  # noqa: F401 (in unittest's eyes, it is a test of this module)
class TestOwn(unittest.TestCase):
    def test_a(self): pass
"""


def _loaded() -> Iterator[str]:
    own = """
class TestLoaded(unittest.TestCase):
    def test_a(self): pass
    def test_b(self): self.fail("bad")
    def test_c(self): self.skipTest("no need")
"""
    yield own
    for body in (
        "t = TestLoaded('test_b'); return unittest.TestSuite([t, t, TestLoaded('test_a')])",
        "return unittest.TestSuite([TestLoaded('test_a'), TestLoaded('test_a'), tests])",
        "return unittest.TestSuite([tests, unittest.TestSuite([TestLoaded('test_c')])])",
        "return unittest.TestSuite()",
        "raise ValueError('no tests today')",
        "return unittest.TestSuite(unittest.FunctionTestCase(f) for f in (len, print, print))",
    ):
        yield f"{own}def load_tests(loader, tests, pattern):\n    {body}\n"


# What a test does to its process


def _forks() -> Iterator[str]:
    """Children that end in each way, of parents that do, in each place of a test."""
    in_child = {**ENDS, "leaves": "os._exit(3)", "leaves well": "os._exit(0)"}
    for place in ("setUp", "body", "tearDown", "cleanup", "setUpClass"):
        classes = []
        for number, (child, parent) in enumerate(itertools.product(in_child.values(), ENDS)):
            if place == "setUpClass" and parent == "exits":
                continue
            fork = f"(os.fork() or die({child!r})) and (os.wait(), die({ENDS[parent]!r}))"
            code = dict.fromkeys(("setUp", "body", "tearDown", "cleanup", "setUpClass"), "pass")
            code[place] = fork
            classes.append(f"""
class Test{number}(unittest.TestCase):
    @classmethod
    def setUpClass(cls): {code["setUpClass"]}
    def setUp(self):
        self.addCleanup(self.clean_up)
        {code["setUp"]}
    def test_a(self): {code["body"]}
    def test_b(self): pass
    def tearDown(self): {code["tearDown"]}
    def clean_up(self): {code["cleanup"]}
""")
        yield f"import os\ndef die(code): exec(code)\n{''.join(classes)}"


def _streams() -> Iterator[str]:
    for code in (
        "sys.stdout = None",
        "sys.stdout = sys.stderr = None",
        "sys.stdout = open(os.devnull, 'w'); sys.stdout.close()",
        "os.close(0)",
        "os.close(1)",
        "os.dup2(os.open(os.devnull, os.O_RDWR), 1)",
        "[os.close(fd) for fd in os.pipe()]",
    ):
        yield f"""
import os, sys
class TestStreams(unittest.TestCase):
    def setUp(self):
        self.addCleanup(lambda before: vars(sys).update(before), dict(vars(sys)))
    def test_a(self): {code}
    def test_b(self): self.fail("bad")
    def test_c(self): self.skipTest("no need")
"""


# Drawn suites


class Choices(Protocol):
    """Who decides what is in a suite: a random generator, or Hypothesis."""

    def choose(self, options: Sequence[str]) -> str: ...

    def count(self, low: int, high: int) -> int: ...


class _Seeded:
    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def choose(self, options: Sequence[str]) -> str:
        return self._random.choice(options)

    def count(self, low: int, high: int) -> int:
        return self._random.randint(low, high)


def drawn_suite(choices: Choices) -> str:
    """A module of classes, whose fixtures, tests and sub-tests each end in some way.

    Most pieces pass, so that what comes after them is reached.
    """
    any_end = ["passes"] * 6 + list(ENDS)
    fixture_end = ["passes"] * 6 + list(FIXTURE_ENDS)
    parts = []
    if choices.count(0, 2) == 0:
        for fixture in ("setUpModule", "tearDownModule"):
            parts.append(f"def {fixture}(): {ENDS[choices.choose(fixture_end)]}\n")
    for _ in range(choices.count(1, 4)):
        # Classes of the same name hide each other, unless load_tests knows them.
        name = f"Test{choices.choose('AABCD')}"
        decorator = choices.choose(["", "", "", "@unittest.skip('class')\n"])
        body = [f"{decorator}class {name}(unittest.TestCase):\n"]
        for fixture in ("setUpClass", "tearDownClass"):
            end = ENDS[choices.choose(fixture_end)]
            body.append(f"    @classmethod\n    def {fixture}(cls): {end}\n")
        for fixture in ("setUp", "tearDown", "clean_up"):
            body.append(f"    def {fixture}(self): {ENDS[choices.choose(any_end)]}\n")
        for number in range(choices.count(0, 3)):
            body.append(_drawn_test(choices, number, any_end))
        parts.append("".join(body) + f"made.append({name})\n")
    if choices.count(0, 2) == 0:
        parts.append(_DRAWN_LOADER.format(times=choices.count(1, 2)))
    return "made = []\n" + "".join(parts)


_DRAWN_LOADER = """
def load_tests(loader, tests, pattern):
    classes = made * {times}
    return unittest.TestSuite([loader.loadTestsFromTestCase(cls) for cls in classes])
"""


def _drawn_test(choices: Choices, number: int, ends: Sequence[str]) -> str:
    decorator = choices.choose(["", "", "", "@unittest.expectedFailure", "@unittest.skip('it')"])
    lines = [f"    {decorator}", f"    def test_{number}(self):"]
    if choices.count(0, 1):
        lines.append("        self.addCleanup(self.clean_up)")
    for i in range(choices.count(0, 2)):
        end = ENDS[choices.choose([end for end in ends if end != "exits"])]
        lines.append(f"        with self.subTest(i={i}): {end}")
    lines.append(f"        {ENDS[choices.choose(ends)]}")
    return "\n".join(lines) + "\n"


def _drawn() -> Iterator[str]:
    for seed in range(240):
        yield drawn_suite(_Seeded(seed))


def _modules() -> Iterator[str]:
    yield "raise unittest.SkipTest('not here')\n"
    yield "raise ValueError('broken')\n"
    yield "import there_is_no_such_module\n"


_KINDS: tuple[Callable[[], Iterator[str]], ...] = (
    _class_fixtures,
    _module_fixtures,
    _tests,
    _sub_tests,
    _decorated,
    _same_ids,
    _loaded,
    _modules,
    _forks,
    _streams,
    _drawn,
)
