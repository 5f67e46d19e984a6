"""A float32 graph becomes float16 or bfloat16, with LayerNorm, Softmax and Q/DQ left in float32.

The order matters: quantize in float32 first, convert the rest after. Inputs and outputs of the graph keep float32, so
that a build has the same signature in every precision. Float16 ViTs are known to collapse in LayerNorm (its squares
pass 65504, the largest float16) and Softmax adds up many small terms: both stay float32 between two Casts.

Quantize and dequantize pairs keep float32 scales: those of weights lie around 1e-5, where float16 has lost its digits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from edgevit.errors import InputError
from edgevit.graph.passes import tidy

if TYPE_CHECKING:
    from typing import TypeAlias

    import onnx_ir as ir

    Half: TypeAlias = Literal["float16", "bfloat16"]

KEPT = frozenset({"LayerNormalization", "RMSNormalization", "Softmax", "QuantizeLinear", "DequantizeLinear", "Resize"})
"""Operators that compute in float32: their inputs are cast up, their outputs down."""
LARGEST = {"float16": 65504.0, "bfloat16": 3.3895314e38}
"""The largest finite value."""

MASKED = np.finfo(np.float32).min / 2
"""No weight is below it; what is, means minus infinity."""


def to_half_precision(model: ir.Model, half: Half, kept: frozenset[str] = KEPT) -> int:
    """Converts in place; returns the number of nodes that now compute in `half`.

    Raises InputError naming a weight beyond its range, or control flow, whose bodies this does not enter.
    """
    return _Conversion(model, half, kept).run()


class _Conversion:
    """The two forms, single and half, of every float value, each made where it is first needed."""

    def __init__(self, model: ir.Model, half: Half, kept: frozenset[str]) -> None:
        self._model = model
        self._name = half
        self._kept = kept
        self._floats = {value for value in _values(model) if value.dtype is not None and value.dtype.name == "FLOAT"}
        self._single: dict[ir.Value, ir.Value] = {}
        self._half: dict[ir.Value, ir.Value] = {}

    def run(self) -> int:
        graph = self._model.graph
        self._single = {value: value for value in graph.inputs if value in self._floats}
        converted = sum(self._convert(node) for node in list(graph))
        for index, value in enumerate(graph.outputs):
            if value in self._floats and value not in self._single:
                graph.outputs[index] = self._single_output(value)
        tidy(self._model)
        return converted

    def _convert(self, node: ir.Node) -> bool:
        if any(attribute.type.name in ("GRAPH", "GRAPHS") for attribute in node.attributes.values()):
            raise InputError(
                f"expected a graph without control flow for {self._name}, found {node.op_type} ({node.name}); "
                "build it in float32"
            )
        # A blocked weight's scales are halves: only so does TensorRT take the dequantization into the product.
        single = node.op_type in self._kept and "block_size" not in node.attributes
        for index, value in enumerate(node.inputs):
            if value is not None and value in self._floats:
                node.replace_input_with(index, self._as_single(value, node) if single else self._as_half(value, node))
        outputs = [value for value in node.outputs if value in self._floats]
        for value in outputs:
            (self._single if single else self._half)[value] = value
        if single or not outputs:
            return False
        self._retype(node, outputs)
        return True

    def _as_single(self, value: ir.Value, reader: ir.Node) -> ir.Value:
        if value not in self._single:
            constant = value.is_initializer()
            self._single[value] = value if constant else self._cast(self._half[value], value, "FLOAT", reader)
        return self._single[value]

    def _as_half(self, value: ir.Value, reader: ir.Node) -> ir.Value:
        if value not in self._half:
            constant = value.is_initializer()
            self._half[value] = (
                self._half_constant(value)
                if constant
                else self._cast(self._single[value], value, self._name.upper(), reader)
            )
        return self._half[value]

    def _cast(self, source: ir.Value, named: ir.Value, dtype: str, reader: ir.Node) -> ir.Value:
        import onnx_ir as ir

        cast = ir.node("Cast", [source], {"to": int(ir.DataType[dtype])}, name=f"{named.name}.{dtype.lower()}")
        result = cast.outputs[0]
        result.name, result.shape, result.type = cast.name, named.shape, ir.TensorType(ir.DataType[dtype])
        self._model.graph.insert_before(reader, cast)
        return result

    def _single_output(self, value: ir.Value) -> ir.Value:
        """A float32 graph output under the name that the half value had."""
        import onnx_ir as ir

        cast = ir.node("Cast", [value], {"to": int(ir.DataType.FLOAT)}, name=f"{value.name}.float")
        result = cast.outputs[0]
        result.shape, result.type = value.shape, ir.TensorType(ir.DataType.FLOAT)
        self._model.graph.append(cast)
        name, value.name = value.name, f"{value.name}.{self._name}"
        result.name = name
        return result

    def _half_constant(self, value: ir.Value) -> ir.Value:
        import onnx_ir as ir

        assert value.const_value is not None
        array = value.const_value.numpy()
        # What a mask adds where nothing may be seen: float32's lowest, or minus infinity. Two of the half are finite.
        array = np.where(array <= MASKED, np.float32(-LARGEST[self._name] / 2), array)
        largest = float(np.abs(array).max()) if array.size else 0.0
        if largest > LARGEST[self._name]:
            raise InputError(
                f"expected weights within {self._name}'s range (at most {LARGEST[self._name]:.6g}), found "
                f"{largest:.6g} in {value.name}; build float32 or bfloat16"
            )
        tensor = self._tensor(array, f"{value.name}.{self._name}")
        result = ir.Value(
            name=tensor.name, const_value=tensor, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape)
        )
        self._model.graph.initializers[str(result.name)] = result
        return result

    def _tensor(self, array: np.ndarray, name: str) -> ir.TensorProtocol:
        import onnx_ir as ir

        dtype = ir.DataType[self._name.upper()]
        return ir.Tensor(array.astype(dtype.numpy()), dtype=dtype, name=name)

    def _retype(self, node: ir.Node, outputs: list[ir.Value]) -> None:
        import onnx_ir as ir

        dtype = ir.DataType[self._name.upper()]
        for value in outputs:
            value.type = ir.TensorType(dtype)
        if node.op_type == "Cast":
            node.attributes["to"] = ir.AttrInt64("to", int(dtype))
        elif node.op_type in ("Constant", "ConstantOfShape") and "value" in node.attributes:
            array = node.attributes["value"].as_tensor().numpy()
            node.attributes["value"] = ir.AttrTensor("value", self._tensor(array, f"{node.name}.value"))
        elif node.op_type == "ConstantOfShape":  # without a value it gives zeros of float32
            node.attributes["value"] = ir.AttrTensor("value", self._tensor(np.zeros(1), f"{node.name}.value"))


def _values(model: ir.Model) -> list[ir.Value]:
    graph = model.graph
    made = [value for node in graph for value in node.outputs]
    return [*graph.inputs, *graph.initializers.values(), *made]
