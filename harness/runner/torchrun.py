"""Run the tests on the processes that torchrun has started.

How the processes find each other, and what each of them does:

    1. Each checks the options (`place_for`), then describes itself: host, versions, tests, options.
    2. Rank 0 opens a socket, publishes its address in torchrun's store, and waits for the others
       (`_gather`). The others connect and are checked: they must match rank 0 and know the secret.
    3. Rank 0 runs the tests and reports (`_lead`). Every process, including rank 0's, keeps one
       rank of each test on rank 0's behalf (`Agent`).
    4. Rank 0 sends the exit code to all, so that all processes exit with the same one.

If torchrun restarts the world after a failure, the new rank 0 continues from the journal
(`torchrun_journal`). A run that had already ended is not repeated.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import signal
import sys
from types import FrameType
from typing import TYPE_CHECKING

from harness._version import __version__
from harness.diagnosis.words import count, rank_list
from harness.model import settings
from harness.model.clock import Deadline
from harness.model.errors import HarnessError, UsageError
from harness.model.installed_torch import torch_version
from harness.model.spec import TORCHRUN_DEVICES_VARIABLE
from harness.model.torchrun_environ import TorchrunPlace, forget, torchrun_place
from harness.runner.history.code_version import code_version
from harness.runner.options import EXIT_FAILED, EXIT_USAGE, Options
from harness.runner.torchrun_journal import Journal, TorchrunRun, code_of_finished_run
from harness.runner.workers.worker_spec import Wanted

if TYPE_CHECKING:
    from harness.model.surroundings import Surroundings
    from harness.ranks.torchrun.cluster import TorchrunRanks
    from harness.ranks.torchrun.gathering import Gathering


def place_for(options: Options) -> TorchrunPlace | None:
    """Return this process's rank and world, if the run uses torchrun's processes; otherwise None.

    Raises:
        UsageError: if such a run does not support the options.
    """
    place = torchrun_place()
    if place is None or options.list_only:
        return None
    # Each process is a run of its own then; nothing may see torchrun's variables and take it for a
    # rank.
    if options.shards_by_process:
        forget()
        return None
    ranks = f"the {count(place.world_size, 'rank')} that torchrun started"
    if options.jobs:
        raise UsageError(f"-j {options.jobs}: on {ranks}, one test runs at a time")
    for asked, option in (
        (options.retries, "--retries"),
        (options.test_timeout_s is not None, "--test-timeout"),
    ):
        if asked:
            raise UsageError(f"{option} needs worker processes; a run on {ranks} has none")
    return place


def run(place: TorchrunPlace, options: Options, wanted: Wanted) -> int:
    """Take part in the run; return the exit code, which is the same in all processes.

    Raises:
        StartError: if the processes do not find each other.
        UsageError: if they differ in options or versions; on rank 0 also as `Execution.run` does.
    """
    from harness.model.surroundings import Surroundings
    from harness.ranks.torchrun.agent import Agent
    from harness.ranks.torchrun.gathering import Gathering
    from harness.ranks.torchrun.join_request import join_request_of
    from harness.ranks.torchrun.rendezvous import Joining, StoreRendezvous, rendezvous_of
    from harness.ranks.torchrun.world_secret import world_secret

    signal.signal(signal.SIGTERM, _exit_on_sigterm)
    # Processes that this one starts inherit the environment, but are not part of torchrun's world.
    settings.USE_TORCHRUN.set(False)
    own = join_request_of(place, _identity(wanted))
    # Before any connection: a process without the secret must not even be listened to.
    secret = world_secret(place)
    base = Surroundings.now()
    deadline = Deadline.after(settings.ASSEMBLY_TIMEOUT_S.value())
    rendezvous = rendezvous_of(place, secret, deadline)
    notes = rendezvous if isinstance(rendezvous, StoreRendezvous) and place.max_restarts else None
    ended = code_of_finished_run(notes) if notes is not None else None
    if notes is not None and ended is not None:
        code = _ignoring_sigterm(ended)
        # The first process that gets here prints this. Rank 0 might not get here: torchrun ends all
        # processes as soon as one has left.
        if notes.is_first(f"told at restart {place.restart_count}"):
            print(f"this run has ended with exit code {ended}: no test is left to run")
        return code
    if place.rank:
        link = Joining(own, place, rendezvous, secret).join(deadline)
        return _ignoring_sigterm(Agent(link, place, base).serve())
    if not secret.is_secret:
        print(_INSECURE, file=sys.stderr)
    ranks = _gather(place, Gathering(place, own, rendezvous, secret), base, deadline)
    world = TorchrunRun(
        _describe_world(ranks),
        ranks.why_lost,
        Journal(notes) if notes is not None else None,
        place.may_be_restarted,
    )
    return _lead(ranks, world, options, wanted)


def _exit_on_sigterm(number: int, frame: FrameType | None) -> None:
    """Exit on torchrun's SIGTERM, with the cleanup that SystemExit runs."""
    raise SystemExit(EXIT_FAILED)


def _ignoring_sigterm(code: int) -> int:
    """Return the code after ignoring SIGTERM, since all processes are about to exit with it.

    After the first exit torchrun sends SIGTERM to the others, which would change their exit codes.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return code


_INSECURE = (
    "this world is insecure (--insecure-world): anyone who can connect to this host while its "
    "processes find each other can run code as you"
)


def _gather(
    place: TorchrunPlace, gathering: Gathering, base: Surroundings, deadline: Deadline
) -> TorchrunRanks:
    """Wait until all other processes have joined."""
    from harness.ranks.torchrun.cluster import TorchrunRanks

    members, links = gathering.gather(deadline, settings.ASSEMBLY_TIMEOUT_S.value())
    ranks = TorchrunRanks(place, members, links, base)
    # On one host torch sees all devices by itself. On several, decorators such as
    # `skip_if_lt_x_gpu` need the sum over the hosts.
    if ranks.host_count > 1 and ranks.device_count:
        os.environ[TORCHRUN_DEVICES_VARIABLE] = str(ranks.device_count)
    return ranks


def _lead(ranks: TorchrunRanks, world: TorchrunRun, options: Options, wanted: Wanted) -> int:
    """Run all tests, as rank 0, and make all processes exit with the same code."""
    from harness.ranks.pool import pool
    from harness.ranks.torchrun import cluster
    from harness.runner.execution import Execution

    # From here on, every test class in this process takes its ranks from torchrun's world.
    cluster.use(ranks)
    code = EXIT_FAILED
    try:
        code = Execution(options, wanted, world).run()
    except HarnessError:
        code = EXIT_USAGE
        raise
    finally:
        _ignoring_sigterm(code)
        pool().close()
        cluster.use(None)
        ranks.leave(code)
    return code


def _describe_world(ranks: TorchrunRanks) -> str:
    """Return one line about the world's ranks and hosts."""
    members = ranks.members
    by_host: dict[str, list[int]] = {}
    for member in members:
        by_host.setdefault(member.host, []).append(member.rank)
    hosts = ", ".join(f"{host} ({rank_list(on_it)})" for host, on_it in by_host.items())
    ranks_ = count(len(members), "rank")
    return f"torchrun started {ranks_} on {count(len(by_host), 'host')}: {hosts}"


def _identity(wanted: Wanted) -> dict[str, str]:
    """Return what must be equal in all processes; empty values are unknown and not compared."""
    # Rank 0's process may differ from the others in these.
    may_differ = (settings.USE_TORCHRUN, settings.WORLD_SECRET)
    known = [s for s in settings.ALL if s not in may_differ and s.is_set()]
    set_here = (f"{s.env}={s.value()}" for s in known)
    return {
        "options": shlex.join(sys.argv[1:]) or "(none)",
        "settings": " ".join(set_here) or "(none)",
        "tests": _digest_of_tests(wanted),
        "code (by git)": code_version(with_new_files=False),
        "harness": __version__,
        "torch": torch_version() or "(none)",
        "Python": platform.python_version(),
    }


def _digest_of_tests(wanted: Wanted) -> str:
    digest = hashlib.sha256()
    for file in wanted.files:
        digest.update(file.module.encode("utf-8", "backslashreplace") + b"\0")
        try:
            digest.update(hashlib.sha256(file.path.read_bytes()).digest())
        except OSError:
            digest.update(b"unreadable")
    return f"{count(len(wanted.files), 'file')}, {digest.hexdigest()[:8]}"
