"""Assertions with state of their own: comparison of tensors, texts that tests expect."""
