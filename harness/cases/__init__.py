"""The TestCase classes, the decorators and the assertions. Importing this imports torch.

    classes                 the classes that tests inherit from
    process_mixin           tests whose ranks are processes; `process_mixin_in_rank` is the half
                            that runs in the ranks
    thread_mixin            tests whose ranks are threads
    continuous_mixin        tests that find a process group brought up
    process_ranks,          the ranks of one running test; what the harness keeps of it is here,
    thread_ranks            never on the user's instance
    raising                 from a verdict to what unittest understands
    decorators/             skips, variants, time limits, faults on purpose
    assertions/             comparison of tensors, expected texts
    properties/             property tests under Hypothesis

The mixins do not depend on a TestCase base, so that they also stand under PyTorch's own. Nothing
here imports the runner. Read `process_mixin` first, then `process_ranks`.
"""

from harness.cases.require_torch import require_torch

require_torch()

import functools  # noqa: E402
import warnings  # noqa: E402

from harness.cases.properties import profiles  # noqa: E402
from harness.model.misspelt_settings import tell_misspelt  # noqa: E402

profiles.load_where_used()
tell_misspelt(functools.partial(warnings.warn, stacklevel=2))
