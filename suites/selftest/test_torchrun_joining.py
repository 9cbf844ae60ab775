"""How torchrun's processes find each other, and when they refuse to run."""

from __future__ import annotations

import contextlib
import os
import shutil
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
from harness.ranks.torchrun.messages import Preload, to_agent
from harness.ranks.torchrun.peer import Peer
from suites.selftest.support import ROOT
from suites.selftest.torchrun_runs import SAMPLES, TorchrunTestCase, new_port


class TestSlowJoiner(TorchrunTestCase):
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
    """Stands between rank 1 and rank 0, and passes on `Welcome` only with the first `StartRank`.

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
                if holds and b'"Joined"' in held and b'"StartRank"' not in held:
                    continue
                is_both = b'"Welcome"' in held and b'"StartRank"' in held
                self.has_held = self.has_held or is_both
                sink.sendall(held)
                held = b""
        for sock in (source, sink):
            with contextlib.suppress(OSError):  # the other direction has closed it
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()


class TestOtherVersions(TorchrunTestCase):
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
        (line,) = [line for line in err.splitlines() if "must be started the same way" in line]
        self.assertRegex(line, rf"started the same way, but rank 1: other {told}")
        self.assertNotIn("Traceback", err.partition("must be started the same way")[0])


class TestAssembly(TorchrunTestCase):
    """Worlds that do not come to be, so that it does not matter what they would run."""

    def setUp(self):
        super().setUp()
        self.write("test_x.py", "import unittest")

    def test_a_rank_is_missing(self):
        ended = self.run_world(3, "test_x.py", missing=[2], HARNESS_ASSEMBLY_TIMEOUT="4")
        # On a machine that is busy, rank 1 may be late too.
        missing = "(rank|ranks 1 and) 2 of 3 did not join within 4 s"
        self.assertRegex(ended.processes[0].err, missing)
        self.assertEqual(ended.codes, [2, 2])

    def test_a_node_is_missing(self):
        ended = self.run_world(
            4, "test_x.py", missing=[2, 3], LOCAL_WORLD_SIZE="2", HARNESS_ASSEMBLY_TIMEOUT="4",
            each={rank: {"GROUP_RANK": str(rank // 2)} for rank in range(4)},
        )  # fmt: skip
        self.assertRegex(
            ended.processes[0].err,
            r"ranks (2 and |1-)3 of 4 \(nodes? (0, )?1\) did not join within 4 s",
        )
        self.assertEqual(ended.codes, [2, 2])

    def test_rank_0_is_missing(self):
        ended = self.run_world(2, "test_x.py", missing=[0], HARNESS_ASSEMBLY_TIMEOUT="3")
        self.assertIn("rank 1 could not connect to rank 0 at 127.0.0.1:", ended.err)
        self.assertEqual(ended.codes, [2])

    def test_other_options(self):
        each = {1: {"HARNESS_SEED": "7"}}
        ended = self.run_world(2, "test_x.py", each=each)
        self.assertIn("must be started the same way", ended.processes[0].err)
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
            environ = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "x", "MASTER_PORT": "1"}
            done = self.harness(SAMPLES, **{**environ, **variables})
            self.assertIn(expected, done.err)
            self.assertEqual(done.code, 2)

    def test_options_that_need_workers(self):
        environ = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "x", "MASTER_PORT": "1"}
        for options in (["-j", "2"], ["--retries", "1"], ["--test-timeout", "5"]):
            done = self.harness(SAMPLES, *options, **environ)
            self.assertIn("the 2 ranks that torchrun started", done.err)
            self.assertEqual(done.code, 2)

    def test_a_world_that_is_not_to_be_used(self):
        environ = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "x", "MASTER_PORT": "1"}
        for name in ("HARNESS_USE_TORCHRUN", "HARNESS_GIVEN_WORLD"):  # and its former name
            environ |= {name: "0"}
            done = self.harness(SAMPLES, "-k", "TestSizes", "--no-history", **environ)
            self.assertEqual((done.code, done.last_line), (0, "1 passed, 0 failed, 0 skipped"))
            self.assertEqual(done.err, "")
            del environ[name]


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
                link.send(Preload(("short",)))
                self.assertFalse(peer.is_lost)
                link.send(Preload(("x" * 50_000_000,)))
                peer.pump()
                self.assertTrue(peer.is_lost)
                self.assertFalse(link.fell_silent)
                self.assertIn("on beta has read no message for 0.2 s", peer.why_lost)
                link.send(Preload(("never arrives",)))
                received = links.Link(other.dup())
                self.addCleanup(received.close)
                self.assertEqual(received.messages(to_agent), [Preload(("short",))])
                self.assertTrue(received.closed)


if __name__ == "__main__":
    unittest.main()
