"""Runs on processes that torchrun (or srun) has started, on one host."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import unittest

from suites.selftest.support import ROOT, CommandTestCase, wait_for_texts
from suites.selftest.torchrun_runs import (
    PROPERTIES,
    SAMPLES,
    TorchrunTestCase,
    lines_of_ranks,
)


class TestSteps(TorchrunTestCase):
    def test_sound_samples(self):
        names = (
            "Sound or Staying or Continuous or Base or Sizes or Threads or WithoutRanks or Large"
        )
        reports = ("--junit", "j.xml", "--html", "h.html")
        ended = self.run_world(2, SAMPLES, "-k", names, *reports)
        self.assertIn("torchrun started 2 ranks on 1 host: ", ended.out)
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
            r"rank 2 \(\S+, local rank 2\): killed by SIGKILL before its body finished",
            r"rank 2 \(\S+, local rank 2\): exited with code 7 before its body finished",
            r"rank 2 \(\S+, local rank 2\): skipped: not here",
            r"rank 2 \(\S+, local rank 2\): does not answer: it is in native code",
            r"ranks? 0( and 1)? \(\S+, local ranks? 0( and 1)?\): waiting in barrier \(gloo\)",
        ):
            self.assertRegex(told, expected, ended.out)
        self.assertIn("rank 2 says this", ended.out)
        self.assertIn("torchrun_ranks.py", ended.out)

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
            self.assertIn("torchrun started 2 ranks on 1 host: ", ended.out)
        merged = self.harness("merge-reports", "1-of-2.json", "2-of-2.json")
        self.assertEqual((merged.code, merged.last_line), (0, "9 passed, 0 failed, 0 skipped"))

    def test_nothing_matches(self):
        self.write("test_x.py", "import unittest")
        ended = self.run_world(2, "test_x.py", "TestNoSuch")
        self.assertEqual(ended.codes, [2, 2])
        self.assertIn("no test is called 'TestNoSuch'", ended.processes[0].err)
        self.assertEqual(ended.processes[1].err, "")


class TestPropertyTests(TorchrunTestCase):
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
        self.assertRegex(ended.out, r"rank 1 \(.*\): killed by SIGABRT before its body finished")


class TestTorchrun(TorchrunTestCase):
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
        os.kill(agent_of(int(pids[1])), signal.SIGKILL)
        done = self.finish(process)
        self.assertEqual(done.code, 1, done.err)
        self.assertIn("if torchrun restarts it, the run continues from here", done.out)
        self.assertIn("2 of them had run before torchrun restarted the world", done.out)
        self.assertRegex(
            done.out, r"rank 1 \(\S+, local rank 1\): lost: its process on \S+ has ended"
        )
        self.assertIn("\n15 passed, 1 failed, 0 skipped\n", done.out)
        last = "this run has ended with exit code 1: no test is left to run"
        self.assertIn(last, done.out, done.err)
        self.assert_clean(done)

    def torchrun_command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "torch.distributed.run", *arguments]


class TestLosses(TorchrunTestCase):
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

    def test_what_a_rank_sends_cannot_be_read(self):
        """Rank 0 learns of it from the process that has started the rank."""
        edges = str(ROOT / "suites" / "samples" / "edges.py")
        ended = self.run_world(2, edges, "-k", "test_no_message or test_no_outcome")
        self.assertEqual(
            len(
                re.findall(r"rank 1 \(.*\): lost: the harness cannot read its messages", ended.out)
            ),
            2,
        )
        self.assertEqual(ended.processes[0].last_line, "0 passed, 2 failed, 0 skipped", ended.out)
        self.assertEqual(ended.codes, [1, 1])

    def test_a_process_dies_and_the_run_ends(self):
        started, _ = self.interrupted(3)
        started[2][1].kill()
        ended = self.finish_world(started)
        self.assertRegex(ended.out, r"rank 2 \(\S+, local rank 2\): lost: its process on")
        self.assertRegex(ended.out, "torchrun's world has lost rank 2")
        self.assertIn("1 not run\n1 passed, 1 failed, 0 skipped", ended.out)
        self.assertEqual(ended.codes, [1, 1, -signal.SIGKILL])

    def test_rank_0_dies_and_all_end(self):
        started, _ = self.interrupted(2)
        started[0][1].kill()
        ended = self.finish_world(started)
        self.assertIn("rank 1: the connection to rank 0 is gone", ended.err)
        self.assertEqual(ended.codes, [-signal.SIGKILL, 1])

    def test_a_process_is_told_to_end(self):
        started, _ = self.interrupted(2)
        started[1][1].terminate()
        ended = self.finish_world(started)
        self.assertRegex(ended.out, r"rank 1 \(.*\): lost: its process received SIGTERM")
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


def agent_of(pid: int) -> int:
    """Return the process of torchrun's world that started this rank."""
    import psutil

    return psutil.Process(pid).parent().ppid()


if __name__ == "__main__":
    unittest.main()
