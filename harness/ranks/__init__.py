"""Start ranks, talk to them, watch them, end them; their stores, folders and logs.

Modules named `child_…` run in a rank; the others run in the parent.
"""
