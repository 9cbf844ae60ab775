"""Find the installed torch in the folder of a PyTorch checkout, whose sources hide it.

Python looks for modules in the current folder first. In a checkout, that has a folder `torch`,
which cannot be imported unless it is built.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from pathlib import Path

from harness.model.errors import TorchMissingError


def use_installed_torch() -> str:
    """Move folders of `sys.path` with an unbuilt torch to its end.

    Must be called before torch is imported.

    Returns:
        the folder of the unbuilt sources that were in the way; empty if there were none.

    Raises:
        TorchMissingError: if there is no other torch than unbuilt sources.
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
    # Behind the others, not removed: the checkout's folder may contain other modules of the tests.
    sys.path[:] = [entry for entry in sys.path if entry not in unbuilt] + unbuilt
    return os.path.abspath(unbuilt[0]) if unbuilt else ""


def torch_version() -> str:
    """Return the version of torch without importing it; empty if there is no torch.

    It is read from the package itself. `importlib.metadata` may know another torch, which is
    installed but hidden by one that comes first on `sys.path`.
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
