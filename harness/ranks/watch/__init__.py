"""Watch the ranks of a test until each has an outcome.

    supervisor      the loop; it waits for messages, exits and the next deadline at once
    watched_rank    one rank: its phase, what it has said, what became of it
    deadlock_watch  notices that no rank can go on, long before the time limit
    leave_gate      lets ranks that have passed close their connections when no peer needs them
    evidence        asks ranks for stacks and collectives, and gathers the answers
    where           "where is every rank", asked at any moment (`where_answers` asks the ranks)

How ranks are started is in `ranks/launch`. Read `supervisor` first.
"""
