"""Run the method of a property test in a rank, once for each example that the parent sends.

Every example has its own test instance, process group, store and seed. All other state is checked
once, after the last example.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from harness.model.outcome import Passed, Raised, Skipped
from harness.ranks.child import kept_group, store
from harness.ranks.child.rank_pipe import RankPipe
from harness.ranks.problems import problem_of


def serve(pipe: RankPipe, run: Callable[[str], None]) -> None:
    """Run examples until there are no more.

    The parent judges failures. The rank continues with the next example.

    Args:
        pipe: the channel to the parent.
        run: runs the class's entry, with the file for a FileStore; the outcome goes to `pipe`.

    Raises:
        SystemExit: if the body asked to exit.
    """
    pipe.await_examples()
    while (order := pipe.next_example()) is not None:
        store.begin_part(order.number)
        if order.fresh_group:
            kept_group.destroy_all()
        kept_group.hide()
        _run_one(pipe, lambda: run(order.file_name))
        pipe.end_example()
    pipe.report(Passed())


def _run_one(pipe: RankPipe, run: Callable[[], None]) -> None:
    try:
        run()
        if pipe.outcome is None:
            raise RuntimeError(
                "_run() returned without running the test: an override must call "
                "self.run_test(test_name, parent_pipe)"
            )
    except SystemExit:
        if pipe.outcome is None:
            raise  # the body called sys.exit()
    except BaseException:
        pipe.report(Raised((problem_of(sys.exc_info()),)))
    try:
        if isinstance(pipe.outcome, Passed | Skipped):
            kept_group.destroy_others(exits=False)
            kept_group.destroy_sub_groups()  # the next example must not find them
        else:
            # At once, since peers may wait for this rank in a collective.
            kept_group.destroy_all()
    except Exception:
        pipe.report(Raised((problem_of(sys.exc_info()),)))
