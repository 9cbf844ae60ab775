"""In the folder of a PyTorch checkout, its sources hide the installed torch: look past them.

Python looks for modules in the current folder first, and there a checkout has a folder `torch`.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from pathlib import Path

from harness.model.errors import TorchMissingError


def use_installed_torch() -> str:
    """Have Python find a torch that is built; to be called before any is imported.

    Folders of `sys.path` whose torch is not built are put behind the others.

    Returns:
        the folder of the sources that were passed over; empty if there was no need.

    Raises:
        TorchMissingError: if there is no torch but unbuilt sources.
    """
    if "torch" in sys.modules:
        return ""
    unbuilt: list[str] = []
    for entry in sys.path:
        package = Path(entry or os.getcwd(), "torch")
        if not (package / "__init__.py").exists():
            continue
        if _is_built(package):
            break
        unbuilt.append(entry)
    else:
        if unbuilt:
            raise TorchMissingError(
                f"the torch in {os.path.abspath(unbuilt[0])} is not built, and no other is "
                "installed: build it there (python setup.py develop) or run `pip install torch`"
            )
    sys.path[:] = [entry for entry in sys.path if entry not in unbuilt] + unbuilt
    return os.path.abspath(unbuilt[0]) if unbuilt else ""


def torch_version() -> str:
    """Return the version of the torch that is imported here, without importing it.

    The package's own file says it. An installer's record may be of another torch, which the one
    that is first on the path hides. Empty if there is none.
    """
    imported = getattr(sys.modules.get("torch"), "__version__", "")
    if imported:
        return str(imported)
    spec = importlib.util.find_spec("torch")
    if spec is None or not spec.origin:
        return ""
    try:
        text = Path(spec.origin).with_name("version.py").read_text()
    except OSError:
        return ""
    found = re.search(r"""^__version__ = ['"](.+)['"]""", text, re.MULTILINE)
    return found[1] if found else ""


def _is_built(package: Path) -> bool:
    return any(next(package.glob(f"_C.*{suffix}"), None) for suffix in ("so", "pyd", "dylib"))
