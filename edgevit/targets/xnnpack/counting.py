"""Which operators of a lowered program its delegate took, what each costs, and why the others were left."""

from __future__ import annotations

import math
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from edgevit.targets.delegation import Delegation, Fallback
from edgevit.types import ExecutedLayer

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

NAME = "XNNPACK"
WEIGHTS = {"linear": 1, "convolution": 1, "addmm": 2, "mm": 1}
"""Operator to which of its arguments the weight is."""
QUANTIZATION = ("quantize", "dequantize", "choose_qparams")
NO_KERNEL = "no kernel of the delegate takes it"


class _Refusals:
    """Stands where the partitioner logs why a node stays out: keeps the last reason for each."""

    def __init__(self) -> None:
        self.reasons: dict[str, str] = {}

    def debug(self, message: Any) -> None:
        self.reasons[str(message.node)] = _told(message.node, str(message.reason).rstrip(". "))


def _told(node: torch.fx.Node, reason: str) -> str:
    """Its own text names the symbol of a traced dimension, another one in every run, or calls a shape a wrong type."""
    import torch

    values = [one.meta.get("val") for one in node.all_input_nodes]
    if "SymInt" in reason or "Symbolic" in reason or any(isinstance(value, torch.SymInt) for value in values):
        return "its shape depends on that of the inputs"
    types = {str(value.dtype).removeprefix("torch.") for value in values if isinstance(value, torch.Tensor)}
    if reason == "invalid dtype" and types:
        return f"no kernel of the delegate takes {', '.join(sorted(types))}"
    return reason


@contextmanager
def recorded_refusals() -> Iterator[dict[str, str]]:
    """Node name to the partitioner's reason for leaving it out, filled while the body partitions."""
    from executorch.backends.xnnpack.partition.config import (
        gemm_configs,
        generic_node_configs,
        node_configs,
        xnnpack_config,
    )

    # Its loggers cannot be listened to: torch's messages are switched off as a whole meanwhile.
    sources = [module.why for module in (gemm_configs, generic_node_configs, node_configs, xnnpack_config)]
    loggers = [source.logger for source in sources]
    refusals = _Refusals()
    for source in sources:
        source.logger = refusals
    try:
        yield refusals.reasons
    finally:
        for source, logger in zip(sources, loggers, strict=True):
            source.logger = logger


def count_delegation(
    program: torch.export.ExportedProgram, refusals: dict[str, str], left_float: dict[str, str]
) -> Delegation:
    """The report of a program after partitioning."""
    partitions = [
        getattr(program.graph_module, str(node.target)).original_module
        for node in program.graph.nodes
        if node.op == "get_attr" and str(node.target).startswith("lowered_module_")
    ]
    batch = _batch(program)
    layers: list[ExecutedLayer] = []
    taken: Counter[str] = Counter()
    for partition in partitions:
        for node in _operators(partition.graph):
            taken["macs"] += _macs(node) // batch
            taken["operators"] += not _is_quantization(node)
            layers.extend(_layer(node, partition, delegated=True))
    left: Counter[tuple[str, str]] = Counter()
    costs: Counter[tuple[str, str]] = Counter()
    for node in _operators(program.graph):
        key = (_name(node), refusals.get(node.name, NO_KERNEL))
        left[key] += 1
        costs[key] += _macs(node) // batch
        taken["left"] += not _is_quantization(node)
        layers.extend(_layer(node, program, delegated=False))
    order = sorted(left, key=lambda key: (-costs[key], -left[key], key))
    return Delegation(
        delegate=NAME,
        partitions=len(partitions),
        operators=taken["operators"] + taken["left"],
        operators_delegated=taken["operators"],
        macs=taken["macs"] + sum(costs.values()),
        macs_delegated=taken["macs"],
        fallbacks=tuple(Fallback(operator=key[0], count=left[key], macs=costs[key], reason=key[1]) for key in order),
        layers=tuple(layers),
        left_float=left_float,
    )


def _operators(graph: torch.fx.Graph) -> list[torch.fx.Node]:
    """The nodes that make a tensor: no unpacking, no arithmetic of shapes, no call of the delegate itself."""
    return [
        node
        for node in graph.nodes
        if node.op == "call_function" and hasattr(node.target, "_schema") and not _name(node).startswith("sym_")
    ]


def _name(node: torch.fx.Node) -> str:
    """`aten::native_layer_norm` → `native_layer_norm`."""
    return str(node.target._schema.name).rpartition("::")[2]  # type: ignore[union-attr]


def _is_quantization(node: torch.fx.Node) -> bool:
    return _name(node).startswith(QUANTIZATION)


def _batch(program: torch.export.ExportedProgram) -> int:
    """The batch the program was traced with; macs of every node are counted for it."""
    inputs = set(program.graph_signature.user_inputs)
    node = next(node for node in program.graph.nodes if node.op == "placeholder" and node.name in inputs)
    return _sizes(node)[0]


def _macs(node: torch.fx.Node) -> int:
    name = _name(node)
    if name in WEIGHTS:
        weight = _sizes(node.args[WEIGHTS[name]])  # type: ignore[arg-type]
        if name == "convolution":
            return math.prod(_sizes(node)) * math.prod(weight[1:])
        return math.prod(_sizes(node)) * weight[1 if name == "linear" else 0]
    if name == "bmm":
        return math.prod(_sizes(node)) * _sizes(node.args[0])[-1]  # type: ignore[arg-type]
    return 0


def _sizes(node: torch.fx.Node) -> list[int]:
    """The shape of what a node makes; a dynamic dimension has the size it was traced with."""
    return [size if isinstance(size, int) else int(size.node.hint) for size in node.meta["val"].shape]


def _layer(node: torch.fx.Node, program: Any, *, delegated: bool) -> list[ExecutedLayer]:
    """The layer whose weight this node reads, named by its parameter; nothing for other nodes."""
    name = _name(node)
    if name not in WEIGHTS:
        return []
    parameter, asked = _weight(node.args[WEIGHTS[name]], program)
    if not parameter:
        return []
    return [
        ExecutedLayer(
            name=parameter.removesuffix("_int8").removesuffix("_int4").removesuffix(".weight"),
            requested=asked,
            executed=asked if delegated else "float32",
            kernel=f"{NAME} {name}" if delegated else f"portable {name}",
        )
    ]


def _weight(node: Any, program: Any) -> tuple[str, str]:
    """The name of the stored tensor behind a weight argument, and what it is stored in."""
    stored = "float32"
    while node.op == "call_function":
        if _is_quantization(node):
            stored = "int4" if "per_channel_group" in _name(node) else "int8"
        node = node.args[0]
    signature = program.graph_signature
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    return str(names.get(node.name, "")), stored
