"""Nodes: parts of one machine that pass for hosts, and what says how ranks are spread."""

from __future__ import annotations

import os
import tempfile
import unittest
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from harness import SettingError, WorldSizeError, nodes
from harness.model.surroundings import Surroundings
from harness.model.topology import node_rank, spread, variables
from harness.model.torchrun_environ import torchrun_place
from harness.ranks.torchrun.process_changes import changed_by, changes
from suites.samples import nodes as samples
from suites.selftest.support import InProcess, run_case

SIZES = st.lists(st.integers(1, 9), min_size=1, max_size=6)


class TestTopology(unittest.TestCase):
    @given(st.integers(1, 60), st.integers(1, 60))
    def test_as_equal_as_can_be(self, ranks, count):
        if count > ranks:
            with self.assertRaisesRegex(
                WorldSizeError, f"{count} nodes but has a world of {ranks}"
            ):
                spread(ranks, count, "a test")
            return
        sizes = spread(ranks, count, "a test")
        self.assertEqual((sum(sizes), len(sizes)), (ranks, count))
        self.assertLessEqual(max(sizes) - min(sizes), 1)

    @given(SIZES)
    def test_every_rank_has_a_place_of_its_own(self, sizes):
        places = [node_rank(rank, sizes) for rank in range(sum(sizes))]
        taken = {(place.group_rank, place.local_rank) for place in places}
        self.assertEqual(len(taken), sum(sizes))
        self.assertTrue(
            all(s.local_rank < s.local_world_size == sizes[s.group_rank] for s in places)
        )

    def test_variables_are_torchruns(self):
        self.assertEqual(
            variables(3, (2, 2)),
            {
                "RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2",
                "GROUP_RANK": "1", "GROUP_WORLD_SIZE": "2", "ROLE_RANK": "3",
                "ROLE_WORLD_SIZE": "4", "ROLE_NAME": "default",
            },
        )  # fmt: skip


class TestSamples(InProcess):
    def told(self, method, **env):
        return [eval(text) for text in self.passes(samples.Recording, method, **env)]

    def test_places(self):
        found = self.told("test_place")
        self.assertEqual([place["LOCAL_RANK"] for place in found], ["0", "1", "0", "1"])
        self.assertEqual([place["GROUP_RANK"] for place in found], ["0", "0", "1", "1"])
        self.assertEqual([place["host"] for place in found], ["node0", "node0", "node1", "node1"])
        self.assertEqual({place["WORLD_SIZE"] for place in found}, {"4"})

    def test_shares_of_devices(self):
        found = self.told("test_place", CUDA_VISIBLE_DEVICES="4,5,6,7")
        devices = [place["CUDA_VISIBLE_DEVICES"] for place in found]
        self.assertEqual(devices, ["4,5", "4,5", "6,7", "6,7"])

    def test_uneven(self):
        found = self.told("test_uneven")
        self.assertEqual([place["LOCAL_WORLD_SIZE"] for place in found], ["2", "2", "1", "1"])

    def test_groups_come_up_by_the_environment(self):
        self.told("test_by_the_environment")

    def test_ranks_that_stay(self):
        first, second = (self.told(f"test_stays_{n}") for n in (1, 2))
        self.assertEqual([p["pid"] for p in first], [p["pid"] for p in second])
        self.assertEqual([p["host"] for p in second], ["node0", "node1"])
        plain = self.told("test_stays_without_nodes")
        self.assertEqual([p["GROUP_RANK"] for p in plain], [None, None])
        self.assertEqual({p["host"] for p in plain}, {os.uname().nodename})

    def test_of_a_class(self):
        result = run_case(samples.OnThreeNodes, "test_groups")
        self.assertEqual(result.status, "passed", result.text)

    def test_more_nodes_than_ranks(self):
        result = run_case(samples.Recording, "test_too_many_nodes")
        self.assertIn("needs 5 nodes but has a world of 4: every node needs a rank", result.text)

    def test_what_is_no_number_of_nodes(self):
        for bad in (0, -1, 1.5, "2", True):
            with self.assertRaisesRegex(SettingError, "must be a whole number above zero"):
                nodes(bad)
        result = run_case(samples.OnNoNode, "test_place")
        self.assertIn("OnNoNode.nodes = 0: a number of nodes must be a whole number", result.text)


class TestPlace(unittest.TestCase):
    ENVIRON = {"RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "alpha", "MASTER_PORT": "29500"}

    def test_without_one_of_the_variables(self):
        for name in self.ENVIRON:
            rest = {key: value for key, value in self.ENVIRON.items() if key != name}
            self.assertIsNone(torchrun_place(rest))
            self.assertIsNone(torchrun_place({**rest, name: ""}))

    def test_the_least(self):
        place = torchrun_place(self.ENVIRON)
        self.assertEqual((place.rank, place.world_size, place.local_rank), (1, 4, 1))
        self.assertEqual((place.local_world_size, place.group_rank), (None, None))
        self.assertFalse(place.is_on_one_host or place.has_store or place.may_be_restarted)

    def test_torchruns(self):
        place = torchrun_place(
            {
                **self.ENVIRON,
                "LOCAL_RANK": "1",
                "LOCAL_WORLD_SIZE": "4",
                "TORCHELASTIC_USE_AGENT_STORE": "True",
                "TORCHELASTIC_RESTART_COUNT": "1",
                "TORCHELASTIC_MAX_RESTARTS": "2",
            }
        )
        self.assertTrue(place.is_on_one_host and place.has_store and place.may_be_restarted)


class TestSurroundings(unittest.TestCase):
    """What has changed here is changed there, where all else is otherwise."""

    HERE = Surroundings({"A": "1", "B": "2", "RANK": "0"}, "/here", ("/lib", "/here"))
    THERE = Surroundings({"A": "9", "C": "3", "RANK": "1"}, "/there", ("/usr/lib", "/there"))

    def follow(self, now: Surroundings) -> Surroundings:
        return changed_by(changes(self.HERE, now), self.THERE)

    def test_nothing(self):
        self.assertEqual(self.follow(self.HERE), self.THERE)

    def test_variables(self):
        now = Surroundings({"A": "1", "B": "x", "D": "4"}, "/here", self.HERE.sys_path)
        found = self.follow(now).environ
        self.assertEqual(found, {"A": "9", "B": "x", "C": "3", "D": "4"})

    def test_folders(self):
        path = ("/here/suites", "/lib", "/here", "/opt/x")
        now = Surroundings(self.HERE.environ, "/here/sub", path)
        found = self.follow(now)
        self.assertEqual(found.cwd, "/there/sub")
        self.assertEqual(found.sys_path, ("/there/suites", "/usr/lib", "/there", "/opt/x"))

    def test_of_this_process(self):
        before = Surroundings.now()
        with tempfile.TemporaryDirectory() as folder, unittest.mock.patch.dict(os.environ, X="1"):
            found = changes(before, Surroundings.now())
            self.assertEqual((found.set, found.unset), ({"X": "1"}, ()))
            self.assertTrue(Path(folder).exists())


if __name__ == "__main__":
    unittest.main()
