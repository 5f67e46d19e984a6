"""The float graph written as LiteRT's, for one batch; lengths stay free, and follow from the inputs when it runs.

An operator or a form of one that is not known here is a BuildError that names it, never something close to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.errors import BuildError
from edgevit.targets.tflite.model import FREE, TYPES

if TYPE_CHECKING:
    import onnx_ir as ir
    from numpy.typing import NDArray

    from edgevit.targets.tflite.model import GraphWriter
    from edgevit.types import LayerPlan, Precision

SHAPED = frozenset({"Reshape", "Unsqueeze", "Squeeze", "ReduceSum", "ReduceMean"})
"""Operators of which only the first input is read while running: the others say a shape, which the value has."""
NARROWED = {"int64": "int32", "float64": "float32"}


class GraphTranslation:
    """Writes `model` at batch `batch` into `to`. `entries`: the plan's layers that become int8, by parameter."""

    def __init__(
        self, model: ir.Model, to: GraphWriter, batch: int, precision: Precision, entries: dict[str, LayerPlan]
    ) -> None:
        from edgevit.graph.layers import quantizable_layers

        self.model, self.to, self.batch, self.precision, self.entries = model, to, batch, precision, entries
        shape = model.graph.inputs[0].shape
        assert shape is not None
        self.symbol = None if isinstance(shape[0], int) else shape[0].value
        """What the graph calls the batch."""
        self.lengths = _free_names(model) - {self.symbol}
        self.layers = {layer.node: layer for layer in quantizable_layers(model)}
        self.biased = {layer.output for layer in self.layers.values() if layer.bias}
        self.values: dict[str, int] = {}
        self.known: dict[str, NDArray[Any]] = {}
        """Numbers that are known while it is written: shapes, and what is made of constants."""
        self.codes: dict[tuple[int, float], int] = {}
        """A tensor and its scale to the tensor of its codes: layers that read one share it."""

    def write(self, key: str) -> None:
        inputs = {str(one.name): self._input(one) for one in self.model.graph.inputs}
        self.values |= inputs
        live = self._live()
        for node in self.model.graph:
            if node in live:
                self._write(node)
        outputs = {str(one.name): self.values[str(one.name)] for one in self.model.graph.outputs}
        self.to.finish(key, inputs, outputs)

    def _input(self, value: ir.Value) -> int:
        return self.to.tensor(str(value.name), self.dims(value), narrowed(value))

    def _live(self) -> set[ir.Node]:
        """The nodes that something is computed from: not those that only say a shape, or turn a tied table."""
        needed = set(self.model.graph.outputs)
        live = set()
        for node in reversed(list(self.model.graph)):
            if needed.intersection(node.outputs):
                live.add(node)
                first = node.op_type in SHAPED or (str(node.name) in self.layers and node.op_type == "MatMul")
                first = first or (node.op_type == "Expand" and not self.is_known(node.inputs[0]))
                needed.update(one for one in (node.inputs[:1] if first else node.inputs) if one is not None)
        return live

    def _write(self, node: ir.Node) -> None:
        from edgevit.targets.tflite.layers import write_layer
        from edgevit.targets.tflite.operators import OPERATORS

        layer = self.layers.get(str(node.name))
        if layer is not None and layer.kind in ("linear", "conv"):
            write_layer(self, node, layer)
        elif str(node.outputs[0].name) in self.biased:
            return  # the addition of a layer's bias, which is in the layer
        elif node.op_type in OPERATORS and node.domain == "":
            OPERATORS[node.op_type](self, node)
        else:
            raise BuildError(
                f"expected operators that litert knows, found {node.op_type} at {node.name}; build onnxruntime"
            )

    # ------------------------------------------------------------------------------------------------- shapes

    def dims(self, value: ir.Value | None) -> tuple[int, ...]:
        """The shape, with `FREE` for a length."""
        if value is None or value.shape is None:
            raise BuildError(f"expected a shape for {value and value.name}, found none; LiteRT's are static")
        return tuple(dim if isinstance(dim, int) else self._dim(value, dim) for dim in value.shape.dims)

    def fixed(self, value: ir.Value | None) -> bool:
        return FREE not in self.dims(value)

    def _dim(self, value: ir.Value, dim: ir.SymbolicDim) -> int:
        if dim.value == self.symbol:
            return self.batch
        if set(str(dim.value).split(" + ")) <= self.lengths:
            return FREE
        names = ", ".join(sorted(map(str, {self.symbol} | self.lengths)))
        raise BuildError(
            f"expected no dynamic dimension but {names} in a graph for litert, found {dim.value} at {value.name}; "
            "build onnxruntime"
        )

    # ------------------------------------------------------------------------------------------------- values

    def read(self, value: ir.Value | None) -> int:
        """The tensor of `value`; constants become tensors when they are read."""
        assert value is not None
        name = str(value.name)
        if name not in self.values:
            numbers = self.number(value)
            self.values[name] = self.to.constant(name, _narrow(numbers, name))
        return self.values[name]

    def is_known(self, value: ir.Value | None) -> bool:
        return value is not None and (str(value.name) in self.known or value.const_value is not None)

    def number(self, value: ir.Value | None) -> NDArray[Any]:
        assert value is not None
        if str(value.name) in self.known:
            return self.known[str(value.name)]
        if value.const_value is None:
            raise BuildError(f"expected {value.name} to be constant for litert, found a computed one")
        return value.const_value.numpy()

    def new(self, node: ir.Node, at: int = 0) -> int:
        """The tensor of an output that the next operator writes."""
        output = node.outputs[at]
        name = str(output.name)
        self.values[name] = self.to.tensor(name, self.dims(output), narrowed(output))
        return self.values[name]

    # ---------------------------------------------------------------------------------------- common operators

    def numbers(self, name: str, values: Any) -> int:
        """A constant of int32: axes, sizes, an order."""
        return self.to.constant(name, np.asarray(values, np.int32))

    def reshaped(self, name: str, source: int, dims: tuple[int, ...]) -> int:
        if dims.count(FREE) > 1:
            raise BuildError(
                f"expected at most one free length where litert reshapes {name}, found {dims}; build onnxruntime, or "
                "give the model fixed lengths"
            )
        made = self.to.like(name, dims, source)
        wanted = self.numbers(f"{name}.shape", dims)
        self.to.operator("RESHAPE", [source, wanted], [made], "ReshapeOptions", {"newShape": list(dims)})
        return made

    def transposed(self, name: str, source: int, order: Any) -> int:
        dims = self.to.dims(source)
        made = self.to.like(name, tuple(dims[at] for at in order), source)
        permutation = self.numbers(f"{name}.order", order)
        self.to.operator("TRANSPOSE", [source, permutation], [made], "TransposeOptions")
        return made


def narrowed(value: ir.Value) -> str:
    """The type a value has in LiteRT: its kernels count in int32."""
    name = "float32" if value.dtype is None else str(value.dtype.numpy())
    name = NARROWED.get(name, name)
    if name not in TYPES:
        raise BuildError(f"expected {', '.join(TYPES)} for litert, found {name} at {value.name}; build onnxruntime")
    return name


def attribute(node: ir.Node, name: str, default: Any) -> Any:
    found = node.attributes.get(name)
    return default if found is None else found.value


def _narrow(numbers: NDArray[Any], name: str) -> NDArray[Any]:
    wanted = NARROWED.get(str(numbers.dtype))
    if wanted is None:
        return numbers
    narrow = numbers.astype(wanted)
    if wanted == "int32" and not np.array_equal(narrow, numbers):
        raise BuildError(f"expected integers that int32 holds for litert, found others in {name}; build onnxruntime")
    return narrow


def _free_names(model: ir.Model) -> set[str | None]:
    """The names of the inputs' dynamic dimensions."""
    shapes = [one.shape for one in model.graph.inputs if one.shape is not None]
    return {dim.value for shape in shapes for dim in shape.dims if not isinstance(dim, int)}
