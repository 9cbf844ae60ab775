"""The suites: rank tests and single-process tests of torch's distributed package."""

from harness.model.installed_torch import use_installed_torch

use_installed_torch()
