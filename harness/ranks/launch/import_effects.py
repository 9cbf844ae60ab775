"""Keep what modules do to a process while they are imported, for processes that are forked later.

A test module may set variables of the environment, extend `sys.path` or change the current folder
while it is imported. A worker, which runs tests in place of the user's own process, keeps that.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from harness.model.surroundings import Surroundings


@dataclass(frozen=True)
class ImportEffects:
    """The surroundings of a fork server before and after its imports."""

    before: Surroundings
    after: Surroundings

    def applied_to(self, surroundings: Surroundings) -> Surroundings:
        """Return the surroundings with the changes that the imports have made.

        Args:
            surroundings: those of the runner, which has not imported the test modules.
        """
        before, after = self.before, self.after
        if after.cwd != before.cwd:
            surroundings = replace(surroundings, cwd=after.cwd)
        if after.argv != before.argv:
            surroundings = replace(surroundings, argv=after.argv)
        if after.sys_path != before.sys_path:
            later = [entry for entry in surroundings.sys_path if entry not in before.sys_path]
            surroundings = replace(surroundings, sys_path=(*later, *after.sys_path))
        gone = before.environ.keys() - after.environ.keys()
        kept = {k: v for k, v in surroundings.environ.items() if k not in gone}
        changed = {k: v for k, v in after.environ.items() if before.environ.get(k) != v}
        return replace(surroundings, environ={**kept, **changed})
