"""PyTorch's RPC tests over an agent that loses messages on purpose."""

from torch.testing._internal.common_utils import run_tests
from torch.testing._internal.distributed.rpc.faulty_rpc_agent_test_fixture import (
    FaultyRpcAgentTestFixture,
)
from torch.testing._internal.distributed.rpc_utils import FAULTY_AGENT_TESTS, generate_tests

globals().update(generate_tests("Faulty", FaultyRpcAgentTestFixture, FAULTY_AGENT_TESTS, __name__))

if __name__ == "__main__":
    run_tests()
