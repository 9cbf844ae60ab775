"""Watch the ranks of a test until each has an outcome.

    supervisor      the loop; it waits for messages, exits and the next deadline at once
    watched_rank    one rank: its phase, its messages, its outcome
    deadlock_watch  detects that no rank can go on, long before the time limit
    leave_gate      lets ranks that have passed close their connections when no peer needs them
    evidence        asks ranks for stacks and collectives, and gathers the answers
    where           reports where every rank is, at any moment (`where_answers` asks the ranks)

How ranks are started is in `ranks/launch`. Read `supervisor` first.
"""
