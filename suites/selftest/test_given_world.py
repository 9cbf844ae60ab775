"""Runs on processes that torchrun (or srun) has started, on one host."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import unittest
from pathlib import Path
from unittest import mock

import torch

from harness.ranks.stores import LOOPBACK
from harness.ranks.torchrun import links
from harness.ranks.torchrun.gathering import Member
from harness.ranks.torchrun.peer import Peer
from suites.selftest.given_runs import (
    PROPERTIES,
    SAMPLES,
    GivenWorldTestCase,
    lines_of_ranks,
    new_port,
)
from suites.selftest.support import ROOT, CommandTestCase, wait_for_texts


class TestSteps(GivenWorldTestCase):
    def test_sound_samples(self):
        names = (
            "Sound or Staying or Continuous or Base or Sizes or Threads or WithoutRanks or Large"
        )
        reports = ("--junit", "j.xml", "--html", "h.html")
        ended = self.run_world(2, SAMPLES, "-k", names, *reports)
        self.assertIn("2 given ranks on 1 host: ", ended.out)
        self.assertRegex(ended.out, r"1  needs 64 ranks; torchrun started only 2")
        self.assertEqual(ended.processes[0].last_line, "20 passed, 0 failed, 1 skipped", ended.out)
        self.assertEqual(ended.codes, [0, 0])
        self.assertEqual([process.out for process in ended.processes[1:]], [""])
        self.assertEqual(ended.err, "")
        self.assertEqual(len(list(self.notes.glob("plain-*"))), 1)
        # Of all ranks, by rank 0.
        self.assertIn('name="ranks" value="2"', (self.folder / "j.xml").read_text())
        self.assertIn("all_reduce", (self.folder / "h.html").read_text())

    def test_more_processes_than_ranks(self):
        ended = self.run_world(4, SAMPLES, "-k", "TestSound or TestStaying or TestSizes")
        self.assertEqual(ended.processes[0].last_line, "14 passed, 0 failed, 0 skipped", ended.out)
        self.assertEqual(ended.codes, [0] * 4)

    def test_a_world_of_one(self):
        ended = self.run_world(1, SAMPLES, "-k", "TestSizes or own_store")
        self.assertIn("1  needs 2 ranks; torchrun started only 1", ended.out)
        self.assertEqual(ended.processes[0].last_line, "1 passed, 0 failed, 1 skipped", ended.out)
        self.assertEqual(ended.codes, [0])

    def test_faults(self):
        ended = self.run_world(3, SAMPLES, "-k", "TestFaults", SAMPLE_RANKS="3")
        self.assertEqual(ended.processes[0].last_line, "1 passed, 7 failed, 0 skipped", ended.out)
        self.assertEqual(ended.codes, [1, 1, 1])
        told = "\n".join(lines_of_ranks(ended.out))
        for expected in (
            r"rank 2 \(\S+, local rank 2\): AssertionError",
            r"rank 2 \(\S+, local rank 2\): killed by SIGKILL before its body was done",
            r"rank 2 \(\S+, local rank 2\): exited with code 7 before its body was done",
            r"rank 2 \(\S+, local rank 2\): skipped: not here",
            r"rank 2 \(\S+, local rank 2\): does not answer: it is in native code",
            r"ranks? 0(, 1)? \(\S+, local ranks? 0(, 1)?\): waiting in barrier \(gloo\)",
        ):
            self.assertRegex(told, expected, ended.out)
        self.assertIn("rank 2 says this", ended.out)
        self.assertIn("given.py", ended.out)

    def test_spawned_ranks(self):
        ended = self.run_world(2, SAMPLES, "-k", "own_store", HARNESS_START_METHOD="spawn")
        self.assertEqual(ended.processes[0].last_line, "1 passed, 0 failed, 0 skipped", ended.out)
        self.assertEqual(ended.codes, [0, 0])

    def test_srun_in_a_job_array(self):
        """Each task of the array is a world, of which nobody says how many ranks a host has."""
        for task in range(2):
            ended = self.run_world(
                2, SAMPLES, "-k", "TestSound", "--shard", "auto", "--records", "{shard}.json",
                LOCAL_WORLD_SIZE="", SLURM_ARRAY_TASK_ID=str(task), SLURM_ARRAY_TASK_COUNT="2",
                each={r: {"SLURM_PROCID": str(r), "SLURM_NTASKS": "2"} for r in range(2)},
            )  # fmt: skip
            self.assertEqual(ended.codes, [0, 0], ended.out + ended.err)
            self.assertIn("2 given ranks on 1 host: ", ended.out)
        merged = self.harness("merge-reports", "1-of-2.json", "2-of-2.json")
        self.assertEqual((merged.code, merged.last_line), (0, "9 passed, 0 failed, 0 skipped"))

    def test_nothing_matches(self):
        self.write("test_x.py", "import unittest")
        ended = self.run_world(2, "test_x.py", "TestNoSuch")
        self.assertEqual(ended.codes, [2, 2])
        self.assertIn("no test is called 'TestNoSuch'", ended.processes[0].err)
        self.assertEqual(ended.processes[1].err, "")


class TestPropertyTests(GivenWorldTestCase):
    def test_one_engine_on_rank_0_and_examples_on_all(self):
        """Also with values that do not fit into a channel at once, and ranks that die."""
        ended = self.run_world(2, PROPERTIES, HARNESS_SHRINK_TIMEOUT="900")
        self.assertEqual(ended.codes, [1, 1], ended.err)
        self.assertEqual(ended.processes[0].last_line, "3 passed, 2 failed, 0 skipped", ended.out)
        self.assertIn("test_3_wrong_on_one_rank(\n    n=7,\n)", ended.out)
        self.assertRegex(ended.out, r"rank 1 \(\S+, local rank 1\): AssertionError")
        # Of the last example alone.
        self.assertRegex(ended.out, r"rank 1 \(.*\) stdout \(1 line\)\n    rank 1 has 7\n")
        self.assertIn("test_4_kills_a_rank(\n    n=3,\n)", ended.out)
        self.assertRegex(ended.out, r"rank 1 \(.*\): killed by SIGABRT before its body was done")


class TestTorchrun(GivenWorldTestCase):
    def test_a_script(self):
        done = self.torchrun(
            "--standalone", "--nproc-per-node", "2",
            str(ROOT / "suites" / "test_nn_functions_gloo.py"), "-k", "test_broadcast_cpu_float32",
            "--no-history",
        )  # fmt: skip
        self.assertEqual(done.code, 0, done.out + done.err)
        self.assertEqual(done.last_line, "2 passed, 0 failed, 2 skipped", done.out)
        self.assert_clean(done)

    def test_each_process_a_shard(self):
        done = self.torchrun(
            "--standalone", "--nproc-per-node", "2", "-m", "harness", SAMPLES, "--no-history",
            "--shard", "auto", "--records", "{shard}.json",
            "-k", "TestFaults and passes or own_store",
        )  # fmt: skip
        self.assertEqual(done.code, 0, done.out + done.err)
        merged = self.harness("merge-reports", "1-of-2.json", "2-of-2.json")
        self.assertEqual((merged.code, merged.last_line), (0, "2 passed, 0 failed, 0 skipped"))

    def test_starts_the_world_again(self):
        self.interrupt_and_resume("--max-restarts", "2")

    def interrupt_and_resume(self, *more: str):
        process = self.start(
            *self.torchrun_command("--standalone", "--nproc-per-node", "2", *more),
            "-m", "harness", SAMPLES, "--no-history",
            "-k", "TestSound or TestStaying or TestInterrupted",
            **self.settings(),
        )  # fmt: skip
        pids = wait_for_texts([self.notes / "up0", self.notes / "up1"], process)
        os.kill(keeper_of(int(pids[1])), signal.SIGKILL)
        done = self.finish(process)
        self.assertEqual(done.code, 1, done.err)
        self.assertIn("if torchrun restarts it, the run continues from here", done.out)
        self.assertIn("2 of them had run before torchrun restarted the world", done.out)
        self.assertRegex(
            done.out, r"rank 1 \(\S+, local rank 1\): lost: its process on \S+ has gone"
        )
        self.assertIn("\n15 passed, 1 failed, 0 skipped\n", done.out)
        last = "this run has ended, with exit code 1: nothing is left to be run"
        self.assertIn(last, done.out, done.err)
        self.assert_clean(done)

    def torchrun_command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "torch.distributed.run", *arguments]


class TestLosses(GivenWorldTestCase):
    def interrupted(self, size: int):
        """A world in the middle of its second test, and what its ranks' processes are."""
        started = self.start_world(size, SAMPLES, "-k", "TestInterrupted", SAMPLE_RANKS=str(size))
        ups = [self.notes / f"up{rank}" for rank in range(size)]
        return started, [int(pid) for pid in wait_for_texts(ups, started[0][1])]

    def test_a_rank_dies_and_the_run_goes_on(self):
        started, pids = self.interrupted(2)
        os.kill(pids[1], signal.SIGKILL)
        ended = self.finish_world(started)
        self.assertRegex(ended.out, r"rank 1 \(\S+, local rank 1\): killed by SIGKILL")
        self.assertEqual(ended.processes[0].last_line, "2 passed, 1 failed, 0 skipped")
        self.assertEqual(ended.codes, [1, 1])

    def test_a_process_dies_and_the_run_ends(self):
        started, _ = self.interrupted(3)
        started[2][1].kill()
        ended = self.finish_world(started)
        self.assertRegex(ended.out, r"rank 2 \(\S+, local rank 2\): lost: its process on")
        self.assertRegex(ended.out, "the given world has lost rank 2")
        self.assertIn("1 not run\n1 passed, 1 failed, 0 skipped", ended.out)
        self.assertEqual(ended.codes, [1, 1, -signal.SIGKILL])

    def test_rank_0_dies_and_all_end(self):
        started, _ = self.interrupted(2)
        started[0][1].kill()
        ended = self.finish_world(started)
        self.assertIn("rank 1: the connection to rank 0 of the given world is gone", ended.err)
        self.assertEqual(ended.codes, [-signal.SIGKILL, 1])

    def test_a_process_is_told_to_end(self):
        started, _ = self.interrupted(2)
        started[1][1].terminate()
        ended = self.finish_world(started)
        self.assertRegex(ended.out, r"rank 1 \(.*\): lost: its process was told to end by SIGTERM")
        self.assertEqual(ended.codes, [1, 1])

    def test_rank_0_is_told_to_end(self):
        started, _ = self.interrupted(2)
        started[0][1].terminate()
        ended = self.finish_world(started)
        self.assertRegex(
            ended.out, r"RunStopped: .*\(SIGTERM\).*\nwhere it was:\n  rank 0 .*\n  rank 1 "
        )
        self.assertIn("interrupted\n1 not run\n1 passed, 1 failed, 0 skipped", ended.out)
        self.assertEqual(ended.codes, [1, 1])


class TestSlowJoiner(GivenWorldTestCase):
    def test_welcome_and_first_test_arrive_together(self):
        """As they do for a process that is not scheduled while the world comes together."""
        self.write(
            "test_x.py",
            """
            from harness import MultiProcessTestCase
            class TestOk(MultiProcessTestCase):
                world_size = 2
                def test_ok(self): pass
        """,
        )
        port = new_port()
        relay = Relay(port)
        self.addCleanup(relay.close)
        each = {1: {"MASTER_PORT": str(relay.port)}}
        ended = self.run_world(3, "test_x.py", each=each, MASTER_PORT=str(port))
        self.assertEqual(ended.codes, [0, 0, 0], ended.err)
        self.assertEqual(ended.processes[0].last_line, "1 passed, 0 failed, 0 skipped")
        self.assertTrue(relay.has_held, "nothing arrived together")


class Relay:
    """Stands between rank 1 and rank 0, and passes on "welcome" only with the first "start".

    Args:
        port: of rank 0.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server((LOOPBACK, 0))
        self.port = self._listener.getsockname()[1]
        self.has_held = False
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection((LOOPBACK, self._to))
        except OSError:  # rank 0 does not listen yet
            client.close()
            return
        threading.Thread(target=self._pass_on, args=(client, server), daemon=True).start()
        self._pass_on(server, client, holds=True)

    def _pass_on(self, source: socket.socket, sink: socket.socket, holds: bool = False) -> None:
        held = b""
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                held += data
                if holds and b'"joined"' in held and b'"start"' not in held:
                    continue
                self.has_held = self.has_held or (b'"welcome"' in held and b'"start"' in held)
                sink.sendall(held)
                held = b""
        for sock in (source, sink):
            with contextlib.suppress(OSError):  # the other direction has closed it
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()


class TestOtherVersions(GivenWorldTestCase):
    """One rank was started with something else than rank 0: nothing runs, and both are named."""

    def setUp(self):
        super().setUp()
        self.write(
            "test_x.py",
            """
            import unittest
            class TestOk(unittest.TestCase):
                def test_ok(self): pass
        """,
        )
        self.other = self.sandbox.base / "other"
        self.other.mkdir()
        self.path = f"{self.other}{os.pathsep}{ROOT}"

    def test_torch(self):
        """Which hides the one that an installer's record is of."""
        installed = Path(torch.__file__).parent
        package = self.other / "torch"
        package.mkdir()
        for path in installed.iterdir():
            if path.name not in {"version.py", "__pycache__"}:
                (package / path.name).symlink_to(path)
        text = (installed / "version.py").read_text()
        (package / "version.py").write_text(text.replace(torch.__version__, "1.99.0+other"))
        done = self.run_command(
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
            "--no-python", "sh", "-c",
            'test "$LOCAL_RANK" = 0 || export PYTHONPATH="$OTHER"; exec "$@"', "sh",
            sys.executable, "-m", "harness", "--no-history", "test_x.py",
            **self.settings(OTHER=self.path),
        )  # fmt: skip
        self.assert_refused(done.err, r"torch: 1.99.0\+other on \S+, where rank 0 \(\S+\) has ")
        self.assertIn(torch.__version__, done.err)
        self.assertEqual(done.code, 1)  # torchrun's own
        self.assertNotIn("passed", done.out)

    def test_harness(self):
        shutil.copytree(ROOT / "harness", self.other / "harness")
        (self.other / "harness" / "_version.py").write_text('__version__ = "9.9"\n')
        self.run_with_other(r"harness: 9.9 on \S+, where rank 0 \(\S+\) has \d")

    def test_python(self):
        (self.other / "sitecustomize.py").write_text(
            "import platform\nplatform.python_version = lambda: '3.99.0'\n"
        )
        self.run_with_other(r"Python: 3.99.0 on \S+, where rank 0 \(\S+\) has 3\.\d+\.")

    def run_with_other(self, told: str) -> None:
        ended = self.run_world(3, "test_x.py", each={1: {"PYTHONPATH": self.path}})
        self.assertEqual(ended.codes, [2, 2, 2], ended.err)
        self.assertEqual(ended.out, "")
        self.assert_refused(ended.err, told)

    def assert_refused(self, err: str, told: str) -> None:
        (line,) = [line for line in err.splitlines() if "must all be started alike" in line]
        self.assertRegex(line, rf"started alike, but rank 1: other {told}")
        self.assertNotIn("Traceback", err.partition("must all be started alike")[0])


class TestAssembly(GivenWorldTestCase):
    """Worlds that do not come to be, so that it does not matter what they would run."""

    def setUp(self):
        super().setUp()
        self.write("test_x.py", "import unittest")

    def test_a_rank_is_missing(self):
        ended = self.run_world(3, "test_x.py", missing=[2], HARNESS_ASSEMBLY_TIMEOUT="4")
        # On a machine that is busy, rank 1 may be late too.
        self.assertRegex(ended.processes[0].err, "(rank|ranks 1,) 2 of 3 did not join within 4 s")
        self.assertEqual(ended.codes, [2, 2])

    def test_a_node_is_missing(self):
        ended = self.run_world(
            4, "test_x.py", missing=[2, 3], LOCAL_WORLD_SIZE="2", HARNESS_ASSEMBLY_TIMEOUT="4",
            each={rank: {"GROUP_RANK": str(rank // 2)} for rank in range(4)},
        )  # fmt: skip
        self.assertRegex(
            ended.processes[0].err,
            r"ranks (1, )?2, 3 of 4 \(nodes? (0, )?1\) did not join within 4 s",
        )
        self.assertEqual(ended.codes, [2, 2])

    def test_rank_0_is_missing(self):
        ended = self.run_world(2, "test_x.py", missing=[0], HARNESS_ASSEMBLY_TIMEOUT="3")
        self.assertIn("rank 1 could not connect to rank 0 at 127.0.0.1:", ended.err)
        self.assertEqual(ended.codes, [2])

    def test_other_options(self):
        each = {1: {"HARNESS_SEED": "7"}}
        ended = self.run_world(2, "test_x.py", each=each)
        self.assertIn("must all be started alike", ended.processes[0].err)
        self.assertRegex(ended.err, "rank 1: other settings: .*HARNESS_SEED=7")
        self.assertEqual(ended.codes, [2, 2])

    def test_other_tests(self):
        elsewhere = self.new_sandbox().folder
        (elsewhere / "test_x.py").write_text("import unittest  # other")
        ended = self.run_world(2, "test_x.py", folders={1: elsewhere})
        self.assertRegex(ended.err, "rank 1: other tests: 1 file, ")
        self.assertEqual(ended.codes, [2, 2])

    def test_other_code(self):
        repository, other = self.folder / ".git", self.sandbox.base / "other.git"
        commit = (
            "git", "-c", "user.name=x", "-c", "user.email=x", "commit", "-qm", "x", "--allow-empty"
        )  # fmt: skip
        for command in (("git", "init", "-q"), commit):
            subprocess.run(command, cwd=self.folder, check=True)
        shutil.copytree(repository, other)
        subprocess.run([*commit, "--amend", "--message", "y"], cwd=self.folder, check=True)
        ended = self.run_world(2, "test_x.py", each={1: {"GIT_DIR": str(other)}})
        self.assertRegex(ended.err, r"rank 1: other code \(by git\): [0-9a-f]{16}")
        self.assertEqual(ended.codes, [2, 2])

    def test_two_of_one_rank(self):
        ended = self.run_world(3, "test_x.py", each={2: {"RANK": "1"}})
        self.assertRegex(
            ended.processes[0].err, "two processes have RANK=1: process .* and process"
        )
        self.assertEqual(ended.codes, [2, 2, 2])

    def test_variables_that_make_no_sense(self):
        for variables, expected in (
            ({"RANK": "x"}, "RANK='x': must be a whole number, 0 at least"),
            ({"RANK": "2"}, "RANK=2: must be below WORLD_SIZE=2"),
            ({"MASTER_PORT": "http"}, "MASTER_PORT='http': must be a whole number"),
        ):
            given = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "x", "MASTER_PORT": "1"}
            done = self.harness(SAMPLES, **{**given, **variables})
            self.assertIn(expected, done.err)
            self.assertEqual(done.code, 2)

    def test_options_that_need_workers(self):
        given = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "x", "MASTER_PORT": "1"}
        for options in (["-j", "2"], ["--retries", "1"], ["--test-timeout", "5"]):
            done = self.harness(SAMPLES, *options, **given)
            self.assertIn("in the world of 2 ranks that torchrun has given", done.err)
            self.assertEqual(done.code, 2)

    def test_a_world_that_is_not_to_be_used(self):
        given = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "x", "MASTER_PORT": "1"}
        done = self.harness(
            SAMPLES, "-k", "TestSizes", "--no-history", HARNESS_GIVEN_WORLD="0", **given
        )
        self.assertEqual((done.code, done.last_line), (0, "1 passed, 0 failed, 0 skipped"))


class TestLinks(unittest.TestCase):
    def test_a_process_that_takes_nothing(self):
        """Its host answers for it; what cannot be sent is not waited for without end."""
        with mock.patch.dict(os.environ, HARNESS_START_TIMEOUT="0.2"):
            listener = links.listen(LOOPBACK, 0)
            self.addCleanup(listener.close)
            with socket.create_connection(listener.getsockname()) as other:
                link = links.Link(listener.accept()[0])
                self.addCleanup(link.close)
                peer = Peer(Member(1, 1, 0, "beta", "", 0), link)
                link.send({"kind": "short"})
                self.assertFalse(peer.is_lost)
                link.send({"kind": "long", "text": "x" * 50_000_000})
                peer.pump()
                self.assertTrue(peer.is_lost)
                self.assertFalse(link.fell_silent)
                self.assertIn("on beta has taken no message for 0.2 s", peer.why_lost)
                link.send({"kind": "never arrives"})
                received = links.Link(other.dup())
                self.addCleanup(received.close)
                self.assertEqual([m["kind"] for m in received.messages()], ["short"])
                self.assertTrue(received.closed)


class TestBench(CommandTestCase):
    def test_rank_0s_part(self):
        done = self.run_command(
            sys.executable, "-m", "harness.bench", "torchrun",
            "--ranks", "--links", "8", "--tests", "2", "--json",
        )  # fmt: skip
        self.assertEqual(done.code, 0, done.err)
        (row,) = json.loads(done.out)["rows"]
        self.assertEqual(row["ranks"], 8)
        self.assertGreater(row["us a rank"], 0)


def keeper_of(pid: int) -> int:
    """The process of a given world that keeps the rank which this process is."""
    import psutil

    return psutil.Process(pid).parent().ppid()


if __name__ == "__main__":
    unittest.main()
