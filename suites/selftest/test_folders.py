"""The session's folder: whose it is, when it goes, and sockets in it."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import unittest
from pathlib import Path
from unittest import mock

from harness.ranks import folders
from suites.selftest.support import CommandTestCase, Finished, wait_for_texts

LONG_NAME = "test_" + "x" * 195


WAITING = """
import os, time
from pathlib import Path
from harness import MultiProcessTestCase


class TestWaiting(MultiProcessTestCase):
    world_size = 2

    def test_a(self):
        Path(f"up{self.rank}").write_text(self.file_name)
        while not Path("go").exists():
            time.sleep(0.02)

    def test_b(self):
        self.assertTrue(os.path.exists(self.file_name))
"""


QUICK = """
from harness import MultiProcessTestCase


class TestQuick(MultiProcessTestCase):
    world_size = 2

    def test(self):
        pass
"""


# As the data loader does, all of these put a socket into the temp folder.
SOCKETS = f"""
import unittest

import torch
import torch.multiprocessing as mp
from torch.utils.data import DataLoader, TensorDataset

from harness import MultiProcessTestCase, MultiThreadedTestCase


def use_sockets(case):
    loader = DataLoader(TensorDataset(torch.arange(8.0)), batch_size=4, num_workers=1)
    case.assertEqual([x.sum().item() for (x,) in loader], [6.0, 22.0])
    context = mp.get_context("fork")
    queue, done = context.Queue(), context.Queue()
    process = context.Process(target=lambda: (queue.put(torch.arange(3.0)), done.get()))
    process.start()
    case.assertEqual(queue.get().sum().item(), 3.0)
    done.put(None)
    process.join()
    with context.Manager() as manager:
        case.assertEqual(list(manager.list([1, 2])), [1, 2])


class TestPlain(MultiProcessTestCase):
    world_size = 2

    def {LONG_NAME}(self):
        use_sockets(self)


class TestStay(TestPlain):
    isolation = "group"


@unittest.skipIf("long" in __import__("tempfile").gettempdir(), "its own process's TMPDIR")
class TestThreads(MultiThreadedTestCase):
    world_size = 2

    def {LONG_NAME}(self):
        if self.rank == 0:
            use_sockets(self)
"""


class WithFolders(CommandTestCase):
    def session(self, name: str = "harness-abcdefgh", is_locked: bool = False) -> Path:
        """A folder as a session makes it, whose process has ended unless the lock is held."""
        folder = self.temp / name
        (folder / "1-test").mkdir(parents=True)
        lock = folder / folders._LOCK
        lock.touch()
        if is_locked:
            fd = os.open(lock, os.O_RDWR)
            self.addCleanup(os.close, fd)
            fcntl.flock(fd, fcntl.LOCK_EX)
        return folder

    def long_temp(self, length: int = 90) -> Path:
        """A temp folder with a path of so many characters."""
        base = self.temp / "long"
        temp = base / ("x" * (length - len(str(base)) - 1))
        temp.mkdir(parents=True)
        return temp

    def links_to(self, temp: Path) -> list[Path]:
        """The short links to sessions in this temp folder."""
        found = Path("/tmp").glob(f"harness-*/{folders._LINK}")
        return [link for link in found if os.readlink(link).startswith(str(temp))]


class TestSweep(WithFolders):
    def assert_stays(self, folder: Path) -> None:
        folders._sweep(self.temp)
        self.assertTrue(folder.exists())

    def test_a_session_that_has_ended(self):
        folder = self.session()
        (folder / "1-test").chmod(0o500)
        folders._sweep(self.temp)
        self.assertFalse(folder.exists())

    def test_a_session_that_lives(self):
        self.assert_stays(self.session(is_locked=True))

    def test_what_cannot_be_judged(self):
        unlocked = self.session()
        (unlocked / folders._LOCK).rename(unlocked / f"{folders._LOCK}.new")
        self.assert_stays(unlocked)
        older = self.session("harness-999999999-1-abc")
        self.assert_stays(older)
        others = self.session("harness-results")
        self.assert_stays(others)

    def test_links_are_not_followed(self):
        folder = self.session("elsewhere")
        (self.temp / "harness-abcdefgh").symlink_to(folder)
        self.assert_stays(folder / "1-test")
        linked = self.session("harness-ijklmnop")
        (linked / folders._LOCK).unlink()
        (linked / folders._LOCK).symlink_to(folder / folders._LOCK)
        self.assert_stays(linked)

    def test_another_users(self):
        folder = self.session()
        with mock.patch("os.getuid", return_value=os.getuid() + 1):
            self.assert_stays(folder)

    def test_a_file_system_without_locks(self):
        with mock.patch("fcntl.flock", side_effect=OSError):
            folder = folders._make_locked(self.temp)
        self.assert_stays(folder)

    def test_the_lock_is_there_as_soon_as_it_can_be_found(self):
        rename = Path.rename

        def sweep_first(path, target):
            folders._sweep(self.temp)
            rename(path, target)
            folders._sweep(self.temp)

        with mock.patch.object(Path, "rename", sweep_first):
            folder = folders._make_locked(self.temp)
        self.addCleanup(lambda: folders._locks.popitem()[1].close())
        self.assert_stays(folder)


HOLDER = """
import os, signal, sys
from harness.ranks import folders
print(folders.session_folder(), flush=True)
if sys.argv[1] == "forks":
    if os.fork() == 0:
        os._exit(0)
    os.wait()
    if os.fork() == 0:
        print(os.getpid(), flush=True)  # by now the fork has let go of the lock
        signal.pause()
sys.stdin.readline()
os.kill(os.getpid(), signal.SIGKILL)
"""


class TestLock(WithFolders):
    """A process that makes a session, and is killed."""

    def hold(self, how: str) -> tuple[subprocess.Popen, Path]:
        env = self.sandbox.environ({})
        command = [sys.executable, "-c", HOLDER, how]
        holder = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
        )
        self.addCleanup(holder.stdin.close)
        self.addCleanup(holder.stdout.close)
        self.addCleanup(holder.wait)
        self.addCleanup(holder.kill)
        return holder, Path(holder.stdout.readline().strip())

    def test_lasts_as_long_as_its_process(self):
        holder, folder = self.hold("alone")
        folders._sweep(self.temp)
        self.assertTrue(folder.exists())
        holder.kill()
        holder.wait()
        folders._sweep(self.temp)
        self.assertFalse(folder.exists())

    def test_a_fork_neither_drops_nor_keeps_it(self):
        holder, folder = self.hold("forks")
        fork = int(holder.stdout.readline())
        self.addCleanup(os.kill, fork, signal.SIGKILL)
        folders._sweep(self.temp)
        self.assertTrue(folder.exists())
        holder.kill()
        holder.wait()
        folders._sweep(self.temp)
        self.assertFalse(folder.exists())


def may_unshare() -> bool:
    command = ["unshare", "--pid", "--fork", "--mount-proc", "true"]
    return (
        shutil.which("unshare") is not None
        and not subprocess.run(command, capture_output=True, check=False).returncode
    )


class TestSharedTempFolder(WithFolders):
    def test_sessions_that_do_not_see_each_others_processes(self):
        if not may_unshare():
            self.skipTest("this user may not make a namespace for process ids")
        self.write("test_waiting.py", WAITING)
        self.write("test_quick.py", QUICK)
        apart = ("unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-m", "unittest")
        first = self.start(*apart, "test_waiting")
        mark = self.sandbox.mark
        wait_for_texts([self.folder / "up0", self.folder / "up1"], first)
        second = self.run_command(*apart, "test_quick")
        self.assertEqual(second.code, 0, second.err)
        (self.folder / "go").touch()
        self.sandbox.mark = mark
        done = self.finish(first)
        self.assertEqual(done.code, 0, done.err)
        self.assert_clean(done)

    def test_next_session_sweeps_up_after_a_killed_one(self):
        self.write("test_waiting.py", WAITING)
        self.write("test_quick.py", QUICK)
        for temp in (self.temp, self.long_temp()):
            # Spawned ranks have no fork server, which would remove the folder.
            env = {"TMPDIR": str(temp), "HARNESS_START_METHOD": "spawn"}
            first = self.start(sys.executable, "-m", "unittest", "test_waiting", **env)
            wait_for_texts([self.folder / "up0", self.folder / "up1"], first)
            first.kill()
            self.finish(first)
            self.assertEqual(len(list(temp.glob("harness-*"))), 1)
            second = self.run_command(
                sys.executable, "-m", "unittest", "test_quick", TMPDIR=str(temp)
            )
            self.assertEqual(second.code, 0, second.err)
            self.assertEqual(list(temp.glob("harness-*")), [])
            self.assertEqual(self.links_to(temp), [])
            for file in ("up0", "up1"):
                (self.folder / file).unlink()


class TestSockets(WithFolders):
    def check(self, temp: Path, *command: str, **env: str) -> Finished:
        self.write("test_sockets.py", SOCKETS)
        done = self.run_command(sys.executable, "-m", *command, TMPDIR=str(temp), **env)
        self.assertEqual(done.code, 0, done.out + done.err)
        self.assertEqual(done.left_processes, [])
        # torch keeps a cache there, and an interpreter's own multiprocessing folder is its own.
        self.assertEqual(list(temp.glob("harness-*")), [])
        self.assertEqual(self.links_to(temp), [])
        return done

    def test_long_names_under_unittest(self):
        self.assertIn("OK\n", self.check(self.temp, "unittest", "test_sockets").err)

    def test_long_names_under_the_runner(self):
        done = self.check(self.temp, "harness", "test_sockets.py", "-j", "2")
        self.assertEqual(done.last_line, "3 passed, 0 failed, 0 skipped")

    def test_a_long_temp_folder_under_unittest(self):
        self.check(self.long_temp(), "unittest", "test_sockets")

    def test_a_long_temp_folder_in_spawned_ranks(self):
        names = [f"test_sockets.{name}" for name in ("TestPlain", "TestStay")]
        self.check(self.long_temp(), "unittest", *names, HARNESS_START_METHOD="spawn")

    def test_a_long_temp_folder_under_the_runner(self):
        done = self.check(self.long_temp(), "harness", "test_sockets.py", "-j", "2")
        self.assertEqual(done.last_line, "2 passed, 0 failed, 1 skipped")

    def test_a_killed_parent_leaves_no_link(self):
        self.write("test_waiting.py", WAITING)
        temp = self.long_temp()
        process = self.start(sys.executable, "-m", "unittest", "test_waiting", TMPDIR=str(temp))
        wait_for_texts([self.folder / "up0", self.folder / "up1"], process)
        self.assertEqual(len(self.links_to(temp)), 1)
        process.kill()
        self.assertEqual(self.finish(process).left_processes, [])
        self.assertEqual(self.links_to(temp), [])
        self.assertEqual(list(temp.glob("harness-*")), [])

    def test_no_short_place(self):
        self.write("test_quick.py", QUICK)
        self.write(
            "test_nowhere.py",
            """
            from harness.ranks import folders
            folders._SHORT_PLACES = ("/proc/nowhere",)
            from test_quick import TestQuick
            """,
        )
        temp = self.long_temp()
        done = self.run_command(sys.executable, "-m", "unittest", "test_nowhere", TMPDIR=str(temp))
        self.assertEqual(done.code, 1)
        self.assertRegex(done.err, "FolderError: the path of the temp folder .* is too long for")
        self.assertIn("set TMPDIR to a folder with a shorter path", done.err)
        self.assertEqual(list(temp.iterdir()), [])


class TestShortPaths(unittest.TestCase):
    def test_room_for_sockets(self):
        for length in (folders._LONGEST_TEMP, folders._LONGEST_TEMP + 1):
            top = Path("/" + "x" * (length - 1), "harness-abcdefgh")
            is_short = length <= folders._LONGEST_TEMP
            short = top if is_short else Path("/var/tmp/harness-abcdefgh", folders._LINK)
            session = folders._Session(os.getpid(), top / "w12", top, short)
            with (
                mock.patch.object(folders, "_session", session),
                mock.patch.object(folders, "_counter", iter([12345])),
                mock.patch.object(Path, "mkdir"),
                mock.patch("os.makedirs"),
            ):
                temp = folders.temp_folder(folders.new_test_folder(LONG_NAME))
            self.assertLessEqual(len(temp) + len("/torch-shm-dir-XXXXXX/manager.sock"), 107)
