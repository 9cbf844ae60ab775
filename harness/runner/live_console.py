"""The console on a terminal: running tests, progress, and failures as they happen."""

from __future__ import annotations

import os
import sys
from typing import Any

from harness.model.clock import Deadline, now
from harness.runner.console import Console
from harness.runner.own_stream import OwnStream
from harness.runner.results import Status, TestRecord
from harness.runner.workers.schedule import Item

_REFRESH_S = 0.1
_MAX_SHOWN = 8


class LiveConsole(Console):
    """Shows a few live lines at the bottom of the terminal; other output scrolls above them."""

    def __init__(self, verbose: bool, slow_s: float) -> None:
        super().__init__(verbose, slow_s)
        from rich.console import Console as RichConsole
        from rich.live import Live

        # soft_wrap: rich must not break long lines, which users copy from the terminal.
        self._rich = RichConsole(file=sys.stdout, highlight=False, soft_wrap=True)
        # No thread of its own refreshes the display: the runner forks, and forks with threads are
        # not safe.
        self._live = Live(console=self._rich, auto_refresh=False, transient=True)
        self._started_s = now()
        self._failed = 0
        self._refresh = Deadline.after(0.0)
        self._is_up = False

    def expect(self, items: list[Item]) -> None:
        super().expect(items)
        if not self._is_up:
            self._is_up = True
            self._live.start()

    def say(self, text: str = "") -> None:
        from rich.text import Text

        if self._is_up:
            # As Text: rich would interpret brackets in a test's name as markup.
            self._rich.print(Text.from_ansi(text))
        else:
            super().say(text)

    def warn(self, text: str) -> None:
        if self._is_up:
            self.say(text.rstrip("\n"))
        else:
            super().warn(text)

    def ended(self, item: Item | None, record: TestRecord) -> None:
        self._failed += record.status is Status.FAILED
        super().ended(item, record)

    def tick(self) -> None:
        super().tick()
        if self._is_up and self._refresh.expired and _in_foreground():
            self._refresh = Deadline.after(_REFRESH_S)
            self._live.update(self._render(), refresh=True)

    def _is_heartbeat_due(self) -> bool:
        return False  # the live lines already show that the run goes on

    def _render(self) -> Any:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        head = Table.grid(padding=(0, 1))
        failed = Text(f"{self._failed} failed", "bold red") if self._failed else Text("")
        head.add_row(
            ProgressBar(total=max(1, self._total), completed=self._done, width=30),
            f"{self._done} of {self._total}",
            f"{now() - self._started_s:.0f} s",
            failed,
        )
        rows = Table.grid(padding=(0, 1))
        # The tests that run longest are those that a user may have to look at.
        oldest = sorted(self.running.items(), key=lambda entry: entry[1])[:_MAX_SHOWN]
        for item, (began_s, _) in oldest:
            lasted_s = now() - began_s
            is_slow = bool(self._slow_s) and lasted_s > self._slow_s
            style = "bold yellow" if is_slow else ""
            ranks = f"{item.test.ranks} ranks" if item.test.ranks else ""
            name = Text(item.test.key, style, no_wrap=True, overflow="ellipsis")
            rows.add_row(Text(f"{lasted_s:6.1f} s", style), ranks, name)
        return Group(head, rows)

    def hide(self) -> None:
        if self._is_up:
            self._live.stop()

    def show(self) -> None:
        if self._is_up:
            self._live.start()

    def close(self) -> None:
        if self._is_up:
            self._live.stop()
            self._is_up = False
        super().close()


def _in_foreground() -> bool:
    """Whether the runner, and not a rank's debugger, is in the terminal's foreground."""
    try:
        return os.tcgetpgrp(sys.stdout.fileno()) == os.getpgrp()
    except OSError:
        return True


def console_for(verbose: bool, slow_s: float, *, live: bool, is_alone: bool) -> Console:
    """Return a live console on a terminal that supports it, otherwise a plain one.

    Args:
        verbose, slow_s: as for `Console`.
        live: whether a live console is allowed.
        is_alone: whether tests run in this process, and may close or replace stdout and stderr.
    """
    if is_alone:
        return Console(verbose, slow_s, OwnStream("stdout"), OwnStream("stderr"))
    is_terminal = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    if live and is_terminal and "CI" not in os.environ:
        return LiveConsole(verbose, slow_s)
    return Console(verbose, slow_s)
