"""Convert the values of options from text, or say what is wrong with the text."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from harness.model import settings
from harness.runner.selection.expressions import matcher
from harness.runner.selection.shard_auto import AUTO

# Each job is a process.
_MAX_JOBS = 1000


def checked(convert: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return the conversion with errors that begin with the offending text."""

    def converted(text: str) -> Any:
        try:
            return convert(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{settings.quoted(text)} {error}") from None

    return converted


seconds = checked(settings.seconds)
seconds_or_zero = checked(settings.seconds_or_zero)


@checked
def path(text: str) -> str:
    """Return the path of a file or a folder."""
    if not text:
        raise ValueError("is not a path")
    return text


@checked
def name(text: str) -> str:
    """Return the name of a test, class, module, file or folder."""
    if not text.strip():
        raise ValueError("is not a name: leave it out to run everything")
    return text


def pattern(text: str) -> str:
    """Return an expression for `-k`. Raises UsageError if it is not valid."""
    matcher(text)
    return text


seed = checked(settings.seed_number)
positive = checked(settings.positive_number)
natural = checked(settings.natural_number)
jobs = checked(settings.whole_number(0, _MAX_JOBS))


@checked
def device_list(text: str) -> tuple[str, ...]:
    names = settings.names(text)
    if not names:
        raise ValueError("names no device")
    # The runner lends each device to one test at a time, by name.
    if len(set(names)) < len(names):
        raise ValueError("names a device twice, so two tests would use it at once")
    return names


@checked
def shard(text: str) -> tuple[int, int]:
    if text == "auto":
        return AUTO
    part, _, parts = text.partition("/")
    try:
        count = settings.positive_number(parts)
        return settings.whole_number(1, count)(part), count
    except ValueError:
        rule = f"is not K/N with K from 1 to N, such as 1/3, and N at most {settings.MAX_COUNT}"
        raise ValueError(rule) from None
