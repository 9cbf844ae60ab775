"""The secret of torchrun's world: where it is kept, and who can read it there."""

from __future__ import annotations

import os
import stat
import tempfile
import threading
import unittest
from pathlib import Path
from unittest import mock

from harness.model import settings
from harness.model.errors import SettingError, StartError
from harness.ranks.torchrun import world_secret
from harness.ranks.torchrun.handshake import signed, unsigned
from harness.ranks.torchrun.world_secret import WorldSecret
from suites.selftest.secrets_of_worlds import OTHER_SECRET, SECRET, place_of
from suites.selftest.stranger import STRANGER, needs_a_stranger
from suites.selftest.support import new_folder


class TestWhereItIs(unittest.TestCase):
    def setUp(self):
        self.base = new_folder(self)
        self.cache, self.temp = self.base / "cache", self.base / "temp"
        self.temp.mkdir()
        self.enterContext(mock.patch.dict(os.environ, XDG_CACHE_HOME=str(self.cache)))
        self.enterContext(mock.patch.object(tempfile, "tempdir", str(self.temp)))
        for setting in (settings.WORLD_SECRET, settings.INSECURE_WORLD):
            os.environ.pop(setting.env, None)

    @property
    def folder(self) -> Path:
        return self.cache / "harness" / "world"

    def secret(self, **more: str) -> WorldSecret:
        return world_secret.world_secret(place_of(0, **more))

    def refused(self, why: str, **more: str):
        with self.assertRaisesRegex(StartError, why) as caught:
            self.secret(**more)
        self.assertIn("HARNESS_WORLD_SECRET", str(caught.exception))
        self.assertNotIn("\n", str(caught.exception))

    def test_of_the_environment(self):
        os.environ["HARNESS_WORLD_SECRET"] = "correct horse battery"
        self.assertEqual(self.secret().key, b"correct horse battery")
        self.assertNotIn("HARNESS_WORLD_SECRET", os.environ)
        self.assertFalse(self.cache.exists())

    def test_one_that_can_be_guessed(self):
        os.environ["HARNESS_WORLD_SECRET"] = "hunter2"
        with self.assertRaisesRegex(SettingError, "has 7 characters: it must have 16") as caught:
            self.secret()
        self.assertNotIn("hunter2", str(caught.exception))

    def test_a_file_that_stays(self):
        first = self.secret()
        self.assertEqual(first, self.secret(LOCAL_WORLD_SIZE="1"))  # also for several hosts
        self.assertEqual(stat.S_IMODE(self.folder.stat().st_mode), 0o700)
        self.assertEqual([path.name for path in self.folder.iterdir()], ["secret"])
        self.assertEqual(stat.S_IMODE((self.folder / "secret").stat().st_mode), 0o600)
        self.assertNotIn(first.key.decode(), repr(first))

    def test_many_processes_at_once(self):
        found, start = [], threading.Barrier(8)

        def read():
            start.wait()
            found.append(self.secret().key)

        threads = [threading.Thread(target=read) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(len(found), 8)
        self.assertEqual(len(set(found)), 1)
        self.assertEqual([path.name for path in self.folder.iterdir()], ["secret"])

    def test_without_a_cache_folder(self):
        self.cache.write_text("a file is in its place")
        self.secret()
        (kept,) = self.temp.iterdir()
        self.assertEqual(kept.name, f"harness-world-of-user-{os.geteuid()}")
        # Other hosts would have another one there.
        self.refused("no place for the secret of this world", LOCAL_WORLD_SIZE="1")

    def test_an_insecure_world(self):
        os.environ["HARNESS_INSECURE_WORLD"] = "1"
        self.assertFalse(self.secret().is_secret)
        self.assertFalse(self.cache.exists())

    def hostile(self) -> Path:
        """A folder that is as it should be, for something that is not."""
        self.folder.mkdir(parents=True, mode=0o700)
        return self.folder / "secret"

    def test_files_that_others_may_read_or_write(self):
        file = self.hostile()
        file.write_text("0" * 64 + "\n")
        for mode in (0o640, 0o604, 0o620, 0o666):
            file.chmod(mode)
            self.refused(f"its mode is {mode:04o}, where 0600 keeps others out")

    def test_folders_that_others_may_read_or_write(self):
        self.hostile()
        for mode in (0o755, 0o770, 0o777):
            self.folder.chmod(mode)
            self.refused(f"its mode is {mode:04o}, where 0700 keeps others out")

    def test_what_is_no_file_or_no_secret(self):
        file = self.hostile()
        os.mkfifo(file, 0o600)
        self.refused("it is not a regular file")
        file.unlink()
        file.mkdir(0o700)
        self.refused("it is not a regular file")
        file.rmdir()
        for text in ("", "0" * 63 + "\n", "0" * 64, "0" * 64 + "\n\n", "x" * 64 + "\n"):
            file.write_text(text)
            file.chmod(0o600)
            self.refused("it does not contain a secret")

    def test_symbolic_links(self):
        known = self.base / "known"
        known.write_text("0" * 64 + "\n")
        known.chmod(0o600)
        self.hostile().symlink_to(known)
        self.refused("it cannot be opened")
        self.folder.rename(self.folder.with_name("elsewhere"))
        self.folder.symlink_to("elsewhere")
        self.refused("it is a symbolic link")

    @needs_a_stranger
    def test_what_belongs_to_somebody_else(self):
        file = self.hostile()
        theirs = self.base / "theirs"
        theirs.write_text("0" * 64 + "\n")
        theirs.chmod(0o600)
        os.chown(theirs, STRANGER, STRANGER)
        os.link(theirs, file)
        self.refused(f"secret, where .*: it belongs to user id {STRANGER}, not to 0; remove it, or")
        file.unlink()
        os.chown(self.folder, STRANGER, STRANGER)
        self.refused(f"world, where .*: it belongs to user id {STRANGER}, not to 0; remove it, or")


class TestNotes(unittest.TestCase):
    def test_what_was_signed(self):
        data = signed(SECRET, "a name", "a text: ü").encode()
        self.assertEqual(unsigned(SECRET, "a name", data), "a text: ü")
        self.assertIsNone(unsigned(OTHER_SECRET, "a name", data))
        self.assertIsNone(unsigned(SECRET, "another name", data))
        self.assertIsNone(unsigned(SECRET, "a name", data + b"!"))
        self.assertIsNone(unsigned(SECRET, "a name", b"a text"))
        self.assertIsNone(unsigned(SECRET, "a name", b""))


if __name__ == "__main__":
    unittest.main()
