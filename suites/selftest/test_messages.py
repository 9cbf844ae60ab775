"""The messages between a rank and its parent: each survives the journey, and nothing else does."""

from __future__ import annotations

import json
import math
import typing
import unittest

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.model.evidence import Collective, Group, Snapshot, ThreadStack, Waiting
from harness.model.example import Remarks
from harness.model.expectation import Expectation
from harness.model.outcome import Failed, Passed, Place, Problem, Raised, Skipped, SubTest
from harness.model.spec import LaunchSpec
from harness.model.timeline import CollectiveSpan
from harness.model.warning_data import IssuedWarning
from harness.ranks import messages
from harness.ranks.messages import FromRank, ToRank

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
_known = {
    str: _text,
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
        environ=st.dictionaries(_text, _text, max_size=2),
        cwd=_text,
        sys_path=_texts,
        argv=_texts,
        threads=st.integers(),
        timeout_s=_number,
        extras=st.just({"fake_pg": False}),
        node_sizes=_integers,
        warnings=st.none() | st.just({"filters": [], "options": []}),
    ),
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


class TestMessages(unittest.TestCase):
    @settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
    @given(_messages(FromRank))
    def test_what_a_rank_says_arrives(self, message):
        data = json.loads(messages.frame(message)[8:])
        self.assertEqual(messages.from_rank(data), message)

    @settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
    @given(_messages(ToRank))
    def test_what_a_parent_says_arrives(self, message):
        data = json.loads(messages.frame(message)[8:])
        self.assertEqual(messages.to_rank(data), message)

    def test_what_json_does_not_know_arrives_as_text(self):
        remarks = Remarks(events={"e": object, "nan": math.inf})
        data = json.loads(messages.frame(messages.WaitsForExample({}, remarks))[8:])
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

    def test_no_two_messages_have_one_name(self):
        names = [kind.__name__ for union in (FromRank, ToRank) for kind in typing.get_args(union)]
        self.assertEqual(len(set(names)), len(names))

    def test_messages_cannot_be_changed(self):
        for kind in (*typing.get_args(FromRank), *typing.get_args(ToRank)):
            self.assertTrue(kind.__struct_config__.frozen, kind)
            self.assertIsInstance(kind, type(msgspec.Struct))


if __name__ == "__main__":
    unittest.main()
