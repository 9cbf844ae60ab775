"""Plain data that all other packages share.

    spec.LaunchSpec      what the parent asks of the ranks of one test
          │  (the ranks run)
    outcome.Outcome      how one rank ended         evidence.Evidence    what it was doing then
          └────────────────┬─────────────────────────────┘
    rank_report.RankReport   one for each rank
          │  verdict.judge()
    verdict.Verdict      passed, skipped, failed, raised, died, timed out, deadlocked, disagreed

Beside these: every setting (`settings`), every error and warning (`errors`), the clock (`clock`),
and the marks and notes that tests leave for the runner (`marks`, `notes`, `timeline`).

Nothing here starts a process, imports torch, or imports another package of the harness. So the
runner can use all of it without the second that it takes to import torch.

Read `outcome` and `verdict` first: the verdict of a test is one pure function of its outcomes.
"""
