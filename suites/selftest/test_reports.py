"""What a failure says: at most a screen for four ranks, readable for sixty-four."""

from __future__ import annotations

import faulthandler
import os
import shlex
import signal
import tempfile
import threading
import unittest
from unittest import mock

from harness.cases.decorators import overrides
from harness.cases.decorators.overrides import timeout, timeout_of
from harness.diagnosis import native
from harness.diagnosis.report import describe, headline
from harness.diagnosis.snapshot import take
from harness.diagnosis.stacks import fatal_dump, parse_faulthandler
from harness.diagnosis.words import rank_list, shortened
from harness.model import rerun
from harness.model.errors import SettingError
from harness.model.evidence import (
    Collective,
    Evidence,
    Group,
    Snapshot,
    ThreadStack,
    Waiting,
)
from harness.model.invocation import short_path
from harness.model.outcome import (
    Deadlocked,
    Ended,
    Exited,
    Killed,
    Passed,
    Place,
    Problem,
    Raised,
    Sabotaged,
    Skipped,
    TimedOut,
)
from harness.model.own_thread import OwnThread
from harness.model.rank_report import RankReport, Tail
from harness.model.verdict import judge

WIDTH, SCREEN = 120, 50


def waiting(size, op, line, rank):
    """Evidence of a rank of a world that waits in its second collective."""
    frames = (
        Place("/lib/torch.py", 9, op),
        Place("/home/user/model.py", 18, "forward"),
        Place("/home/user/test_model.py", line, "test_sync"),
    )
    first = Collective("0", 1, "broadcast", "gloo", ((8,),), ("int64",), False, 3, 330, frames)
    second = Collective("0", 2, op, "gloo", ((1024, 16),), ("float32",), True, 2, 330, frames[1:])
    groups = {"0": Group(tuple(range(size)), "default_pg", 330.0)}
    stack = (ThreadStack("MainThread", frames[1:]),)
    return Evidence(Snapshot(stack, (first, second), groups, Waiting("collective", op)))


def desync(size):
    """A world that parts: the last rank is in another operation than the others."""
    reports = []
    for rank in range(size):
        last = rank == size - 1
        evidence = waiting(size, *(("broadcast", 44) if last else ("all_reduce", 41)), rank)
        log = Tail((f"loss of {rank} is nan", "skipping"), 14, 300)
        reports.append(RankReport(rank, Deadlocked(2.0), 1.0, 100 + rank, Tail(), log, evidence))
    return judge(reports)


class TestDesync(unittest.TestCase):
    def test_the_operations_are_named(self):
        text = describe(desync(4), "test_sync")
        self.assertIn("ranks 0-3 diverge at collective 2 of group 'default_pg'", text)
        self.assertIn("all_reduce   float32 [1024, 16]   /home/user/model.py:18", text)
        self.assertIn("broadcast   float32 [1024, 16]", text)
        self.assertIn("/home/user/test_model.py:44 in test_sync  (the test)", text)

    def test_the_last_collectives_of_each(self):
        text = describe(desync(4), "test_sync")
        self.assertIn("last collectives: 1 broadcast, 2 all_reduce (pending)", text)

    def test_ranks_with_equal_stacks_are_grouped(self):
        text = describe(desync(4), "test_sync")
        self.assertEqual(text.count("(the test)"), 2)
        self.assertIn("ranks 0-2: waiting in all_reduce (gloo) for 2.0 s", text)
        self.assertIn("rank 3: waiting in broadcast (gloo) for 2.0 s", text)

    def test_a_screen_for_four(self):
        text = describe(desync(4), "test_sync", "python run_tests.py test_model")
        self.assertLessEqual(len(text.splitlines()), SCREEN)
        self.assertLessEqual(max(map(len, text.splitlines())), WIDTH)

    def test_readable_for_sixty_four(self):
        text = describe(desync(64), "test_sync", "python run_tests.py test_model")
        self.assertLessEqual(len(text.splitlines()), 2 * SCREEN)
        self.assertIn("64 of 64 ranks deadlocked", text)
        self.assertIn("ranks 0-62: waiting", text)
        self.assertIn("more logs from other ranks", text)

    def test_sixty_four_that_all_fail_differently(self):
        reports = [
            RankReport(r, Raised((Problem("ValueError", f"bad {r}", f"tb {r}", False),)), r)
            for r in range(64)
        ]
        lines = describe(judge(reports)).splitlines()
        self.assertLessEqual(len(lines), 3 * 64 + 10)


class TestHeadlines(unittest.TestCase):
    def line(self, *outcomes):
        return headline(judge([RankReport(i, o, 1.0 + i) for i, o in enumerate(outcomes)]))

    def test_lines(self):
        echo = Raised((Problem("RuntimeError", "Connection closed by peer", "", False),))
        error = Raised((Problem("ValueError", "x", "", False),))
        for outcomes, expected in (
            ((Passed(), Killed(9)), "1 of 2 ranks killed by SIGKILL (rank 0 passed)"),
            ((Killed(9),), "1 of 1 rank killed by SIGKILL"),
            ((echo, Exited(3)), "1 of 2 ranks exited with code 3 (rank 0 lost its peer)"),
            ((error, Killed(11), Ended()), "2 of 3 ranks did not pass (rank 2 still running)"),
            (
                (TimedOut("body", 30), Passed(), Passed()),
                "1 of 3 ranks timed out after 30 s (ranks 1 and 2 passed)",
            ),
            (
                (Skipped("x"), Passed()),
                "rank 0 skipped, rank 1 passed",
            ),
            (
                (Passed(), *(Skipped("x") for _ in range(7))),
                "ranks 1-7 skipped, rank 0 passed",
            ),
            (
                (echo, echo, Exited(3)),
                "1 of 3 ranks exited with code 3 (ranks 0 and 1 lost their peer)",
            ),
            ((Sabotaged("killed"),), "rank 0 killed by @kill_rank"),
            (
                (Killed(signal.SIGRTMIN + 3), Passed()),
                "1 of 2 ranks killed by signal 37 (rank 1 passed)",
            ),
            ((), "no rank ran"),
        ):
            with self.subTest(expected):
                self.assertEqual(self.line(*outcomes), expected)

    def test_lists_of_ranks(self):
        self.assertEqual(rank_list([3]), "rank 3")
        self.assertEqual(rank_list([1, 0]), "ranks 0 and 1")
        self.assertEqual(rank_list([0, 2, 3, 4, 7]), "ranks 0, 2-4 and 7")

    def test_long_texts(self):
        text = shortened("a" * 5000 + "b" * 5000, 1000)
        self.assertLess(len(text), 1100)
        self.assertTrue(text.startswith("aaa"))
        self.assertTrue(text.endswith("bbb"))
        self.assertIn("9,000 characters left out", text)


DUMP = """\
Thread 0x00007f1 [straggler] (most recent call first):
  File "/u/t.py", line 3 in run
  File "/u/t.py", line 4 in ???

Current thread 0x00007f2 [MainThread] (most recent call first):
  File "/u/t.py", line ??? in inner
  File "/u/t.py", line 9 in test
"""


def names(stack: ThreadStack) -> list[str]:
    """The functions of a stack."""
    return [frame.function for frame in stack.frames]


class TestStacks(unittest.TestCase):
    def test_main_thread_first(self):
        main, other = parse_faulthandler(DUMP)
        self.assertEqual((main.name, other.name), ("MainThread", "straggler"))
        self.assertEqual(main.frames, (Place("/u/t.py", 0, "inner"), Place("/u/t.py", 9, "test")))

    def test_the_thread_that_crashed_first(self):
        crashed = DUMP.replace("Current t", "T").replace(
            "Thread 0x00007f1", "Current thread 0x1", 1
        )
        stacks = parse_faulthandler(crashed, current_first=True)
        self.assertEqual([s.name for s in stacks], ["straggler", "MainThread"])

    def test_own_threads_are_left_out_and_others_of_their_names_are_not(self):
        go_on = threading.Event()
        arrived = threading.Barrier(3)

        def wait_for_the_test() -> None:
            arrived.wait()
            go_on.wait()

        threads = [
            OwnThread(wait_for_the_test, (), "harness-listener"),
            threading.Thread(target=wait_for_the_test, name="harness-listener"),
        ]
        for thread in threads:
            thread.start()
        try:
            arrived.wait(60)
            with tempfile.TemporaryFile("w+") as file:
                faulthandler.dump_traceback(file, all_threads=True)
                file.seek(0)
                dumped = parse_faulthandler(file.read())
            taken = take(with_frames=False)
        finally:
            go_on.set()
        for thread in threads:
            thread.join()
        found = [stack for stack in taken.threads if "wait_for_the_test" in names(stack)]
        self.assertEqual([stack.name for stack in found], ["harness-listener"])
        # A dump of Python 3.11 does not have the names of threads.
        self.assertEqual(sum("wait_for_the_test" in names(stack) for stack in dumped), 1)

    def test_nothing(self):
        self.assertEqual(parse_faulthandler(""), ())
        self.assertEqual(parse_faulthandler("garbage\n  File\n"), ())

    def test_a_crash_in_stderr(self):
        lines = ["before", "Fatal Python error: Aborted", "", *DUMP.splitlines(), "", "after"]
        dump, rest = fatal_dump(lines)
        self.assertEqual(rest, ["before", "Fatal Python error: Aborted", "after"])
        self.assertEqual(len(parse_faulthandler(dump)), 2)
        self.assertEqual(fatal_dump(["before"]), ("", ["before"]))


PY_SPY = """\
Process 12: python
Python v3.11.7 (/usr/bin/python3.11)

Thread 12 (idle): "MainThread"
    0x7f553f6a412b (libc.so.6)
    pthread_mutex_lock (libc.so.6)
    c10d::Work::wait (libtorch_cpu.so)
    test_gil (suites/samples/faults.py:432)
    0x7f553f6a412b (libc.so.6)
Thread 13 (idle): "other"
    poll (libc.so.6)
"""


class TestNative(unittest.TestCase):
    def test_frames_inside_python(self):
        frames = native._frames_above_python(PY_SPY)
        self.assertEqual(
            frames, ("pthread_mutex_lock (libc.so.6)", "c10d::Work::wait (libtorch_cpu.so)")
        )
        self.assertEqual(native._frames_above_python("Error: no such process"), ())

    def test_without_py_spy(self):
        with mock.patch.object(native, "find_py_spy", return_value=None):
            self.assertEqual(native.native_frames([os.getpid()], 1.0), {})

    @unittest.skipUnless(native.find_py_spy(), "py-spy is not installed")
    def test_a_process_that_is_not_there(self):
        self.assertEqual(native.native_frames([2**22 + 1], 10.0), {})


class TestTimeouts(unittest.TestCase):
    """Decorator, class attribute, PyTorch's list of names, command line or environment."""

    class Case(unittest.TestCase):
        def runTest(self):
            pass

        @timeout(3)
        def test_marked(self):
            pass

        def test_plain(self):
            pass

        def test_ddp_uneven_inputs(self):
            pass

    class Own(Case):
        timeout_s = 5

    @timeout(6)
    class Decorated(Case):
        pass

    def seconds(self, cls, name):
        case = cls(name)
        return timeout_of(case, getattr(case, name))

    def test_order_of_precedence(self):
        with mock.patch.dict(os.environ, DISTRIBUTED_TESTS_DEFAULT_TIMEOUT="7"):
            self.assertEqual(self.seconds(self.Own, "test_marked"), 3)
            self.assertEqual(self.seconds(self.Own, "test_ddp_uneven_inputs"), 5)
            self.assertEqual(self.seconds(self.Decorated, "test_marked"), 3)
            self.assertEqual(self.seconds(self.Decorated, "test_plain"), 6)
            self.assertEqual(self.seconds(self.Case, "test_ddp_uneven_inputs"), 400)
            self.assertEqual(self.seconds(self.Case, "test_plain"), 7)
        with mock.patch.dict(os.environ):
            os.environ.pop("DISTRIBUTED_TESTS_DEFAULT_TIMEOUT", None)
            self.assertEqual(self.seconds(self.Case, "test_plain"), overrides.TIMEOUT_DEFAULT)

    def test_what_is_no_duration(self):
        for value in (0, -1, "3", None, float("inf"), float("nan"), True):
            with self.assertRaisesRegex(SettingError, r"@timeout\(.*positive number of seconds"):
                timeout(value)

        class Bad(self.Case):
            timeout_s = "soon"

        with self.assertRaisesRegex(SettingError, r"Bad\.timeout_s = 'soon': a timeout must be"):
            self.seconds(Bad, "test_plain")
        with (
            mock.patch.dict(os.environ, DISTRIBUTED_TESTS_DEFAULT_TIMEOUT="soon"),
            self.assertRaisesRegex(SettingError, "DISTRIBUTED_TESTS_DEFAULT_TIMEOUT='soon'"),
        ):
            self.seconds(self.Case, "test_plain")


class TestAgain(unittest.TestCase):
    def command(self, **env):
        with mock.patch.dict(os.environ, env):
            for name in ("PYTEST_CURRENT_TEST", "HARNESS_SEED"):
                if name not in env:
                    os.environ.pop(name, None)
            return rerun.command_for(self)

    def test_pytest(self):
        command = self.command(PYTEST_CURRENT_TEST="x")
        self.assertRegex(command, r"^python -m pytest \S*test_reports\.py::TestAgain::test_pytest$")

    def test_seed(self):
        self.assertIn("HARNESS_SEED=7 python ", self.command(HARNESS_SEED="7"))

    def test_the_folder_from_which_it_is_imported(self):
        here = os.path.dirname(os.path.abspath(__file__))
        command = self.command()
        self.assertIn(f"{__name__}.TestAgain.{self._testMethodName}", command)
        root = here if "." not in __name__ else os.path.dirname(os.path.dirname(here))
        self.assertEqual(command.startswith("cd "), root != os.getcwd())
        if root != os.getcwd():
            self.assertIn(f"cd {shlex.quote(short_path(root))} && ", command)
