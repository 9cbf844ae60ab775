"""The TestCase classes, the decorators and the assertions. Importing this imports torch."""

from harness.cases.require_torch import require_torch

require_torch()

from harness.cases import profiles  # noqa: E402

profiles.load_where_used()
