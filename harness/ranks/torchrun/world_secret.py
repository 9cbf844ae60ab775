"""Load or create the secret by which torchrun's processes recognize each other.

It comes from HARNESS_WORLD_SECRET, or else from a file that only this user can read: in the cache
folder, which hosts with a shared home have in common. The file stays for later runs, as an SSH key
does. It is never sent: processes prove that they know it (`harness.ranks.torchrun.handshake`).
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import platformdirs

from harness.model import settings
from harness.model.errors import SettingError, StartError
from harness.model.torchrun_environ import TorchrunPlace

# 64 bits in hexadecimal. An attacker who records a handshake can try secrets offline.
_LEAST_LENGTH = 16
_FOLDER, _FILE = "world", "secret"
_CONTENTS = re.compile(rb"[0-9a-f]{64}\n")
_HOW_TO_GIVE_ONE = (
    "set HARNESS_WORLD_SECRET to the same random text for all processes, or give --insecure-world "
    "where nobody else can reach these hosts"
)


@dataclass(frozen=True)
class WorldSecret:
    """The secret that all processes of the world share.

    Attributes:
        key: the secret.
        source: where it comes from, for messages.
        is_secret: False if the user has allowed an insecure world.
    """

    key: bytes = field(repr=False)
    source: str
    is_secret: bool = True


def world_secret(place: TorchrunPlace) -> WorldSecret:
    """Return the secret of this process's world, and remove it from the environment.

    Raises:
        SettingError: if HARNESS_WORLD_SECRET is too short.
        StartError: if no file can hold a secret; the message says how to set one.
    """
    text = settings.WORLD_SECRET.value()
    # Tests and the processes that they start must not see it.
    os.environ.pop(settings.WORLD_SECRET.env, None)
    if text:
        if len(text) < _LEAST_LENGTH:
            raise SettingError(
                f"HARNESS_WORLD_SECRET has {len(text)} characters: it must have {_LEAST_LENGTH} "
                'at least; python -c "import secrets; print(secrets.token_hex())" makes one'
            )
        return WorldSecret(text.encode("utf-8", "surrogateescape"), "HARNESS_WORLD_SECRET")
    if settings.INSECURE_WORLD.value():
        return WorldSecret(b"insecure", "--insecure-world", is_secret=False)
    return _secret_of_file(place)


def _secret_of_file(place: TorchrunPlace) -> WorldSecret:
    problems = []
    for folder in _folders(place):
        try:
            key = _read_or_make(folder)
        except OSError as error:
            problems.append(f"{folder}: {error.strerror}")
            continue
        return WorldSecret(key, str(folder / _FILE))
    raise StartError(
        f"there is no place for the secret of this world ({'; '.join(problems) or 'no home'}): "
        f"{_HOW_TO_GIVE_ONE}"
    )


def _folders(place: TorchrunPlace) -> Iterator[Path]:
    """Yield the possible folders of the file, the best first."""
    cache = platformdirs.user_cache_path("harness")
    if cache.is_absolute():  # relative if the user has no home, as in some containers
        yield cache / _FOLDER
    if place.is_on_one_host:
        yield Path(tempfile.gettempdir(), f"harness-world-of-user-{os.geteuid()}")


def _read_or_make(folder: Path) -> bytes:
    """Return the secret in the folder's file; create both if they do not exist.

    Raises:
        OSError: if they cannot be created.
        StartError: if another user owns them, or may read or write them.
    """
    with _opened_folder(folder) as place:
        while True:
            try:
                return _read(place, folder / _FILE)
            except FileNotFoundError:
                _make(place)


@contextlib.contextmanager
def _opened_folder(folder: Path) -> Iterator[int]:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    if folder.is_symlink():
        raise _unsafe(folder, "it is a symbolic link")
    # Later checks use this descriptor: the path may lead elsewhere a moment later.
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _check(os.fstat(fd), folder, 0o700)
        yield fd
    finally:
        os.close(fd)


def _read(folder: int, path: Path) -> bytes:
    # Without O_NONBLOCK, opening a FIFO in its place would block.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(path.name, flags, dir_fd=folder)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _unsafe(path, f"it cannot be opened ({error.strerror})") from None
    try:
        about = os.fstat(fd)
        if not stat.S_ISREG(about.st_mode):
            raise _unsafe(path, "it is not a regular file")
        _check(about, path, 0o600)
        contents = os.read(fd, 1024)
    finally:
        os.close(fd)
    if not _CONTENTS.fullmatch(contents):
        raise _unsafe(path, "it does not contain a secret")
    return contents.strip()


def _make(folder: int) -> None:
    """Create the file atomically with its contents, unless another process was faster."""
    name = f"new-{secrets.token_hex(8)}"
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=folder)
    try:
        os.write(fd, secrets.token_hex(32).encode() + b"\n")
        os.fsync(fd)
        with contextlib.suppress(FileExistsError):
            os.link(name, _FILE, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    finally:
        os.close(fd)
        os.unlink(name, dir_fd=folder)


def _check(about: os.stat_result, path: Path, mode: int) -> None:
    user = os.geteuid()
    if about.st_uid != user:
        raise _unsafe(path, f"it belongs to user id {about.st_uid}, not to {user}")
    if stat.S_IMODE(about.st_mode) & 0o077:
        now = stat.S_IMODE(about.st_mode)
        raise _unsafe(path, f"its mode is {now:04o}, where {mode:04o} keeps others out")


def _unsafe(path: Path, why: str) -> StartError:
    return StartError(
        f"{path}, where the secret of this world is kept, cannot be trusted: {why}; remove it, or "
        f"{_HOW_TO_GIVE_ONE}"
    )
