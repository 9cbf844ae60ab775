"""Choose the tests of a run.

`files` turns names on the command line into files, `discovery` imports them and finds the tests,
`expressions` is `-k`, `pytorch_lists` PyTorch's lists of disabled and slow tests, `sharding` one
machine's part of the tests. `choice` applies all of them and puts the tests in order.
"""
