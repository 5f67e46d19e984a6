"""The builder's verbose log read into a table of layers: which GEMMs run in int8, and which fell back.

At the end of a build with detailed verbosity the log lists every kernel of the engine on a line of its own: name,
kind, the types of its inputs and constants, and the ONNX nodes it came from. A layer of the plan runs in int8 where a
GEMM or convolution kernel made from it reads int8 inputs *and* int8 weights.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from edgevit.types import ExecutedLayer, Execution

if TYPE_CHECKING:
    from collections.abc import Iterable

TYPES = {
    "Int8": "int8",
    "Half": "float16",
    "BFloat16": "bfloat16",
    "Float": "float32",
    "FP8": "float8",
    "Float8": "float8",
    "Int4": "int4",
}
NARROW = ("int8", "float8", "int4")
QUANTIZED = ("int8", "float8", "int4w")
"""What a layer may be asked for in besides floats."""
PRODUCTS = ("gemm", "correlation", "convolution", "matmul")
"""Kinds of kernel that multiply matrices by NVIDIA's own code."""
_LINE = re.compile(r"^Name: (?P<name>\S*), LayerType: (?P<kind>\w+), (?P<rest>.*)$", re.MULTILINE)
_TYPE = re.compile(r"Datatype: (\w+)")
_ORIGIN = re.compile(r"\[ONNX Layer: ([^\]]+)\]")


class Kernel(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the list."""

    name: str
    kind: str
    inputs: tuple[str, ...]
    """Types, as `TYPES` names them."""
    constants: tuple[str, ...]
    outputs: tuple[str, ...]
    origins: tuple[str, ...]
    """Names of the ONNX nodes."""

    @property
    def multiplies(self) -> bool:
        """A product of matrices; `Fc` in the name of a run-time fusion is one too."""
        return self.kind in PRODUCTS or (
            self.kind == "runtime_fusion" and re.search(r"(Fc|Gemm|Conv)", self.name) is not None
        )

    @property
    def precision(self) -> str:
        """What it computes in: the type of its data, eight bits only where data and weights both have them.

        Four bits are those of weights alone; they count where the product itself dequantizes them.
        """
        weights = self.constants or self.inputs[1:2]
        first = self.inputs[0] if self.inputs else "unknown"
        narrow = next((kind for kind in weights if kind in NARROW), "")
        if first in NARROW:
            return first if narrow else next(iter(weights), "unknown")
        return "int4w" if narrow == "int4" else first


def read_kernels(log: str) -> tuple[Kernel, ...]:
    """Every kernel that the log lists; empty for a log of less verbosity."""
    return tuple(_kernel(match["name"], match["kind"], match["rest"]) for match in _LINE.finditer(log))


def read_execution(log: str, nodes: Iterable[tuple[str, str]], engine: str) -> Execution:
    """What the compiled engine executes, as the log says; nothing has been run.

    `nodes` are (name of the ONNX node, wanted precision) of the linear layers and convolutions; `engine` says what
    compiled it and for which cards.
    """
    kernels = read_kernels(log)
    layers = tuple(_layer(name, wanted, kernels) for name, wanted in nodes)
    wanted = [layer for layer in layers if layer.requested in QUANTIZED]
    done = [layer for layer in wanted if layer.executed == layer.requested]
    warnings = [
        f"{layer.name} was asked for in {layer.requested} and is compiled as {layer.executed}"
        for layer in wanted
        if layer not in done
    ]
    return Execution(
        precision=f"{_majority(layer.executed for layer in layers)} (compiled)",
        provider=f"{engine}: compiled, not executed",
        instruction_set="",
        quantized_requested=len(wanted),
        quantized_executed=len(done),
        layers=layers,
        warnings=tuple(warnings),
    )


def count_kernels(log: str) -> dict[str, int]:
    """How many products of matrices the engine computes in each precision, and how many attentions are fused."""
    counts: dict[str, int] = {}
    for kernel in read_kernels(log):
        if kernel.multiplies:
            counts[kernel.precision] = counts.get(kernel.precision, 0) + 1
        if "mha" in kernel.name:
            counts["fused attention"] = counts.get("fused attention", 0) + 1
    return dict(sorted(counts.items()))


def _layer(name: str, wanted: str, kernels: tuple[Kernel, ...]) -> ExecutedLayer:
    every = [kernel for kernel in kernels if name in kernel.origins]
    mine = [kernel for kernel in every if kernel.multiplies]
    nameless = [kernel for kernel in kernels if kernel.multiplies and not kernel.origins]
    if not mine and (every or nameless) and wanted not in QUANTIZED:
        # The products of a recurrent layer have no origin in the log: an LSTM is known by its gates, a GRU by nothing.
        types = [kernel.outputs[0] for kernel in every if kernel.outputs] or [kernel.precision for kernel in nameless]
        return ExecutedLayer(name=name, requested=wanted, executed=_majority(types), kernel="loop")
    kernel = next((kernel for kernel in mine if kernel.precision == wanted), mine[0] if mine else None)
    if kernel is None:
        return ExecutedLayer(
            name=name, requested=wanted, executed="unknown", kernel="not in the engine's list of layers"
        )
    return ExecutedLayer(name=name, requested=wanted, executed=kernel.precision, kernel=kernel.kind)


def _kernel(name: str, kind: str, rest: str) -> Kernel:
    inputs, _, after = rest.partition(", Constants: ")
    constants, _, after = after.partition(", Outputs: ")
    outputs, _, metadata = after.partition(", TacticName: ")

    def types(text: str) -> tuple[str, ...]:
        return tuple(TYPES.get(found, found.lower()) for found in _TYPE.findall(text))

    return Kernel(
        name=name,
        kind=kind,
        inputs=types(inputs),
        constants=types(constants),
        outputs=types(outputs),
        origins=tuple(_ORIGIN.findall(metadata)),
    )


def _majority(precisions: Iterable[str]) -> str:
    counts: dict[str, int] = {}
    for precision in precisions:
        counts[precision] = counts.get(precision, 0) + 1
    return max(counts, key=lambda precision: counts[precision], default="unknown")
