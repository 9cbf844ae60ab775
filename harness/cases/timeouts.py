"""How long a test may take: PyTorch's names for it."""

from __future__ import annotations

from harness.cases import flags
from harness.model import settings

# A thread sanitizer makes everything slower; PyTorch's number.
_TSAN_S = 500

TIMEOUT_DEFAULT: float = _TSAN_S if flags.TEST_WITH_TSAN else settings.TIMEOUT_S.value()

#: Test method name to seconds, for tests that are known to take longer (PyTorch's list).
TIMEOUT_OVERRIDE: dict[str, float] = {
    "test_ddp_uneven_inputs": 400,
    "test_DistributedDataParallel": 500,
}
if flags.TEST_WITH_ROCM:
    TIMEOUT_OVERRIDE["test_join_kwargs"] = 200


def get_timeout(test_id: str) -> float:
    """Seconds that the test with this id may take."""
    default = _TSAN_S if flags.TEST_WITH_TSAN else settings.TIMEOUT_S.value()
    return TIMEOUT_OVERRIDE.get(test_id.split(".")[-1], default)
