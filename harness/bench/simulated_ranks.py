"""Simulate the processes of a torchrun world, which only send the messages that real ranks send."""

from __future__ import annotations

import multiprocessing
import select
import socket
import time
from multiprocessing.connection import Connection
from typing import Any

from harness.model.clock import Deadline
from harness.model.evidence import Group, Snapshot
from harness.model.outcome import Passed
from harness.model.spec import LaunchSpec
from harness.model.surroundings import Surroundings
from harness.model.verdict import USUAL_EXIT, VerdictKind, judge
from harness.ranks import folders
from harness.ranks.messages import AtMeeting, Goodbye, Ready, Report
from harness.ranks.stores import LOOPBACK
from harness.ranks.torchrun import links
from harness.ranks.torchrun.gathering import Member
from harness.ranks.torchrun.links import Link
from harness.ranks.torchrun.messages import (
    Answered,
    Asked,
    ForRank,
    LeftoversAnswer,
    LeftoversQuestion,
    RankExited,
    RankSent,
    RankStarted,
    StartRank,
    ToAgent,
    to_agent,
)
from harness.ranks.torchrun.peer import Peer
from harness.ranks.torchrun.process_changes import changes
from harness.ranks.torchrun.world import TorchrunWorld
from harness.ranks.watch.supervisor import Limits, Supervisor

_LIMIT_S = 120.0
# What a rank of a test with one collective reports about its process group.
_SNAPSHOT = Snapshot(groups={"0": Group((0,), "default_pg", 300.0)})


def cpu_of_rank_0(size: int, tests: int) -> float:
    """Measure the CPU time that rank 0's process spends on a passing test, in seconds.

    Args:
        size: how many ranks there are, all of them elsewhere.
        tests: how many tests to run.
    """
    listener = links.listen(LOOPBACK, 0)
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    side = context.Process(target=_simulate, args=(listener.getsockname()[1], size, theirs))
    side.start()
    peers = _accepted(listener, size)
    base = Surroundings.now()
    try:
        _run(peers, base)  # the first run pays for one-time setup
        began_s = time.process_time()
        for _ in range(tests):
            _run(peers, base)
        return (time.process_time() - began_s) / tests
    finally:
        for peer in peers:
            peer.link.close()
        ours.close()
        side.join(_LIMIT_S)


def _accepted(listener: socket.socket, size: int) -> list[Peer]:
    peers: list[Peer] = []
    deadline = Deadline.after(_LIMIT_S)
    with listener:
        while len(peers) < size and not deadline.expired:
            select.select([listener], [], [], 1.0)
            try:
                sock, _ = listener.accept()
            except BlockingIOError:
                continue
            rank = len(peers)
            peers.append(Peer(Member(rank, rank, 0, "elsewhere", "", 0), Link(sock)))
    if len(peers) < size:
        raise SystemExit(f"only {len(peers)} of {size} simulated ranks have connected")
    return peers


def _run(peers: list[Peer], base: Surroundings) -> None:
    folder = str(folders.new_test_folder("bench"))
    spec = _spec(len(peers), folder)
    world = TorchrunWorld(
        folder,
        peers[0].member,
        peers,
        lambda: changes(base, Surroundings.now()),
        lambda spec: spec,
    )
    world.begin(spec, _no_factory, range(len(peers)))
    supervisor = Supervisor(world, Limits(_LIMIT_S, _LIMIT_S, _LIMIT_S), USUAL_EXIT)
    verdict = judge(supervisor.run(), USUAL_EXIT)
    world.end_leftovers()
    world.close()
    folders.remove(folder)
    if verdict.kind is not VerdictKind.PASSED:
        raise SystemExit(f"the test of the simulated ranks should pass: {verdict.kind.value}")


def _no_factory(**kwargs: Any) -> Any:
    raise AssertionError("all ranks are simulated; none should start")


def _spec(size: int, folder: str) -> LaunchSpec:
    return LaunchSpec(
        "bench.Test.test", "bench", "Test", "test", size, "", folder, folder,
        Surroundings.now(), 1, _LIMIT_S,
    )  # fmt: skip


def _simulate(port: int, size: int, alive: Connection) -> None:
    """Act as all ranks at once, in the other process, until the connections are closed."""
    found = {}
    for _ in range(size):
        sock = socket.create_connection((LOOPBACK, port), timeout=_LIMIT_S)
        sock.settimeout(None)
        link = Link(sock)
        found[link.fd] = link
    poller = select.poll()
    for fd in found:
        poller.register(fd, select.POLLIN)
    while found:
        for fd, _ in poller.poll():
            link = found[fd]
            for message in link.messages(to_agent):
                _answer(link, message)
            if link.closed:
                poller.unregister(fd)
                del found[fd]


def _answer(link: Link, message: ToAgent) -> None:
    match message:
        case Asked(number, LeftoversQuestion()):
            link.send(Answered(number, LeftoversAnswer(())))
        case StartRank(world):
            link.send(RankStarted(world, 1))
            link.send(RankSent(world, Ready()))
            link.send(RankSent(world, AtMeeting("init_process_group", "")))
        case ForRank(world):  # all ranks have met
            link.send(RankSent(world, Report(Passed(), snapshot=_SNAPSHOT)))
            link.send(RankSent(world, Goodbye(())))
            link.send(RankExited(world, 0, ""))
        case _:
            pass
