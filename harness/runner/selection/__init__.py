"""Choose the tests of a run.

`files` turns names on the command line into files. `discovery` imports these and finds the tests.
`expressions` implements `-k`, `pytorch_lists` PyTorch's lists of disabled and slow tests, and
`sharding` the part of the tests that one machine runs. `choice` applies them all and orders the
tests.
"""
