"""Pillow's resize as nodes of a graph: the weights that it would compute, for sizes that are only known when it runs.

Pillow (`Resample.c`) resizes rows first, then columns, and rounds to eight bits after each. What a pixel of the result
weighs the pixels of the source with depends on their distance from its centre alone, and that distance is a ratio of
integers: ((2x + 1) · out - (2X + 1) · in) / (2 · max(in, out)) for pixel x of the source and X of the result. Computed
as integers and divided once, it is as exact as a float can be at every size; from float coordinates it would be off by
a thousandth of a pixel in a large photograph, and one value in thirty by a level.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from edgevit.graph.passes import constant

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import onnx_ir as ir
    from numpy.typing import NDArray

SUPPORT = {"bilinear": 1, "bicubic": 2, "lanczos": 3}
"""How far from a pixel's centre the filter reaches, in pixels of the coarser of the two images."""
STEPS = 1 << 22
"""Pillow's weights are whole multiples of 1 / STEPS (`PRECISION_BITS`); float32 holds them exactly."""
BLOCK = 32
"""Neighbouring pixels of the result that are computed from one piece of the source."""
BICUBIC_A = -0.5


class Nodes:
    """Appends nodes to a graph, in order; every name begins with `prefix`."""

    def __init__(self, model: ir.Model, prefix: str) -> None:
        self._model, self._prefix = model, prefix
        self.made: list[ir.Node] = []

    def op(
        self, kind: str, *inputs: ir.Value | None, attributes: Mapping[str, object] | None = None, name: str = ""
    ) -> ir.Value:
        import onnx_ir as ir

        named = f"{self._prefix}.{name or f'{len(self.made)}.{kind.lower()}'}"
        node = ir.node(kind, [*inputs], dict(attributes or {}), name=named)  # type: ignore[arg-type]
        node.outputs[0].name = named
        self.made.append(node)
        return node.outputs[0]

    def whole(self, number: int) -> ir.Value:
        """An int64 constant without dimensions."""
        return constant(self._model, f"{self._prefix}.int.{number}", np.asarray(number, np.int64))

    def axes(self, *numbers: int) -> ir.Value:
        """An int64 constant (numbers,)."""
        named = f"{self._prefix}.ints.{'.'.join(map(str, numbers))}"
        return constant(self._model, named, np.asarray(numbers, np.int64))

    def integers(self, name: str, values: NDArray[np.int64]) -> ir.Value:
        """An int64 constant; constants of one name and shape are the same."""
        named = f"{self._prefix}.{name}.{'x'.join(map(str, values.shape))}.{int(values.max())}"
        return constant(self._model, named, values)

    def real(self, name: str, values: object) -> ir.Value:
        """A float32 constant."""
        return constant(self._model, f"{self._prefix}.{name}", np.asarray(values, np.float32))

    def size(self, value: ir.Value, axis: int) -> ir.Value:
        """One size of a tensor, int64 without dimensions."""
        return self.op("Squeeze", self.op("Shape", value, attributes={"start": axis, "end": axis + 1}), self.axes(0))

    def to_float(self, value: ir.Value) -> ir.Value:
        import onnx_ir as ir

        return self.op("Cast", value, attributes={"to": ir.DataType.FLOAT})

    def listed(self, *values: ir.Value) -> ir.Value:
        """Numbers without dimensions as one tensor (numbers,)."""
        return self.op("Concat", *(self.op("Unsqueeze", one, self.axes(0)) for one in values), attributes={"axis": 0})


class Side:
    """One side of an image that is resized to `out` pixels, of which `count` from `first` on are kept."""

    def __init__(self, nodes: Nodes, source: ir.Value, out: ir.Value, first: ir.Value, count: int) -> None:
        self._nodes = nodes
        self.source, self.out, self.first, self.count = source, out, first, count

    def _twice_centre(self, places: ir.Value) -> ir.Value:
        """(2 · place + 1) · source: twice the centre of a pixel of the result, in pixels of the source, times `out`."""
        n = self._nodes
        return n.op("Mul", n.op("Add", n.op("Mul", places, n.whole(2)), n.whole(1)), self.source)

    def nearest(self) -> ir.Value:
        """The source's pixel under the centre of each kept pixel, int64 (count,)."""
        n = self._nodes
        places = n.op("Range", self.first, n.op("Add", self.first, n.whole(self.count)), n.whole(1))
        return n.op("Div", self._twice_centre(places), n.op("Mul", self.out, n.whole(2)))

    def window(self, interpolation: str) -> tuple[ir.Value, ir.Value]:
        """First and last but one pixel of the source that the kept pixels may weigh: the rest need not be read."""
        n = self._nodes
        last = n.op("Add", self.first, n.whole(self.count - 1))
        high = n.op("Add", self._twice_centre(last), self._reach(interpolation))
        end = n.op("Add", n.op("Div", high, self._double()), n.whole(1))
        return self._begin(self._twice_centre(self.first), interpolation), n.op("Min", end, self.source)

    def resampled(self, image: ir.Value, axis: int, interpolation: str, window: tuple[ir.Value, ir.Value]) -> ir.Value:
        """The image (batch, channels, height, width), of which one axis is the window, with that axis resized.

        float32, rounded to eight bits. BLOCK pixels of the result are a product with the few pixels that they are made
        of: of a photograph that is a tenth of what one product with all of them would take.
        """
        n, (low, high) = self._nodes, window
        blocks = -(-self.count // BLOCK)
        # What fills the last block is its last pixel again.
        offsets = np.minimum(np.arange(blocks * BLOCK), self.count - 1).reshape(blocks, BLOCK)
        centres = self._twice_centre(n.op("Add", n.integers("offsets", offsets), self.first))
        reach = n.op("Mul", self._reach(interpolation), n.whole(2))
        span = n.op("Add", n.op("Mul", self.source, n.whole(2 * (BLOCK - 1))), reach)
        taps = n.op("Min", n.op("Add", n.op("Div", span, self._double()), n.whole(2)), n.op("Sub", high, low))
        first = n.op("Slice", centres, n.axes(0), n.axes(1), n.axes(1))
        begin = n.op("Min", self._begin(first, interpolation), n.op("Sub", high, taps))
        read = n.op("Add", begin, n.op("Range", n.whole(0), taps, n.whole(1)))
        weights = self._weights(interpolation, centres, read)
        if axis == 3:
            weights = n.op("Transpose", weights, attributes={"perm": [0, 2, 1]})
        starts = n.op("Sub", begin, low)
        pieces = []
        for block in range(blocks):
            start = n.op("Gather", starts, n.whole(block), attributes={"axis": 0})
            piece = n.to_float(n.op("Slice", image, start, n.op("Add", start, taps), n.axes(axis)))
            own = n.op("Gather", weights, n.whole(block), attributes={"axis": 0})
            pieces.append(n.op("MatMul", *((piece, own) if axis == 3 else (own, piece))))
        joined = n.op("Concat", *pieces, attributes={"axis": axis})
        return to_eight_bits(n, n.op("Slice", joined, n.axes(0), n.axes(self.count), n.axes(axis)))

    def _reach(self, interpolation: str) -> ir.Value:
        """How far from a centre the filter goes, in the unit of `_twice_centre`."""
        n = self._nodes
        return n.op("Mul", n.op("Max", self.source, self.out), n.whole(2 * SUPPORT[interpolation]))

    def _double(self) -> ir.Value:
        return self._nodes.op("Mul", self.out, self._nodes.whole(2))

    def _begin(self, centre: ir.Value, interpolation: str) -> ir.Value:
        """The first pixel of the source that weighs anything at a centre."""
        n = self._nodes
        lowest = n.op("Sub", centre, self._reach(interpolation))
        return n.op("Div", n.op("Max", lowest, n.whole(0)), self._double())

    def _weights(self, interpolation: str, centres: ir.Value, read: ir.Value) -> ir.Value:
        """float32 (blocks, BLOCK, taps), adding up to 1 over the taps."""
        n = self._nodes
        odd = n.op("Add", n.op("Mul", read, n.whole(2)), n.whole(1))
        across = n.op("Unsqueeze", n.op("Mul", odd, self.out), n.axes(1))
        down = n.op("Unsqueeze", centres, n.axes(2))
        span = n.op("Mul", n.op("Max", self.source, self.out), n.whole(2))
        distance = n.op("Div", n.to_float(n.op("Sub", across, down)), n.to_float(span))
        raw = FILTERS[interpolation](n, n.op("Abs", distance))
        share = n.op("Div", raw, n.op("ReduceSum", raw, n.axes(2), attributes={"keepdims": 1}))
        steps = n.op("Round", n.op("Mul", share, n.to_float(n.whole(STEPS))))
        return n.op("Mul", steps, n.real("step", 1 / STEPS))


def to_eight_bits(nodes: Nodes, value: ir.Value) -> ir.Value:
    """Rounded half up and clipped to 0 … 255 as Pillow does after each pass; still float32."""
    up = nodes.op("Floor", nodes.op("Add", value, nodes.real("half", 0.5)))
    return nodes.op("Clip", up, nodes.real("black", 0.0), nodes.real("white", 255.0))


def _bilinear(n: Nodes, x: ir.Value) -> ir.Value:
    return n.op("Relu", n.op("Sub", n.real("one", 1.0), x))


def _polynomial(n: Nodes, x: ir.Value, name: str, coefficients: Sequence[float]) -> ir.Value:
    """By Horner's rule, the highest power first."""
    value = n.real(f"{name}.0", coefficients[0])
    for place, coefficient in enumerate(coefficients[1:], 1):
        value = n.op("Mul", value, x)
        if coefficient:
            value = n.op("Add", value, n.real(f"{name}.{place}", coefficient))
    return value


def _bicubic(n: Nodes, x: ir.Value) -> ir.Value:
    a = BICUBIC_A
    near = _polynomial(n, x, "near", (a + 2, -(a + 3), 0, 1))
    far = _polynomial(n, x, "far", (a, -5 * a, 8 * a, -4 * a))
    outside = n.op("Where", n.op("Less", x, n.real("two", 2.0)), far, n.real("zero", 0.0))
    return n.op("Where", n.op("Less", x, n.real("one", 1.0)), near, outside)


def _lanczos(n: Nodes, x: ir.Value) -> ir.Value:
    """sinc(x) · sinc(x / 3) below 3."""
    angle = n.op("Mul", x, n.real("pi", math.pi))
    third = n.op("Mul", x, n.real("pi.third", math.pi / 3))
    top = n.op("Mul", n.op("Sin", angle), n.op("Sin", third))
    # At the centre itself, where the quotient is 0 / 0, the value is 1.
    centre = n.op("Less", x, n.real("tiny", 1e-6))
    bottom = n.op("Where", centre, n.real("one", 1.0), n.op("Mul", angle, third))
    whole = n.op("Where", centre, n.real("one", 1.0), n.op("Div", top, bottom))
    return n.op("Where", n.op("Less", x, n.real("three", 3.0)), whole, n.real("zero", 0.0))


FILTERS = {"bilinear": _bilinear, "bicubic": _bicubic, "lanczos": _lanczos}
