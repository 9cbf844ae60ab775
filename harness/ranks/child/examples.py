"""Run the method of a property test in a rank, once for each example that the parent sends.

Every example has its own test instance, process group, store and seed. All other state is checked
once, after the last example.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from harness.model.outcome import Passed, Raised, Skipped
from harness.ranks.child.rank import Rank
from harness.ranks.problems import problem_of


def serve(rank: Rank, run: Callable[[str], None]) -> None:
    """Run examples until there are no more.

    The parent judges failures. The rank continues with the next example.

    Args:
        rank: this rank.
        run: runs the class's entry, with the file for a FileStore; the outcome goes to `rank`.

    Raises:
        SystemExit: if the body asked to exit.
    """
    rank.await_examples()
    while (order := rank.next_example()) is not None:
        rank.store.begin_example(order.number)
        if order.fresh_group:
            rank.groups.destroy_all()
        rank.groups.hide()
        _run_one(rank, lambda: run(order.file_name))
        rank.end_example()
    rank.report(Passed())


def _run_one(rank: Rank, run: Callable[[], None]) -> None:
    try:
        run()
    except SystemExit:
        if rank.outcome is None:
            raise  # the body called sys.exit()
    except BaseException:
        rank.report(Raised((problem_of(sys.exc_info()),)))
    try:
        if isinstance(rank.outcome, Passed | Skipped):
            rank.groups.destroy_others(exits=False)
            rank.groups.destroy_sub_groups()  # the next example must not find them
        else:
            # At once, since peers may wait for this rank in a collective.
            rank.groups.destroy_all()
    except Exception:
        rank.report(Raised((problem_of(sys.exc_info()),)))
