"""Ranks on the processes that torchrun or srun has started. Start at `cluster`."""
