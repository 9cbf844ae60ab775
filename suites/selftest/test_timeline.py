"""What ranks leave of themselves over time: phases, collectives, words, output, stacks."""

from __future__ import annotations

import contextlib
import io
import json
import os
import unittest
from unittest import mock

from harness.diagnosis.words import word
from harness.model import timeline
from harness.model.clock import now
from harness.model.outcome import (
    Deadlocked,
    Ended,
    Exited,
    Failed,
    Killed,
    Lost,
    Passed,
    Raised,
    Sabotaged,
    Skipped,
    TimedOut,
)
from harness.model.phase import PHASES, Phase
from harness.model.timeline import CollectiveSpan, RankTrack
from harness.ranks.pool import pool
from harness.ranks.progress import Progress
from harness.ranks.watch.tracks import _with_completions
from harness.runner.results import Status, TestRecord, record_from_data
from suites.samples import reused, threaded, timed
from suites.selftest.support import run_case

SIZES = (1, 2, 4)
# torch keeps the time by the wall clock, and two clocks are not read in the same instant.
CLOCKS_S = 0.05


class TestProgress(unittest.TestCase):
    def test_phases_without_gaps(self):
        progress = Progress(1.0)
        for at_s, phase in enumerate((Phase.SET_UP, Phase.BODY, Phase.EXIT), start=2):
            self.assertTrue(progress.enter(phase, float(at_s)))
        found = [(p.name, p.began_s, p.ended_s) for p in progress.phases(9.0)]
        expected = [
            (Phase.START, 1.0, 2.0),
            (Phase.SET_UP, 2.0, 3.0),
            (Phase.BODY, 3.0, 4.0),
            (Phase.EXIT, 4.0, 9.0),
        ]
        self.assertEqual(found, expected)

    def test_never_back(self):
        progress = Progress(1.0)
        progress.enter(Phase.BODY, 2.0)
        for phase in (Phase.BODY, Phase.SET_UP):
            self.assertFalse(progress.enter(phase, 3.0))
        self.assertEqual((progress.phase, progress.since_s), (Phase.BODY, 2.0))

    def test_a_clock_of_another_process_that_is_behind(self):
        progress = Progress(5.0)
        progress.enter(Phase.SET_UP, 4.0)
        found = [(p.began_s, p.ended_s) for p in progress.phases(4.5)]
        self.assertEqual(found, [(5.0, 5.0), (5.0, 5.0)])


class TestCompletions(unittest.TestCase):
    def completed(self, *spans):
        tracks = [RankTrack(rank, None, collectives=(span,)) for rank, span in enumerate(spans)]
        return [track.collectives[0].ended_s for track in _with_completions(tracks)]

    def span(self, began_s, op="all_reduce", seq=1, ended_s=None, pending=False):
        return CollectiveSpan(op, "0", seq, "", began_s, ended_s, pending)

    def test_when_the_last_rank_has_come(self):
        self.assertEqual(self.completed(self.span(1.0), self.span(3.0)), [3.0, 3.0])

    def test_what_the_backend_says_stands(self):
        self.assertEqual(self.completed(self.span(1.0, ended_s=4.0), self.span(3.0)), [4.0, 3.0])

    def test_not_for_what_may_be_done_earlier(self):
        found = self.completed(self.span(1.0, "broadcast"), self.span(3.0, "broadcast"))
        self.assertEqual(found, [None, None])

    def test_not_for_what_is_not_done(self):
        self.assertEqual(self.completed(self.span(1.0, pending=True), self.span(3.0))[0], None)

    def test_not_where_nobody_else_is_known(self):
        self.assertEqual(self.completed(self.span(1.0), self.span(2.0, seq=2)), [None, None])
        self.assertEqual(self.completed(self.span(1.0)), [1.0])


class TestWords(unittest.TestCase):
    def test_every_outcome_has_one(self):
        outcomes = [
            *(Passed(), Skipped("x"), Failed(()), Raised(()), Exited(3), Killed(9)),
            *(TimedOut("body", 1), Deadlocked(1), Lost("x"), Ended(), Sabotaged("killed")),
        ]
        words = [word(outcome) for outcome in outcomes]
        self.assertEqual(len({*words}), len(outcomes))
        self.assertEqual(words[-1], "killed by @kill_rank")


class Timelines(unittest.TestCase):
    """Runs samples with the setting on."""

    def setUp(self):
        quick = {"HARNESS_TIMELINE": "1", "HARNESS_DEADLOCK_AFTER": "0.3"}
        self.enterContext(mock.patch.dict(os.environ, quick))
        self.addCleanup(pool().close)
        timeline.take()

    def tracks(self, cls, method, status, size=None):
        """Run a sample; its tracks, which must be sound."""
        with mock.patch.object(cls, "world_size", size or cls.world_size):
            began_s = now()
            result = run_case(cls, method)
            ended_s = now()
            self.assertEqual(result.status, status, result.text)
            tracks = timeline.take()
            self.assertEqual([track.rank for track in tracks], list(range(cls.world_size)))
        for track in tracks:
            self.check(track, began_s, ended_s)
        return tracks

    def check(self, track, began_s, ended_s):
        names = [phase.name for phase in track.phases]
        self.assertEqual(names, sorted(names, key=PHASES.index))
        self.assertEqual(names[0], Phase.START)
        times = [began_s, track.phases[0].began_s, *(p.ended_s for p in track.phases), ended_s]
        self.assertEqual(times, sorted(times))
        for before, after in zip(track.phases, track.phases[1:], strict=False):
            self.assertEqual(before.ended_s, after.began_s)
        for span in track.collectives:
            self.assertGreater(span.began_s, began_s - CLOCKS_S)
            self.assertLess(span.ended_s or span.began_s, ended_s + CLOCKS_S)
            self.assertLessEqual(span.began_s, span.ended_s or span.began_s)
        record = TestRecord("a", Status.PASSED, ranks=(track,))
        self.assertEqual(record_from_data(json.loads(json.dumps(record.to_data()))), record)

    def names(self, track):
        return [phase.name for phase in track.phases]

    def ops(self, track):
        return [(c.op, c.group, c.seq, c.shapes, c.pending) for c in track.collectives]

    def check_all_pass(self, tracks):
        for track in tracks:
            self.assertEqual((track.outcome, track.reason, track.stacks), ("passed", "", ""))
            self.assertEqual(self.names(track), list(PHASES))


class TestProcesses(Timelines):
    def test_a_pass(self):
        for size in SIZES:
            with self.subTest(size):
                self.check_collectives(self.tracks(timed.Timed, "test_collectives", "passed", size))

    def check_collectives(self, tracks):
        self.check_all_pass(tracks)
        self.assertEqual(len({track.pid for track in tracks}), len(tracks))
        for track in tracks:
            self.assertEqual(
                self.ops(track),
                [
                    ("all_reduce", "default_pg", 1, "float32 [4, 2]", False),
                    ("broadcast", "default_pg", 2, "float32 [4, 2]", False),
                    ("barrier", "default_pg", 3, "", False),
                ],
            )
            self.assertEqual(track.stdout, f"said by {track.rank}\n")
            self.assertIn(f"complained of by {track.rank}\n", track.stderr)
            body = track.phases[PHASES.index(Phase.BODY)]
            for span in track.collectives:
                self.assertGreater(span.began_s, body.began_s - CLOCKS_S)
                self.assertLess(span.began_s, body.ended_s + CLOCKS_S)
        for number, is_for_all in enumerate((True, False, True)):
            spans = [track.collectives[number] for track in tracks]
            last_s = max(span.began_s for span in spans) if is_for_all else None
            self.assertEqual({span.ended_s for span in spans}, {last_s})

    def test_a_group_of_some(self):
        tracks = self.tracks(timed.Timed, "test_subgroup", "passed", 4)
        self.check_all_pass(tracks)
        groups = [[group for _, group, *_ in self.ops(track)] for track in tracks]
        self.assertEqual([len(found) for found in groups], [2, 2, 1, 1])
        self.assertRegex(groups[0][0], r"^pair \(\w+\)$")
        self.assertEqual(groups[0], groups[1])
        self.assertEqual(groups[3], ["default_pg"])

    def test_a_deadlock(self):
        for size in (2, 4):
            with self.subTest(size):
                tracks = self.tracks(timed.Timed, "test_desync", "error", size)
                ops = ["all_reduce"] * (size - 1) + ["broadcast"]
                for track, op in zip(tracks, ops, strict=True):
                    self.assertEqual(track.outcome, "deadlocked")
                    self.assertEqual(self.names(track)[-1], Phase.BODY)
                    self.assertEqual([c.op for c in track.collectives], ["barrier", op])
                    self.assertEqual([c.pending for c in track.collectives], [False, True])
                    self.assertIsNone(track.collectives[-1].ended_s)
                    self.assertIn(f"waiting in {op} (gloo)", track.stacks)
                    self.assertIn("in test_desync  (the test)", track.stacks)

    def test_a_timeout(self):
        for size in (1, 2):
            with self.subTest(size):
                *others, late = self.tracks(timed.Timed, "test_hangs", "error", size)
                self.check_all_pass(others)
                self.assertEqual(late.outcome, "timed out")
                self.assertEqual(late.reason, "timed out after 1 s")
                self.assertEqual(self.names(late)[-1], Phase.BODY)
                self.assertGreaterEqual(late.phases[-1].ended_s - late.phases[-1].began_s, 0.9)
                self.assertIn("in test_hangs  (the test)", late.stacks)

    def test_a_rank_that_is_killed(self):
        for size in SIZES:
            with self.subTest(size):
                *others, killed = self.tracks(timed.Timed, "test_killed", "error", size)
                self.assertEqual(killed.outcome, "killed")
                self.assertEqual(killed.reason, "killed by SIGKILL before its body finished")
                self.assertEqual(self.names(killed), [Phase.START, Phase.SET_UP, Phase.BODY])
                for track in others:
                    self.assertIn(track.outcome, {"lost its peer", "ended"})
                    self.assertEqual([c.op for c in track.collectives], ["barrier", "barrier"])

    def test_a_rank_that_dies_in_its_set_up(self):
        *_, killed = self.tracks(timed.Timed, "test_dies_in_set_up", "error")
        self.assertEqual(self.names(killed), [Phase.START, Phase.SET_UP])

    def test_a_failure(self):
        for size in SIZES:
            with self.subTest(size):
                *others, failed = self.tracks(timed.Timed, "test_fails", "failed", size)
                self.check_all_pass(others)
                self.assertEqual(failed.outcome, "failed")
                self.assertEqual(
                    failed.reason,
                    "AssertionError: True is not false : the last rank is not pleased",
                )
                self.assertEqual(self.names(failed), list(PHASES))
                self.assertEqual(failed.stacks, "")

    def test_a_skip(self):
        for track in self.tracks(timed.Timed, "test_skips", "skipped"):
            self.assertEqual((track.outcome, track.reason), ("skipped", "not today"))
            self.assertEqual(self.names(track), list(PHASES))

    def test_much_output(self):
        last = f"line {timed.FLOOD_LINES - 1}\n"
        for method, status, most in (
            ("test_floods", "passed", 16 * 1024),
            ("test_floods_and_fails", "failed", 64 * 1024),
        ):
            with self.subTest(method):
                for track in self.tracks(timed.Timed, method, status):
                    self.assertTrue(track.stdout.endswith(last))
                    self.assertTrue(track.stdout.startswith("line "))
                    self.assertLessEqual(len(track.stdout), most)
                    self.assertGreater(len(track.stdout), most - 100)

    def test_an_interruption(self):
        case = timed.Timed("test_interrupts")
        # unittest leaves them to the end of the process, which it takes this for.
        self.addCleanup(case.doCleanups)
        with (
            mock.patch.dict(os.environ, SAMPLE_PARENT=str(os.getpid())),
            self.assertRaises(KeyboardInterrupt),
        ):
            case.run(unittest.TestResult())
        tracks = timeline.take()
        self.assertEqual([track.outcome for track in tracks], ["ended", "ended"])
        for track in tracks:
            self.assertLessEqual(len(track.phases), PHASES.index(Phase.BODY) + 1)

    def test_output_that_is_shown_while_ranks_run(self):
        with (
            mock.patch.dict(os.environ, HARNESS_LIVE_OUTPUT="1"),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            tracks = self.tracks(timed.Timed, "test_collectives", "passed")
        self.assertEqual([track.stdout for track in tracks], ["said by 0\n", "said by 1\n"])

    def test_none_unless_wanted(self):
        with mock.patch.dict(os.environ, HARNESS_TIMELINE=""):
            self.assertEqual(run_case(timed.Timed, "test_collectives").status, "passed")
        self.assertEqual(timeline.take(), ())

    def test_ranks_that_are_spawned(self):
        """Slow: fresh interpreters import torch."""
        with mock.patch.dict(os.environ, HARNESS_START_METHOD="spawn"):
            self.check_collectives(self.tracks(timed.Timed, "test_collectives", "passed"))


class TestRanksThatStay(Timelines):
    def test_each_test_has_its_own(self):
        for kind in ("group", "none"):
            with self.subTest(kind), mock.patch.dict(os.environ, HARNESS_ISOLATION=kind):
                first = self.tracks(timed.Timed, "test_collectives", "passed")
                second = self.tracks(timed.Timed, "test_collectives", "passed")
                self.assertEqual([t.pid for t in first], [t.pid for t in second])
                for tracks in (first, second):
                    self.check_all_pass(tracks)
                    for track in tracks:
                        ops = [c.op for c in track.collectives]
                        self.assertEqual(ops, ["all_reduce", "broadcast", "barrier"])
                        self.assertEqual(track.stdout, f"said by {track.rank}\n")
                for before, after in zip(first, second, strict=True):
                    self.assertLess(before.phases[-1].ended_s, after.phases[0].began_s)

    def test_a_group_that_is_kept_counts_on(self):
        for last in (1, 2):
            for track in self.tracks(reused.Sound, "test_one", "passed"):
                self.assertEqual([c.seq for c in track.collectives], [last])

    def test_sizes(self):
        with mock.patch.dict(os.environ, HARNESS_ISOLATION="group"):
            for size in (1, 4):
                self.check_all_pass(self.tracks(timed.Timed, "test_collectives", "passed", size))

    def test_a_skip(self):
        for track in self.tracks(reused.Sound, "test_skips", "skipped"):
            self.assertEqual((track.outcome, track.reason), ("skipped", "not today"))

    def test_a_hang(self):
        with mock.patch.dict(os.environ, HARNESS_ISOLATION="group"):
            self.check_all_pass(self.tracks(timed.Timed, "test_collectives", "passed"))
            for track in self.tracks(timed.Timed, "test_desync", "error"):
                self.assertEqual(track.outcome, "deadlocked")
                self.assertEqual([c.pending for c in track.collectives], [False, True])

    def test_a_rank_that_is_killed(self):
        with mock.patch.dict(os.environ, HARNESS_ISOLATION="group"):
            self.check_all_pass(self.tracks(timed.Timed, "test_collectives", "passed"))
            *_, killed = self.tracks(timed.Timed, "test_killed", "error")
            self.assertEqual(killed.outcome, "killed")
            self.assertEqual(self.names(killed), [Phase.START, Phase.SET_UP, Phase.BODY])


class TestThreads(Timelines):
    def test_a_pass(self):
        for size in SIZES:
            with self.subTest(size):
                tracks = self.tracks(timed.OnThreads, "test_collectives", "passed", size)
                self.check_all_pass(tracks)
                for track in tracks:
                    self.assertIsNone(track.pid)
                    self.assertEqual(
                        self.ops(track),
                        [
                            ("all_reduce", "default_pg", 1, "float32 [4, 2]", False),
                            ("barrier", "default_pg", 2, "", False),
                        ],
                    )
                    self.assertNotIn(None, [span.ended_s for span in track.collectives])

    def test_a_failure(self):
        for size in (2, 4):
            with self.subTest(size):
                tracks = self.tracks(timed.OnThreads, "test_fails", "failed", size)
                self.assertEqual(tracks[0].outcome, "ended")
                # The first to fail may end the others as early as in their set-up.
                self.assertLessEqual({t.outcome for t in tracks}, {"failed", "ended"})
                failed = [track for track in tracks if track.outcome == "failed"]
                self.assertGreater(len(failed), 0)
                for track in failed:
                    self.assertEqual(self.names(track), list(PHASES))

    def test_a_deadlock(self):
        waiting, passed = self.tracks(timed.OnThreads, "test_deadlock", "error")
        self.assertEqual(waiting.outcome, "deadlocked")
        self.assertEqual(passed.outcome, "passed")
        self.assertEqual(self.ops(waiting), [("barrier", "default_pg", 1, "", True)])
        self.assertIn("in test_deadlock  (the test)", waiting.stacks)

    def test_a_skip(self):
        for track in self.tracks(timed.OnThreads, "test_skips", "skipped"):
            self.assertEqual((track.outcome, track.reason), ("skipped", "not today"))

    def test_the_decorator(self):
        result = run_case(threaded.Decorated, "test_sum")
        self.assertEqual(result.status, "passed", result.text)
        tracks = timeline.take()
        self.check_all_pass(tracks)
        self.assertGreater(len(tracks), 1)


if __name__ == "__main__":
    unittest.main()
