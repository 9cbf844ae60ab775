"""Assertions that all ranks make together: either all of them pass, or all of them fail.

A rank that fails alone leaves its peers waiting in their next collective. With these assertions the
ranks exchange their results before any of them continues. The exchange does not use the process
group under test.
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

# How many characters of its failure one rank sends to the others.
_MAX_CHARS = 2000
# How many different failures the message shows.
_MAX_FAILURES = 3


class AgreementMixin(MixinBase):
    """`assertEqualOnAllRanks` and `assertRanksAgree`, for every TestCase with ranks."""

    rank: int
    world_size: int

    def assertEqualOnAllRanks(self, x: Any, y: Any, msg: Any = None, **kwargs: Any) -> None:
        """Call `assertEqual` on every rank; if it fails on one rank, it fails on all of them.

        Every rank must call it.

        Args:
            x, y: as for `assertEqual`; each rank may pass different values.
            msg, kwargs: as for `assertEqual` (`atol`, `rtol` and so on, for tensors).

        Raises:
            AssertionError: on all ranks; the message names the ranks where x and y differ.
            PeerLeftError: if a rank has ended its test, or calls another assertion.
        """
        try:
            self.assertEqual(x, y, msg, **kwargs)
            mine = ""
        except AssertionError as error:
            mine = str(error) or "not equal"
        _fail_together(self, "assertEqualOnAllRanks", mine)

    def assertRanksAgree(self, value: Any, msg: Any = None, **kwargs: Any) -> None:
        """Fail on all ranks unless every rank has the same value as rank 0.

        Every rank must call it.

        Args:
            value: anything that can be pickled: tensors, numbers, strings, lists and dicts of them.
            msg, kwargs: as for `assertEqual`, which compares each rank's value with rank 0's.

        Raises:
            AssertionError: on all ranks; the message names the ranks whose value is not rank 0's.
            PeerLeftError: if a rank has ended its test, or calls another assertion.
        """
        label = "assertRanksAgree"
        # Most calls pass, so the ranks first exchange digests. They send rank 0's value only if
        # the digests differ: then the values may still be equal within tolerance.
        data = _pickled(value)
        digests = ranks_of(self).meet(label, hashlib.sha256(data).hexdigest())
        if len(set(digests)) == 1:
            return
        _fail_together(self, label, _difference_from_rank_0(self, value, data, msg, kwargs))


def _difference_from_rank_0(
    case: AgreementMixin, value: Any, data: bytes, msg: Any, kwargs: dict[str, Any]
) -> str:
    """Return how this rank's value differs from rank 0's; empty if it does not."""
    ranks = ranks_of(case)
    if case.rank == 0:
        ranks.hand_out("agreement", data)
    ranks.meet("assertRanksAgree")  # barrier: rank 0 has published its value
    mine = ""
    if case.rank != 0:
        shared = io.BytesIO(ranks.handed_out("agreement"))
        reference = torch.load(shared, weights_only=False)
        try:
            case.assertEqual(value, reference, msg, **kwargs)
        except AssertionError as error:
            mine = f"this rank's value (left) is not rank 0's: {error}"
    ranks.meet("assertRanksAgree")  # barrier: every rank has read it
    if case.rank == 0:
        ranks.take_back("agreement")
    return mine


def _fail_together(case: AgreementMixin, label: str, mine: str) -> None:
    """Exchange the failures of all ranks; fail on every rank if there is one."""
    received = ranks_of(case).meet(label, json.dumps(mine[:_MAX_CHARS]))
    failed = {rank: text for rank, value in enumerate(received) if (text := json.loads(value))}
    if failed:
        # Every rank raises the same text, so the report groups the ranks and prints it once.
        case.fail("\n\n".join([_heading(label, failed, len(received)), *_by_text(failed)]))


def _by_text(failed: dict[int, str]) -> list[str]:
    texts = [f"{rank_list(which)}: {text}" for text, which in grouped(failed.items())]
    rest = len(texts) - _MAX_FAILURES
    return texts[:_MAX_FAILURES] + ([f"(and {rest} other ways)"] if rest > 0 else [])


def _heading(label: str, failed: dict[int, str], size: int) -> str:
    if len(failed) == size:
        return f"{label}: every rank differs" if size > 1 else f"{label}: the values differ"
    verb = "differs" if len(failed) == 1 else "differ"
    return f"{label}: {rank_list(list(failed))} of {size} {verb}"


def _pickled(value: Any) -> bytes:
    # torch.save handles tensors of every device and layout. Equal values give equal bytes, or else
    # the slower comparison decides.
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()
