"""Explain what a stuck or failed rank was doing.

Nothing here sends a message to another process. The evidence flows in one direction:

    in the rank      snapshot (recorder, waits, sources)  ──┐
    from outside     stacks (faulthandler), native (py-spy) ┴─> model.evidence.Evidence
                                                                  │
    in the parent    deadlock: can the world still make progress? ┤
                     collectives: where do the ranks diverge?     ┤
                     position: where is each rank right now?      ┤
                     report, with calls and words: the text of a failure

Read `report` first: its `describe` sets the order in which a failure is explained.
"""

# Collecting evidence must not change what a running test does, so no module here imports torch if
# the test has not, and none calls into a process group.
