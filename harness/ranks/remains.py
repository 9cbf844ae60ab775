"""What a test has left in ranks that stay, and had them import, put together over the ranks."""

from __future__ import annotations

from collections.abc import Sequence

from harness.diagnosis.words import grouped, rank_list
from harness.ranks.watch.watched_rank import WAITING, WatchedRank


def left_in(ranks: Sequence[WatchedRank]) -> list[str]:
    """What the test has left, in words.

    A rank that has ended leaves nothing: it was killed or stopped on purpose, say. Its peers are
    then replaced too, so it does not matter how many collectives they have called.
    """
    found = grouped((rank.rank, text) for rank in ranks for text in rank.left)
    told = [f"{rank_list(having)}: {text}" for text, having in found]
    have_all_stayed = all(rank.phase in WAITING for rank in ranks)
    return [*told, _steps(ranks)] if have_all_stayed and not are_in_step(ranks) else told


def are_in_step(ranks: Sequence[WatchedRank]) -> bool:
    """Whether all have called equally many collectives on the groups that stay."""
    return all(rank.positions == ranks[0].positions for rank in ranks)


def _steps(ranks: Sequence[WatchedRank]) -> str:
    if any(rank.positions.keys() != ranks[0].positions.keys() for rank in ranks):
        return "the ranks have different process groups: " + ", ".join(map(_groups, ranks))
    counts = ", ".join(f"rank {rank.rank} {sum(rank.positions.values())}" for rank in ranks)
    return f"the ranks have called different numbers of collectives: {counts}"


def _groups(rank: WatchedRank) -> str:
    return f"rank {rank.rank} {', '.join(map(repr, rank.positions)) or 'none'}"


def imported_by(ranks: Sequence[WatchedRank]) -> tuple[str, ...]:
    """Modules that some rank had to import itself, in the order of their import."""
    return tuple(dict.fromkeys(name for rank in ranks for name in rank.imported))
