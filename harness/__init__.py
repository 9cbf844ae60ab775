"""A unittest-style test harness for distributed PyTorch code.

The public names and their homes are listed in `__init__.pyi`. Each is imported when it is first
used, so that `import harness` does not import torch.
"""

import lazy_loader

from harness._version import __version__

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ += ["__version__"]
