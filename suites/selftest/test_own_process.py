"""A test finds in a worker, and in a rank, what it finds in a process that the user starts."""

from __future__ import annotations

import sys
from pathlib import Path

from suites.selftest.support import CommandTestCase, Finished

FIRST = """
    import os, subprocess, sys, unittest

    os.environ["FIRST"] = "on"
    os.environ["ORDER"] = os.environ.get("ORDER", "") + "1"
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ.pop("GIVEN", None)
    SEEN = os.environ.get("MKL_NUM_THREADS")
    sys.path.insert(0, os.path.join(os.getcwd(), "lib"))
    os.umask(0o027)

    class TestFirst(unittest.TestCase):
        def test_environ(self):
            self.assertEqual(os.environ.get("FIRST"), "on")
            self.assertEqual(os.environ.get("SECOND"), "on")
            self.assertEqual(os.environ.get("ORDER"), "12")
            self.assertEqual(os.environ.get("OMP_NUM_THREADS"), "1")
            self.assertNotIn("GIVEN", os.environ)
            self.assertEqual(os.environ.get("CHANGED"), "by the user")
            self.assertIsNone(SEEN)
            self.assertNotIn("MKL_NUM_THREADS", os.environ)
            self.assertIsNone(os.environ.get("PYTORCH_NVML_BASED_CUDA_CHECK"))
            # What a process that a test starts is given is in the hands of the C library.
            command = "echo OMP $OMP_NUM_THREADS MKL $MKL_NUM_THREADS"
            said = subprocess.check_output(command, shell=True, text=True)
            self.assertEqual(said, "OMP 1 MKL\\n")
"""
SECOND = """
    import os, sys, unittest

    os.environ["SECOND"] = "on"
    os.environ["ORDER"] = os.environ.get("ORDER", "") + "2"
    os.chdir("elsewhere")

    class TestSecond(unittest.TestCase):
        def test_folder(self):
            self.assertEqual(os.path.basename(os.getcwd()), "elsewhere")

        def test_path(self):
            import in_lib
            self.assertIn("lib", [os.path.basename(entry) for entry in sys.path[:3]])

        def test_umask(self):
            open("made", "w").close()
            self.assertEqual(os.stat("made").st_mode & 0o777, 0o640)
"""
RANKS = """
    import os, sys
    from harness import MultiProcessTestCase
    from test_1 import FIRST_OF_ALL

    os.environ["RANKS"] = "on"

    class TestRanks(MultiProcessTestCase):
        world_size = 2

        def test_ranks(self):
            self.assertEqual(os.environ.get("FIRST"), "on")
            self.assertEqual(os.environ.get("SECOND"), "on")
            self.assertEqual(os.environ.get("RANKS"), "on")
            self.assertEqual(os.environ.get("ORDER"), "12")
            self.assertNotIn("GIVEN", os.environ)
            self.assertEqual(os.path.basename(os.getcwd()), "elsewhere")
            import in_lib
            umask = os.umask(0)
            self.assertEqual(umask, 0o027)
"""
THREAD = """
    import threading
    threading.Thread(target=threading.Event().wait, daemon=True).start()
"""

METHODS = """
    import multiprocessing, os, unittest
    import torch.multiprocessing
    from harness import MultiProcessTestCase

    def check(case):
        case.assertIsNone(multiprocessing.get_start_method(allow_none=True))
        case.assertIsNone(torch.multiprocessing.get_start_method(allow_none=True))
        process = multiprocessing.get_context("fork").Process(target=os.getpid)
        process.start()
        process.join()
        case.assertEqual(process.exitcode, 0)
        case.assertIsNone(multiprocessing.get_start_method(allow_none=True))
        multiprocessing.set_start_method("spawn")
        case.assertEqual(torch.multiprocessing.get_start_method(), "spawn")

    class TestRanks(MultiProcessTestCase):
        world_size = 2
        def test_a_rank(self): check(self)
        def test_b_parent(self): pass
        def tearDown(self):
            super().tearDown()
            self.assertIsNone(multiprocessing.get_start_method(allow_none=True))

    class TestWorker(unittest.TestCase):
        def test_method(self):
            self.assertIsNone(multiprocessing.parent_process())
            self.assertEqual(multiprocessing.current_process().name, "MainProcess")
            self.assertFalse(multiprocessing.current_process().daemon)
            name = multiprocessing.Process(target=os.getpid).name
            self.assertRegex(name, r"^Process-\\d+$")
            check(self)
"""
DECIDED = """
    import multiprocessing, unittest
    from harness import MultiProcessTestCase

    multiprocessing.set_start_method("spawn")

    class TestRanks(MultiProcessTestCase):
        world_size = 2
        def test_rank(self):
            self.assertEqual(multiprocessing.get_start_method(allow_none=True), "spawn")

    class TestWorker(unittest.TestCase):
        def test_method(self):
            self.assertEqual(multiprocessing.get_start_method(allow_none=True), "spawn")
"""


class TestImports(CommandTestCase):
    """What test modules do to the process while they are imported."""

    def setUp(self) -> None:
        super().setUp()
        self.write("test_1.py", FIRST + "\n    FIRST_OF_ALL = True\n")
        self.write("test_2.py", SECOND)
        self.write("lib/in_lib.py", "")
        (self.folder / "elsewhere").mkdir()

    def run_all(self, *command: str, **env: str) -> Finished:
        made = self.folder / "elsewhere" / "made"
        made.unlink(missing_ok=True)
        given = {"GIVEN": "1", "CHANGED": "by the user", "OMP_NUM_THREADS": None}
        return self.run_command(sys.executable, "-m", *command, **given, **env)

    def check(self, *options: str, last: str = "4 passed, 0 failed, 0 skipped", **env: str) -> None:
        done = self.run_all("harness", *options, "--no-history", **env)
        self.assertEqual((done.last_line, done.code), (last, 0), done.out + done.err)

    def test_last_in_workers_as_in_the_users_process(self) -> None:
        for jobs in ("0", "1", "3"):
            self.check("-j", jobs)
            self.check("-j", jobs, "test_1.py", "test_2.py")
            self.check("-j", jobs, "test_1", "test_2")

    def test_last_under_unittest_and_pytest(self) -> None:
        for command in (("unittest",), ("pytest", "-q", "-p", "no:cacheprovider")):
            done = self.run_all(*command, *(["test_1.py", "test_2.py"] * (command[0] == "pytest")))
            self.assertEqual(done.code, 0, done.out + done.err)

    def test_last_in_ranks(self) -> None:
        self.write("test_ranks.py", RANKS)
        for jobs in ("0", "2"):
            self.check("-j", jobs, last="5 passed, 0 failed, 0 skipped")
        done = self.run_all("unittest")
        self.assertEqual(done.code, 0, done.out + done.err)

    def test_last_where_workers_are_fresh_interpreters(self) -> None:
        self.write("test_2_thread.py", THREAD)
        self.check("-j", "2", HARNESS_START_METHOD="forkserver")
        self.check("-j", "2", HARNESS_START_METHOD="spawn")

    def test_reports_and_history_are_where_they_are_asked_for(self) -> None:
        for jobs in ("0", "2"):
            names = [f"{name}{jobs}" for name in ("junit", "records", "past")]
            options = zip(("--junit", "--records", "--history"), names, strict=True)
            done = self.run_all("harness", "-j", jobs, *(word for pair in options for word in pair))
            self.assertEqual(done.code, 0, done.out + done.err)
            found = {path.name for path in Path(self.folder).iterdir()}
            self.assertLessEqual(set(names), found)


class TestMultiprocessing(CommandTestCase):
    """The default start method is the user's to choose."""

    def check(self, source: str, passed: int) -> None:
        self.write("test_methods.py", source)
        for options, env in (
            (("-j", "0"), {}),
            (("-j", "1"), {}),
            (("-j", "2"), {"HARNESS_START_METHOD": "spawn"}),
        ):
            done = self.harness(*options, "--no-history", **env)
            last = f"{passed} passed, 0 failed, 0 skipped"
            self.assertEqual(done.last_line, last, f"{options}\n{done.out}{done.err}")

    def test_nothing_is_decided(self) -> None:
        self.check(METHODS, 3)

    def test_what_a_module_has_decided_stays(self) -> None:
        self.check(DECIDED, 2)
