"""Tests in worker processes: verdicts and order whatever their number, and workers that die."""

from __future__ import annotations

import os
import re
import shlex
import sys
import unittest

from harness.runner.options import Options, jobs_for, max_ranks_for
from suites.selftest.support import CommandTestCase, cores
from suites.selftest.test_runner import MIXED

MANY = """
    import os, unittest

    class TestPlain(unittest.TestCase):
        def test_fine(self): print("hello from", self.id())
        def test_bad(self):
            print("before it failed")
            self.fail("bad")
        @unittest.skip("why not")
        def test_skipped(self): pass

    class TestFixture(unittest.TestCase):
        @classmethod
        def setUpClass(cls):
            with open(os.environ["OUT"], "a") as file:
                print("up", os.getpid(), file=file)
        @classmethod
        def tearDownClass(cls):
            with open(os.environ["OUT"], "a") as file:
                print("down", os.getpid(), file=file)

    for i in range(12):
        setattr(TestFixture, f"test_{i:02}", lambda self: None)

    class TestBroken(unittest.TestCase):
        @classmethod
        def setUpClass(cls): raise OSError("no disk")
        def test_a(self): pass
        def test_b(self): pass

    class TestSkipping(unittest.TestCase):
        @classmethod
        def setUpClass(cls): raise unittest.SkipTest("no license")
        def test_a(self): pass
        def test_b(self): pass
"""

BAD_ENDS = """
    import os, time, unittest
    import pytest_is_not_needed as helper

    class TestEnds(unittest.TestCase):
        def test_fails(self): self.fail("bad")
        def test_sub_tests(self):
            for i in range(3):
                with self.subTest(i=i): self.assertEqual(i, 1)
        @unittest.expectedFailure
        def test_passes(self): pass
        def test_dies(self): os._exit(3)
        def test_takes_too_long(self): time.sleep(600)
        def test_is_fine(self): pass

    class TestBroken(unittest.TestCase):
        @classmethod
        def setUpClass(cls): raise OSError("no disk")
        def test_a(self): pass
"""

RANKS = """
    import torch
    import torch.distributed as dist
    from harness import MultiProcessTestCase

    class TestSum(MultiProcessTestCase):
        def check(self):
            self.init_process_group()
            total = torch.ones(2)
            dist.all_reduce(total)
            self.assertEqual(total[0].item(), self.world_size)

    for size in (1, 2, 3, 4):
        for copy in "ab":
            name = f"TestSum{size}{copy}"
            globals()[name] = type(name, (TestSum,), {"world_size": size, "__module__": __name__})
            setattr(globals()[name], "test_sum", lambda self: self.check())

    class TestBad(MultiProcessTestCase):
        world_size = 2
        def test_one_fails(self):
            print("rank", self.rank, "was here")
            self.assertEqual(self.rank, 0)
"""


class TestHowMany(unittest.TestCase):
    def test_what_the_run_may_use_counts_not_what_the_machine_has(self):
        for number, jobs, ranks in ((1, 2, 8), (3, 6, 24), (64, 16, 512)):
            with cores(number):
                self.assertEqual(jobs_for(Options(), is_script=False), jobs)
                self.assertEqual(max_ranks_for(Options()), ranks)
        self.assertEqual(jobs_for(Options(jobs=5), is_script=False), 5)
        self.assertEqual(max_ranks_for(Options(max_ranks=7)), 7)


class TestVerdicts(CommandTestCase):
    """What is printed and what is exited with does not depend on the number of workers."""

    def outputs(self, *arguments, **env):
        found = {}
        for jobs in ("1", "2", "4"):
            done = self.harness("-j", jobs, *arguments, **env)
            self.assert_clean(done)
            found[jobs] = (done.code, self.without_live_lines(done.out))
        return found

    def without_live_lines(self, text):
        text = re.sub(r"^(FAILED|SLOW) .*\n", "", text, flags=re.MULTILINE)
        return re.sub(r"(rank \d|worker) \(?pid \d+\)?", "", text)

    def test_every_kind_of_end(self):
        self.write("test_mixed.py", MIXED)
        found = self.outputs()
        self.assertEqual(found["1"], found["2"])
        self.assertEqual(found["1"], found["4"])
        self.assertEqual(found["1"][0], 1)
        self.assertTrue(found["1"][1].endswith("2 passed, 4 failed, 1 skipped\n"), found["1"][1])

    def test_fixtures_that_fail_and_skip(self):
        self.write("test_many.py", MANY)
        found = self.outputs(OUT=str(self.folder / "out.txt"))
        self.assertEqual(found["1"], found["2"])
        self.assertEqual(found["1"], found["4"])
        self.assertIn("13 passed, 2 failed, 3 skipped", found["4"][1])
        self.assertIn("2 not run", found["4"][1])
        self.assertEqual(found["4"][1].count("ERROR: setUpClass (test_many.TestBroken)"), 1)

    def test_ranks(self):
        self.write("test_ranks.py", RANKS)
        done = self.harness("-j", "4")
        self.assertEqual((done.code, done.last_line), (1, "8 passed, 1 failed, 0 skipped"))
        self.assertIn("rank 1", done.out)
        self.assertIn("rerun:", done.out)
        self.assert_clean(done)

    def test_what_a_test_prints_is_shown_if_it_fails(self):
        self.write("test_many.py", MANY)
        done = self.harness("-j", "2", OUT=os.devnull)
        self.assertIn("before it failed", done.out)
        self.assertNotIn("hello from", done.out)
        done = self.harness("-j", "2", "-s", OUT=os.devnull)
        self.assertIn("hello from", done.out)

    def test_fixtures_run_once_in_each_worker(self):
        self.write("test_many.py", MANY)
        for jobs in ("1", "3"):
            out = self.folder / f"out{jobs}"
            done = self.harness("-j", jobs, "-k", "TestFixture", OUT=str(out))
            self.assertEqual(done.code, 0, done.out)
            lines = out.read_text().splitlines()
            ups = [line.split()[1] for line in lines if line.startswith("up")]
            downs = [line.split()[1] for line in lines if line.startswith("down")]
            self.assertEqual(len(ups), len(set(ups)))
            self.assertEqual(sorted(ups), sorted(downs))
            self.assertLessEqual(len(ups), int(jobs))

    def test_every_failure_tells_how_to_run_it_again(self):
        """The line works as it is, where the run was started, and runs that one test."""
        self.write("my tests/test_ends.py", BAD_ENDS)
        self.write("my tests/pytest_is_not_needed.py", "")
        done = self.harness("-j", "2", "--test-timeout", "3", "my tests/test_ends.py")
        self.assertEqual(done.last_line, "1 passed, 6 failed, 0 skipped")
        lines = re.findall("^rerun: (.*)$", done.out, re.MULTILINE)
        self.assertEqual(len(lines), 6, done.out)
        for line in set(lines):
            self.assertIn("cd 'my tests' && python -m harness test_ends.Test", line)
            path = shlex.quote(os.path.dirname(sys.executable))
            code = f"PATH={path}:$PATH; {line} --test-timeout 3"
            again = self.run_command("bash", "-c", code)
            self.assertEqual(again.code, 1, again.out + again.err)
            self.assertRegex(again.last_line, "^0 passed, 1 failed", line)
            self.assertIn(f"rerun: {line.partition('&& ')[2]}\n", again.out)

    def test_in_this_process(self):
        self.write(
            "test_pid.py",
            """
            import os, unittest
            class TestPid(unittest.TestCase):
                def test(self): self.assertEqual(str(os.getppid()), os.environ["RUNNER"])
        """,
        )
        script = (
            "import os, sys; os.environ['RUNNER'] = str(os.getppid()); "
            "from harness.runner.main import main; main(['run', *sys.argv[1:]])"
        )
        for jobs, code in (("0", 0), ("1", 1)):
            done = self.run_command(sys.executable, "-c", script, "-j", jobs)
            self.assertEqual(done.code, code, done.out)

    def test_script_in_workers(self):
        self.write(
            "test_script.py",
            """
            import os, unittest
            from harness.common_utils import run_tests
            from harness import MultiProcessTestCase
            class TestPlain(unittest.TestCase):
                def test(self): print("hello")
            class TestRanks(MultiProcessTestCase):
                world_size = 2
                def test_bad(self): self.assertEqual(self.rank, 0)
                def test_good(self): self.assertEqual(self.world_size, 2)
            if __name__ == "__main__":
                run_tests()
        """,
        )
        for arguments in ((), ("-j", "2")):
            done = self.run_command(sys.executable, "test_script.py", *arguments)
            self.assertEqual((done.code, done.last_line), (1, "2 passed, 1 failed, 0 skipped"))
            self.assertIn("rerun: python test_script.py TestRanks.test_bad", done.out)
            self.assert_clean(done)

    def test_warnings_are_told_once(self):
        self.write(
            "test_warn.py",
            """
            import unittest, warnings
            def complain(): warnings.warn("old stuff", DeprecationWarning, stacklevel=1)
            class TestWarn(unittest.TestCase): pass
            for i in range(8):
                setattr(TestWarn, f"test_{i}", lambda self: complain())
        """,
        )
        done = self.harness("-j", "4")
        self.assertEqual(done.code, 0)
        self.assertEqual(done.err.count("old stuff"), 1 + done.err.count('warn("old stuff"'))


class TestTogether(CommandTestCase):
    """Who may run beside whom."""

    def spans(self, text, *arguments):
        """Name of each test to when it ran, as (begin, end); with its devices."""
        self.write("test_spans.py", text)
        out = self.folder / "out.txt"
        done = self.harness(*arguments, OUT=str(out))
        self.assertEqual(done.code, 0, done.out)
        rows = [line.split() for line in out.read_text().splitlines()]
        self.devices = {row[0]: row[3:] for row in rows}
        return {row[0]: (float(row[1]), float(row[2])) for row in rows}

    HEAD = """
            import os, threading, time, unittest
            from harness.model.marks import note_devices, serial, uses_resources
            def span(self):
                began = time.monotonic()
                # To be seen to overlap, if they may, tests have to take some time.
                threading.Event().wait(0.05)
                name, devices = self._testMethodName, os.environ.get("CUDA_VISIBLE_DEVICES", "")
                with open(os.environ["OUT"], "a") as file:
                    print(name, began, time.monotonic(), devices, file=file)
    """

    def overlap(self, a, b):
        return a[0] < b[1] and b[0] < a[1]

    def test_serial_tests_run_alone_and_last(self):
        spans = self.spans(
            self.HEAD
            + """
            class TestMixed(unittest.TestCase):
                test_s1 = serial(span)
            def plain(self): span(self)
            for i in range(6):
                setattr(TestMixed, f"test_{i}", plain)
            @serial
            class TestSerial(unittest.TestCase):
                def test_s2(self): span(self)
                def test_s3(self): span(self)
        """,
            "-j",
            "4",
        )
        for name in ("test_s1", "test_s2", "test_s3"):
            for other in spans.keys() - {name}:
                self.assertFalse(self.overlap(spans[name], spans[other]), (name, other))
        plain_end = max(spans[f"test_{i}"][1] for i in range(6))
        self.assertGreaterEqual(spans["test_s1"][0], plain_end)
        self.assertTrue(any(self.overlap(spans["test_0"], spans[f"test_{i}"]) for i in range(1, 6)))

    def test_resources_are_used_by_one_at_a_time(self):
        spans = self.spans(
            self.HEAD
            + """
            class TestPorts(unittest.TestCase): pass
            for i in range(4):
                setattr(TestPorts, f"test_a{i}", uses_resources("port a")(lambda self: span(self)))
                setattr(TestPorts, f"test_b{i}", uses_resources("port b")(lambda self: span(self)))
        """,
            "-j",
            "4",
        )
        for kind in "ab":
            for i in range(4):
                for j in range(i):
                    a, b = spans[f"test_{kind}{i}"], spans[f"test_{kind}{j}"]
                    self.assertFalse(self.overlap(a, b), (kind, i, j))

    def test_devices_are_lent_to_one_test_at_a_time(self):
        spans = self.spans(
            self.HEAD
            + """
            class TestDevices(unittest.TestCase): pass
            for count in (1, 2):
                for i in range(4):
                    def test(self): span(self)
                    note_devices(test, count)
                    setattr(TestDevices, f"test_{count}_{i}", test)
        """,
            "-j",
            "4",
            "--devices",
            "4,5,6",
        )
        for a in spans:
            held = set(self.devices[a][0].split(","))
            self.assertEqual(len(held), int(a.split("_")[1]))
            self.assertLessEqual(held, {"4", "5", "6"})
            for b in spans.keys() - {a}:
                if self.overlap(spans[a], spans[b]):
                    self.assertFalse(held & set(self.devices[b][0].split(",")), (a, b))

    def test_ranks_alive_are_bounded(self):
        self.write(
            "test_ranks.py",
            """
            import os, torch.distributed as dist
            from harness import MultiProcessTestCase
            class Base(MultiProcessTestCase):
                def check(self):
                    self.init_process_group()
                    if self.rank == 0:
                        with open(os.environ["OUT"], "a") as file:
                            print("+", self.world_size, file=file, flush=True)
                    dist.barrier()
                    if self.rank == 0:
                        with open(os.environ["OUT"], "a") as file:
                            print("-", self.world_size, file=file, flush=True)
            for i, size in enumerate((3, 1, 2, 4, 2, 1, 5, 2)):
                name = f"Test{i}"
                globals()[name] = type(name, (Base,), {"world_size": size, "__module__": __name__})
                setattr(globals()[name], "test", lambda self: self.check())
        """,
        )
        out = self.folder / "out.txt"
        done = self.harness("-j", "4", "--max-ranks", "4", OUT=str(out))
        self.assertEqual((done.code, done.last_line), (0, "8 passed, 0 failed, 0 skipped"))
        alive = 0
        for line in out.read_text().splitlines():
            sign, size = line.split()
            alive += int(size) if sign == "+" else -int(size)
            self.assertLessEqual(alive, 5 if size == "5" else 4)
