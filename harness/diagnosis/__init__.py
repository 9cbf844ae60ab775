"""Explain what a stuck or failed rank was doing.

`snapshot` looks at the rank from inside (stacks, torch's flight recorder, the call that it waits
in); `stacks` and `native` read what faulthandler and py-spy say from outside. `deadlock` decides
whether a world can still go on, `collectives` finds where ranks diverge, and `report` and `words`
turn all of it into the text of a failure. Nothing here talks to a process.

Read `report` first: it sets the order in which a failure is explained.
"""
