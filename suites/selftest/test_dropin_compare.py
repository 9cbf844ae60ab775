"""`--compare`: PyTorch's side is `python FILE -v`, whose output is read, and never guessed at."""

from __future__ import annotations

import contextlib
import io
import json
import signal
import sys
import tempfile
import textwrap
import time
import unittest
from pathlib import Path
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from harness.model.clock import Deadline
from harness.runner import compare
from harness.runner.options import EXIT_FAILED, EXIT_PASSED, Options, jobs_for
from harness.runner.selection.files import TestFile
from harness.runner.unittest_output import UNREADABLE, read_verdicts
from suites.selftest.support import COMMAND_LIMIT_S, CommandTestCase

ENDED = "exited with code 1"

#: What a rank may write to the stream in the middle of a test's line.
NOISE = st.lists(
    st.sampled_from(
        [
            "",
            "\n",
            "ok",
            "ok\n",
            " ok\n",
            "[rank0]: W0101 x (y.z)\n",
            "FAIL\n",
            "skipped 'x'",
            " ... ",
        ]
    ),
    max_size=4,
).map("".join)
KINDS = ("passes", "fails", "raises", "skips", "xfails", "xpasses", "fails in a sub-test")
STATUS = {
    "passes": "passed",
    "skips": "skipped",
    "xfails": "passed",
    "skips in a sub-test": "passed",
}


def a_method(kind, noise, doc):
    """A test method that goes as `kind` says and writes the noise to the runner's stream."""

    def method(self):
        self.stream.write(noise)
        if kind == "fails":
            self.fail("why\nfor")
        elif kind in ("raises", "xfails"):
            raise ValueError("it's")
        elif kind == "skips":
            self.skipTest('it\'s "so"')
        elif "sub-test" in kind:
            for i in range(3):
                with self.subTest(i=i):
                    self.stream.write(noise)
                    self.assertEqual(i % 2, 0) if "fails" in kind else self.skipTest("i")

    method.__doc__ = "A line of text.\n\nAnd more." if doc else None
    return unittest.expectedFailure(method) if kind.startswith("x") else method


def output_of(tests):
    """What unittest prints for tests, given as (kind, noise, doc)."""
    stream = io.StringIO()
    body = {f"test_{i}": a_method(*test) for i, test in enumerate(tests)}
    cls = type("Case", (unittest.TestCase,), {**body, "stream": stream, "__module__": "__main__"})
    names = sorted(body, key=lambda name: int(name[5:]))
    suite = unittest.TestSuite(map(cls, names))
    unittest.TextTestRunner(stream, verbosity=2).run(suite)
    return stream.getvalue()


class TestReader(unittest.TestCase):
    def expected(self, tests):
        return {
            f"__main__.Case.test_{i}": STATUS.get(kind, "failed")
            for i, (kind, *_) in enumerate(tests)
        }

    @given(
        st.lists(
            st.tuples(st.sampled_from([*KINDS, "skips in a sub-test"]), st.just(""), st.booleans())
        )
    )
    def test_without_noise(self, tests):
        reading = read_verdicts(output_of(tests), ENDED)
        self.assertEqual(reading.problem, "")
        self.assertEqual({n: v[0] for n, v in reading.verdicts.items()}, self.expected(tests))

    @given(st.lists(st.tuples(st.sampled_from(KINDS), NOISE, st.booleans()), max_size=5))
    def test_with_noise(self, tests):
        """It may be unable to read an output, and says so, but what it reads is right."""
        reading = read_verdicts(output_of(tests), ENDED)
        if not reading.problem:
            self.assertEqual({n: v[0] for n, v in reading.verdicts.items()}, self.expected(tests))

    @given(
        st.lists(st.tuples(st.sampled_from(KINDS), st.just(""), st.booleans()), min_size=1),
        st.data(),
    )
    def test_cut_off(self, tests, data):
        """An output that ends before its summary is never taken for a whole one."""
        text = output_of(tests)
        whole = text.rindex("\n\n")
        reading = read_verdicts(text[: data.draw(st.integers(0, whole))], ENDED)
        self.assertEqual(reading.problem, f"{ENDED}, without unittest's summary")
        for name, (status, why) in reading.verdicts.items():
            if status not in (UNREADABLE, self.expected(tests)[name]):
                self.assertEqual((status, why), ("failed", f"{ENDED} while this test ran"))

    def test_rank_output_in_a_line(self):
        """Most noise does no harm: the verdicts are there all the same."""
        noise = "[rank1]:[W1128 socket.cpp:469] timed out (fd=6, addr=[::1]:4) without a newline"
        tests = [(kind, f"\n{noise}\n", False) for kind in KINDS] + [("passes", noise, False)]
        reading = read_verdicts(output_of(tests), ENDED)
        self.assertEqual(reading.problem, "")
        self.assertEqual({n: v[0] for n, v in reading.verdicts.items()}, self.expected(tests))
        self.assertEqual(
            reading.verdicts["__main__.Case.test_1"], ("failed", "AssertionError: why")
        )

    def test_a_skip_that_cannot_be_read(self):
        reading = read_verdicts(
            output_of([("skips", "glued", False), ("passes", "x", False)]), ENDED
        )
        self.assertIn("does not match its other output", reading.problem)
        self.assertEqual({v[0] for v in reading.verdicts.values()}, {UNREADABLE})

    def test_the_same_id_twice(self):
        stream = io.StringIO()
        body = {"test": lambda self: self.fail() if self.second else None, "__module__": "__main__"}
        cls = type("Case", (unittest.TestCase,), body)
        tests = [cls("test"), cls("test")]
        for number, test in enumerate(tests):
            test.second = number
        unittest.TextTestRunner(stream, verbosity=2).run(unittest.TestSuite(tests))
        reading = read_verdicts(stream.getvalue(), ENDED)
        self.assertEqual(reading.problem, "")
        statuses = {name: verdict[0] for name, verdict in reading.verdicts.items()}
        self.assertEqual(
            statuses, {"__main__.Case.test": "passed", "__main__.Case.test #2": "failed"}
        )


class TestPyTorchsSide(unittest.TestCase):
    """Of scripts that import no torch: what matters is how they end."""

    def side(self, text, **options):
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        path = folder / "test_it.py"
        path.write_text("import os, signal, sys, time, unittest\n" + textwrap.dedent(text))
        with contextlib.redirect_stderr(io.StringIO()):
            return compare._torchs(
                TestFile("test_it", path, folder), Options(checkout=str(folder), **options)
            )

    def test_fixtures(self):
        side = self.side(
            """
            class A(unittest.TestCase):
                @classmethod
                def setUpClass(cls):
                    raise unittest.SkipTest("why")
                def test(self): pass

            class B(A):
                @classmethod
                def setUpClass(cls):
                    raise ValueError("why")

            class C(unittest.TestCase):
                @classmethod
                def tearDownClass(cls):
                    raise ValueError("end")
                @unittest.expectedFailure
                def test(self): self.fail()

            unittest.main()
            """
        )
        expected = {
            "setUpClass (test_it.A)": ("skipped", "why"),
            "setUpClass (test_it.B)": ("failed", "ValueError: why"),
            "test_it.C.test": ("passed", "expected failure"),
            "tearDownClass (test_it.C)": ("failed", "ValueError: end"),
        }
        self.assertEqual((side.verdicts, side.problem), (expected, ""))
        # Here a skip of a class is a skip of each of its tests.
        spread = compare._class_skips_by_test(side.verdicts, {"test_it.A.test": ("skipped", "")})
        self.assertEqual(spread["test_it.A.test"], ("skipped", "why"))
        self.assertNotIn("setUpClass (test_it.A)", spread)

    def side_that_does(self, what, **options):
        return self.side(
            f"""
            class T(unittest.TestCase):
                def test_a(self): pass
                def test_b(self): {what}
                def test_c(self): pass

            unittest.main()
            """,
            **options,
        )

    def test_it_ends_early(self):
        for what, ended in (
            ("os.kill(os.getpid(), signal.SIGKILL)", "was killed by SIGKILL"),
            ("os._exit(0)", "exited with code 0"),
        ):
            with self.subTest(what):
                side = self.side_that_does(what)
                self.assertEqual(side.problem, f"{ended}, without unittest's summary")
                self.assertEqual(
                    side.verdicts,
                    {
                        "test_it.T.test_a": ("passed", ""),
                        "test_it.T.test_b": ("failed", f"{ended} while this test ran"),
                    },
                )

    def test_it_hangs(self):
        side = self.side_that_does("time.sleep(600)", run_timeout_s=3.0)
        ended = "was ended after 3 s (--run-timeout)"
        self.assertEqual(side.problem, f"{ended}, without unittest's summary")
        # How far it came depends on the machine.
        self.assertNotIn("test_it.T.test_c", side.verdicts)

    def test_unittest_does_not_run_it(self):
        with_pytest = "import pytest; sys.exit(pytest.main([__file__]))"
        for last_line in ("", f"if __name__ == '__main__': {with_pytest}\n"):
            side = self.side(f"def test_a(): pass\n{last_line}")
            self.assertEqual(side.verdicts, {})
            self.assertIn("exited with code 0, without unittest's summary", side.problem)
            self.assertIn("the file has no run_tests()", side.problem)
        side = self.side("raise RuntimeError('not in use')")
        self.assertEqual(side.problem, "exited with code 1, without unittest's summary")

    def test_it_leaves_a_process(self):
        """A rank that outlives the script is ended, and is not waited for."""
        side = self.side(
            """
            class T(unittest.TestCase):
                def test(self):
                    if os.fork() == 0:
                        time.sleep(600)

            unittest.main()
            """
        )
        self.assertEqual((side.verdicts, side.problem), ({"test_it.T.test": ("passed", "")}, ""))


class TestStopped(CommandTestCase):
    def test_sigterm_ends_pytorchs_side(self):
        self.write(
            "test_sleeps.py",
            """
            import pathlib, time, unittest

            class T(unittest.TestCase):
                def test(self):
                    pathlib.Path(__file__).with_name("it-runs").touch()
                    time.sleep(600)

            unittest.main()
            """,
        )
        command = (sys.executable, "-m", "harness", "--torch-checkout", ".", "--compare")
        process = self.start(*command)
        deadline = Deadline.after(COMMAND_LIMIT_S)
        while not (self.folder / "it-runs").exists():
            self.assertFalse(deadline.expired or process.poll() is not None)
            time.sleep(0.05)
        process.terminate()
        finished = self.finish(process)
        self.assertEqual(finished.code, 128 + signal.SIGTERM, finished.err)
        self.assert_clean(finished)


class TestComparison(unittest.TestCase):
    def test_one_test_at_a_time(self):
        """PyTorch's tests use fixed ports, so two must not run at once, unless the user says so."""
        self.assertEqual(jobs_for(Options(checkout="pytorch"), is_script=False), 1)
        self.assertEqual(jobs_for(Options(checkout="pytorch", jobs=3), is_script=False), 3)

    def test_as_json(self):
        """Of runs of both harnesses that are over: what is printed, and the exit code."""
        passed, failed = ("passed", ""), ("failed", "why")
        both = {"m.T.a": passed, "m.T.b": passed}
        for ours, problem, differences, code in (
            (both, "", [], EXIT_PASSED),
            (both, "was killed by SIGKILL", [], EXIT_FAILED),
            (
                {"m.T.a": failed, "m.T.b": passed},
                "",
                [{"test": "m.T.a", "torchs": ["passed", ""], "ours": ["failed", "why"]}],
                EXIT_FAILED,
            ),
            (
                {"m.T.b": passed, "m.T.a": passed, "m.T.c": passed},
                "",
                [{"test": "m.T.c", "torchs": ["not run", ""], "ours": ["passed", ""]}],
                EXIT_FAILED,
            ),
            ({}, "", None, EXIT_FAILED),
        ):
            folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
            (folder / "test_it.py").touch()
            options = Options(checkout=str(folder), compare=True, json=True)
            with (
                self.subTest(ours=ours, problem=problem),
                mock.patch.object(
                    compare, "_torchs", return_value=compare.Side(both, 9.0, problem)
                ),
                mock.patch.object(compare, "_ours", return_value=compare.Side(ours, 1.0)),
                contextlib.redirect_stdout(io.StringIO()) as out,
            ):
                self.assertEqual(compare.compare(options), code)
                (found,) = json.loads(out.getvalue())
                self.assertEqual(found["ours"]["verdicts"], {n: [*v] for n, v in ours.items()})
                self.assertEqual(found["torchs"]["problem"], problem)
                if differences is None:
                    self.assertEqual(len(found["differences"]), 2)
                else:
                    self.assertEqual(found["differences"], differences)
