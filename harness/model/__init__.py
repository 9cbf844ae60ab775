"""Plain data that all other packages agree on.

It holds what a rank is launched with (`spec`), what becomes of it (`outcome`), what the outcomes of
all ranks add up to (`verdict`), every setting (`settings`), every error (`errors`), and the clock.
Nothing here starts a process, imports torch, or imports another package of the harness.

Read `outcome` and `verdict` first: the verdict of a test is one pure function of its outcomes.
"""
