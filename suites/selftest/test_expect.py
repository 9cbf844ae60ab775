"""Texts that rank tests expect: compared in every rank, accepted once, by the parent."""

from __future__ import annotations

import sys
import unittest

from harness import PropertyError, spawn_threads_and_init_comms
from suites.selftest.support import CommandTestCase

SUITE = r'''
from harness import MultiProcessTestCase, MultiThreadedTestCase, TestCase
{imports}


class TestRanks({base}):
    world_size = 4

    def test_one(self):
        self.assertExpectedInline("of all\nranks", """""")
        self.assertExpectedInline("again", """""")

    def test_two(self):
        if self.rank == 0:
            self.assertExpectedInline("of rank 0", """""")
        else:
            self.assertExpectedInline("of the others", """old""")

    def test_three(self):
        self.assertExpectedInline(
            "longer\ntext\n",
            """\
old
""",
        )

    def test_raises(self):
        def fail():
            raise ValueError("said by fail()")

        self.assertExpectedRaisesInline(ValueError, fail, """""")

    def test_file(self):
        self.assertExpected("in a file", "part")


class TestAlone(TestCase):
    def test_inline(self):
        self.assertExpectedInline("no\nranks", """""")

    def test_file(self):
        self.assertExpected("in a file")
'''
ACCEPTED = r'''
from harness import MultiProcessTestCase, MultiThreadedTestCase, TestCase
{imports}


class TestRanks({base}):
    world_size = 4

    def test_one(self):
        self.assertExpectedInline("of all\nranks", """\
of all
ranks""")
        self.assertExpectedInline("again", """again""")

    def test_two(self):
        if self.rank == 0:
            self.assertExpectedInline("of rank 0", """of rank 0""")
        else:
            self.assertExpectedInline("of the others", """of the others""")

    def test_three(self):
        self.assertExpectedInline(
            "longer\ntext\n",
            """\
longer
text
""",
        )

    def test_raises(self):
        def fail():
            raise ValueError("said by fail()")

        self.assertExpectedRaisesInline(ValueError, fail, """said by fail()""")

    def test_file(self):
        self.assertExpected("in a file", "part")


class TestAlone(TestCase):
    def test_inline(self):
        self.assertExpectedInline("no\nranks", """\
no
ranks""")

    def test_file(self):
        self.assertExpected("in a file")
'''


SPAWNED = r'''
from harness import MultiProcessTestCase


class TestRanks(MultiProcessTestCase):
    world_size = 1

    def test_one(self):
        self.assertExpectedInline("a\nb", """{}""")

    def test_two(self):
        self.assertExpectedInline("c\nd", """{}""")
'''


class TestAccepting(CommandTestCase):
    """Slow: whole commands."""

    def check(self, base, *command, imports="", **env):
        path = self.folder / "test_it.py"
        path.write_text(SUITE.format(base=base, imports=imports))
        finished = self.run_command(sys.executable, *command, **env)
        self.assertEqual(finished.code, 0, finished.out + finished.err)
        self.assertEqual(path.read_text(), ACCEPTED.format(base=base, imports=imports))
        folder = self.folder / "expect"
        files = {file.name: file.read_text() for file in folder.iterdir()}
        expected = ["TestAlone.test_file.expect", "TestRanks.test_file-part.expect"]
        self.assertEqual(files, dict.fromkeys(expected, "in a file"))
        said = finished.out + finished.err
        if "-s" in command or "unittest" in command:
            self.assertEqual(said.count("Accepting new output"), 9, said)

    def test_processes(self):
        self.check("MultiProcessTestCase", "-m", "harness", "--accept", "-s", "test_it")
        again = self.harness("test_it")
        self.assertEqual(again.last_line, "7 passed, 0 failed, 0 skipped", again.out)

    def test_threads_under_unittest(self):
        command = ("-m", "unittest", "test_it")
        self.check("MultiThreadedTestCase", *command, EXPECTTEST_ACCEPT="1")

    def test_in_one_process(self):
        self.check("MultiProcessTestCase", "-m", "harness", "--accept", "-j0", "test_it")

    def test_spawned_ranks_which_see_what_has_been_edited(self):
        path = self.folder / "test_it.py"
        path.write_text(SPAWNED.format("", ""))
        env = {"HARNESS_START_METHOD": "spawn", "EXPECTTEST_ACCEPT": "1"}
        finished = self.run_command(sys.executable, "-m", "unittest", "test_it", **env)
        self.assertEqual(finished.code, 0, finished.out + finished.err)
        self.assertEqual(path.read_text(), SPAWNED.format("\\\na\nb", "\\\nc\nd"))

    def test_pytorchs_testcase(self):
        imports = (
            "from harness.cases.process_mixin import RankTestMixin\n"
            "from torch.testing._internal.common_utils import TestCase as Torchs\n"
        )
        command = ("-m", "harness", "--accept", "-s", "test_it")
        self.check("RankTestMixin, Torchs", *command, imports=imports)

    def test_one_at_a_time(self):
        finished = self.harness("--accept", "-j", "4")
        self.assertEqual(finished.code, 2)
        self.assertIn("--accept edits test files", finished.err)


DISAGREEING = '''
    from harness import MultiProcessTestCase, MultiThreadedTestCase
    from hypothesis import given, strategies as st

    class Disagreeing:
        world_size = 2

        def test_by_rank(self):
            self.assertExpectedInline(f"rank {self.rank}", """rank 0""")

        def test_each_time(self):
            for i in range(2):
                self.assertExpectedInline(f"time {i}", """""")

        def test_fails_later(self):
            self.assertExpectedInline("text", """""")
            self.assertEqual(self.rank, 0)

        @given(number=st.integers(0, 9))
        def test_given(self, number):
            self.assertExpectedInline(str(number < 10), """""")

    class TestProcesses(Disagreeing, MultiProcessTestCase):
        pass

    class TestThreads(Disagreeing, MultiThreadedTestCase):
        pass
'''


class TestDisagreeing(CommandTestCase):
    def test_nothing_is_accepted(self):
        path = self.write("test_it.py", DISAGREEING)
        before = path.read_text()
        finished = self.harness("--accept", "test_it")
        self.assertEqual(finished.last_line, "0 passed, 8 failed, 0 skipped", finished.out)
        self.assertEqual(path.read_text(), before)
        self.assertEqual(finished.out.count("\nrank 1:\nrank 1"), 2, finished.out)
        self.assertIn("expect one text for each rank", finished.out)
        self.assertIn("Accept mode does not update texts under @given", finished.out)
        self.assertEqual([p.name for p in self.folder.glob("*.bak")], [])

    def test_without_accepting(self):
        self.write(
            "test_it.py",
            '''
            from harness import MultiProcessTestCase

            class TestIt(MultiProcessTestCase):
                world_size = 2

                def test_no_file_yet(self):
                    self.assertExpected("some text")

                def test_one_rank_differs(self):
                    self.assertExpectedInline(f"rank {self.rank}", """rank 0""")
            ''',
        )
        finished = self.harness("test_it")
        self.assertEqual(finished.last_line, "0 passed, 2 failed, 0 skipped", finished.out)
        self.assertIn("expect/TestIt.test_no_file_yet.expect to compare with", finished.out)
        self.assertIn("some text", finished.out)
        self.assertIn("1 of 2 ranks failed (rank 0 passed)", finished.out)


class TestOrderOfDecorators(unittest.TestCase):
    def test_threads_around_given(self):
        from hypothesis import given
        from hypothesis import strategies as st

        with self.assertRaisesRegex(PropertyError, "put @given above"):

            @spawn_threads_and_init_comms
            @given(st.integers())
            def test_it(self, number):
                pass


if __name__ == "__main__":
    unittest.main()
