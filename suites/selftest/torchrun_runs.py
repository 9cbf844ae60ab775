"""Starts worlds for the self-tests as torchrun and srun do, and takes them apart again."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from suites.selftest.support import ROOT, CommandTestCase, Finished, Sandbox

SAMPLES = str(ROOT / "suites" / "samples" / "torchrun_ranks.py")
PROPERTIES = str(ROOT / "suites" / "samples" / "torchrun_properties.py")

_count = itertools.count()


def new_port() -> int:
    """A port for a world: below those that the kernel hands out, and not of another process's."""
    return 20_000 + (os.getpid() * 37 + next(_count)) % 12_000


@dataclass
class Ended:
    """A world whose processes have all come back.

    Attributes:
        processes: in the order of ranks.
    """

    processes: list[Finished]

    @property
    def codes(self) -> list[int]:
        return [process.code for process in self.processes]

    @property
    def out(self) -> str:
        """What rank 0 has printed."""
        return self.processes[0].out

    @property
    def err(self) -> str:
        return "".join(process.err for process in self.processes)


class TorchrunTestCase(CommandTestCase):
    """Runs the samples, or other tests, on processes that torchrun or srun would start."""

    def setUp(self) -> None:
        super().setUp()
        self.notes = self.sandbox.base / "notes"
        self.notes.mkdir()

    def settings(self, **more: str | None) -> dict[str, str | None]:
        """What samples read; and how long processes that are slow to start are waited for."""
        # The secret of the world is in it: processes of a user share it, on all hosts.
        cache = str(self.sandbox.base / "cache")
        return {
            "SAMPLE_OUT": str(self.notes),
            "HARNESS_ASSEMBLY_TIMEOUT": "120",
            "XDG_CACHE_HOME": cache,
            **more,
        }

    def start_world(
        self,
        size: int,
        *arguments: str,
        missing: Collection[int] = (),
        folders: Mapping[int, Path] | None = None,
        each: Mapping[int, Mapping[str, str]] | None = None,
        **env: str,
    ) -> list[tuple[Sandbox, subprocess.Popen]]:
        """Start a world as srun would: a process for each rank, on one host.

        Args:
            size: the world size.
            arguments: for `python -m harness`.
            missing: the ranks that are not started.
            folders: where single ranks start, if not in `self.folder`.
            each: further variables of single ranks.
            env: further variables of all.
        """
        port = str(new_port())
        variables = {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
            "WORLD_SIZE": str(size),
            "LOCAL_WORLD_SIZE": str(size),
            **self.settings(**env),
        }
        started = []
        for rank in (rank for rank in range(size) if rank not in missing):
            sandbox = self.new_sandbox() if started else self.sandbox
            own = {"RANK": str(rank), "LOCAL_RANK": str(rank), **(each or {}).get(rank, {})}
            command = (sys.executable, "-m", "harness", "--no-history", *arguments)
            folder = (folders or {}).get(rank, self.folder)
            process = sandbox.start(*command, cwd=folder, **{**variables, **own})
            started.append((sandbox, process))
        return started

    def finish_world(self, started: list[tuple[Sandbox, subprocess.Popen]]) -> Ended:
        ended = Ended([sandbox.finish(process) for sandbox, process in started])
        for process in ended.processes:
            self.assert_clean(process)
        return ended

    def run_world(self, size: int, *arguments: str, **more) -> Ended:
        return self.finish_world(self.start_world(size, *arguments, **more))

    def assert_clean(self, finished: Finished) -> None:
        """Nothing is left but what torchrun leaves itself."""
        ours = [name for name in finished.left_files if not name.startswith("torchelastic_")]
        super().assert_clean(replace(finished, left_files=ours))

    def torchrun(self, *arguments: str, **env: str) -> Finished:
        """`torchrun … -m harness …` on one host."""
        return self.run_command(
            sys.executable, "-m", "torch.distributed.run", *arguments, **self.settings(**env)
        )


def lines_of_ranks(text: str) -> list[str]:
    """What a report says of each group of ranks, without what they did there."""
    return re.findall(r"^(ranks? [^:\n]*\([^\n]*\): [^\n]*)$", text, re.MULTILINE)
