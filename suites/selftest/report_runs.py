"""Runs that were never run, for the tests of reports: ordinary, large, hung and hostile ones."""

from __future__ import annotations

from harness.model.notes import Note
from harness.model.phase import PHASES, Phase
from harness.model.timeline import CollectiveSpan, PhaseSpan, RankTrack
from harness.runner.results import RunResult, Status, TestRecord, Trouble

STARTED_AT = 1_767_225_600.0  # 2026-01-01T00:00:00Z
STARTED_S = 5000.0

# What a test may print that a report must survive: markup, every control character, both kinds of
# line separators, colours, lone surrogates, characters beyond the first plane.
NASTY = (
    "</script><script>document.title='PWNED'</script><img src=x onerror=\"document.title='PWNED'\">"
    " & &amp; ]]> <!-- {{ 7*7 }} {% raw %} \u2028\u2029 \ud800 \udfff \U0001f600 \ufffe\uffff "
    + "".join(map(chr, range(0x20)))
    + "\x7f\x85\x9b \x1b[1;31mred\x1b[0m plain"
)


def run_of(records: list[TestRecord], jobs: int = 2) -> RunResult:
    ends = [record.started_s + record.seconds for record in records]
    return RunResult(
        records=records,
        started_at=STARTED_AT,
        started_s=STARTED_S,
        seconds=max([STARTED_S, *ends]) - STARTED_S + 0.01,
        command="run_tests.py suites --seed 1234 -j 2",
        seed=1234,
        jobs=jobs,
    )


def collectives(began_s: float, ended_s: float, count: int) -> tuple[CollectiveSpan, ...]:
    """Collectives one after the other, with as much time between them as they take."""
    step = (ended_s - began_s) / (2 * count + 1)
    ops = ("all_reduce", "broadcast", "all_gather")
    return tuple(
        CollectiveSpan(
            op=ops[n % 3],
            group="default_pg",
            seq=n + 1,
            shapes=f"float32 [{n % 7 + 1}, 16]",
            began_s=began_s + (2 * n + 1) * step,
            ended_s=began_s + (2 * n + 2) * step,
            pending=False,
        )
        for n in range(count)
    )


def track(rank: int, began_s: float, seconds: float, count: int = 4, **more) -> RankTrack:
    """A rank that passed, with all phases."""
    cuts = [began_s + seconds * share for share in (0.0, 0.3, 0.35, 0.85, 0.93, 1.0)]
    phases = tuple(PhaseSpan(name, cuts[n], cuts[n + 1]) for n, name in enumerate(PHASES))
    spans = collectives(cuts[2] + rank * seconds / 100, cuts[3], count)
    return RankTrack(rank, 4000 + rank, phases, spans, **{"outcome": "passed", **more})


def record_of(
    number: int, began_s: float, seconds: float = 0.05, ranks: int = 0, **more
) -> TestRecord:
    """A test that passed."""
    owner = f"suites.test_model_{number // 20}.TestModel{number // 10 % 2}"
    tracks = tuple(track(rank, began_s + 0.001, seconds - 0.002) for rank in range(ranks))
    fields = {"status": Status.PASSED, "started_s": began_s, "seconds": seconds, "ranks": tracks}
    return TestRecord(f"{owner}.test_step_{number}", **{**fields, **more})


def failure(test_id: str, label: str = "FAIL", title: str = "") -> Trouble:
    text = (
        "Traceback (most recent call last):\n"
        '  File "suites/test_model.py", line 41, in test_sync\n'
        "    self.assertEqual(loss, 1.0)\n"
        "AssertionError: 0.5 != 1.0"
    )
    return Trouble(label, title or test_id, text)


def ten(bad: bool = False) -> RunResult:
    """Ten tests of two workers; some with ranks. One failed, one is flaky, one was skipped."""
    records = [
        record_of(n, STARTED_S + 0.06 * (n // 2), ranks=(0, 2, 4)[n % 3], worker=n % 2 + 1)
        for n in range(10)
    ]
    records[3].stdout, records[3].stderr = "step 1\nstep 2\n", "a warning\n"
    if bad:
        records[2].status, records[2].reason = Status.SKIPPED, "requires CUDA"
        records[2].ranks, records[2].seconds = (), 0.0004
        _fail(records[5])
        _make_flaky(records[7])
        records[8].notes.append(Note("left running", "sleep 100 (process 77)"))
    return run_of(records)


def _fail(record: TestRecord) -> None:
    record.status = Status.FAILED
    record.troubles = [
        failure(record.test_id),
        failure(record.test_id, "ERROR", f"{record.test_id} (lr=0.1)"),
    ]


def _make_flaky(record: TestRecord) -> None:
    began_s = record.started_s
    first = record_of(7, began_s, 0.02, worker=record.worker, stdout="first try\n")
    first.test_id, first.status = record.test_id, Status.FAILED
    first.troubles = [failure(record.test_id, "ERROR")]
    first.ranks = (track(0, began_s, 0.02, outcome="failed", reason="AssertionError: 0.5 != 1.0"),)
    record.earlier = [first]
    record.started_s, record.seconds = began_s + 0.021, 0.029
    record.ranks = (track(0, began_s + 0.022, 0.02),)


def desync() -> RunResult:
    """Four ranks part at collective 7: rank 1 goes on to an all_reduce, rank 2 to a broadcast."""
    began_s, limit_s = STARTED_S + 0.1, 5.0
    record = TestRecord(
        "suites.test_model.TestSync.test_sync",
        Status.FAILED,
        seconds=limit_s + 0.4,
        started_s=began_s,
        worker=1,
    )
    record.ranks = tuple(_parting(rank, began_s, limit_s) for rank in range(4))
    text = (
        "harness.RanksTimedOutError: 2 of 4 ranks timed out after 5 s (ranks 0 and 3 passed)\n"
        '\ncollectives   ranks 1 and 2 diverge at collective 7 of group "default_pg"\n'
        "                rank 1   all_reduce  float32 [1024, 16]   test_model.py:41 in test_sync\n"
        "                rank 2   broadcast   float32 [1024, 16]   test_model.py:44 in test_sync"
    )
    record.troubles = [Trouble("ERROR", record.test_id, text)]
    others = [record_of(n, STARTED_S + 0.06 * n, worker=2, ranks=2) for n in range(5)]
    return run_of([record, *others])


def _parting(rank: int, began_s: float, limit_s: float) -> RankTrack:
    if rank in (0, 3):
        return track(rank, began_s, 0.2, count=6)
    body_s, end_s = began_s + 0.07, began_s + 0.07 + limit_s
    op = {1: "all_reduce", 2: "broadcast"}[rank]
    last = CollectiveSpan(op, "default_pg", 7, "float32 [1024, 16]", body_s + 0.11, None, True)
    early = track(rank, began_s, 0.2)
    return RankTrack(
        rank,
        4000 + rank,
        (*early.phases[:2], PhaseSpan(Phase.BODY, early.phases[1].ended_s, end_s)),
        (*collectives(body_s, body_s + 0.1, 6), last),
        outcome="timed out",
        reason=f"its body was to take 5 s at most; it waited in {op} of group default_pg",
        stdout="epoch 0\n",
        stderr="W loss is nan, skipping step\nW using cached statistics\n" if rank == 2 else "",
        stacks=f"thread MainThread\n  test_model.py:{38 + 3 * rank} in test_sync\n"
        "  model.py:18 in forward\n",
    )


def many(count: int) -> RunResult:
    """So many tests on four workers; every twentieth has two ranks with 50 collectives each."""
    records = []
    for n in range(count):
        record = record_of(n, STARTED_S + 0.03 * (n // 4), 0.025, worker=n % 4 + 1)
        if n % 20 == 0:
            record.ranks = tuple(track(rank, record.started_s, 0.02, count=50) for rank in range(2))
        if n % 97 == 5:
            _fail(record)
        elif n % 31 == 3:
            record.status, record.reason = Status.SKIPPED, "requires CUDA"
        records.append(record)
    return run_of(records, jobs=4)


def nasty() -> RunResult:
    """Every text of every field is `NASTY`."""
    record = TestRecord(
        f"suites.{NASTY}.test_{NASTY}",
        Status.FAILED,
        seconds=0.05,
        started_s=STARTED_S,
        reason=NASTY,
        troubles=[Trouble("ERROR", NASTY, NASTY)],
        notes=[Note(NASTY, NASTY)],
        stdout=NASTY,
        stderr=NASTY,
    )
    spans = (CollectiveSpan(NASTY, NASTY, 1, NASTY, STARTED_S, None, True),)
    phases = (
        PhaseSpan(Phase.START, STARTED_S, STARTED_S + 0.01),
        PhaseSpan(Phase.EXIT, STARTED_S + 0.01, STARTED_S),
    )
    texts = {"stdout": NASTY, "stderr": NASTY, "stacks": NASTY}
    record.ranks = (RankTrack(0, None, phases, spans, NASTY, NASTY, **texts),)
    record.earlier = [TestRecord(record.test_id, Status.FAILED, reason=NASTY, stdout=NASTY)]
    skipped = TestRecord("test_plain", Status.SKIPPED, reason=NASTY)
    run = run_of([record, skipped])
    run.command = NASTY
    return run
