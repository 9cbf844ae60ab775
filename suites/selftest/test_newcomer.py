"""A newcomer's way: build a wheel, install it out of the repository's sight, run a first test.

Needs no network: the wheel is built with the setuptools of the development environment, and the
fresh environment borrows the installed torch.
"""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys
import unittest
import venv
import zipfile
from pathlib import Path

from suites.selftest.manual import Kind, blocks_of
from suites.selftest.support import COMMAND_LIMIT_S, ROOT, Finished, Sandbox

# What a wheel is built from.
_SOURCES = ("harness", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")


def build_wheel(base: Path) -> Path:
    """A wheel of the package as it is now, built outside of the repository."""
    source = base / "source"
    source.mkdir()
    for name in _SOURCES:
        if (ROOT / name).is_dir():
            skip = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, source / name, ignore=skip)
        else:
            shutil.copy(ROOT / name, source / name)
    pip(sys.executable, "wheel", "--no-build-isolation", "--wheel-dir", str(base), str(source))
    (wheel,) = base.glob("*.whl")
    return wheel


def pip(python: str, *arguments: str) -> None:
    """Run pip without a network. Raises AssertionError with what it said if it fails."""
    command = [python, "-m", "pip", *arguments]
    options = ["--no-deps", "--no-index", "--no-cache-dir", "--disable-pip-version-check"]
    done = subprocess.run(
        [*command, *options], capture_output=True, text=True, timeout=COMMAND_LIMIT_S
    )
    if done.returncode:
        raise AssertionError(f"{command} failed:\n{done.stdout}\n{done.stderr}")


def new_environment(folder: Path, wheel: Path) -> Path:
    """A fresh environment with the wheel, and with what is installed here; its folder `bin`."""
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    # Files of kind .pth are not read in folders that another one names: the repository, which is
    # installed here by such a file, stays out of sight.
    borrowed = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    (packages / "borrowed.pth").write_text("".join(f"{path}\n" for path in borrowed))
    # What is borrowed, pip included, has the package too, which is not to be touched.
    arguments = ["--ignore-installed", "--no-warn-script-location", "--no-compile", str(wheel)]
    pip(str(folder / "bin" / "python"), "install", *arguments)
    return folder / "bin"


class TestDependencies(unittest.TestCase):
    def test_the_manual_gives_a_reason_for_each(self):
        setup = configparser.ConfigParser()
        setup.read(ROOT / "setup.cfg")
        page = (ROOT / "docs" / "dependencies.md").read_text()
        cells = " ".join(row.split(" | ")[0] for row in page.splitlines() if row.startswith("| "))
        wanted = setup["options"]["install_requires"] + setup["options.extras_require"]["dev"]
        for line in wanted.split():
            name = re.split(r"[<>=]", line)[0]
            with self.subTest(name):
                self.assertRegex(cells, rf"(^|[| ,]){re.escape(name)}($|[| ,=])")


class TestNewcomer(unittest.TestCase):
    """Has a wheel, a fresh environment, and the README's tests in a folder of their own."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.home = Sandbox()
        cls.addClassCleanup(cls.home.remove)
        cls.wheel = build_wheel(cls.home.base)
        cls.bin = new_environment(cls.home.base / "fresh environment", cls.wheel)
        cls.files = {
            block.argument: block.text
            for block in blocks_of(ROOT / "README.md")
            if block.kind is Kind.FILE
        }

    def in_folder_with(self, *names: str) -> Sandbox:
        """An empty folder, whose name has a space in it, with these files of the README."""
        sandbox = Sandbox()
        self.addCleanup(sandbox.remove)
        for name in names:
            (sandbox.folder / name).write_text(self.files[name])
        return sandbox

    def command(self, sandbox: Sandbox, *words: str, **env: str | None) -> Finished:
        """A command of the fresh environment."""
        path = os.pathsep.join((str(self.bin), os.environ["PATH"]))
        program = str(self.bin / words[0])
        done = sandbox.run(program, *words[1:], PATH=path, PYTHONPATH=None, **env)
        self.assertEqual((done.left_processes, done.left_files), ([], []), done.out + done.err)
        return done

    def test_the_wheel_has_all_that_is_no_code(self):
        names = set(zipfile.ZipFile(self.wheel).namelist())
        sources = {
            str(path.relative_to(ROOT))
            for path in (ROOT / "harness").rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
        self.assertEqual(sources - names, set())
        self.assertIn("harness/py.typed", names)
        others = {name for name in names - sources if ".dist-info/" not in name}
        self.assertEqual(others, set())

    def test_the_wheel_is_what_is_imported(self):
        sandbox = self.in_folder_with()
        script = "import harness; print(harness.__file__)"
        done = self.command(sandbox, "python", "-c", script)
        self.assertEqual(done.err, "")
        self.assertTrue(Path(done.out.strip()).is_relative_to(self.bin.parent), done.out)

    def test_the_first_test_by_every_way_in(self):
        sandbox = self.in_folder_with("test_sum.py")
        ways = {
            ("python", "-m", "unittest", "test_sum"): r"Ran 1 test in \d+\.\d+s\n\nOK\n\Z",
            ("python", "-m", "pytest", "-p", "no:cacheprovider"): r"\n=+ 1 passed in .* =+\n$",
            (
                "python",
                "-m",
                "harness",
            ): r"(?m)^test_sum\.TestSum \.\n1 passed, 0 failed, 0 skipped\n\Z",
            ("harness", "-v"): r"(?m)^passed .* test_sum\.TestSum\.test_all_reduce\n1 passed, ",
        }
        for words, expected in ways.items():
            with self.subTest(" ".join(words)):
                done = self.command(sandbox, *words)
                self.assertEqual(done.code, 0, done.out + done.err)
                self.assertRegex(done.out + done.err, expected)
                # A newcomer is not to be frightened by what means nothing.
                self.assertNotRegex(done.out + done.err, re.compile("warning", re.IGNORECASE))
        self.assertEqual(
            [p.name for p in sandbox.folder.iterdir() if p.name != "__pycache__"], ["test_sum.py"]
        )

    def test_the_test_that_fails(self):
        """With a report, for which the wheel must have the page's parts."""
        sandbox = self.in_folder_with("test_step.py")
        done = self.command(sandbox, "python", "-m", "harness", "--html", "report.html")
        self.assertEqual(done.code, 1, done.out + done.err)
        self.assertIn("ranks 0 and 1 diverge at collective 1 of group 'default_pg'", done.out)
        self.assertIn("\nrerun: python -m harness test_step.TestStep.test_sync\n", done.out)
        self.assertIn("RanksDeadlockedError", (sandbox.folder / "report.html").read_text())

    def test_an_empty_folder(self):
        done = self.command(self.in_folder_with(), "harness")
        self.assertEqual((done.code, done.last_line), (5, "0 passed, 0 failed, 0 skipped"))


if __name__ == "__main__":
    unittest.main()
