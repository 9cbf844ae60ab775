"""Warn about environment variables that look like misspelt settings.

The environment is not checked as a command line is: a misspelt variable would have no effect, and
nobody would notice. But other products use variables named HARNESS_… too (the CI service Harness,
Perl's test harness), so the harness warns about close misspellings only.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping

from harness.model import settings

#: Set once the warnings have been shown, so that workers and ranks do not repeat them.
WARNED_VARIABLE = "HARNESS_MISSPELT_TOLD"

_PREFIXES = ("HARNESS_", "DISTRIBUTED_TESTS_")
# How similar two names must be, without their prefix: one letter in five may differ.
_CUTOFF = 0.8


def misspelt(environ: Mapping[str, str]) -> list[str]:
    """Return a warning for each variable whose name is similar to that of a setting."""
    spellings = _spellings()
    known = set(spellings.values())
    texts = []
    for name in sorted(environ):
        rest = _without_prefix(name)
        if rest is None or name in known:
            continue
        similar = difflib.get_close_matches(rest, spellings, n=3, cutoff=_CUTOFF)
        if similar:
            meant = " or ".join(dict.fromkeys(spellings[other] for other in similar))
            texts.append(
                f"{name}={environ[name]} has no effect, since no setting has that name: did you "
                f"mean {meant}? docs/settings.md lists all settings"
            )
    return texts


def warn_of_misspelt_settings(warn: Callable[[str], object]) -> None:
    """Warn about the misspelt settings in this process's environment, once per run.

    Args:
        warn: shows one warning.
    """
    if WARNED_VARIABLE in os.environ:
        return
    texts = misspelt(os.environ)
    if texts:
        os.environ[WARNED_VARIABLE] = "1"
    for text in texts:
        warn(text)


def _spellings() -> dict[str, str]:
    """Return the names that a user may have meant, each with the variable of its setting.

    These are the variables, and the names in the code: some are guessed from the option, as
    HARNESS_TIMEOUT for DISTRIBUTED_TESTS_DEFAULT_TIMEOUT (`TIMEOUT_S`).
    """
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
