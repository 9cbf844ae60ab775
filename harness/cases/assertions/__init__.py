"""Assertions with state of their own: tensors compared, texts that tests expect."""
