"""Variables of the environment that look like settings of the harness and are none.

A setting that is silently ignored leaves the user with a false belief. But other products name
variables HARNESS_… too (the CI service Harness, Perl's test harness), so only close misspellings of
a setting are told.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping

from harness.model import settings

#: Set once the user has been told, so that the processes of the run do not tell it again.
TOLD_VARIABLE = "HARNESS_MISSPELT_TOLD"

_PREFIXES = ("HARNESS_", "DISTRIBUTED_TESTS_")
# How alike two names must be, without their prefix: one letter in five may be wrong.
_CUTOFF = 0.8


def misspelt(environ: Mapping[str, str]) -> list[str]:
    """A sentence for each variable whose name is nearly that of a setting."""
    spellings = _spellings()
    known = set(spellings.values())
    texts = []
    for name in sorted(environ):
        rest = _without_prefix(name)
        if rest is None or name in known:
            continue
        near = difflib.get_close_matches(rest, spellings, n=3, cutoff=_CUTOFF)
        if near:
            meant = " or ".join(dict.fromkeys(spellings[other] for other in near))
            texts.append(
                f"{name}={environ[name]} has no effect, since no setting has that name: did you "
                f"mean {meant}? docs/settings.md lists all settings"
            )
    return texts


def tell_misspelt(tell: Callable[[str], object]) -> None:
    """Tell of the misspelt settings of this process's environment, once for it and its children."""
    if TOLD_VARIABLE in os.environ:
        return
    texts = misspelt(os.environ)
    if texts:
        os.environ[TOLD_VARIABLE] = "1"
    for text in texts:
        tell(text)


def _spellings() -> dict[str, str]:
    """What a user may call each setting: as its variable, and as the code does (`TIMEOUT_S`)."""
    spellings: dict[str, str] = {}
    for name, value in vars(settings).items():
        if isinstance(value, settings.Setting):
            spellings[name.removesuffix("_S")] = value.env
    for setting in settings.ALL:
        spellings[_without_prefix(setting.env) or setting.env] = setting.env
    return spellings


def _without_prefix(name: str) -> str | None:
    upper = name.upper()
    for prefix in _PREFIXES:
        if upper.startswith(prefix):
            return upper[len(prefix) :]
    return None
