"""Two hosts: network namespaces joined by a virtual cable, torchrun in each of them.

What a link that is cut, or a host that dies, does to a run cannot be shown on one host. Namespaces
take the right to make them; without it, these tests are skipped.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
import sys
import unittest

from suites.selftest.support import ROOT, Finished, wait_for_texts
from suites.selftest.torchrun_runs import PROPERTIES, SAMPLES, TorchrunTestCase

_numbers = itertools.count()


class Hosts:
    """Two network namespaces, which see each other and nothing else."""

    def __init__(self) -> None:
        # Names of interfaces have 15 characters at most.
        self.mark = f"{os.getpid():x}-{next(_numbers)}"
        self.names = [f"harness-{self.mark}-{side}" for side in "ab"]
        self.cables = [f"h{self.mark}{side}" for side in "ab"]
        self.addresses = ["10.77.0.1", "10.77.0.2"]

    def up(self) -> None:
        for name in self.names:
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        first, second = self.cables
        ip("link", "add", first, "type", "veth", "peer", "name", second)
        for name, cable, address in zip(self.names, self.cables, self.addresses, strict=True):
            ip("link", "set", cable, "netns", name)
            ip("-n", name, "addr", "add", f"{address}/24", "dev", cable)
            ip("-n", name, "link", "set", cable, "up")
            # torchrun's own connections end when the kernel gives up: after 15 minutes by default.
            self.run_in(name, "sysctl", "-qw", "net.ipv4.tcp_retries2=6")

    def down(self) -> None:
        for name in self.names:
            with contextlib.suppress(subprocess.SubprocessError):
                self.kill(name)
                ip("netns", "del", name)

    def cut(self) -> None:
        """Cut the cable."""
        ip("-n", self.names[0], "link", "set", self.cables[0], "down")

    def kill(self, name: str) -> None:
        """Kill all processes of a host at once."""
        for pid in self.processes(name):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)

    def processes(self, name: str) -> list[int]:
        return [int(pid) for pid in ip("netns", "pids", name).split()]

    @staticmethod
    def run_in(name: str, *command: str) -> str:
        return ip("netns", "exec", name, *command)


def ip(*arguments: str) -> str:
    done = subprocess.run(
        ["ip", *arguments], capture_output=True, text=True, timeout=30, check=True
    )
    return done.stdout


def why_not() -> str:
    """Why there can be no such hosts here; empty if there can."""
    if not all(shutil.which(tool) for tool in ("ip", "unshare", "sysctl", "mount")):
        return "iproute2, unshare, mount and sysctl are needed for network namespaces"
    hosts = Hosts()
    try:
        hosts.up()
    except (subprocess.SubprocessError, OSError) as error:
        return f"network namespaces cannot be made here ({getattr(error, 'stderr', error)})".strip()
    finally:
        hosts.down()
    return ""


class TwoHostsTestCase(TorchrunTestCase):
    per_host = 2

    def setUp(self) -> None:
        super().setUp()
        reason = why_not()
        if reason:
            self.skipTest(reason)
        self.hosts = Hosts()
        self.addCleanup(self.hosts.down)
        self.hosts.up()
        # Whoever starts torchrun on a host has it know the hosts by their names.
        self.table = self.sandbox.base / "hosts"
        self.table.write_text("127.0.0.1 localhost\n10.77.0.1 alpha\n10.77.0.2 beta\n")
        self.sandboxes = [self.sandbox, self.new_sandbox()]

    def start_hosts(self, *arguments: str, before: tuple[str, ...] = (), **env: str):
        """`torchrun … -m harness …` on both hosts."""
        started = []
        for side, host in enumerate(("alpha", "beta")):
            # What is temporary is on one host alone.
            other = self.sandboxes[1 - side].temp
            set_up = (
                f'hostname {host}; mount --bind "{self.table}" /etc/hosts; '
                f'mount -t tmpfs tmpfs "{other}"; exec "$@"'
            )
            torchrun = (
                sys.executable, "-m", "torch.distributed.run", "--nnodes", "2",
                "--nproc-per-node", str(self.per_host), "--rdzv-backend", "c10d",
                "--rdzv-endpoint", "10.77.0.1:29400", "--rdzv-id", "selftest", *before,
            )  # fmt: skip
            process = self.sandboxes[side].start(
                "ip", "netns", "exec", self.hosts.names[side],
                "unshare", "--uts", "--mount", "sh", "-c", set_up, "sh",
                *torchrun, "-m", "harness", "--no-history", *arguments,
                cwd=self.folder, **self.settings(**env),
            )  # fmt: skip
            started.append(process)
        return started

    def finish_hosts(self, started) -> list[Finished]:
        done = [
            sandbox.finish(process)
            for sandbox, process in zip(self.sandboxes, started, strict=True)
        ]
        for name in self.hosts.names:
            self.assertEqual(self.hosts.processes(name), [], "left on a host")
        return done

    def interrupted(self, *more: str, **env: str):
        """Both hosts in the middle of a test; the process ids of the ranks."""
        size = 2 * self.per_host
        started = self.start_hosts(
            SAMPLES, "-k", "TestInterrupted", SAMPLE_RANKS=str(size), before=more, **env
        )
        ups = [self.notes / f"up{rank}" for rank in range(size)]
        return started, [int(text) for text in wait_for_texts(ups, started[0])]


class TestTogether(TwoHostsTestCase):
    def test_the_collectives(self):
        """Rank tests of a suite that knows nothing of hosts, with gloo between them."""
        suite = str(ROOT / "suites" / "test_nn_functions_gloo.py")
        alpha, beta = self.finish_hosts(self.start_hosts(suite, "-k", "cpu_float32"))
        self.assertIn(
            "torchrun started 4 ranks on 2 hosts: alpha (ranks 0 and 1), beta (ranks 2 and 3)",
            alpha.out,
        )
        self.assertEqual(alpha.last_line, "44 passed, 0 failed, 4 skipped", alpha.out)
        self.assertEqual((alpha.code, beta.code, beta.out), (0, 0, ""))

    def test_all_kinds_of_tests(self):
        """Sound ones, faults, and property tests, of one rank on each host."""
        self.per_host = 1
        sound = "TestSound or TestStaying or TestContinuous or TestBase or TestSizes"
        examples = "TestProperties and not test_4"
        alpha, beta = self.finish_hosts(
            self.start_hosts(
                SAMPLES, PROPERTIES, "-k", f"{sound} or TestFaults or {examples}",
                SAMPLE_RANKS="2",
            )
        )  # fmt: skip
        for expected in (
            r"rank 1 \(beta, local rank 0\): killed by SIGKILL before its body finished",
            r"rank 1 \(beta, local rank 0\): exited with code 7 before its body finished",
            r"rank 1 \(beta, local rank 0\): does not answer: it is in native code",
            r"rank 0 \(alpha, local rank 0\): waiting in barrier \(gloo\)",
            r"rank 1 \(beta, local rank 0\): running\n(?: .*\n)*? .*:\d+ in test_6_never_comes",
            r"collectives: rank 1 never reached collective 1",
            r"rank 1 \(beta, local rank 0\) stdout \(1 line\)\n    rank 1 says this",
            r"test_3_wrong_on_one_rank\(\n    n=7,\n\)",
            r"rank 1 \(beta, local rank 0\): AssertionError",
        ):
            self.assertRegex(alpha.out, expected)
        self.assertRegex(alpha.out, r"\nsuites.samples.torchrun_ranks.TestFaults FFFFFFF\.\n")
        self.assertRegex(
            alpha.out, r"\nsuites.samples.torchrun_properties.TestProperties \.\.F\.\n"
        )
        self.assertIn("\n21 passed, 8 failed, 0 skipped\n", alpha.out)
        self.assertEqual((alpha.code, beta.code), (1, 1))


class TestLostHosts(TwoHostsTestCase):
    def test_the_link_is_cut(self):
        started, _ = self.interrupted(HARNESS_LINK_TIMEOUT="6")
        self.hosts.cut()
        alpha, beta = self.finish_hosts(started)
        silence = "lost: no sign of life from beta for 6 s: the host is down, or the network"
        self.assertIn(f"ranks 2 and 3 (beta, local ranks 0 and 1): {silence}", alpha.out)
        # In one line, unless one of them had done a round more when the link went.
        for ranks in (r"ranks? 0\b", r"ranks? (0 and )?1\b"):
            self.assertRegex(alpha.out, ranks + r".* \(alpha, .*\): waiting in all_reduce")
        self.assertIn("1 not run\n1 passed, 1 failed, 0 skipped\n", alpha.out)
        self.assertIn("the connection to rank 0 is gone (no sign", beta.err)
        self.assertEqual((alpha.code, beta.code), (1, 1))

    def test_a_host_is_killed(self):
        self.per_host = 1
        started, _ = self.interrupted()
        self.hosts.kill(self.hosts.names[1])
        alpha, beta = self.finish_hosts(started)
        self.assertRegex(
            alpha.out, r"rank 1 \(beta, local rank 0\): lost: its process on beta has ended"
        )
        self.assertRegex(alpha.out, r"torchrun's world has lost rank \d \(beta, local rank \d\)")
        self.assertIn("1 not run\n1 passed, 1 failed, 0 skipped\n", alpha.out)
        self.assertEqual(alpha.code, 1)
        self.assertNotEqual(beta.code, 0)


if __name__ == "__main__":
    unittest.main()
