"""The messages between torchrun's processes: each arrives as it was sent, and nothing else does."""

from __future__ import annotations

import json
import tempfile
import typing
import unittest
from pathlib import Path

from harness.model.rank_report import Tail
from harness.model.spec import LaunchSpec
from harness.model.surroundings import Surroundings
from harness.ranks.leftovers import Leftover
from harness.ranks.logs import WorldLogs
from harness.ranks.messages import AtMeeting, MeetingAnswer, NoMoreExamples
from harness.ranks.outside_view import Inspection, InspectionRequest
from harness.ranks.torchrun import messages
from harness.ranks.torchrun.messages import (
    Answer,
    Answered,
    Asked,
    ClockAnswer,
    ClockQuestion,
    CloseWorld,
    Ending,
    ForRank,
    FromAgent,
    InspectionAnswer,
    InspectionQuestion,
    Joined,
    JoinRequest,
    Leave,
    LeftoversAnswer,
    LeftoversQuestion,
    LogsAnswer,
    LogsQuestion,
    OtherRun,
    Preload,
    Question,
    RankExited,
    RankSent,
    RankStarted,
    RankUnreadable,
    RemoteTest,
    RunNextExample,
    RunNextTest,
    SignalRank,
    StartRank,
    StreamEnd,
    ToAgent,
    ToJoining,
    Unusable,
    Welcome,
    frame_around,
)
from harness.ranks.torchrun.process_changes import ProcessChanges, SentPath
from harness.ranks.torchrun.world import stream_ends
from harness.ranks.typed_message import frame

ODD = "lone \udcff, two\nlines"
SPEC = LaunchSpec("m.T.t", "m", "T", "t", 2, "", "", "", Surroundings({}, "", ()), 1, 5.0)
CHANGES = ProcessChanges(
    (ODD,), {"B": ODD}, SentPath("x", True), (3, SentPath("/y", False)), ("a",)
)
TEST = RemoteTest(SPEC, CHANGES)
QUESTIONS = (
    ClockQuestion(),
    InspectionQuestion(1, InspectionRequest(stacks=True)),
    LogsQuestion(1, 2, 3),
    LeftoversQuestion(1, 0.5),
)
ANSWERS = (
    ClockAnswer(-1.5),
    InspectionAnswer(Inspection("sleeping", ODD, ("a", "b"))),
    LogsAnswer({"stdout": StreamEnd(Tail((ODD,), None, 5), ODD)}),
    LeftoversAnswer((Leftover(7, ODD, None), Leftover(8, "", 1))),
)
CHANNELS = (
    (messages.from_joining, JoinRequest, [JoinRequest(1, 0, None, ODD, "", 7, 0, "", {"a": ODD})]),
    (messages.to_joining, ToJoining, [OtherRun(), Joined(), Welcome(), Unusable(ODD, "alpha")]),
    (
        messages.to_agent,
        ToAgent,
        [
            StartRank(1, 0, TEST),
            RunNextTest(1, TEST),
            RunNextExample(1, NoMoreExamples()),
            ForRank(1, MeetingAnswer(2, (ODD,), 2)),
            SignalRank(1, 9),
            CloseWorld(1),
            Preload(("m", "n")),
            *(Asked(1, question) for question in QUESTIONS),
            Leave(3),
        ],
    ),
    (
        messages.from_agent,
        FromAgent,
        [
            RankStarted(1, 7),
            RankSent(1, AtMeeting("init", ODD)),
            RankUnreadable(1, ODD),
            RankExited(1, -9, ""),
            RankExited(1, None, ODD),
            Ending(15),
            *(Answered(1, answer) for answer in ANSWERS),
            Answered(1, None),
        ],
    ),
)


def kinds(union: object) -> tuple[type, ...]:
    return typing.get_args(union) or (typing.cast(type, union),)


def data_in(sent: bytes) -> typing.Any:
    return json.loads(sent[8:])


class TestMessages(unittest.TestCase):
    def test_each_arrives_as_it_was_sent(self):
        for convert, union, sent in CHANNELS:
            self.assertEqual({type(message) for message in sent}, set(kinds(union)))
            for message in sent:
                self.assertEqual(convert(data_in(frame(message))), message)
        self.assertEqual({type(question) for question in QUESTIONS}, set(kinds(Question)))
        self.assertEqual({type(answer) for answer in ANSWERS}, set(kinds(Answer)))

    def test_what_is_encoded_once_for_all_ranks(self):
        for message, found in (
            (StartRank(1, 2, TEST), frame_around(frame(TEST), StartRank, world=1, rank=2)),
            (RunNextTest(1, TEST), frame_around(frame(TEST), RunNextTest, world=1)),
        ):
            self.assertEqual(messages.to_agent(data_in(found)), message)

    def test_what_is_out_of_range_is_refused(self):
        for convert, data in (
            (messages.to_agent, {"kind": "Nonsense"}),
            (messages.to_agent, {"kind": "RankStarted", "world": 1, "pid": 1}),  # an agent says so
            (messages.to_agent, {"kind": "Leave", "code": 256}),
            (messages.to_agent, {"kind": "Leave", "code": True}),
            (messages.to_agent, {"kind": "SignalRank", "world": 1, "signal": 65}),
            (messages.to_agent, {"kind": "CloseWorld", "world": 0}),
            (messages.to_agent, {"kind": "CloseWorld"}),
            (messages.from_agent, {"kind": "RankSent", "world": 1, "message": {"kind": "x"}}),
            (messages.from_agent, {"kind": "RankExited", "world": 1, "code": 256, "why": ""}),
            (messages.from_agent, {"kind": "Answered", "number": 1, "answer": 1.0}),
            *(
                (
                    messages.from_agent,
                    {
                        "kind": "Answered",
                        "number": 1,
                        "answer": {"kind": "ClockAnswer", "at_s": at_s},
                    },
                )
                for at_s in (float("nan"), float("inf"), 1e16, 10**400, "1")
            ),
        ):
            with self.subTest(data), self.assertRaises(ValueError):
                convert(data)

    def test_a_log_with_too_many_lines_to_count(self):
        """Such as a rank on another host may write."""
        with tempfile.TemporaryDirectory(prefix="selftest ") as folder:
            Path(folder, "rank1.stdout").write_bytes(
                b"x" * 79 + b"\n" + (b"y" * 79 + b"\n") * 120_000
            )
            ends = stream_ends(WorldLogs(folder), 1, 3, 1000)
        self.assertIsNone(ends["stdout"].tail.total_lines)
        answer = Answered(1, LogsAnswer(ends))
        self.assertEqual(messages.from_agent(data_in(frame(answer))), answer)

    def test_no_two_messages_of_a_direction_have_one_name(self):
        for unions in ((JoinRequest, FromAgent, Answer), (ToJoining, ToAgent, Question)):
            names = [kind.__name__ for union in unions for kind in kinds(union)]
            self.assertEqual(len(set(names)), len(names))


if __name__ == "__main__":
    unittest.main()
