"""What ranks are given, and what a world of them does, under both start methods."""

from __future__ import annotations

import os
import queue
import socket
import struct
import sys
import threading
import unittest
import warnings
from multiprocessing.connection import Connection
from unittest import mock

from harness import MultiProcessTestCase, WorldSizeError
from harness.model.clock import Deadline
from harness.model.errors import HookSignatureError
from harness.ranks import folders
from harness.ranks.channel import FrameReader, FrameWriter, encode
from harness.ranks.child import listener as child_listener
from harness.ranks.descriptors import OwnDescriptor, readable
from harness.ranks.launch import process
from harness.ranks.launch.preload_plan import foreseen
from harness.ranks.messages import (
    ConnectingAnswer,
    ConnectingRequest,
    FromRank,
    Leave,
    MayLeave,
    MeetingAnswer,
    ToRank,
)
from harness.ranks.torchrun.gathering import Member
from harness.ranks.torchrun.links import Link
from harness.ranks.torchrun.peer import Peer, gather
from harness.ranks.typed_message import frame
from harness.runner.selection.planned_test import Found
from harness.runner.workers import messages as worker_messages
from harness.runner.workers import worker_main
from harness.runner.workers.crew import Crew
from suites.samples import sound
from suites.selftest.support import CommandTestCase, InProcess, run_case


class TestWorlds(InProcess):
    def test_no_set_up_code_is_needed(self):
        self.passes(sound.WithoutSetUpCode, "test_all_reduce")
        self.passes(sound.WithoutSetUpCode, "test_process_group_is_left_to_the_harness")

    def test_tests_written_for_pytorchs_class(self):
        self.passes(sound.LikePyTorch, "test_sum_of_ranks")
        self.passes(sound.LikePyTorch, "test_processes_can_be_looked_at_in_the_parent")

    def test_override_of_run(self):
        self.passes(sound.OwnRun, "test_group_is_up")

    def test_ranks_are_started_twice(self):
        for isolation in ("process", "none"):
            env = {"HARNESS_ISOLATION": isolation, "SAMPLE_FIRST": ""}
            self.passes(sound.JoinsTwice, "test_passes", **env)
        self.passes(sound.StartsTwice, "test_only_the_last_ranks_count", SAMPLE_FIRST="")
        self.assert_no_folder_left()

    def test_override_of_the_check_of_exit_codes(self):
        for isolation in ("process", "none"):
            env = {"HARNESS_ISOLATION": isolation}
            self.passes(sound.ChecksExits, "test_rank_0_aborts", **env)
        result = run_case(sound.ChecksExits, "test_no_rank_aborts")
        self.assertEqual(result.status, "failed", result.text)
        self.assertIn("-6", result.text)
        result = run_case(sound.ChecksExits, "test_rank_1_fails")
        self.assertEqual(result.status, "error", result.text)
        self.assertIn("rank 1: ValueError", result.text)

    def test_world_sizes_as_separate_tests(self):
        for size in (1, 2, 3, 4, 8):
            found = self.passes(sound.Sizes, f"test_size_world_size_{size}")
            self.assertEqual(found, [str(size)] * size)

    def test_world_size_of_a_decorator(self):
        self.assertEqual(self.passes(sound.Sizes, "test_three"), ["3"] * 3)
        self.assertEqual(self.passes(sound.SizeByProperty, "test_three"), ["3"] * 3)

    def test_nothing_is_carried_from_test_to_test(self):
        self.passes(sound.FreshProcesses, "test_first")
        self.passes(sound.FreshProcesses, "test_second")

    def test_files_are_gone_after_the_test(self):
        (name, _) = self.passes(sound.Recording, "test_file_name")
        self.assertFalse(os.path.exists(name))
        self.assert_no_folder_left()

    def test_files_are_the_users_alone(self):
        folder = folders.new_test_folder("a test/with: odd name")
        self.addCleanup(folders.remove, folder)
        self.assertEqual(folder.stat().st_mode & 0o777, 0o700)
        self.assertEqual(folders.session_folder().stat().st_mode & 0o777, 0o700)


class TestScheduling(InProcess):
    def test_threads_do_not_take_the_processor_from_those_that_wake_them(self):
        for method in ("forkserver", "spawn"):
            env = {"HARNESS_START_METHOD": method, "HARNESS_ISOLATION": "process"}
            found = self.passes(sound.Recording, "test_scheduling", **env)
            self.assertEqual(found, [str([os.SCHED_BATCH])] * 2)

    def test_another_policy_is_kept(self):
        ours = os.sched_getscheduler(0)
        self.addCleanup(os.sched_setscheduler, 0, ours, os.sched_param(0))
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        with mock.patch.object(os, "sched_setscheduler") as change:
            process.let_threads_finish()
        change.assert_not_called()


class TestChannel(unittest.TestCase):
    def test_a_reader_that_takes_nothing_is_not_waited_for(self):
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        self.addCleanup(os.close, writing)
        os.set_blocking(writing, False)
        writer = FrameWriter(writing, stall_s=0.01)
        with self.assertRaisesRegex(TimeoutError, "takes nothing"):
            writer.send({"text": "x" * 1_000_000})
        os.read(reading, 1_000_000)
        # What came now would be taken for the rest of that frame.
        with self.assertRaisesRegex(TimeoutError, "part of a frame"):
            writer.send({"kind": "met"})
        self.assertFalse(writer.send_at_once({"kind": "report"}))


class TestReaders(unittest.TestCase):
    """Whatever the kernel makes of the writes of the other side, each frame arrives once."""

    MESSAGES = [{"kind": "a"}, {"kind": "b", "text": "x" * 300}, {"kind": "c"}]

    def setUp(self):
        ours, self.theirs = socket.socketpair()
        self.addCleanup(self.theirs.close)
        self.addCleanup(ours.close)
        self.ours = ours
        self.frames = b"".join(encode(message) for message in self.MESSAGES)

    def in_bytes(self):
        """The frames again, a byte at a time; each is there before the reader looks."""
        for number in range(len(self.frames)):
            self.theirs.sendall(self.frames[number : number + 1])
            yield

    def test_all_that_came_in_one_write(self):
        self.theirs.sendall(self.frames)
        reader = FrameReader(self.ours.fileno())
        self.assertEqual(reader.read(), self.MESSAGES)
        self.assertEqual(reader.read(), [])
        self.assertFalse(reader.closed)

    def test_all_in_writes_of_a_byte(self):
        reader = FrameReader(self.ours.fileno())
        found = [message for _ in self.in_bytes() for message in reader.read()]
        self.assertEqual(found, self.MESSAGES)

    def test_one_at_a_time_leaves_the_descriptor_readable(self):
        self.theirs.sendall(self.frames)
        reader = FrameReader(self.ours.fileno())
        found = []
        while readable([self.ours.fileno()], Deadline.after(0.0)):
            found.append(reader.read_one())
        self.assertEqual(found, self.MESSAGES)

    def test_one_at_a_time_in_writes_of_a_byte(self):
        reader = FrameReader(self.ours.fileno())
        found = [reader.read_one() for _ in self.in_bytes()]
        self.assertEqual([message for message in found if message], self.MESSAGES)

    def test_one_and_then_all(self):
        for first in range(len(self.MESSAGES) + 1):
            with self.subTest(first):
                self.theirs.sendall(self.frames)
                reader = FrameReader(self.ours.fileno())
                found = [reader.read_one() for _ in range(first)]
                self.assertEqual(found + reader.read(), self.MESSAGES)

    def test_the_last_frames_before_the_end(self):
        for read in (FrameReader.read, lambda reader: [reader.read_one() for _ in self.MESSAGES]):
            ours, theirs = socket.socketpair()
            with ours, theirs:
                theirs.sendall(self.frames + b"half")
                theirs.shutdown(socket.SHUT_WR)
                reader = FrameReader(ours.fileno())
                self.assertEqual(read(reader), self.MESSAGES)
                self.assertEqual((reader.read(), reader.closed, reader.fault), ([], True, ""))

    def test_what_is_no_message(self):
        for body, told in (
            (b"[]", "not a message with a kind: b'[]'"),
            (b"5", "not a message with a kind"),
            (b"{}", "not a message with a kind"),
            (b'{"kind": 1}', "not a message with a kind"),
            (b"[" * 200_000, f"not JSON: b'{'[' * 40}'…"),
            (b'{"a":' * 200_000, "not JSON"),
            (b"", "not JSON: b''"),
            (b"\xff\xfe", "not JSON"),
        ):
            with self.subTest(body[:20]):
                ours, theirs = socket.socketpair()
                with ours, theirs:
                    writer = threading.Thread(
                        target=theirs.sendall,
                        args=(encode({"kind": "ok"}) + struct.pack(">Q", len(body)) + body,),
                    )
                    writer.start()
                    reader = FrameReader(ours.fileno())
                    found = []
                    while not reader.closed and readable([reader.fd], Deadline.after(60.0)):
                        found += reader.read()
                    writer.join()
                    self.assertEqual(found, [{"kind": "ok"}])
                    self.assertIn(told, reader.fault)

    def test_a_frame_longer_than_any(self):
        reader = FrameReader(self.ours.fileno(), limit=1000)
        self.theirs.sendall(encode({"kind": "ok"}) + struct.pack(">Q", 1001))
        self.assertEqual(reader.read(), [{"kind": "ok"}])
        self.assertTrue(reader.closed)
        self.assertEqual(reader.fault, "a frame of 1001 bytes, where 1000 are the limit")

    def test_the_listener_of_a_rank(self):
        """Orders that come together with questions."""
        sent: list[FromRank] = []
        said: list[ToRank] = [MeetingAnswer(0, ("x" * 300,)), MayLeave(), Leave()]
        frames = b"".join(map(frame, said))
        orders = child_listener.start(
            self.ours.fileno(), sent.append, lambda: self.fail("nobody asked"), lambda: None
        )
        self.theirs.sendall(frame(ConnectingRequest(7)) + frames)
        self.assertEqual([orders.get(timeout=60) for _ in said], said)
        self.assertEqual(sent, [ConnectingAnswer(7, value=False)])
        for byte in frames:
            self.theirs.sendall(bytes([byte]))
        self.assertEqual([orders.get(timeout=60) for _ in said], said)
        self.theirs.shutdown(socket.SHUT_RDWR)
        self.assertIsNone(orders.get(timeout=60))

    def test_the_listener_of_a_worker(self):
        ours = Connection(os.dup(self.ours.fileno()))
        self.addCleanup(ours.close)
        worker = worker_main._Worker.__new__(worker_main._Worker)
        worker._connection, worker._orders, worker._drops = ours, queue.SimpleQueue(), False
        worker._channel = OwnDescriptor(ours.fileno(), "the channel")
        self.addCleanup(worker._channel.forget)
        listener = threading.Thread(target=worker._listen)
        listener.start()
        test = worker_messages.TestToRun(("m", "m.C.test", 0), 0, 0, ("x" * 300,))
        said = [
            worker_messages.Discover(),
            worker_messages.RunTests((test,)),
            worker_messages.Rest(),
        ]
        frames = b"".join(map(frame, said))
        self.theirs.sendall(frame(worker_messages.DropTests()) + frames)
        self.assertEqual([worker._orders.get(timeout=60) for _ in said], said)
        self.assertTrue(worker._drops)
        for byte in frames:
            self.theirs.sendall(bytes([byte]))
        self.theirs.shutdown(socket.SHUT_RDWR)
        listener.join()
        found = [worker._orders.get(timeout=60) for _ in said]
        self.assertEqual([*found, worker._orders.get(timeout=60)], [*said, None])

    def test_what_a_worker_says_together_with_its_plan(self):
        plan = Found((), {}, {}, (), 0, ())
        said = [worker_messages.Discovered(plan), worker_messages.Learned(("m",))]
        worker = mock.Mock(has_ended=False, open_fds=[self.ours.fileno()])
        worker.messages.return_value = said
        self.theirs.send(b"x")
        hiring = mock.Mock(**{"start.return_value": worker})
        found = Crew(hiring, 1, mock.Mock(), mock.Mock()).discover()
        self.assertEqual(found, plan)
        hiring.learn.assert_called_once_with(("m",))

    def test_the_inbox_of_a_world(self):
        """What another loop has taken from the link is still news to the one that waits for it."""
        link = connected_link(self)
        peer = Peer(Member(1, 1, 0, "beta", "", 0), link[0])
        inbox = peer.open(5)
        self.addCleanup(inbox.close)
        number = peer.ask("clock")
        said = [{"kind": "rank", "world": 5, "message": message} for message in self.MESSAGES]
        answer = {"kind": "answer", "number": number, "value": 1.0}
        link[1].sendall(b"".join(map(encode, [*said, answer])))
        self.assertEqual(gather({peer: number}, Deadline.after(60.0)), {peer: 1.0})
        self.assertTrue(readable([inbox.fd], Deadline.after(0.0)))
        self.assertEqual(inbox.take(), self.MESSAGES)
        self.assertFalse(readable([inbox.fd], Deadline.after(0.0)))

    def test_a_link_that_is_handed_on(self):
        """One waits for a single message; a loop that waits on the descriptor takes over."""
        link, theirs = connected_link(self)
        theirs.sendall(self.frames)
        self.assertEqual(link.next_message(Deadline.after(60.0)), self.MESSAGES[0])
        self.assertTrue(readable([link.fd], Deadline.after(0.0)))
        self.assertEqual(link.messages(), self.MESSAGES[1:])


def connected_link(test: unittest.TestCase) -> tuple[Link, socket.socket]:
    """A link, and the socket at its other end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname())
        link = Link(listener.accept()[0])
    test.addCleanup(theirs.close)
    test.addCleanup(link.close)
    return link, theirs


class TestForesight(CommandTestCase):
    def test_what_a_module_will_use(self):
        self.write("foreseen_a.py", "import re\nNAME = re.compile('x')\n")
        self.write("foreseen_b.py", "def f(x):\n    x.sum().backward()\n")
        self.write("foreseen_c.py", "import torch\n\nf = torch.compile(print)\n")
        with mock.patch.object(sys, "path", [str(self.folder), *sys.path]):
            self.assertEqual(foreseen(["foreseen_a", "no_such_module"]), [])
            self.assertEqual(foreseen(["foreseen_b"]), ["torch.fx.experimental.symbolic_shapes"])
            self.assertEqual(foreseen(["foreseen_c"]), ["torch._dynamo"])


class TestBadWorlds(unittest.TestCase):
    def test_world_size_that_is_none(self):
        for value in (0, -1, True, 2.0, "two", None):

            class Odd(MultiProcessTestCase):
                world_size = value

                def test(self):
                    pass

            with mock.patch("multiprocessing.process.BaseProcess.start") as start:
                result = run_case(Odd, "test")
            self.assertEqual(result.status, "error")
            self.assertIn("WorldSizeError", result.text)
            self.assertNotIn("/harness/", result.text)  # raised at the line of the test
            self.assertIn("Odd has world_size", result.text)
            self.assertIn(repr(value), result.text)
            start.assert_not_called()

    def test_decorator_against_a_property(self):
        from harness import requires_world_size

        class Fixed(MultiProcessTestCase):
            @property
            def world_size(self):
                return 2

            @requires_world_size(3, allow_cpu=True)
            def test(self):
                pass

        with self.assertRaisesRegex(WorldSizeError, "asks for 3 ranks.*property with the value 2"):
            Fixed("test")

    def test_hook_with_other_parameters(self):
        with self.assertRaisesRegex(HookSignatureError, r"Wrong\._run.*rank, test_name, file_name"):

            class Wrong(MultiProcessTestCase):
                @classmethod
                def _run(cls, rank):
                    pass

    def test_class_that_no_other_process_can_find(self):
        class Local(MultiProcessTestCase):
            world_size = 1

            def test(self):
                pass

        result = run_case(Local, "test")
        self.assertEqual(result.status, "error")
        self.assertIn("Define test classes at module level", result.text)

    def test_set_up_without_super(self):
        class Forgetful(MultiProcessTestCase):
            def setUp(self):
                pass

            def test(self):
                pass

        result = run_case(Forgetful, "test")
        self.assertEqual(result.status, "error")
        self.assertIn("Forgetful.setUp() must call super().setUp()", result.text)

    def test_unknown_start_method(self):
        with mock.patch.dict(os.environ, HARNESS_START_METHOD="fork"):
            result = run_case(sound.WithoutSetUpCode, "test_all_reduce")
        self.assertEqual(result.status, "error")
        self.assertIn("HARNESS_START_METHOD='fork': must be one of forkserver, spawn", result.text)

    def test_wrong_method_name(self):
        with self.assertRaisesRegex(ValueError, "no such test method.*WithoutSetUpCode.*test_no"):
            sound.WithoutSetUpCode("test_no")
        sound.WithoutSetUpCode()


class TestSkippedBeforeAnyProcess(unittest.TestCase):
    def skips(self, decorator, **attributes):
        """The reason with which a rank test so decorated is skipped, with no process started."""

        class Decorated(MultiProcessTestCase):
            world_size = 3

            def setUp(self):
                super().setUp()
                self._spawn_processes()

            @decorator
            def test(self):
                pass

        for name, value in attributes.items():
            setattr(Decorated, name, value)
        with mock.patch("harness.cases.process_ranks.launcher") as launcher:
            result = run_case(Decorated, "test")
        launcher().factory.assert_not_called()
        self.assertEqual(result.status, "skipped", result.text)
        return result.text

    def test_too_few_gpus(self):
        from harness import nccl_skip_if_lt_x_gpu, requires_world_size, skip_if_lt_x_gpu

        with mock.patch("harness.cases.decorators.skips.accelerator_count", return_value=1):
            reason = "needs at least 2 GPUs, this machine has 1"
            self.assertEqual(self.skips(skip_if_lt_x_gpu(2)), reason)
            self.assertEqual(self.skips(nccl_skip_if_lt_x_gpu("nccl", 2)), reason)
            self.assertEqual(self.skips(requires_world_size(2)), reason)

    def test_no_gpu_for_each_rank(self):
        from harness import skip_if_no_gpu

        self.assertEqual(self.skips(skip_if_no_gpu), "CUDA is not available")
        with mock.patch("harness.cases.decorators.skips.accelerator_count", return_value=2):
            self.assertEqual(
                self.skips(skip_if_no_gpu), "needs a GPU for each of 3 ranks, this machine has 2"
            )

    def test_world_size(self):
        from harness import skip_if_odd_worldsize, skip_if_small_worldsize

        self.assertEqual(
            self.skips(skip_if_odd_worldsize), "needs an even number of ranks, the world size is 3"
        )
        self.assertEqual(
            self.skips(skip_if_small_worldsize, world_size=7),
            "needs at least 8 ranks, the world size is 7",
        )

    def test_missing_backend(self):
        from harness.cases.decorators import skips

        for name in ("gloo", "nccl", "ucc", "mpi"):
            with mock.patch.object(skips, "backend_is_available", return_value=False):
                decorator = getattr(skips, f"requires_{name}")()
            self.assertEqual(self.skips(decorator), f"torch was built without the {name} backend")

    def test_the_outermost_reason_is_given(self):
        from harness import skip_if_lt_x_gpu, skip_if_odd_worldsize

        def both(test):
            return skip_if_lt_x_gpu(2)(skip_if_odd_worldsize(test))

        self.assertIn("GPUs", self.skips(both))


class TestNotSkipped(unittest.TestCase):
    def test_conditions_that_are_met(self):
        from harness import (
            nccl_skip_if_lt_x_gpu,
            requires_gloo,
            skip_if_lt_x_gpu,
            skip_if_odd_worldsize,
            skip_if_win32,
        )

        class Plain(unittest.TestCase):
            world_size = 2

            @requires_gloo()
            @skip_if_win32()
            @skip_if_odd_worldsize
            @skip_if_lt_x_gpu(2, allow_cpu=True)
            @nccl_skip_if_lt_x_gpu("gloo", 4)
            def test(self):
                type(self).ran = True

        self.assertEqual(run_case(Plain, "test").status, "passed")
        self.assertTrue(Plain.ran)

    def test_a_class_without_ranks_is_skipped_too(self):
        from harness import skip_if_lt_x_gpu

        class Plain(unittest.TestCase):
            @skip_if_lt_x_gpu(2)
            def test(self):
                raise AssertionError

        self.assertEqual(run_case(Plain, "test").status, "skipped")

    def test_small_worlds_are_enough_for_mpi(self):
        from harness import skip_if_small_worldsize

        class Plain(unittest.TestCase):
            world_size = 2

            @skip_if_small_worldsize
            def test(self):
                pass

        with mock.patch.dict(os.environ, BACKEND="mpi"):
            self.assertEqual(run_case(Plain, "test").status, "passed")


class TestForkSafety(unittest.TestCase):
    """A module that is not safe to fork makes its ranks slow, never stuck."""

    def test_thread_started_by_an_import(self):
        from harness.ranks.launch.preload import _why_unsafe

        with mock.patch("harness.ranks.launch.preload._thread_count", return_value=3):
            self.assertIn("importing mod started 2 thread(s)", _why_unsafe("mod"))

    def test_cuda_woken_up_by_an_import(self):
        import torch

        from harness.ranks.launch.preload import _why_unsafe

        with mock.patch("harness.ranks.launch.preload._thread_count", return_value=1):
            self.assertEqual(_why_unsafe("mod"), "")
            with mock.patch.object(torch.cuda, "is_available", return_value=True):
                self.assertEqual(_why_unsafe("mod"), "")
                for sign in ("is_initialized", "_is_in_bad_fork"):
                    with mock.patch.object(torch.cuda, sign, return_value=True):
                        self.assertEqual(_why_unsafe("mod"), "importing mod initialised CUDA")

    def test_a_module_to_preload_that_is_not_there_is_told_once(self):
        from harness.model.clock import Deadline
        from harness.ranks.launch.launcher import Launcher

        launcher = Launcher()
        launcher.expect_no_ranks()
        environ = {"HARNESS_PRELOAD": "json,no.such", "HARNESS_START_METHOD": "forkserver"}
        with mock.patch.dict(os.environ, environ), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(2):
                launcher.factory(Deadline.after(60.0))
            launcher.advance().kill()
        (told,) = [str(w.message) for w in caught if w.category is UserWarning]
        self.assertIn("HARNESS_PRELOAD names no.such, which the fork server cannot import", told)
        self.assertIn("(ModuleNotFoundError: No module named 'no'): correct it", told)

    def test_the_reason_is_shown_once(self):
        from harness.model.errors import RanksSpawnedWarning
        from harness.ranks.launch.launcher import Launcher

        launcher = Launcher()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            launcher._warn("importing mod started 1 thread(s)")
            launcher._warn("importing mod started 1 thread(s)")
        self.assertEqual([w.category for w in caught], [RanksSpawnedWarning])
        self.assertIn("importing mod started 1 thread(s)", str(caught[0].message))
