"""Programs over process groups behave the same with the harness's optimizations and without them.

Hypothesis draws what a test may do with groups: how many there are, of which ranks, made how and
when, used first when and by which collective, connected at once or at first use, by ranks of which
some are late, or leave early. Each program runs three times in the same kind of world. With
`PYTORCH_HYPOTHESIS_PROFILE=debug` Hypothesis draws 1000 of them.
"""

import json
import os
import unittest
import warnings
from unittest import mock

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from suites.samples import group_programs
from suites.selftest.support import new_folder, run_case

_LAZY = "TORCH_GLOO_LAZY_INIT"

# All of them off, and all but the one that guards against a race in torch: a rank with a short body
# closes its connections while a peer is still connecting.
_OFF = ("wait-for-peers", "none")
_RACE = "connectFullMesh failed"


@st.composite
def programs(draw):
    return _Drawing(draw).program()


class _Drawing:
    """A program that ends: all members of a group make the same calls, in the same order."""

    def __init__(self, draw):
        self.draw = draw
        self.ranks = draw(st.integers(2, 4))
        self.here = list(range(self.ranks))  # those that have not left yet
        self.groups = {-1: self.here.copy()}  # those that may be used: number to members
        self.meshes = set()
        self.local_names = set()
        self.steps = []

    def program(self):
        kinds = ["use", "use", "use", "pause", "group", "group", "destroy", "leave"]
        for number in range(self.draw(st.integers(1, 8))):
            getattr(self, self.draw(st.sampled_from(kinds)))(number)
        return {"ranks": self.ranks, "steps": self.steps}

    def group(self, number):
        # How many groups a mesh makes is torch's affair, and the names of local ones depend on it.
        possible = [] if self.meshes else ["local"]
        if len(self.here) == self.ranks:
            possible += ["all", "mesh"]
        if not possible:
            return
        how = self.draw(st.sampled_from(possible))
        if how == "mesh":
            self.meshes.add(number)
            # Which members it has depends on the rank. In each rank it has some of all.
            self.groups[number] = self.here.copy()
            self.steps.append(["group", number, how, self.draw(st.sampled_from([[], [0]]))])
            return
        members = sorted(self.draw(st.sets(st.sampled_from(self.here), min_size=1)))
        if how == "local":
            # torch 2.13 names such a group by its ranks and by how many groups a rank is in: all
            # members must be in equally many, and no name may come twice.
            known = self.memberships(members[0])
            members = [rank for rank in members if self.memberships(rank) == known]
            if (known, *members) in self.local_names:
                return
            self.local_names.add((known, *members))
        self.groups[number] = members
        self.steps.append(["group", number, how, members])

    def memberships(self, rank):
        return sum(rank in members for members in self.groups.values())

    def pause(self, number):
        rank = self.draw(st.sampled_from(self.here))
        self.steps.append(["pause", rank, self.draw(st.integers(1, 30))])

    def leave(self, number):
        if len(self.here) > 1:
            rank = self.draw(st.sampled_from(self.here))
            self.here.remove(rank)
            self.steps.append(["leave", rank])

    def usable(self):
        return [n for n, members in self.groups.items() if set(members) <= set(self.here)]

    def use(self, number):
        if usable := self.usable():
            collective = self.draw(st.sampled_from(sorted(group_programs.COLLECTIVES)))
            self.steps.append(["use", self.draw(st.sampled_from(usable)), collective])

    def destroy(self, number):
        # A mesh as large as the world has the default group for a dimension.
        usable = [n for n in self.usable() if n != -1 and n not in self.meshes]
        if usable:
            chosen = self.draw(st.sampled_from(usable))
            del self.groups[chosen]
            # Else a member may close connections that a peer is still making: a race in torch.
            self.steps += [["use", chosen, "barrier"], ["destroy", chosen]]


_SUB_GROUP_FIRST = {"ranks": 2, "steps": [["group", 0, "all", [0, 1]], ["use", 0, "all_reduce"]]}
_SAME_NAMES = {"ranks": 3, "steps": [["group", 0, "local", [0, 2]], ["use", 0, "all_reduce"]]}
_SHORT = {"ranks": 3, "steps": [["group", 0, "all", [0, 2]], ["pause", 1, 20], ["leave", 0]]}


class TestGroupPrograms(unittest.TestCase):
    def setUp(self):
        folder = new_folder(self)
        self.program, self.out = folder / "program", folder / "out"

    @settings(deadline=None, suppress_health_check=list(HealthCheck))
    @given(programs(), st.sampled_from(["process", "group", "none"]), st.booleans())
    @example(_SUB_GROUP_FIRST, "process", True)
    @example(_SUB_GROUP_FIRST, "group", True)
    @example(_SUB_GROUP_FIRST, "none", True)
    @example(_SAME_NAMES, "none", False)
    @example(_SAME_NAMES, "none", False)
    @example(_SHORT, "process", False)
    @example(_SHORT, "group", False)
    def test_the_same_with_and_without_optimizations(self, program, isolation, lazy):
        self.program.write_text(json.dumps(program))
        found = {tuning: self.outcome(tuning, isolation, lazy) for tuning in ("all", *_OFF)}
        self.assertEqual(found["all"][0][0], "passed", found["all"][1])
        for tuning, (outcome, text) in found.items():
            if tuning != "none" or _RACE not in text:
                self.assertEqual(outcome, found["all"][0], f"{tuning}: {text}")

    def test_a_sub_group_first_in_spawned_ranks(self):
        self.program.write_text(json.dumps(_SUB_GROUP_FIRST))
        with mock.patch.dict(os.environ, HARNESS_START_METHOD="spawn"):
            (status, results), text = self.outcome("all", "process", lazy=True)
        self.assertEqual(status, "passed", text)
        self.assertEqual(results, {"rank0": "[[3.0]]", "rank1": "[[3.0]]"})

    def outcome(self, tuning, isolation, lazy):
        """What became of the program: the status, the ranks' results, and a text for the reader."""
        self.out.mkdir()
        env = {
            group_programs.PROGRAM: str(self.program),
            group_programs.OUT: str(self.out),
            "HARNESS_TUNING": tuning,
            "HARNESS_ISOLATION": isolation,
            "DISTRIBUTED_TESTS_DEFAULT_TIMEOUT": "15",
            _LAZY: "1" if lazy else "0",
        }
        try:
            with mock.patch.dict(os.environ, env), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # groups that a program leaves behind
                result = run_case(group_programs.Program, "test")
            results = {path.name: path.read_text() for path in sorted(self.out.iterdir())}
        finally:
            for path in self.out.iterdir():
                path.unlink()
            self.out.rmdir()
        return (result.status, results), result.text
