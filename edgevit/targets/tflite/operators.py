"""The float graph's operators as LiteRT's, for one batch: what a Vision Transformer is made of, and nothing else.

An operator or a form of one that is not known here is a BuildError that names it, never something close to it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.errors import BuildError

if TYPE_CHECKING:
    import onnx_ir as ir
    from numpy.typing import NDArray

    from edgevit.graph.layers import Layer
    from edgevit.targets.tflite.model import GraphWriter
    from edgevit.types import LayerPlan, Precision

LARGEST_FACTOR = 256
"""Of input · weight / output scale: LiteRT 2.3.0 ends the process while it opens a file with this or more."""
ARITHMETIC = {"Add": "ADD", "Mul": "MUL", "Sub": "SUB", "Div": "DIV"}


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
        self.layers = {layer.node: layer for layer in quantizable_layers(model)}
        self.biased = {layer.output for layer in self.layers.values() if layer.bias}
        self.values: dict[str, int] = {}
        self.known: dict[str, NDArray[Any]] = {}
        """Numbers that are known while it is written: shapes, and what is made of constants."""

    def write(self, key: str) -> None:
        inputs = {str(one.name): self.to.tensor(str(one.name), self.shape(one)) for one in self.model.graph.inputs}
        self.values |= inputs
        for node in self.model.graph:
            self._write(node)
        outputs = {str(one.name): self.values[str(one.name)] for one in self.model.graph.outputs}
        self.to.finish(key, inputs, outputs)

    def shape(self, value: ir.Value | None) -> tuple[int, ...]:
        if value is None or value.shape is None:
            raise BuildError(f"expected a shape for {value and value.name}, found none; LiteRT's are static")
        return tuple(dim if isinstance(dim, int) else self._batch_of(value, dim) for dim in value.shape.dims)

    def _batch_of(self, value: ir.Value, dim: ir.SymbolicDim) -> int:
        if dim.value != self.symbol:
            raise BuildError(
                f"expected no dynamic dimension but {self.symbol} in a graph for litert, found {dim.value} at "
                f"{value.name}; build onnxruntime"
            )
        return self.batch

    def _write(self, node: ir.Node) -> None:
        layer = self.layers.get(str(node.name))
        output = node.outputs[0]
        if layer is not None:
            self._layer(node, layer)
        elif str(output.name) in self.biased:
            return  # the addition of a layer's bias, which is in the layer
        elif node.op_type in ARITHMETIC:
            self._simple(node, ARITHMETIC[node.op_type], f"{node.op_type}Options")
        else:
            method = getattr(self, f"_{node.op_type.lower()}", None)
            if method is None or node.domain != "":
                raise BuildError(
                    f"expected operators that litert knows, found {node.op_type} at {node.name}; build onnxruntime"
                )
            method(node)

    def _read(self, value: ir.Value | None) -> int:
        """The tensor of `value`; constants become tensors when they are read."""
        assert value is not None
        name = str(value.name)
        if name not in self.values:
            numbers = self.known.get(name)
            if numbers is None:
                numbers = self._number(value)
            self.values[name] = self.to.constant(name, numbers)
        return self.values[name]

    def _number(self, value: ir.Value | None) -> NDArray[Any]:
        assert value is not None
        if str(value.name) in self.known:
            return self.known[str(value.name)]
        if value.const_value is None:
            raise BuildError(f"expected {value.name} to be constant for litert, found a computed one")
        return value.const_value.numpy()

    def _new(self, node: ir.Node, at: int = 0) -> int:
        output = node.outputs[at]
        return self._named(str(output.name), self.shape(output))

    def _named(self, name: str, shape: tuple[int, ...]) -> int:
        self.values[name] = self.to.tensor(name, shape)
        return self.values[name]

    def _simple(self, node: ir.Node, kind: str, options: str = "", fields: dict[str, Any] | None = None) -> None:
        self.to.operator(kind, [self._read(one) for one in node.inputs], [self._new(node)], options, fields)

    # ------------------------------------------------------------------------------------------------- layers

    def _layer(self, node: ir.Node, layer: Layer) -> None:
        """A linear layer or convolution, in float or as its plan's entry says."""
        from edgevit.graph.layers import layer_bias, layer_weight
        from edgevit.quantize.scales import quantize

        weight, bias = layer_weight(self.model, layer), layer_bias(self.model, layer)
        entry = self.entries.get(layer.name)
        source, shape = self._read(node.inputs[0]), self.shape(node.outputs[0])
        is_conv = layer.kind == "conv"
        if is_conv:
            source = self._transposed(f"{layer.node}.nhwc", source, self.shape(node.inputs[0]), (0, 2, 3, 1))
            shape = (shape[0], shape[2], shape[3], shape[1])
        scales = None if entry is None else np.asarray(entry.weight_scale, np.float32)
        integers = scales is not None and self.precision == "int8"
        if integers:
            assert entry is not None
            _check_factor(entry)
            source = self._codes(f"{layer.node}.codes", source, entry.input_scale)
        stored: NDArray[Any] = weight if scales is None else quantize(weight, scales, 0, narrow=True)
        if is_conv:
            kernel = self._number(node.inputs[1]).shape
            stored = np.ascontiguousarray(stored.reshape(kernel).transpose(0, 2, 3, 1))
        operands = [source, self.to.constant(layer.name, stored, scales)]
        if bias is None:
            bias = np.zeros(layer.out_channels, np.float32)
        operands.append(self._bias(layer, bias, entry) if integers else self.to.constant(f"{layer.node}.bias", bias))
        name = layer.output if not is_conv else f"{layer.node}.channels_last"
        if integers:
            assert entry is not None
            result = self.to.tensor(f"{name}.codes", shape, "int8", entry.output_scale)
        else:
            result = self._named(name, shape)
        self._multiply(node, layer, operands, result)
        if integers:
            codes, result = result, self._named(name, shape)
            self.to.operator("DEQUANTIZE", [codes], [result])
        if is_conv:
            self.values[layer.output] = self._transposed(layer.output, result, shape, (0, 3, 1, 2))

    def _multiply(self, node: ir.Node, layer: Layer, operands: list[int], result: int) -> None:
        if layer.kind == "conv":
            strides, pads = _attribute(node, "strides", [1, 1]), _attribute(node, "pads", [0] * 4)
            dilations = _attribute(node, "dilations", [1, 1])
            if any(pads) or layer.groups != 1:
                raise BuildError(f"expected a convolution without padding or groups for litert, found {node.name}")
            fields = {"padding": 1, "strideH": strides[0], "strideW": strides[1]}
            fields |= {"dilationHFactor": dilations[0], "dilationWFactor": dilations[1]}
            self.to.operator("CONV_2D", operands, [result], "Conv2DOptions", fields)
            return
        dynamic = self.precision == "int8d"
        fields = {"keepNumDims": True, "asymmetricQuantizeInputs": dynamic}
        self.to.operator("FULLY_CONNECTED", operands, [result], "FullyConnectedOptions", fields)

    def _codes(self, name: str, source: int, scale: float) -> int:
        shape = tuple(self.to.graph.tensors[source].shape)
        codes = self.to.tensor(name, shape, "int8", scale)
        self.to.operator("QUANTIZE", [source], [codes])
        return codes

    def _bias(self, layer: Layer, bias: NDArray[Any], entry: LayerPlan | None) -> int:
        assert entry is not None
        step = np.asarray(entry.weight_scale, np.float64) * entry.input_scale
        codes = np.clip(np.rint(bias / step), -(2**31), 2**31 - 1).astype(np.int32)
        return self.to.constant(f"{layer.node}.bias", codes, step.astype(np.float32))

    # ---------------------------------------------------------------------------------------------- operators

    def _shape(self, node: ir.Node) -> None:
        assert node.inputs[0] is not None
        first, last = _attribute(node, "start", 0), _attribute(node, "end", None)
        self.known[str(node.outputs[0].name)] = np.asarray(self.shape(node.inputs[0])[first:last], np.int64)

    def _concat(self, node: ir.Node) -> None:
        axis = _attribute(node, "axis", 0)
        if all(one is not None and (str(one.name) in self.known or one.const_value is not None) for one in node.inputs):
            numbers = np.concatenate([self._number(one) for one in node.inputs], axis)
            self.known[str(node.outputs[0].name)] = numbers
            return
        self._simple(node, "CONCATENATION", "ConcatenationOptions", {"axis": axis})

    def _expand(self, node: ir.Node) -> None:
        numbers = self._number(node.inputs[0])
        wanted = np.broadcast_shapes(numbers.shape, tuple(self._number(node.inputs[1])))
        self.known[str(node.outputs[0].name)] = np.ascontiguousarray(np.broadcast_to(numbers, wanted))

    def _reshape(self, node: ir.Node) -> None:
        output = node.outputs[0]
        self.values[str(output.name)] = self._reshaped(str(output.name), self._read(node.inputs[0]), self.shape(output))

    def _transpose(self, node: ir.Node) -> None:
        assert node.inputs[0] is not None
        shape, name = self.shape(node.inputs[0]), str(node.outputs[0].name)
        self.values[name] = self._transposed(name, self._read(node.inputs[0]), shape, _attribute(node, "perm", None))

    def _split(self, node: ir.Node) -> None:
        axis = self.to.constant(f"{node.name}.axis", np.asarray(_attribute(node, "axis", 0), np.int32))
        outputs = [self._new(node, at) for at in range(len(node.outputs))]
        if len({self.shape(one) for one in node.outputs}) != 1:
            raise BuildError(f"expected a split into equal parts for litert, found {node.name}")
        source = self._read(node.inputs[0])
        self.to.operator("SPLIT", [axis, source], outputs, "SplitOptions", {"numSplits": len(outputs)})

    def _gather(self, node: ir.Node) -> None:
        assert node.inputs[0] is not None and node.inputs[1] is not None
        if not node.inputs[1].shape:  # one row, which XNNPACK takes as a slice and leaves as a gather
            self._row(node, int(self._number(node.inputs[1])))
            return
        index = self.to.constant(f"{node.name}.index", self._number(node.inputs[1]).astype(np.int32))
        fields = {"axis": _attribute(node, "axis", 0)}
        self.to.operator("GATHER", [self._read(node.inputs[0]), index], [self._new(node)], "GatherOptions", fields)

    def _row(self, node: ir.Node, row: int) -> None:
        shape, axis = self.shape(node.inputs[0]), _attribute(node, "axis", 0)
        begin, size = [0] * len(shape), list(shape)
        begin[axis], size[axis] = row % shape[axis], 1
        name = str(node.outputs[0].name)
        numbers = [
            self.to.constant(f"{name}.{key}", np.asarray(value, np.int32))
            for key, value in (("begin", begin), ("size", size))
        ]
        made = self.to.tensor(f"{name}.row", tuple(size))
        self.to.operator("SLICE", [self._read(node.inputs[0]), *numbers], [made], "SliceOptions")
        self.values[name] = self._reshaped(name, made, self.shape(node.outputs[0]))

    def _gelu(self, node: ir.Node) -> None:
        self._simple(node, "GELU", "GeluOptions", {"approximate": _attribute(node, "approximate", "none") == "tanh"})

    def _layernormalization(self, node: ir.Node) -> None:
        """(x - mean) / sqrt(variance + ε) · γ + β over the last axis, as LiteRT has no operator for it."""
        source, name = node.inputs[0], str(node.outputs[0].name)
        assert source is not None
        shape = self.shape(source)
        if _attribute(node, "axis", -1) not in (-1, len(shape) - 1):
            raise BuildError(f"expected a norm over the last axis for litert, found {node.name}")
        narrow = (*shape[:-1], 1)
        axes = self.to.constant(f"{name}.axes", np.asarray([len(shape) - 1], np.int32))
        epsilon = self.to.constant(f"{name}.epsilon", np.asarray([_attribute(node, "epsilon", 1e-5)], np.float32))

        def then(step: str, kind: str, inputs: list[int], size: tuple[int, ...], options: str) -> int:
            made = self.to.tensor(f"{name}.{step}", size)
            self.to.operator(kind, inputs, [made], options, {"keepDims": True} if kind == "MEAN" else None)
            return made

        x = self._read(source)
        mean = then("mean", "MEAN", [x, axes], narrow, "ReducerOptions")
        centred = then("centred", "SUB", [x, mean], shape, "SubOptions")
        squares = then("squares", "MUL", [centred, centred], shape, "MulOptions")
        variance = then("variance", "MEAN", [squares, axes], narrow, "ReducerOptions")
        safe = then("safe", "ADD", [variance, epsilon], narrow, "AddOptions")
        inverse = then("inverse", "RSQRT", [safe], narrow, "")
        result = then("normed", "MUL", [centred, inverse], shape, "MulOptions")
        result = then("scaled", "MUL", [result, self._read(node.inputs[1])], shape, "MulOptions")
        if len(node.inputs) > 2 and node.inputs[2] is not None:
            result = then("moved", "ADD", [result, self._read(node.inputs[2])], shape, "AddOptions")
        self.values[name] = result

    def _attention(self, node: ir.Node) -> None:
        """softmax(q kᵀ · scale) v of (batch, tokens, width) tensors without a mask."""
        heads, name = _attribute(node, "q_num_heads", 0), str(node.outputs[0].name)
        plain = len([one for one in node.inputs if one is not None]) == 3 and not _attribute(node, "is_causal", 0)
        if not plain or heads != _attribute(node, "kv_num_heads", 0) or _attribute(node, "softcap", 0.0):
            raise BuildError(f"expected attention without mask, cache or groups for litert, found {node.name}")
        query, key, value = (self._heads(f"{name}.{at}", one, heads) for at, one in enumerate(node.inputs))
        _, _, tokens, width = self.to.graph.tensors[query].shape
        keys, out_width = (self.to.graph.tensors[value].shape[at] for at in (2, 3))
        factor = np.asarray([_attribute(node, "scale", 1 / math.sqrt(width))], np.float32)
        scaled = self.to.tensor(f"{name}.scaled", (self.batch, heads, tokens, width))
        scale = self.to.constant(f"{name}.scale", factor)
        self.to.operator("MUL", [query, scale], [scaled], "MulOptions")
        scores = self.to.tensor(f"{name}.scores", (self.batch, heads, tokens, keys))
        self.to.operator("BATCH_MATMUL", [scaled, key], [scores], "BatchMatMulOptions", {"adjY": True})
        weights = self.to.tensor(f"{name}.weights", (self.batch, heads, tokens, keys))
        self.to.operator("SOFTMAX", [scores], [weights], "SoftmaxOptions", {"beta": 1.0})
        mixed = self.to.tensor(f"{name}.mixed", (self.batch, heads, tokens, out_width))
        self.to.operator("BATCH_MATMUL", [weights, value], [mixed], "BatchMatMulOptions")
        joined = self._transposed(f"{name}.joined", mixed, (self.batch, heads, tokens, out_width), (0, 2, 1, 3))
        self.values[name] = self._reshaped(name, joined, (self.batch, tokens, heads * out_width))

    def _heads(self, name: str, value: ir.Value | None, heads: int) -> int:
        assert value is not None
        shape = self.shape(value)
        if len(shape) != 3:
            raise BuildError(f"expected attention over (batch, tokens, width) for litert, found {value.name} {shape}")
        split = (shape[0], shape[1], heads, shape[2] // heads)
        return self._transposed(name, self._reshaped(f"{name}.split", self._read(value), split), split, (0, 2, 1, 3))

    def _reshaped(self, name: str, source: int, shape: tuple[int, ...]) -> int:
        made = self.to.tensor(name, shape)
        wanted = self.to.constant(f"{name}.shape", np.asarray(shape, np.int32))
        self.to.operator("RESHAPE", [source, wanted], [made], "ReshapeOptions", {"newShape": list(shape)})
        return made

    def _transposed(self, name: str, source: int, shape: tuple[int, ...], order: Any) -> int:
        made = self.to.tensor(name, tuple(shape[at] for at in order))
        permutation = self.to.constant(f"{name}.order", np.asarray(order, np.int32))
        self.to.operator("TRANSPOSE", [source, permutation], [made], "TransposeOptions")
        return made


def _check_factor(entry: LayerPlan) -> None:
    """Raises BuildError for scales of a plan that no calibration gives, and that LiteRT does not survive."""
    assert entry.output_scale is not None
    factor = entry.input_scale * max(entry.weight_scale) / entry.output_scale
    if factor >= LARGEST_FACTOR:
        raise BuildError(
            f"expected input scale · weight scale / output scale below {LARGEST_FACTOR} for litert, found {factor:.4g} "
            f"at {entry.name}; correct the plan, or leave the layer in float (--skip "
            f"{entry.name.removesuffix('.weight')})"
        )


def _attribute(node: ir.Node, name: str, default: Any) -> Any:
    found = node.attributes.get(name)
    return default if found is None else found.value
