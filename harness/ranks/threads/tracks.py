"""Make the timeline tracks of thread ranks that have run a test."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from harness.model import settings, timeline
from harness.model.clock import now
from harness.model.timeline import RankTrack
from harness.model.verdict import ExitRule
from harness.ranks.threads.world import ThreadWorld
from harness.ranks.watch.tracks import Endings


@contextlib.contextmanager
def recording_tracks(world: ThreadWorld, test: str = "") -> Iterator[None]:
    """Record the tracks of the ranks when the block ends, if timelines are on.

    Args:
        world: the ranks.
        test: name of the test method.
    """
    try:
        yield
    finally:
        if settings.TIMELINE.value():
            endings = Endings(world.reports(), ExitRule(), test)
            timeline.put(
                tuple(
                    endings.on(
                        RankTrack(
                            thread.rank,
                            pid=None,
                            phases=thread.progress.phases(thread.ended_s or now()),
                            collectives=world.groups.ledger.spans(thread.rank),
                        )
                    )
                    for thread in world.threads
                )
            )
