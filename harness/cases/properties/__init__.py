"""Property tests over ranks: Hypothesis's engine in the parent, the bodies in the ranks."""
