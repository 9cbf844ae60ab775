"""The messages of ranks and of workers: each survives the journey, and nothing else does."""

from __future__ import annotations

import json
import math
import os
import typing
import unittest

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.model.communication import Call, CommunicationRecord, LocalFault
from harness.model.evidence import Collective, Group, Snapshot, ThreadStack, Waiting
from harness.model.example import Remarks
from harness.model.expectation import Expectation
from harness.model.notes import Note
from harness.model.outcome import Failed, Passed, Place, Problem, Raised, Skipped, SubTest
from harness.model.phase import Phase
from harness.model.spec import LaunchSpec
from harness.model.surroundings import Surroundings
from harness.model.timeline import CollectiveSpan, PhaseSpan, RankTrack
from harness.model.warning_data import IssuedWarning
from harness.ranks import messages
from harness.ranks.channel import FrameReader, encode
from harness.ranks.messages import FromRank, ToRank
from harness.ranks.typed_message import frame, read, to_data
from harness.runner.results import (
    SkippedSubtest,
    Status,
    TestRecord,
    Trouble,
    record_from_data,
)
from harness.runner.selection.planned_test import Found, PlannedTest
from harness.runner.workers import messages as worker_messages
from harness.runner.workers.messages import FromWorker, ToWorker

# Text that a test can produce: control characters and lone surrogates are among it.
_text = st.text(st.characters(), max_size=8)
_number = st.floats(allow_nan=False)
_place = st.builds(Place, _text, st.integers(), _text, st.integers())
_subtest = st.builds(
    SubTest, st.none() | _text, st.lists(st.tuples(_text, _text), max_size=2).map(tuple)
)
_problem = st.builds(
    Problem, _text, _text, _text, st.booleans(), st.none() | _place, st.none() | _subtest
)
_problems = st.lists(_problem, min_size=1, max_size=2).map(tuple)
_outcome = st.one_of(
    st.just(Passed()),
    st.builds(Skipped, _text, st.booleans()),
    st.builds(Failed, _problems),
    st.builds(Raised, _problems),
)
_integers = st.lists(st.integers(), max_size=3).map(tuple)
_texts = st.lists(_text, max_size=2).map(tuple)
_stack = st.lists(_place, max_size=2).map(tuple)
_collective = st.builds(
    Collective,
    group=_text,
    seq=st.integers(),
    op=_text,
    backend=_text,
    sizes=st.lists(_integers, max_size=2).map(tuple),
    dtypes=_texts,
    pending=st.booleans(),
    waited_s=_number,
    timeout_s=_number,
    frames=_stack,
)
_snapshot = st.builds(
    Snapshot,
    threads=st.lists(st.builds(ThreadStack, _text, _stack), max_size=2).map(tuple),
    collectives=st.lists(_collective, max_size=2).map(tuple),
    groups=st.dictionaries(
        _text, st.builds(Group, _integers, _text, st.none() | _number), max_size=2
    ),
    waiting=st.none() | st.builds(Waiting, _text, _text, _integers, st.none() | _number),
    cpu_s=_number,
    is_runnable=st.booleans(),
)
_span = st.builds(
    CollectiveSpan,
    **{
        name: {"str": _text, "int": st.integers(), "float": _number, "bool": st.booleans()}.get(
            hint, st.none() | _number
        )
        for name, hint in CollectiveSpan.__annotations__.items()
    },
)
_track = st.builds(
    RankTrack,
    rank=st.integers(),
    pid=st.none() | st.integers(),
    phases=st.lists(st.builds(PhaseSpan, _text, _number, _number), max_size=2).map(tuple),
    collectives=st.lists(_span, max_size=2).map(tuple),
    outcome=_text,
)
_first_record = st.builds(
    TestRecord,
    _text,
    status=st.just(Status.FAILED),
    seconds=_number,
    troubles=st.lists(st.builds(Trouble, _text, _text, _text), max_size=2),
    stdout=_text,
)
_record = st.builds(
    TestRecord,
    _text,
    status=st.sampled_from([Status.PASSED, Status.SKIPPED]),
    seconds=_number,
    reason=_text,
    notes=st.lists(st.builds(Note, _text, _text), max_size=2),
    started_s=_number,
    worker=st.integers(),
    ranks=st.lists(_track, max_size=2).map(tuple),
    earlier=st.lists(_first_record, max_size=2),
    copy=st.integers(),
    skipped_subtests=st.lists(st.builds(SkippedSubtest, _text, _text), max_size=2),
)
_planned = st.builds(
    PlannedTest,
    _text,
    _text,
    ranks=st.integers(),
    is_serial=st.booleans(),
    resources=st.frozensets(_text, max_size=2),
    number=st.integers(),
)
_sizes = st.lists(_integers, max_size=2).map(tuple)
_call = st.builds(
    Call,
    _text,
    _text,
    gives=_sizes,
    dtypes=_texts,
    takes=st.none() | _sizes,
    root=st.none() | st.integers(),
    tag=st.integers(),
    gives_splits=_integers,
    where=st.none() | _place,
)
_communication = st.builds(
    CommunicationRecord,
    calls=st.lists(_call, max_size=2).map(tuple),
    order=_integers,
    threads=_integers,
    failed=_integers,
    groups=st.dictionaries(
        _text, st.builds(Group, _integers, _text, st.none() | _number), max_size=2
    ),
    faults=st.lists(
        st.builds(LocalFault, _text, st.integers(), st.none() | _place), max_size=2
    ).map(tuple),
    missing=_text,
)
_known = {
    str: _text,
    Phase: st.sampled_from(Phase),
    int: st.integers(),
    float: _number,
    bool: st.booleans(),
    bytes | None: st.none() | st.binary(max_size=8),
    tuple[str, ...]: _texts,
    dict[str, int]: st.dictionaries(_text, st.integers(), max_size=2),
    Place | None: st.none() | _place,
    Snapshot: _snapshot,
    Snapshot | None: st.none() | _snapshot,
    tuple[CollectiveSpan, ...]: st.lists(_span, max_size=2).map(tuple),
    CommunicationRecord | None: st.none() | _communication,
    Expectation: st.builds(Expectation, _text, st.integers(), _text, st.none() | _text, _text),
    IssuedWarning: st.builds(IssuedWarning, _text, _text, _text, st.integers()),
    Remarks: st.builds(
        Remarks,
        _text,
        _text,
        st.lists(_text, max_size=2),
        st.dictionaries(_text, st.none() | _number, max_size=2),
        st.dictionaries(_text, _number, max_size=2),
        _text,
    ),
    LaunchSpec: st.builds(
        LaunchSpec,
        test_id=_text,
        module=_text,
        qualname=_text,
        method=_text,
        world_size=st.integers(1, 8),
        file_name=_text,
        folder=_text,
        world_folder=_text,
        surroundings=st.builds(
            Surroundings, st.dictionaries(_text, _text, max_size=2), _text, _texts, _texts
        ),
        threads=st.integers(),
        timeout_s=_number,
        extras=st.just({"fake_pg": False}),
        node_sizes=_integers,
        warnings=st.none() | st.just({"filters": [], "options": []}),
    ),
    # Of the runner and its workers
    tuple[int, int]: st.tuples(st.integers(), st.integers()),
    TestRecord: _record,
    Found: st.builds(
        Found,
        tests=st.lists(_planned, max_size=2).map(tuple),
        broken=st.dictionaries(_text, _text, max_size=2),
        skipped=st.dictionaries(_text, _text, max_size=2),
        devices=_texts,
        count=st.integers(),
        remarks=_texts,
    ),
    tuple[worker_messages.TestToRun, ...]: st.lists(
        st.builds(
            worker_messages.TestToRun,
            st.tuples(_text, _text, st.integers()),
            st.integers(),
            st.integers(),
            _texts,
        ),
        max_size=2,
    ).map(tuple),
}


def _messages(kinds: object) -> st.SearchStrategy:
    """Every message of a union, with fields of every value that their types allow."""
    return st.one_of(
        [
            st.builds(
                kind,
                **{
                    name: _outcome if name == "outcome" else _known[hint]
                    for name, hint in typing.get_type_hints(kind).items()
                },
            )
            for kind in typing.get_args(kinds)
        ]
    )


_OF_RANKS = (FromRank, ToRank)
_OF_WORKERS = (FromWorker, ToWorker)


class TestMessages(unittest.TestCase):
    @settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
    @given(_messages(FromRank))
    def test_what_a_rank_says_arrives(self, message):
        data = json.loads(frame(message)[8:])
        self.assertEqual(messages.from_rank(data), message)

    @settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
    @given(_messages(ToRank))
    def test_what_a_parent_says_arrives(self, message):
        data = json.loads(frame(message)[8:])
        self.assertEqual(messages.to_rank(data), message)

    @settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
    @given(_messages(FromWorker))
    def test_what_a_worker_says_arrives(self, message):
        data = json.loads(frame(message)[8:])
        self.assertEqual(worker_messages.from_worker(data), message)

    @settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
    @given(_messages(ToWorker))
    def test_what_the_runner_says_arrives(self, message):
        data = json.loads(frame(message)[8:])
        self.assertEqual(worker_messages.to_worker(data), message)

    @settings(suppress_health_check=[HealthCheck.too_slow])
    @given(_record)
    def test_a_record_leaves_out_what_is_empty(self, record):
        data = json.loads(json.dumps(record.to_data()))
        self.assertEqual(record_from_data(data), record)
        for each in (data, *data.get("earlier", [])):
            values = [value for name, value in each.items() if name != "test_id"]
            for empty in ("", [], None):
                self.assertNotIn(empty, values)

    def test_text_of_a_class_of_its_own_arrives_as_text(self):
        class Named(str):
            __slots__ = ()

            def __str__(self):
                return "not the text"

        sent = worker_messages.Unusable(Named("m.C.test"))
        self.assertEqual(to_data(sent), {"kind": "Unusable", "text": "m.C.test"})

    def test_what_json_does_not_know_arrives_as_text(self):
        remarks = Remarks(events={"e": object, "nan": math.inf})
        data = json.loads(frame(messages.WaitsForExample({}, remarks))[8:])
        arrived = messages.from_rank(data)
        self.assertEqual(arrived.remarks.events, {"e": "<class 'object'>", "nan": math.inf})

    def test_what_is_no_message_is_refused(self):
        for data in (
            {},
            {"kind": "Nonsense"},
            {"kind": "Leave"},  # is for ranks
            {"kind": "Report"},
            {"kind": "Report", "outcome": {"type": "Killed", "signal": 9}},  # no rank can say so
            {"kind": "Report", "outcome": 5},
            {"kind": "Exits", "where": "here"},
            [],
        ):
            with self.subTest(data), self.assertRaises(ValueError):
                messages.from_rank(data)

    def test_what_no_worker_says_is_refused(self):
        for data in (
            {"kind": "Nonsense"},
            {"kind": "Leave"},  # is for workers
            {"kind": "Unusable"},
            {"kind": "Started", "at_s": 1.0, "printed": [0]},
            {"kind": "Started", "at_s": "now", "printed": [0, 0]},
            {"kind": "Ended", "record": {}},
            {"kind": "Ended", "record": {"test_id": "a", "status": "good"}},
            {"kind": "Ended", "record": {"test_id": "a", "troubles": [{"label": "FAIL"}]}},
        ):
            with self.subTest(data), self.assertRaises(ValueError):
                worker_messages.from_worker(data)
        with self.assertRaises(ValueError):
            worker_messages.to_worker({"kind": "RunTests", "tests": [{"place": ["m"]}]})

    def test_what_is_no_message_is_a_fault_of_its_channel(self):
        ours, theirs = os.pipe()
        self.addCleanup(os.close, ours)
        reader = FrameReader(ours)
        with open(theirs, "wb", buffering=0) as pipe:
            for message in ({"kind": "TornDown"}, {"kind": "Nonsense"}, {"kind": "TornDown"}):
                pipe.write(encode(message))
            found = read(reader, worker_messages.from_worker)
        self.assertEqual(found, [worker_messages.TornDown()])
        self.assertTrue(reader.closed)
        self.assertRegex(reader.fault, r"\{'kind': 'Nonsense'\} \(Invalid value 'Nonsense'")
        self.assertEqual(read(reader, worker_messages.from_worker), [])

    def test_no_two_messages_of_a_channel_have_one_name(self):
        for channel in (_OF_RANKS, _OF_WORKERS):
            names = [kind.__name__ for union in channel for kind in typing.get_args(union)]
            self.assertEqual(len(set(names)), len(names))

    def test_messages_cannot_be_changed(self):
        unions = (*_OF_RANKS, *_OF_WORKERS)
        for kind in (kind for union in unions for kind in typing.get_args(union)):
            self.assertTrue(kind.__struct_config__.frozen, kind)
            self.assertIsInstance(kind, type(msgspec.Struct))


if __name__ == "__main__":
    unittest.main()
