"""Another user of this host tries to enter a world, to be its rank 0, or to read its secret."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import subprocess
import sys
import time
import unittest
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from torch.distributed import TCPStore

from harness.ranks.channel import encode
from suites.selftest.stranger import STRANGER, Stranger, needs_a_stranger
from suites.selftest.support import Sandbox
from suites.selftest.torchrun_runs import TorchrunTestCase, new_port

LIMIT_S = 120.0
HELLO, PROOF = struct.Struct("!8sII32s32s"), 32

SUITE = """
    import os
    from harness import MultiProcessTestCase

    class TestOk(MultiProcessTestCase):
        world_size = 2

        def test_ok(self):
            self.assertNotIn("HARNESS_WORLD_SECRET", os.environ)
            self.init_process_group()
"""


# What strangers do


def connected(port: int) -> socket.socket:
    """A connection to a port, as soon as somebody listens there."""
    deadline = time.monotonic() + LIMIT_S
    while True:
        try:
            sock = socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return sock


def at_the_door(port: int) -> list[bytes]:
    """Try all ways into the world at rank 0's port; what it answered to each."""
    card = {
        "rank": 1, "local_rank": 1, "group_rank": None, "host": "x", "system": "x", "pid": 1,
        "devices": 0, "visible": "", "identity": {},
    }  # fmt: skip
    cards = [{**card, "rank": rank} for rank in (1, "1", 99, -1, 1.0, None)]
    hello = HELLO.pack(b"harness\x01", 1, 2, bytes(32), bytes(32))
    said = [
        *(encode({"kind": "JoinRequest", "secret": "", **each}) for each in cards),
        encode({"kind": "JoinRequest", "secret": "", "local_rank": 1}),
        struct.pack(">Q", 2) + b"[]",
        struct.pack(">Q", 1) + b"5",
        struct.pack(">Q", 200_000) + b"[" * 200_000,
        struct.pack(">Q", 1 << 62) + b"x" * 100,
        hello + bytes(PROOF),
        hello + hello,
    ]
    answers = []
    for data in said:
        answers.append(b"")
        with connected(port) as sock, contextlib.suppress(OSError):  # it may be closed at once
            sock.sendall(data.ljust(HELLO.size + PROOF, b" "))
            answers[-1] = sock.recv(1)
    # Those that say nothing, or too little, and stay.
    for _ in range(200):
        OPEN.append(connected(port))
    with contextlib.suppress(OSError):
        OPEN[-1].sendall(hello[:1])
    return answers


OPEN: list[socket.socket] = []


def close_all() -> None:
    while OPEN:
        OPEN.pop().close()


def take_the_port(port: int) -> None:
    """Listen where rank 0 is to listen."""
    OPEN.append(socket.create_server(("127.0.0.1", port)))


def attempts_to_read(*paths: str) -> list[str]:
    """What can be read of files: its text, or the name of the error."""
    found = []
    for path in paths:
        try:
            found.append(Path(path).read_bytes().decode("utf-8", "replace"))
        except OSError as error:
            found.append(type(error).__name__)
    return found


def write_into_the_store(port: int, notes: str, stop: str) -> list[str]:
    """Be first in torchrun's store, and go on until there is a file; all that could be read."""
    with connected(port):
        pass
    store = TCPStore("127.0.0.1", port, None, False, timedelta(seconds=LIMIT_S))
    seen = set()
    false = json.dumps({"addresses": ["127.0.0.1"], "port": 1, "secret": ""})
    # It ends with the run, which the store does not outlive.
    with contextlib.suppress(RuntimeError):
        while not os.path.exists(stop):
            if store.check(["harness/rank 0"]):
                seen.add(store.get("harness/rank 0").decode())
            store.set("harness/rank 0", false)
            store.set(f"{notes}/finished", "0")
            store.set(f"{notes}/count", "1")
            time.sleep(0.3)
    return sorted(seen - {false})


class StrangersTestCase(TorchrunTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.write("test_x.py", SUITE)
        self.port = new_port()
        # The stranger's way to what it tries to read must not end at the sandbox.
        self.sandbox.base.chmod(0o711)

    def stranger(self, function: Callable, *arguments: object) -> Stranger:
        stranger = Stranger(function, *arguments)
        self.addCleanup(stranger.end)
        return stranger

    def start_rank(
        self, rank: int, *arguments: str, **env: str
    ) -> tuple[Sandbox, subprocess.Popen]:
        variables = {
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(self.port), "WORLD_SIZE": "2",
            "LOCAL_WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank),
        }  # fmt: skip
        sandbox = self.new_sandbox()
        command = (sys.executable, "-m", "harness", "--no-history", "test_x.py", *arguments)
        process = sandbox.start(*command, cwd=self.folder, **variables, **self.settings(**env))
        return sandbox, process

    def assert_passed(self, ended) -> None:
        self.assertEqual(ended.codes, [0, 0], ended.out + ended.err)
        self.assertEqual(ended.processes[0].last_line, "1 passed, 0 failed, 0 skipped", ended.out)

    def assert_told_once(self, err: str, *texts: str) -> None:
        lines = [line for line in err.splitlines() if "rank 0 rejected" in line]
        self.assertEqual(len(lines), 1, err)
        self.assertEqual(err.strip(), lines[0], "nothing else, least of all a traceback")
        for text in texts:
            self.assertRegex(lines[0], text)


@needs_a_stranger
class TestAnotherUser(StrangersTestCase):
    def test_at_the_door(self):
        rank_0 = self.start_rank(0)
        answers = self.stranger(at_the_door, self.port).result()
        self.assertEqual(set(answers), {b""})  # closed before it was heard
        ended = self.finish_world([rank_0, self.start_rank(1)])
        self.assert_passed(ended)
        self.assert_told_once(
            ended.err, rf"rejected \d+ connections .*from 127.0.0.1, user id {STRANGER}: another"
        )

    def test_at_the_door_of_an_insecure_world(self):
        rank_0 = self.start_rank(0, "--insecure-world")
        self.stranger(at_the_door, self.port).result()
        ended = self.finish_world([rank_0, self.start_rank(1, "--insecure-world")])
        self.assert_passed(ended)
        warning, told = ended.err.splitlines()
        self.assertIn("this world is insecure (--insecure-world)", warning)
        self.assertIn(f"user id {STRANGER}: another user", told)

    def test_in_the_place_of_rank_0(self):
        self.stranger(take_the_port, self.port).result()
        ended = self.finish_world([self.start_rank(0), self.start_rank(1)])
        self.assertEqual(ended.codes, [2, 2], ended.out + ended.err)
        rank_0, rank_1 = (process.err.strip() for process in ended.processes)
        self.assertRegex(
            rank_0,
            rf"^.*: rank 0 cannot listen at 127.0.0.1:{self.port} \(MASTER_ADDR, MASTER_PORT\): "
            rf"Address already in use by a process of user id {STRANGER}$",
        )
        self.assertRegex(
            rank_1,
            rf"^.*: rank 1: what listens at 127.0.0.1:{self.port} \(user id {STRANGER}\) has not "
            r"proved that it is rank 0 of this world \(belongs to another user\), so nothing was "
            r"run: ",
        )

    def test_reads_the_secret(self):
        secret = "not for everybody's eyes"
        rank_0 = self.start_rank(0, HARNESS_WORLD_SECRET=secret)
        connected(self.port).close()
        process = f"/proc/{rank_0[1].pid}"
        environ, arguments = self.stranger(
            attempts_to_read, f"{process}/environ", f"{process}/cmdline"
        ).result()
        self.assertEqual(environ, "PermissionError")
        self.assertIn("harness", arguments)
        self.assertNotIn(secret, arguments)
        ended = self.finish_world([rank_0, self.start_rank(1, HARNESS_WORLD_SECRET=secret)])
        self.assert_passed(ended)

    def test_reads_the_secrets_file(self):
        self.assert_passed(self.finish_world([self.start_rank(0), self.start_rank(1)]))
        file = self.sandbox.base / "cache" / "harness" / "world" / "secret"
        self.assertEqual(len(file.read_text()), 65)
        for path in (self.sandbox.base / "cache", self.sandbox.base / "cache" / "harness"):
            path.chmod(0o755)
        read = self.stranger(attempts_to_read, str(file)).result()
        self.assertEqual(read, ["PermissionError"])
        # Nor could it if the folder were open: then, nothing is run.
        file.parent.chmod(0o755)
        self.assertEqual(self.stranger(attempts_to_read, str(file)).result(), ["PermissionError"])
        ended = self.finish_world([self.start_rank(1)])
        self.assertEqual(ended.codes, [2])
        self.assertRegex(ended.err, "cannot be trusted: its mode is 0755, where 0700 keeps others")

    def test_has_written_the_secrets_file(self):
        """Where others may write to the cache folder's own place."""
        folder = self.sandbox.base / "cache" / "harness" / "world"
        folder.mkdir(parents=True, mode=0o700)
        (folder / "secret").write_text("0" * 64 + "\n")
        for path in (folder / "secret", folder):
            os.chown(path, STRANGER, STRANGER)
        ended = self.finish_world([self.start_rank(0), self.start_rank(1)])
        self.assertEqual(ended.codes, [2, 2])
        for process in ended.processes:
            self.assertRegex(
                process.err.strip(),
                rf"^.*world, where .* belongs to user id {STRANGER}, not to 0; remove it, or .*$",
            )

    def test_in_torchruns_store(self):
        """It says where rank 0 is, and that all has run already."""
        stop = self.sandbox.base / "stop"
        stranger = self.stranger(
            write_into_the_store, self.port, "harness/notes of known", str(stop)
        )
        done = self.torchrun(
            "--nnodes", "1", "--nproc-per-node", "2", "--rdzv-backend", "static",
            "--rdzv-endpoint", f"127.0.0.1:{self.port}", "--rdzv-id", "known",
            "--max-restarts", "1", "-m", "harness", "--no-history", "test_x.py",
        )  # fmt: skip
        stop.touch()
        self.assertEqual(done.code, 0, done.out + done.err)
        self.assertEqual(done.last_line, "1 passed, 0 failed, 0 skipped", done.out)
        told = [line for line in done.err.splitlines() if "another process has written" in line]
        self.assertEqual(len(told), 1, done.err)
        self.assertNotIn("Traceback", done.err)
        secret = (self.sandbox.base / "cache" / "harness" / "world" / "secret").read_text()
        read = stranger.result()
        self.assertTrue(read, "it has seen what rank 0 wrote")
        for text in read:
            self.assertNotIn(secret.strip(), text)


class TestWhoProvesNothing(StrangersTestCase):
    """Other processes of the same user, or on other hosts, which the kernel does not keep out."""

    def test_at_the_door(self):
        rank_0 = self.start_rank(0)
        answers = at_the_door(self.port)
        self.addCleanup(close_all)
        # A hello is answered, whatever follows; nothing else is.
        self.assertEqual(set(answers[:-2]), {b""})
        ended = self.finish_world([rank_0, self.start_rank(1)])
        self.assert_passed(ended)
        self.assert_told_once(
            ended.err,
            "sent a wrong proof",
            "sent something that is not a handshake",
            "its slot was",
        )

    def test_in_the_place_of_rank_0(self):
        hello_back = b""
        for answer, told in (
            (b"HTTP/1.1 400 Bad Request".ljust(72), r"\(sent b'HTTP/1.1'\), so nothing was run"),
            (hello_back, r"\(sent a wrong proof\), so nothing was run"),
            (
                None,
                r"could not connect to rank 0 at 127.0.0.1:\d+ in time \(HARNESS_ASSEMBLY_TIMEOUT\)"
                r": what listens there \(user id \d+\) did not answer in time",
            ),
        ):
            with self.subTest(told):
                self.port = new_port()
                impostor = subprocess.Popen(
                    [sys.executable, "-c", IMPOSTOR, str(self.port), repr(answer)],
                    stdout=subprocess.PIPE,
                )
                try:
                    impostor.stdout.readline()
                    timeout = "120" if answer is not None else "4"
                    ended = self.finish_world(
                        [self.start_rank(1, HARNESS_ASSEMBLY_TIMEOUT=timeout)]
                    )
                finally:
                    impostor.kill()
                    impostor.communicate()
                self.assertEqual(ended.codes, [2])
                self.assertRegex(ended.err.strip(), rf"^[^\n]*{told}[^\n]*$")

    def test_another_secret(self):
        rank_0 = self.start_rank(0, HARNESS_WORLD_SECRET="x" * 16)
        ended = self.finish_world([self.start_rank(1, HARNESS_WORLD_SECRET="y" * 16)])
        self.assertEqual(ended.codes, [2])
        self.assertIn(
            "has not proved that it is rank 0 of this world (sent a wrong proof)", ended.err
        )
        ended = self.finish_world([rank_0, self.start_rank(1, HARNESS_WORLD_SECRET="x" * 16)])
        self.assert_passed(ended)
        self.assert_told_once(ended.err, "rejected rank 0's proof, as with another secret")


IMPOSTOR = """
import socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
answer, kept = eval(sys.argv[2]), []
print(flush=True)
while True:
    sock, _ = listener.accept()
    kept.append(sock)
    heard = sock.recv(1000)
    if answer is not None:
        sock.sendall(answer or heard)
"""


if __name__ == "__main__":
    unittest.main()
