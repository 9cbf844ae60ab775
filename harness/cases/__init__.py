"""The TestCase classes, the decorators and the assertions. Importing this imports torch."""

from harness.cases.require_torch import require_torch

require_torch()

import functools  # noqa: E402
import warnings  # noqa: E402

from harness.cases.properties import profiles  # noqa: E402
from harness.model.misspelt_settings import tell_misspelt  # noqa: E402

profiles.load_where_used()
tell_misspelt(functools.partial(warnings.warn, stacklevel=2))
