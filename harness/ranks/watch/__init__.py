"""Watch the ranks of a test until each has an outcome.

    supervisor      the loop; it waits for messages, exits and the next deadline at once
    watched_rank    one rank: its phase, its messages, its outcome
    deadlock_watch  detects that no rank can make progress, long before the time limit
    leave_gate      lets ranks that have passed close their connections when no peer needs them
    meetings        exchanges texts between ranks (`assertRanksAgree`)
    terminal        lends the terminal to a rank in a debugger
    evidence        asks ranks for stacks and collectives, and collects the answers
    where           reports where every rank is, at any moment (`where_answers` asks the ranks)
    tracks          the ranks over time, for timelines
    rank_warnings   shows the ranks' warnings in the parent

One turn of the supervisor's loop:

    wait ──> messages, exits ──> WatchedRank: phase, outcome
                                   ├──> Meetings, Terminal, StatusRequests: answer the ranks
                                   ├──> fault? deadline? deadlock? ──> begin the end of the test
                                   └──> LeaveGate: may ranks that have passed leave?

All parts run in the supervisor's thread, so none of them needs a lock. `ranks/launch` starts the
ranks. Read `supervisor` first.
"""
