"""Assertions that all ranks make together: either all of them pass, or all of them fail.

A rank that fails alone leaves its peers waiting in their next collective. Here the ranks tell each
other how they fared, outside the process group under test, before any of them goes on.
"""

from __future__ import annotations

import hashlib
import io
import json
import unittest
from typing import TYPE_CHECKING, Any

import torch

from harness.cases.ranks_of_test import ranks_of
from harness.diagnosis.words import grouped, rank_list

if TYPE_CHECKING:
    MixinBase = unittest.TestCase
else:
    MixinBase = object

__unittest = True  # unittest leaves the frames of such modules out of its tracebacks

# What one rank tells of its failure to the others.
_SHOWN = 2000
# How many ways of failing are told.
_TEXTS = 3


class AgreementMixin(MixinBase):
    """`assertEqualOnAllRanks` and `assertRanksAgree`, for every TestCase with ranks."""

    rank: int
    world_size: int

    def assertEqualOnAllRanks(self, x: Any, y: Any, msg: Any = None, **kwargs: Any) -> None:
        """As `assertEqual` on every rank; if it fails on one rank, it fails on all of them.

        To be called by every rank.

        Args:
            x, y: as for `assertEqual`; they may be other ones on every rank.
            msg, kwargs: likewise (`atol`, `rtol` and so on, for tensors).

        Raises:
            AssertionError: naming the ranks on which they differ, and how.
            PeerLeftError: if a rank has ended its test, or calls something else.
        """
        try:
            self.assertEqual(x, y, msg, **kwargs)
            mine = ""
        except AssertionError as error:
            mine = str(error) or "not equal"
        _fail_together(self, "assertEqualOnAllRanks", mine)

    def assertRanksAgree(self, value: Any, msg: Any = None, **kwargs: Any) -> None:
        """Every rank has the same value; if one has another than rank 0, all of them fail.

        To be called by every rank.

        Args:
            value: anything that can be pickled: tensors, numbers, texts, lists and dicts of them.
            msg, kwargs: as for `assertEqual`, which compares each rank's value with rank 0's.

        Raises:
            AssertionError: naming the ranks whose value is not rank 0's, and how they differ.
            PeerLeftError: if a rank has ended its test, or calls something else.
        """
        label = "assertRanksAgree"
        data = _pickled(value)
        digests = ranks_of(self).meet(label, hashlib.sha256(data).hexdigest())
        if len(set(digests)) == 1:
            return  # bit by bit
        _fail_together(self, label, _difference_from_rank_0(self, value, data, msg, kwargs))


def _difference_from_rank_0(
    case: AgreementMixin, value: Any, data: bytes, msg: Any, kwargs: dict[str, Any]
) -> str:
    ranks = ranks_of(case)
    if case.rank == 0:
        ranks.hand_out("agreement", data)
    ranks.meet("assertRanksAgree")  # it is there
    mine = ""
    if case.rank != 0:
        shared = io.BytesIO(ranks.handed_out("agreement"))
        reference = torch.load(shared, weights_only=False)
        try:
            case.assertEqual(value, reference, msg, **kwargs)
        except AssertionError as error:
            mine = f"this rank's value (left) is not rank 0's: {error}"
    ranks.meet("assertRanksAgree")  # everybody has read it
    if case.rank == 0:
        ranks.take_back("agreement")
    return mine


def _fail_together(case: AgreementMixin, label: str, mine: str) -> None:
    told = ranks_of(case).meet(label, json.dumps(mine[:_SHOWN]))
    failed = {rank: text for rank, value in enumerate(told) if (text := json.loads(value))}
    if failed:
        # The same on every rank, so that the report says it once.
        case.fail("\n\n".join([_heading(label, failed, len(told)), *_by_text(failed)]))


def _by_text(failed: dict[int, str]) -> list[str]:
    told = [f"{rank_list(which)}: {text}" for text, which in grouped(failed.items())]
    rest = len(told) - _TEXTS
    return told[:_TEXTS] + ([f"(and {rest} other ways)"] if rest > 0 else [])


def _heading(label: str, failed: dict[int, str], size: int) -> str:
    if len(failed) == size:
        return f"{label}: every rank differs" if size > 1 else f"{label}: the values differ"
    verb = "differs" if len(failed) == 1 else "differ"
    return f"{label}: {rank_list(list(failed))} of {size} {verb}"


def _pickled(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()
