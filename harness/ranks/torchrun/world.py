"""A world whose ranks run on torchrun's processes, one on each.

To the supervisor it is a world like any other. What has to be asked of hosts is asked of all of
them at once.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from harness.model.clock import Deadline
from harness.model.rank_report import Tail
from harness.model.spec import LaunchSpec
from harness.ranks.handle import RankHandle
from harness.ranks.launch.launcher import ProcessFactory
from harness.ranks.leftovers import Leftover
from harness.ranks.logs import STREAMS, WorldLogs
from harness.ranks.messages import NoMoreExamples, RunExample
from harness.ranks.outside_view import NATIVE_LIMIT_S, Inspection, InspectionRequest
from harness.ranks.torchrun.gathering import Member
from harness.ranks.torchrun.messages import (
    InspectionAnswer,
    InspectionQuestion,
    LeftoversAnswer,
    LeftoversQuestion,
    LogsAnswer,
    LogsQuestion,
    StreamEnd,
)
from harness.ranks.torchrun.peer import Peer, gather
from harness.ranks.torchrun.process_changes import ProcessChanges
from harness.ranks.torchrun.remote_rank import RemoteRank, frame_of
from harness.ranks.typed_message import frame
from harness.ranks.world import World

_numbers = itertools.count(1)
# How long a peer on a busy host may take for an answer that normally takes milliseconds.
_ANSWER_S = 10.0
# How much of a log to fetch: the most that a report or a timeline shows.
_LINES, _BYTES = 500, 64 * 1024


class TorchrunLogs(WorldLogs):
    """Logs, some of them on other hosts. The first access fetches all remote ones.

    Args:
        folder: the world's folder on this host.
        remote: the ranks of other processes.
        world: the number of the world.
    """

    def __init__(self, folder: str, remote: Sequence[RemoteRank], world: int) -> None:
        super().__init__(folder)
        self._remote = remote
        self._world = world
        self._found: dict[int, Mapping[str, StreamEnd]] | None = None

    def forget(self) -> None:
        """Drop the fetched logs, since another test or example begins."""
        self._found = None

    def tail(self, rank: int, stream: str, max_lines: int) -> Tail:
        streams = self._of(rank)
        if streams is None:
            return super().tail(rank, stream, max_lines)
        return streams.get(stream, StreamEnd()).tail.last(max_lines)

    def end(self, rank: int, stream: str, max_bytes: int) -> str:
        streams = self._of(rank)
        if streams is None:
            return super().end(rank, stream, max_bytes)
        return streams.get(stream, StreamEnd()).text[-max_bytes:]

    def _of(self, rank: int) -> Mapping[str, StreamEnd] | None:
        """Return the logs that the rank's agent has sent; None for a rank of this process."""
        if self._found is None:
            question = LogsQuestion(self._world, _LINES, _BYTES)
            asked = {r.peer: r.peer.ask(question) for r in self._remote}
            answers = gather(asked, LogsAnswer, Deadline.after(_ANSWER_S))
            none = LogsAnswer({})
            self._found = {r.rank: answers.get(r.peer, none).streams for r in self._remote}
        return self._found.get(rank)


class TorchrunWorld(World):
    """All ranks of one test.

    Args:
        folder: the folder for the files of this process's own rank.
        own: this process.
        peers: by rank, the process that runs it; None for this process.
        changes: returns what the others must change in their surroundings.
        own_spec: adapts the spec to this process.
    """

    def __init__(
        self,
        folder: str,
        own: Member,
        peers: Sequence[Peer | None],
        changes: Callable[[], ProcessChanges],
        own_spec: Callable[[LaunchSpec], LaunchSpec],
    ) -> None:
        super().__init__(folder)
        self._number = next(_numbers)
        self._own = own
        self._peers = peers
        self._changes = changes
        self._made: tuple[LaunchSpec, bytes] | None = None
        self._own_spec = own_spec
        self._remote: list[RemoteRank] = []
        self._logs = self.logs = TorchrunLogs(folder, self._remote, self._number)

    def _start_rank(self, spec: LaunchSpec, rank: int, factory: ProcessFactory) -> None:
        peer = self._peers[rank]
        if peer is None:
            super()._start_rank(self._own_spec(spec), rank, factory)
            own = self.handles[-1]
            own.host, own.local_rank = self._own.host, self._own.local_rank
            return
        handle = RemoteRank(rank, peer, self._number)
        self.handles.append(handle)
        self._remote.append(handle)
        handle.start_with(self._frame(spec))

    def run(self, spec: LaunchSpec) -> None:
        self._logs.forget()
        super().run(spec)

    def _send_test(self, handle: RankHandle, spec: LaunchSpec) -> None:
        if isinstance(handle, RemoteRank):
            handle.run_next_test(self._frame(spec))
        else:
            super()._send_test(handle, self._own_spec(spec))

    def resume(self, order: RunExample | NoMoreExamples) -> None:
        self._logs.forget()
        sent = frame(order)
        for handle in self._remote:
            handle.run_next_example(sent)
        super().resume(order)

    def _frame(self, spec: LaunchSpec) -> bytes:
        """Return the encoded spec, made once for all ranks."""
        if self._made is None or self._made[0] is not spec:
            self._made = (spec, frame_of(spec, self._changes()))
        return self._made[1]

    def inspect(self, requests: Mapping[int, InspectionRequest]) -> dict[int, Inspection]:
        asked = {
            r.peer: r.peer.ask(InspectionQuestion(self._number, requests[r.rank]))
            for r in self._remote
            if r.rank in requests
        }
        found = super().inspect(requests)
        is_slow = any(request.native for request in requests.values())
        limit_s = _ANSWER_S + NATIVE_LIMIT_S * is_slow
        answers = gather(asked, InspectionAnswer, Deadline.after(limit_s))
        told = {r.rank: answers[r.peer].inspection for r in self._remote if r.peer in answers}
        return {**found, **told}

    def end_leftovers(self, grace_s: float = 0.0) -> list[Leftover]:
        question = LeftoversQuestion(self._number, grace_s)
        asked = {r.peer: r.peer.ask(question) for r in self._remote}
        found = super().end_leftovers(grace_s)
        answers = gather(asked, LeftoversAnswer, Deadline.after(_ANSWER_S + grace_s))
        for peer, answer in answers.items():
            found += [replace(each, host=peer.member.host) for each in answer.found]
        return found


def stream_ends(logs: WorldLogs, rank: int, lines: int, max_bytes: int) -> dict[str, StreamEnd]:
    """Return the ends of a rank's logs for `TorchrunLogs`."""
    return {
        stream: StreamEnd(logs.tail(rank, stream, lines), logs.end(rank, stream, max_bytes))
        for stream in STREAMS
    }
