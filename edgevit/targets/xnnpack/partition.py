"""What of a program XNNPACK is asked to take: its own partitioner, but for what its own compiler then refuses."""

from __future__ import annotations

from typing import Any


def partitioner() -> Any:
    """ExecuTorch's XnnpackPartitioner without the operators that it takes and cannot compile.

    XNNPACK's reshape has at most one dynamic dimension. ExecuTorch 1.5 asks for that where a view is partitioned, not
    where a dimension is added, and fails later: `XNNPACK reshape only supports 1 dynamic dimension`.
    """
    from executorch.backends.xnnpack.partition.config import ALL_PARTITIONER_CONFIGS
    from executorch.backends.xnnpack.partition.config.generic_node_configs import UnsqueezeCopyConfig, why
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner

    class Unsqueeze(UnsqueezeCopyConfig):  # type: ignore[misc]
        def check_constraints(self, node: Any, ep: Any) -> bool:
            if sum(not isinstance(size, int) for size in node.meta["val"].shape) > 1:
                why(node, reason="two of its dimensions depend on the inputs, and a reshape has one")
                return False
            taken: bool = super().check_constraints(node, ep)
            return taken

    configs = [Unsqueeze if config is UnsqueezeCopyConfig else config for config in ALL_PARTITIONER_CONFIGS]
    return XnnpackPartitioner(configs=configs)
