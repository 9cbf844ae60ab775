"""The TestCase classes, the decorators and the assertions. Importing this imports torch.

    classes                 the classes that tests inherit from
    process_mixin           tests whose ranks are processes; `process_mixin_in_rank` is the half
                            that runs in the ranks
    thread_mixin            tests whose ranks are threads
    continuous_mixin        tests that share a process group, which is up before the test starts
    process_ranks,          the ranks of one running test, and the harness's state about them,
    thread_ranks            which is never kept on the user's instance
    raising                 turns a verdict into exceptions that unittest understands
    decorators/             skips, variants, time limits, fault injection
    assertions/             comparison of tensors, expected texts
    properties/             property tests under Hypothesis

A test's life, when its ranks are processes: `setUp` makes the test's folder, `join_or_run` starts
the ranks if `setUp` has not, the supervisor waits for them, `judge()` combines their reports into
one verdict, and `raise_verdict()` raises it for unittest.

The mixins do not depend on a TestCase base, so they also work with PyTorch's own TestCase. Nothing
here imports the runner. Read `process_mixin` first, then `process_ranks`.
"""

from harness.cases.require_torch import require_torch

require_torch()

import functools  # noqa: E402
import warnings  # noqa: E402

from harness.cases.properties import profiles  # noqa: E402
from harness.model.misspelt_settings import warn_of_misspelt_settings  # noqa: E402

# Must run before the first test module: `@settings` on a test copies the defaults of the profile
# that is active when the module is imported.
profiles.load_where_used()
warn_of_misspelt_settings(functools.partial(warnings.warn, stacklevel=2))
